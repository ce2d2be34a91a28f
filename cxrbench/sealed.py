"""Files that are believed only as far as their own checksum goes, and read without ever waiting for a pipe."""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

from cxrbench import digest
from cxrbench.durable import write_atomically
from cxrbench.errors import IntegrityError

MOST_BYTES = 1 << 30
_FIELDS = {"sha256", "content"}


class DamagedError(IntegrityError):
    """A file of ours whose bytes are not the ones that were written; `reason` says in what, without the path."""

    def __init__(self, path: Path, reason: str, way_out: str = "") -> None:
        super().__init__(f"{path}: {reason}. {way_out}".rstrip(" "))
        self.path, self.reason = path, reason


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """The whole content of a regular file of at most `most` bytes.

    Raises FileNotFoundError where there is none, DamagedError for a folder, a pipe, a device or a larger file, and for
    what the system will not read.
    """
    try:
        # O_NONBLOCK: opening a FIFO would otherwise wait for a writer.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) == errno.ENOTDIR:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
        raise DamagedError(path, f"cannot be opened: {getattr(error, 'strerror', None) or error}") from error
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise DamagedError(path, f"is {_kind(about.st_mode)}, not a file")
        if about.st_size > most:
            raise DamagedError(path, f"has {about.st_size:,} bytes, more than such a file ever has ({most:,})")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read()
    except OSError as error:
        raise DamagedError(path, f"cannot be read: {error.strerror or error}") from error
    finally:
        os.close(handle)


def require_regular_file(path: Path, most: int = MOST_BYTES) -> None:
    """Raise DamagedError for a folder, a pipe, a device or a file of more than `most` bytes; nothing is opened."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise DamagedError(path, f"is {_kind(about.st_mode)}, not a file")
    if about.st_size > most:
        raise DamagedError(path, f"has {about.st_size:,} bytes, more than such a file ever has ({most:,})")


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or device"


def json_value(path: Path, data: bytes) -> Any:
    """The JSON value in the bytes; raises DamagedError for anything else, nesting that no file of ours has included."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, f"is no JSON ({type(error).__name__}: {str(error)[:100]})") from error


def write_sealed(path: Path, content: Any) -> None:
    """Write a JSON value with its SHA-256 beside it, whole or not at all."""
    sealed = {"sha256": digest.of_json(content), "content": content}
    write_atomically(path, (json.dumps(sealed, indent=1) + "\n").encode())


def read_sealed(path: Path, way_out: str = "Remove it.") -> Any:
    """The JSON value of a file that `write_sealed` wrote.

    Raises FileNotFoundError where there is no file, DamagedError (with `way_out`) unless the value has its checksum.
    """
    value = json_value(path, read_regular(path))
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise DamagedError(path, "carries no checksum", way_out)
    if digest.of_json(value["content"]) != value["sha256"]:
        raise DamagedError(path, "is damaged: its content does not have its checksum", way_out)
    return value["content"]
