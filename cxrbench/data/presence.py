"""Whether a file or a folder is there: what refuses to be looked at is an error, never an absence."""

import errno
import os
import stat
from pathlib import Path

from cxrbench.errors import DataError

_ABSENT = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})


def is_file(path: Path) -> bool:
    """Whether a file is there, links followed; raises DataError where the system does not say (permission, disk)."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; raises as `is_file`."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - one call, whatever pathlib makes of its errors
    except OSError as error:
        if error.errno in _ABSENT:
            return None
        raise DataError(f"{path}: cannot be looked at: {error.strerror}. Mend its permissions, or its disk.") from error
