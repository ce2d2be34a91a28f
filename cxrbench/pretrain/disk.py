"""What a disk refuses, said with the file's name and a way out, and bytes that outlive a loss of power."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

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


def sync_file(file: BinaryIO) -> None:
    """Bring what was written to the disk itself; its length too, but no time stamp where the system can tell these."""
    file.flush()
    getattr(os, "fdatasync", os.fsync)(file.fileno())
