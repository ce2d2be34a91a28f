"""Both formats of torch.save, read without torch's reader: for files whose pickle names classes that are not to be had.

Only what is asked for is read: a training checkpoint's optimizer, often twice the size of the model, stays on disk.
"""

import io
import mmap
import pickle
import struct
import zipfile
from pathlib import Path

from cxrbench.adapters.inert import Reader
from cxrbench.adapters.stored import Storage

_VERSION = 1001  # of the format before torch 1.6, the only one there was


def content(path: Path) -> object:
    """What the file holds: plain values, `StoredTensor` in place of tensors, `Foreign` in place of all else.

    Raises HostileNameError, BadZipFile, and the errors of `inert.Reader`.
    """
    return _Zipped(path).content() if zipfile.is_zipfile(path) else _Serial(path).content()


class _Zipped:
    """The format since torch 1.6: `NAME/data.pkl`, and `NAME/data/KEY` for every storage."""

    def __init__(self, path: Path) -> None:
        self.path, self.read, self.root = path, dict[str, bytearray](), ""

    def content(self) -> object:
        with zipfile.ZipFile(self.path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1:
                raise pickle.UnpicklingError(f"{len(names)} entries named data.pkl")
            self.root = names[0].removesuffix("data.pkl")
            order = f"{self.root}byteorder"
            if order in archive.namelist() and archive.read(order) != b"little":
                raise pickle.UnpicklingError("its numbers are not little-endian")
            found: object = Reader(io.BytesIO(archive.read(names[0])), self).load()
        return found

    def data(self, storage: Storage) -> bytearray:
        with zipfile.ZipFile(self.path) as archive:
            return bytearray(archive.read(f"{self.root}data/{storage.key}"))


class _Serial:
    """The format before: magic number, version, system and content, each pickled; then keys, pickled; then storages."""

    def __init__(self, path: Path) -> None:
        self.path, self.read = path, dict[str, bytearray]()
        self.places: dict[str, int] = {}

    def content(self) -> object:
        # A map, not a stream: asked for more than there is, it gives what there is, and reserves no memory.
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as stream:
            _, version, system = (Reader(stream, self).load() for _ in range(3))  # type: ignore[arg-type]
            if version != _VERSION or not isinstance(system, dict) or system.get("little_endian") is not True:
                raise pickle.UnpicklingError("another version of the format, or numbers that are not little-endian")
            reader = Reader(stream, self)  # type: ignore[arg-type]
            found: object = reader.load()
            keys = Reader(stream, self).load()  # type: ignore[arg-type]
            if not isinstance(keys, list) or {*filter(_is_key, keys)} != {*reader.storages}:
                raise pickle.UnpicklingError("its list of storages is not that of its tensors")
            self._locate(stream, [reader.storages[key] for key in keys])
        return found

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

    def data(self, storage: Storage) -> bytearray:
        with self.path.open("rb") as stream:
            stream.seek(self.places[storage.key])
            return bytearray(stream.read(storage.count * storage.dtype.itemsize))


def _is_key(key: object) -> bool:
    return isinstance(key, str)
