"""Files of tensors that are believed only as far as their own checksum goes.

A checkpoint is a torch file with a head behind it: plain values under their own checksum, which hold that of the
tensors. Both are one file, replaced at once, so that a kill at any moment leaves the one before or the new one whole.
The head is read and believed without the tensors, which may be gigabytes.
"""

import hashlib
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from cxrbench.errors import RunError, UnreadableError
from cxrbench.store.atomic import written_whole
from cxrbench.store.sealed import DamagedError, advising, opened_regular, seal, unsealed

_FOOT = struct.Struct("<Q8s")  # bytes of the sealed head before it, and what kind of file this is
_MAGIC = b"cxrb-ckp"
_MOST_HEAD = 1 << 24
_MOST = 1 << 40
_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class TrainingCheckpoint:
    """What a checkpoint holds: `head`, a JSON value, and `parts`, plain values and tensors by name."""

    head: Any
    parts: dict[str, Any]


class _Hashed:
    """A file for torch.save, which writes from front to end, with the SHA-256 and number of what went by."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._hash, self.length = file, hashlib.sha256(), 0

    def write(self, data: Any) -> int:
        block = memoryview(data).cast("B")
        self._hash.update(block)
        self._file.write(block)
        self.length += len(block)
        return len(block)

    def flush(self) -> None:
        self._file.flush()

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()


def write_tensors(path: Path, content: object) -> str:
    """Write a plain torch file, whole or not at all; its hex SHA-256. Raises RunError if the disk refuses."""
    with _replaced(path) as file:
        made = _Hashed(file)
        torch.save(content, made)  # type: ignore[arg-type]
    return made.sha256


def write_checkpoint(path: Path, checkpoint: TrainingCheckpoint) -> None:
    """Write parts and head as one file, whole or not at all; raises RunError if the disk refuses."""
    with _replaced(path) as file:
        made = _Hashed(file)
        torch.save(checkpoint.parts, made)  # type: ignore[arg-type]
        head = seal({"bytes": made.length, "sha256": made.sha256, "head": checkpoint.head})
        file.write(head + _FOOT.pack(len(head), _MAGIC))


@contextmanager
def _replaced(path: Path) -> Iterator[BinaryIO]:
    try:
        # Given a path, torch would write its name within.
        with written_whole(path) as made, made.open("wb") as file:
            yield file
    except (OSError, RuntimeError) as error:
        left = "the one before it is whole" if path.is_file() else "there is none before it"
        raise RunError(
            f"{path}: the checkpoint cannot be written ({error}); {left}. Make room, then --resume"
        ) from error


def read_head(path: Path, way_out: str) -> Any:
    """The head of a checkpoint, without a look at its tensors.

    Raises FileNotFoundError where there is none, DamagedError, with `way_out`, unless it is what was written.
    """
    with advising(way_out), opened_regular(path, _MOST) as file:
        return _head(path, file)["head"]


def read_checkpoint(path: Path, way_out: str) -> TrainingCheckpoint:
    """Head and tensors (on the CPU); raises as `read_head` does, before anything is unpickled."""
    with advising(way_out), opened_regular(path, _MOST) as file:
        told = _head(path, file)
        _require(path, file, told["bytes"], told["sha256"])
        return TrainingCheckpoint(told["head"], _loaded(path, file))


def read_tensors(path: Path, sha256: str, way_out: str) -> dict[str, Any]:
    """What `write_tensors` wrote, if it still has that SHA-256; raises as `read_head` does."""
    with advising(way_out), opened_regular(path, _MOST) as file:
        _require(path, file, file.seek(0, 2), sha256)
        return _loaded(path, file)


def _head(path: Path, file: BinaryIO) -> dict[str, Any]:
    size = file.seek(0, 2)
    if size < _FOOT.size:
        raise DamagedError(path, f"is cut: it has {size} bytes")
    file.seek(size - _FOOT.size)
    length, magic = _FOOT.unpack(file.read(_FOOT.size))
    if magic != _MAGIC or length > min(_MOST_HEAD, size - _FOOT.size):
        raise DamagedError(path, "is cut, or no checkpoint of a run")
    start = size - _FOOT.size - length
    file.seek(start)
    told = unsealed(path, file.read(length))
    if not isinstance(told, dict) or told.keys() != {"bytes", "sha256", "head"} or told["bytes"] != start:
        raise DamagedError(path, "is no checkpoint of a run")
    return told


def _require(path: Path, file: BinaryIO, length: int, sha256: str) -> None:
    """Hold the first `length` bytes against their checksum."""
    file.seek(0)
    found, left = hashlib.sha256(), length
    while left and (block := file.read(min(left, _BLOCK))):
        found.update(block)
        left -= len(block)
    if left or found.hexdigest() != sha256:
        raise DamagedError(path, "is damaged: its tensors do not have their checksum")


def _loaded(path: Path, file: BinaryIO) -> dict[str, Any]:
    file.seek(0)
    try:
        parts = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, MemoryError, UnreadableError):
        raise
    except Exception as error:  # of hostile pickles nearly any type; torch's own text advises to load unsafely
        raise DamagedError(path, f"cannot be taken apart ({type(error).__name__})") from error
    if not isinstance(parts, dict):
        raise DamagedError(path, "holds no tensors by name")
    return parts
