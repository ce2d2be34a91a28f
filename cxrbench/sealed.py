"""Files that are believed only as far as their own checksum goes, and read without ever waiting for a pipe."""

import errno
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cxrbench import digest
from cxrbench.durable import write_atomically
from cxrbench.errors import IntegrityError

MOST_BYTES = 1 << 30
CHECKSUM = "content_sha256"
_FIELDS = {"sha256", "content"}


class DamagedError(IntegrityError):
    """A file of ours whose bytes are not the ones that were written; `reason` says in what, without the path."""

    def __init__(self, path: Path, reason: str, way_out: str = "") -> None:
        super().__init__(f"{path}: {reason}. {way_out}".rstrip(" "))
        self.path, self.reason = path, reason


@contextmanager
def open_regular(path: Path, most: int | None = None) -> Iterator[BinaryIO]:
    """A regular file, opened for reading in binary; `most` is how many bytes it may have.

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
            kind = "a folder" if stat.S_ISDIR(about.st_mode) else "a pipe or device"
            raise DamagedError(path, f"is {kind}, not a file")
        if most is not None and about.st_size > most:
            raise DamagedError(path, f"has {about.st_size:,} bytes, more than such a file ever has ({most:,})")
        with os.fdopen(handle, "rb", closefd=False) as file:
            yield file
    except OSError as error:
        raise DamagedError(path, f"cannot be read: {error.strerror or error}") from error
    finally:
        os.close(handle)


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """The whole content of a regular file of at most `most` bytes; raises what `open_regular` does."""
    with open_regular(path, most) as file:
        return file.read()


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


def read_sealed(path: Path, way_out: str = "Remove it.", most: int = MOST_BYTES) -> Any:
    """The JSON value of a file of at most `most` bytes that `write_sealed` wrote.

    Raises FileNotFoundError where there is no file, DamagedError (with `way_out`) unless the value has its checksum.
    """
    value = json_value(path, read_regular(path, most))
    if not isinstance(value, dict) or value.keys() != _FIELDS:
        raise DamagedError(path, "carries no checksum", way_out)
    try:
        own = digest.of_json(value["content"])
    except RecursionError as error:
        raise DamagedError(path, "is nested deeper than any file of ours", way_out) from error
    if own != value["sha256"]:
        raise DamagedError(path, "is damaged: its content does not have its checksum", way_out)
    return value["content"]


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the SHA-256 of everything else in it as its first field, for files that people read too."""
    return {CHECKSUM: digest.of_json(dict(content)), **content}


def without_checksum(path: Path, value: Any, way_out: str = "Remove it.") -> dict[str, Any]:
    """The object that `with_checksum` was given; raises DamagedError (with `way_out`) unless it has its checksum."""
    if not isinstance(value, dict) or CHECKSUM not in value:
        raise DamagedError(path, f"carries no checksum ({CHECKSUM})", way_out)
    content = {name: held for name, held in value.items() if name != CHECKSUM}
    try:
        own = digest.of_json(content)
    except RecursionError as error:
        raise DamagedError(path, "is nested deeper than any file of ours", way_out) from error
    if own != value[CHECKSUM]:
        raise DamagedError(path, "is damaged or was edited: its content does not have its checksum", way_out)
    return content
