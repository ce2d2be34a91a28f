"""Files that are believed only as far as their own checksum goes, and read without ever waiting for a pipe."""

import errno
import io
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from cxrbench.errors import IntegrityError, UnreadableError
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically

MOST_BYTES = 1 << 30
CHECKSUM = "content_sha256"
_FIELDS = {"sha256", "content"}
# What a name stands for, and not what the machine lacks: links in a ring, a name too long, a socket, no device.
_KINDS = {errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.EINVAL, errno.ENXIO, errno.ENODEV}


class DamagedError(IntegrityError):
    """A file of ours whose bytes are not the ones that were written; `reason` says in what, without the path."""

    def __init__(self, path: Path, reason: str, way_out: str = "") -> None:
        super().__init__(f"{path}: {reason}. {way_out}".rstrip(" "))
        self.path, self.reason = path, reason


@contextmanager
def advising(way_out: str) -> Iterator[None]:
    """Within, what is found damaged is told with this way out."""
    try:
        yield
    except DamagedError as error:
        raise DamagedError(error.path, error.reason, way_out) from error


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Within, `path` alone is opened, read, mapped or listed: what the system refuses is an UnreadableError.

    What is not there stays a FileNotFoundError, also where a file stands in place of one of its folders.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from error
    except OSError as error:
        raise UnreadableError(path, str(error.strerror or error)) from error


class _Named(io.FileIO):
    """A descriptor open for reading, whose failures name the file."""

    def __init__(self, handle: int, path: Path) -> None:
        super().__init__(handle, "rb", closefd=False)
        self._path = path

    def readinto(self, buffer: Any) -> int:
        with reading(self._path):
            return super().readinto(buffer)

    def readall(self) -> bytes:
        with reading(self._path):
            return super().readall()


@contextmanager
def opened_regular(path: Path, most: int | None = MOST_BYTES) -> Iterator[BinaryIO]:
    """A regular file of at most `most` bytes, open for reading.

    Raises FileNotFoundError where there is none, DamagedError for a folder, a pipe, a device or a larger file, and
    UnreadableError, from its reads too, where the system gives no bytes now. Other errors inside pass as they are.
    """
    handle = _handle(path)
    try:
        with reading(path):
            about = os.fstat(handle)
        _require_regular(path, about, most)
        with io.BufferedReader(_Named(handle, path)) as file:
            yield file
    finally:
        os.close(handle)


def _handle(path: Path) -> int:
    try:
        with reading(path):
            # O_NONBLOCK: opening a FIFO would otherwise wait for a writer.
            return os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError as error:
        raise DamagedError(path, f"cannot be opened: {error}") from error
    except UnreadableError as error:
        if getattr(error.__cause__, "errno", None) in _KINDS:
            raise DamagedError(path, f"cannot be opened: {error.reason}") from error
        raise


def listed(folder: Path) -> list[str]:
    """The sorted names in a folder, none where there is none; raises UnreadableError where it cannot be listed."""
    try:
        with reading(folder):
            return sorted(os.listdir(folder))  # noqa: PTH208 (Path.iterdir opens nothing until it is gone through)
    except FileNotFoundError:
        return []


def read_regular(path: Path, most: int = MOST_BYTES) -> bytes:
    """The whole content of a regular file; see `opened_regular` for the limits and what is raised."""
    with opened_regular(path, most) as file:
        return file.read()


def require_regular_file(path: Path, most: int | None = MOST_BYTES) -> None:
    """Raise DamagedError for a folder, a pipe, a device or a file of more than `most` bytes; nothing is opened."""
    _require_regular(path, path.stat(), most)


