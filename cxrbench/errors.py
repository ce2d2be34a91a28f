"""Everything that cxrbench refuses, each kind with the exit code that the command line returns for it."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# What the program's exit codes mean: the help and docs/exit-codes.md say what stands here.
EXIT_CODES = {
    0: "done",
    1: "a finding: results changed (`check`), something was found (`audit --strict`), or parts are missing (`status`)",
    2: "usage: an unknown or malformed name, option, card, task or setting",
    3: "data missing: images, label tables or weights that are not there, or too many images that cannot be read",
    4: "integrity: bytes that are not what a digest, a layout or a journal promises",
    5: "a run or a part of it failed: too little memory, no space left, or a bug (its traceback is in a log file)",
    6: "a pre-training that SIGTERM stopped after a checkpoint",
    130: "interrupted by Ctrl-C; finished work is kept",
}

SEVERAL = "Of several problems, the highest code counts."


class CxrBenchError(Exception):
    """Base of all errors that are help rather than a bug; the message says what, where and how to mend it."""

    exit_code = 5

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors pass from process to process, whatever their constructors take."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[CxrBenchError], arguments: tuple[Any, ...], held: dict[str, Any]) -> CxrBenchError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(held)
    return error


class CxrBenchWarning(UserWarning):
    """In Python, what the command line would say on stderr: there is a result, but a part of it is missing."""


class SpecError(CxrBenchError):
    """A name, option, card, task, variant or prompt file that is unknown or malformed."""

    exit_code = 2


class MissingExtraError(SpecError):
    """A library of an extra (`pip install 'cxrbench[figures]'`, say) that is not installed and that a command needs."""


class NotApplicableError(SpecError):
    """A model that by its own design cannot be scored on these classes: a dash in a table, not a failure."""


class DataError(CxrBenchError):
    """Images or label tables that are missing, or do not hold what the data set's documentation says."""

    exit_code = 3


class FewRowsError(DataError):
    """Classes, by their places, that have too few rows for what is to be done with them."""

    def __init__(self, classes: Sequence[int], reason: str) -> None:
        super().__init__(f"class {', '.join(map(str, classes))} {reason}")
        self.classes, self.reason = tuple(classes), reason

    def named(self, where: str, labels: Sequence[str]) -> DataError:
        """The same with the classes' names, and where this was: a task and a group, say."""
        return DataError(f"{where}: class {', '.join(labels[place] for place in self.classes)} {self.reason}")


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


class UnreadableError(RunError):
    """A file that this machine does not read now: too little memory, too many open files, a mount that fails.

    Nothing is known against its bytes, so it counts neither as damaged nor as no picture. `reason`: without the path.
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: cannot be read now: {reason}. Its bytes may be whole: mend that, and run again")
        self.path, self.reason = path, reason


class UnexpectedError(RunError):
    """A part of the work failed by an error that is none of ours; `trace` is its traceback, which `log` holds.

    `kind`: its type and the line that raised it, equal for all that one bug brings about.
    """

    def __init__(self, message: str, trace: str, kind: str) -> None:
        super().__init__(message)
        self.trace, self.kind = trace, kind
        self.log: Path | None = None

    def __str__(self) -> str:
        """The message, and where the traceback is once it was written."""
        told = super().__str__()
        return told if self.log is None else f"{told} [traceback: {self.log}]"


class StoppedError(CxrBenchError):
    """A run that was asked to stop (SIGTERM), and did so after a checkpoint from which it can go on."""

    exit_code = 6


def gravest(problems: Iterable[CxrBenchError]) -> int:
    """The exit code of a command that met these problems: the highest one; 0 without any."""
    return max((problem.exit_code for problem in problems), default=0)
