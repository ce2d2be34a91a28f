"""Both formats of torch.save, read without torch's reader, which checks no checksum and builds what a file asks for.

Only what is asked for is read: a training checkpoint's optimizer, often twice the size of the model, stays on disk.
"""

import io
import mmap
import pickle
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from cxrbench.models.inert import Reader
from cxrbench.models.stored import Storage

_VERSION = 1001  # of the format before torch 1.6, the only one there was
_MOST_PICKLED = 1 << 28  # bytes of names and plain values; tensors lie elsewhere
_MOST_DIRECTORY = 1 << 24  # bytes of an archive's directory, some hundred a member
_END, _FAR_END = b"PK\x05\x06", b"PK\x06\x06"


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds: plain values, `StoredTensor` in place of tensors, `Foreign` in place of all else.

    `foreign`: the first name beyond torch's own and plain Python's, "" where there is none.
    """

    value: object
    foreign: str


@contextmanager
def opened(path: Path) -> Iterator[Content]:
    """The content of a file, whose tensors can be read while it is open.

    Raises HostileNameError, BadZipFile (a damaged archive or member), and the errors of `inert.Reader`.
    """
    if not is_archive(path):
        yield _Serial(path).content()
        return
    require_small_directory(path)
    with zipfile.ZipFile(path) as archive:
        yield _Zipped(archive).content()


def is_archive(path: Path) -> bool:
    """Whether the file ends as a ZIP archive does, in a way that can be read."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # an end that speaks of several disks, say
        return False


def require_small_directory(path: Path) -> None:
    """Raise BadZipFile for an archive whose directory is larger than a checkpoint's ever is; a million members hang."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - (1 << 16) - 22))
        tail = stream.read()
    at, far = tail.rfind(_END), tail.rfind(_FAR_END)
    size = struct.unpack_from("<I", tail, at + 12)[0] if 0 <= at <= len(tail) - 22 else 0
    if far >= 0 and size == 0xFFFFFFFF:
        size = struct.unpack_from("<Q", tail, far + 40)[0]
    if size > _MOST_DIRECTORY:
        raise zipfile.BadZipFile(f"its directory of members has {size:,} bytes, more than a checkpoint ever has")


class _Zipped:
    """The format since torch 1.6: `NAME/data.pkl`, and `NAME/data/KEY` for every storage."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive, self.read, self.root = archive, dict[str, Tensor](), ""

    def content(self) -> Content:
        names = [name for name in self.archive.namelist() if name.endswith("/data.pkl")]
        if len(names) != 1:
            raise pickle.UnpicklingError(f"{len(names)} entries named data.pkl")
        self.root = names[0].removesuffix("data.pkl")
        order = f"{self.root}byteorder"
        if order in self.archive.NameToInfo and self.archive.read(order) != b"little":
            raise pickle.UnpicklingError("its numbers are not little-endian")
        if self.archive.getinfo(names[0]).file_size > _MOST_PICKLED:
            raise pickle.UnpicklingError("its pickle has more bytes than names and plain values ever need")
        reader = Reader(io.BytesIO(self.archive.read(names[0])), self)
        return Content(reader.load(), reader.foreign)

    def data(self, storage: Storage) -> Tensor:
        """All bytes (n,) of a storage; reading to a member's end holds it against its checksum."""
        info = self.archive.getinfo(f"{self.root}data/{storage.key}")
        found = torch.empty(info.file_size, dtype=torch.uint8)
        with self.archive.open(info) as stream:
            _fill(found, stream)
            if stream.read(1):
                raise zipfile.BadZipFile(f"{info.filename} is longer than its directory says")
        return found


class _Serial:
    """The format before: magic number, version, system and content, each pickled; then keys, pickled; then storages.

    It has no checksum: a changed number is noticed by the digest of the file alone.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.read = path, dict[str, Tensor]()
        self.places: dict[str, int] = {}

    def content(self) -> Content:
        # A map, not a stream: asked for more than there is, it gives what there is, and reserves no memory.
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            stream = _Pickled(mapped)
            _, version, system = (Reader(stream, self).load() for _ in range(3))  # type: ignore[arg-type]
            if version != _VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
                raise pickle.UnpicklingError("another version of the format, or numbers that are not little-endian")
            reader = Reader(stream, self)  # type: ignore[arg-type]
            found = reader.load()
            keys = Reader(stream, self).load()  # type: ignore[arg-type]
            if not isinstance(keys, list) or {*filter(_is_key, keys)} != {*reader.storages}:
                raise pickle.UnpicklingError("its list of storages is not that of its tensors")
            self._locate(mapped, [reader.storages[key] for key in keys])
        return Content(found, reader.foreign)

    def _locate(self, stream: mmap.mmap, storages: list[Storage]) -> None:
        place = stream.tell()
        for storage in storages:
            (count,) = struct.unpack("<q", stream[place : place + 8])
            if count != storage.count:
                raise pickle.UnpicklingError(f"storage {storage.key} has {count} elements instead of {storage.count}")
            self.places[storage.key] = place + 8
            place += 8 + count * storage.dtype.itemsize
        if place > len(stream):
            raise pickle.UnpicklingError("it ends within its storages")

    def data(self, storage: Storage) -> Tensor:
        """All bytes (n,) of a storage, of which the file has as many."""
        found = torch.empty(storage.count * storage.dtype.itemsize, dtype=torch.uint8)
        with self.path.open("rb") as stream:
            stream.seek(self.places[storage.key])
            _fill(found, stream)
        return found


class _Pickled:
    """The pickled part of a stream, which ends where it has given more bytes than names and plain values need."""

    def __init__(self, stream: mmap.mmap) -> None:
        self._stream, self._left = stream, _MOST_PICKLED

    def read(self, count: int) -> bytes:
        self._left -= min(count, len(self._stream))
        if self._left < 0:
            raise EOFError("its pickle has more bytes than names and plain values ever need")
        return self._stream.read(count)

    def readline(self) -> bytes:
        found = self._stream.readline()
        self._left -= len(found)
        return found


def _fill(found: Tensor, stream: IO[bytes]) -> None:
    """Read until the bytes (n,) are full; raises EOFError where there are fewer."""
    place, whole = 0, memoryview(found.numpy().data)
    while place < len(whole):
        came = stream.readinto(  # type: ignore[attr-defined]
            whole[place : place + (1 << 24)]
        )
        if not came:
            raise EOFError("it ends within its storages")
        place += came


def _is_key(key: object) -> bool:
    return isinstance(key, str)