def _require_regular(path: Path, about: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(about.st_mode):
        raise DamagedError(path, f"is {_kind(about.st_mode)}, not a file")
    if most is not None and about.st_size > most:
        raise DamagedError(path, f"has {about.st_size:,} bytes, more than such a file ever has ({most:,})")


def _kind(mode: int) -> str:
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or device"


def json_value(path: Path, data: bytes) -> Any:
    """The JSON value in the bytes; raises DamagedError for anything else, nesting that no file of ours has included."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, f"is no JSON ({type(error).__name__}: {str(error)[:100]})") from error


def seal(content: Any) -> bytes:
    """A JSON value with its SHA-256 beside it, which `unsealed` takes apart."""
    return (json.dumps({"sha256": digest.of_json(content), "content": content}, indent=1) + "\n").encode()


def unsealed(path: Path, data: bytes, way_out: str = "Remove it.") -> Any:
    """The JSON value that `seal` made bytes of; raises DamagedError, with `way_out`, unless it has its checksum."""
    with advising(way_out):
        value = json_value(path, data)
        if not isinstance(value, dict) or value.keys() != _FIELDS:
            raise DamagedError(path, "carries no checksum")
        if _digest(path, value["content"]) != value["sha256"]:
            raise DamagedError(path, "is damaged: its content does not have its checksum")
    return value["content"]


def _digest(path: Path, content: Any) -> str:
    try:
        return digest.of_json(content)
    except RecursionError as error:
        raise DamagedError(path, "is nested deeper than any file of ours") from error


def write_sealed(path: Path, content: Any) -> None:
    """Write a JSON value with its SHA-256 beside it, whole or not at all."""
    write_atomically(path, seal(content))


def read_sealed(path: Path, way_out: str = "Remove it.", most: int = MOST_BYTES) -> Any:
    """The JSON value of a file of at most `most` bytes that `write_sealed` wrote.

    Raises FileNotFoundError where there is no file, DamagedError (with `way_out`) unless the value has its checksum.
    """
    with advising(way_out):
        return unsealed(path, read_regular(path, most), way_out)


def with_checksum(content: Mapping[str, Any]) -> dict[str, Any]:
    """The object with the SHA-256 of everything else in it as its first field, for files that people read too."""
    return {CHECKSUM: digest.of_json(dict(content)), **content}


def without_checksum(path: Path, value: Any, way_out: str = "Remove it.") -> dict[str, Any]:
    """The object that `with_checksum` was given; raises DamagedError (with `way_out`) unless it has its checksum."""
    if not isinstance(value, dict) or CHECKSUM not in value:
        raise DamagedError(path, f"carries no checksum ({CHECKSUM})", way_out)
    content = {name: held for name, held in value.items() if name != CHECKSUM}
    with advising(way_out):
        if _digest(path, content) != value[CHECKSUM]:
            raise DamagedError(path, "is damaged or was edited: its content does not have its checksum")
    return content


_SEAL = "# SHA-256 of what follows: "


def seal_text(body: str) -> str:
    """A TOML text under a first line, a comment, that holds its checksum."""
    return f"{_SEAL}{digest.of_bytes(body.encode())}\n{body}"


def check_text(path: Path, text: str) -> None:
    """Raise DamagedError for a text under such a line that has changed since; a text without one is a person's own."""
    first, _, body = text.partition("\n")
    if first.startswith(_SEAL) and digest.of_bytes(body.encode()) != first.removeprefix(_SEAL):
        raise DamagedError(
            path,
            "does not have the checksum of its first line",
            "It is damaged, or was edited: if you edited it, remove that line; if not, get a fresh copy.",
        )


CONTENTS = "contents.json"


def seal_folder(folder: Path, names: Iterable[str]) -> None:
    """Write which bytes these files of the folder have into `contents.json` beside them."""
    write_sealed(folder / CONTENTS, {name: digest.of_bytes(read_regular(folder / name)) for name in names})


def check_folder(folder: Path) -> None:
    """Raise DamagedError where a file that `seal_folder` named has other bytes, or is gone.

    A folder without `contents.json` is a person's own.
    """
    try:
        known = read_sealed(folder / CONTENTS, "Get a fresh copy of the folder.")
    except FileNotFoundError:
        return
    for name, wanted in known.items():
        try:
            found = digest.of_bytes(read_regular(folder / name))
        except FileNotFoundError:
            found = "none"
        if found != wanted:
            raise DamagedError(
                folder / name,
                f"is missing, or not the file that {CONTENTS} beside it names",
                f"Get a fresh copy; if you changed it on purpose, remove {CONTENTS}.",
            )
