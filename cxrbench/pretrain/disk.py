"""What a disk refuses, said with the file's name and a way out."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxrbench.errors import RunError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing(path: Path, way_out: str) -> Iterator[None]:
    """Within, what the system refuses becomes a RunError that names `path`; `way_out` is for a full disk."""
    try:
        yield
    except OSError as error:
        advice = way_out if error.errno in _FULL else "Name a folder that can be written."
        raise RunError(f"{path}: cannot be written: {error.strerror or error}. {advice}") from error
