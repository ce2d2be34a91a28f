"""Everything that cxrbench refuses, each kind with the exit code that the command line returns for it."""


class CxrBenchError(Exception):
    """Base of all errors that are help rather than a bug; the message says what, where and how to mend it."""

    exit_code = 5


class SpecError(CxrBenchError):
    """A name, option, card, task, variant or prompt file that is unknown or malformed."""

    exit_code = 2


class NotApplicableError(SpecError):
    """A model that by its own design cannot be scored on these classes: a dash in a table, not a failure."""


class DataError(CxrBenchError):
    """Images or label tables that are missing, or do not hold what the data set's documentation says."""

    exit_code = 3


class ImageError(DataError):
    """One image file that cannot be read as a radiograph; a run counts it and goes on."""


class MissingImageError(ImageError):
    """One image file that is not there, whatever a table or a listing says."""


class IntegrityError(CxrBenchError):
    """Bytes that are not the ones a digest, a layout or a journal promises."""

    exit_code = 4


class RunError(CxrBenchError):
    """A computation that could not be finished."""

    exit_code = 5


class StoppedError(CxrBenchError):
    """A run that was asked to stop (SIGTERM), and did so after a checkpoint from which it can go on."""

    exit_code = 6
