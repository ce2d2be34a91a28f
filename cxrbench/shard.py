"""One process's finished embeddings of one key: appended durably, read back as the journal says.

A shard holds `ids.bin` (32 bytes of image SHA-256 a row), one plain `.npy` a tap and `journal.bin`. A batch is written
and synced first, its journal entry (start, count, checksum) after it: a kill at any moment leaves either a whole batch
or none, since readers believe the journal alone.
"""

import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxrbench.durable import sync_folder, write_atomically
from cxrbench.errors import IntegrityError

FloatArray = NDArray[np.float32]

_ENTRY = struct.Struct("<QQII")  # first row, rows, CRC-32 of ids and taps, CRC-32 of the three before
_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Shard:
    """The finished rows of one shard: `ids[i]` names row `rows[i]` of every tap."""

    folder: Path
    ids: tuple[str, ...]
    rows: NDArray[np.int64]
    taps: Mapping[str, FloatArray]
    engine: Mapping[str, str]  # what computed them: device, batch size, memory format, library versions
    notes: Mapping[str, tuple[str, ...]]  # what the reader remarked, by image
    torn: int  # journalled batches whose bytes are not what the journal says


class Writer:
    """Appends batches to a shard of its own; a context manager that trims the shard when it leaves."""

    def __init__(self, folder: Path, capacity: int, dims: Mapping[str, int], engine: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        write_atomically(folder / "engine.json", json.dumps(dict(engine), sort_keys=True).encode())
        self._folder, self._capacity, self._dims, self._count = folder, capacity, dict(dims), 0
        self._taps = {tap: _TapFile(folder / f"{tap}.npy", capacity, dim) for tap, dim in dims.items()}
        self._ids: BinaryIO = (folder / "ids.bin").open("wb")
        self._journal: BinaryIO = (folder / "journal.bin").open("wb")
        self._notes: BinaryIO = (folder / "notes.jsonl").open("wb")
        sync_folder(folder)
        sync_folder(folder.parent)

    def append(
        self, images: Sequence[str], taps: Mapping[str, FloatArray], notes: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """Write a batch durably: (n, dim) float32 for each tap; returns when it would survive a kill.

        `notes` are what the image reader remarked on each image, kept beside the rows. Raises IntegrityError when a
        tap is missing, has another shape, or holds a value that is not finite.
        """
        self._check(images, taps)
        ids = b"".join(bytes.fromhex(image) for image in images)
        remarks = [
            json.dumps([image, *note]) for image, note in zip(images, notes or [()] * len(images), strict=True) if note
        ]
        self._notes.write("".join(f"{line}\n" for line in remarks).encode())
        _sync(self._notes)
        self._ids.write(ids)
        _sync(self._ids)
        checksum = zlib.crc32(ids)
        for tap in sorted(self._dims):
            data = np.ascontiguousarray(taps[tap], dtype="<f4").tobytes()
            self._taps[tap].write(self._count, data)
            checksum = zlib.crc32(data, checksum)
        head = struct.pack("<QQI", self._count, len(images), checksum)
        self._journal.write(head + struct.pack("<I", zlib.crc32(head)))
        _sync(self._journal)
        self._count += len(images)

    def _check(self, images: Sequence[str], taps: Mapping[str, FloatArray]) -> None:
        if set(taps) != set(self._dims):
            raise IntegrityError(f"{self._folder.name}: taps {sorted(taps)} given, {sorted(self._dims)} announced")
        if self._count + len(images) > self._capacity:
            raise IntegrityError(f"{self._folder.name}: more than the announced {self._capacity} rows")
        for tap, values in taps.items():
            if values.shape != (len(images), self._dims[tap]):
                raise IntegrityError(f"tap {tap!r} has shape {values.shape}, not {(len(images), self._dims[tap])}")
            if not np.isfinite(values).all():
                raise IntegrityError(f"tap {tap!r} holds values that are not finite; try --precision float32")

    def close(self) -> None:
        """Trim the arrays to the rows written, so that any reader of `.npy` can use them; drop an empty shard."""
        for tap in self._taps.values():
            tap.close(self._count)
        self._ids.close()
        self._journal.close()
        self._notes.close()
        if self._count == 0:
            for file in self._folder.iterdir():
                file.unlink()
            self._folder.rmdir()

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _TapFile:
    """A `.npy` of float32 that is filled from the front; the file is sparse until written."""

    def __init__(self, path: Path, capacity: int, dim: int) -> None:
        self._dim = dim
        self._file = path.open("w+b")
        _write_header(self._file, (capacity, dim))
        self._offset = self._file.tell()
        self._file.truncate(self._offset + 4 * capacity * dim)

    def write(self, row: int, data: bytes) -> None:
        self._file.seek(self._offset + 4 * row * self._dim)
        self._file.write(data)
        _sync(self._file)

    def close(self, rows: int) -> None:
        self._file.seek(0)
        _write_header(self._file, (rows, self._dim))
        if self._file.tell() != self._offset:
            raise IntegrityError(f"{self._file.name}: the header changed its length")
        self._file.truncate(self._offset + 4 * rows * self._dim)
        _sync(self._file)
        self._file.close()


def _write_header(file: BinaryIO, shape: tuple[int, int]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fdatasync(file.fileno())


def shard_folders(folder: Path) -> list[Path]:
    """The shards of one key's folder, oldest name order: a fixed order, so that equal ids resolve equally."""
    return sorted(folder.glob("shard-*")) if folder.is_dir() else []


def read_shard(folder: Path) -> Shard:
    """The journalled rows of a shard, each batch held against its checksum."""
    mapped = {path.stem: _mapped(path) for path in sorted(folder.glob("*.npy"))}
    taps = {name: array for name, array in mapped.items() if array is not None}
    raw_ids = (folder / "ids.bin").read_bytes() if (folder / "ids.bin").exists() else b""
    ids: list[str] = []
    rows: list[NDArray[np.int64]] = []
    torn = 0
    for start, count, checksum in _entries(folder / "journal.bin"):
        block = raw_ids[start * _ID_BYTES : (start + count) * _ID_BYTES]
        found = zlib.crc32(block)
        for tap in sorted(taps):
            found = zlib.crc32(np.ascontiguousarray(taps[tap][start : start + count]).tobytes(), found)
        if len(block) != count * _ID_BYTES or found != checksum:
            torn += 1
            continue
        ids.extend(block[i : i + _ID_BYTES].hex() for i in range(0, len(block), _ID_BYTES))
        rows.append(np.arange(start, start + count, dtype=np.int64))
    return Shard(
        folder,
        tuple(ids),
        np.concatenate(rows) if rows else np.zeros(0, np.int64),
        taps,
        _engine(folder),
        _remarks(folder),
        torn,
    )


def _engine(folder: Path) -> dict[str, str]:
    path = folder / "engine.json"
    return json.loads(path.read_bytes()) if path.exists() else {}


def _remarks(folder: Path) -> dict[str, tuple[str, ...]]:
    path = folder / "notes.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return {image: tuple(notes) for image, *notes in map(json.loads, lines)}


def _mapped(path: Path) -> FloatArray | None:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        return None  # killed before the header was whole: no journal entry can speak of it


def _entries(path: Path) -> Iterator[tuple[int, int, int]]:
    data = path.read_bytes() if path.exists() else b""
    for place in range(0, len(data) - _ENTRY.size + 1, _ENTRY.size):
        start, count, checksum, own = _ENTRY.unpack_from(data, place)
        if zlib.crc32(data[place : place + _ENTRY.size - 4]) != own:
            return
        yield start, count, checksum
