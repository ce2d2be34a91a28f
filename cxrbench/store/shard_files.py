"""The files of a shard: its journal, and arrays of rows that are filled from the front."""

import io
import json
import mmap
import os
import struct
import sys
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import IntegrityError
from cxrbench.store.atomic import sync_file
from cxrbench.store.sealed import (
    DamagedError,
    json_value,
    opened_regular,
    read_regular,
    reading,
)

Notes = Mapping[str, tuple[str, ...]]  # what the reader remarked, by image
_HEAD = struct.Struct("<QQQII")  # first row, rows, time, bytes of notes, CRC-32 of `rows.bin`; then CRC-32 of these
_OWN = struct.Struct("<I")
HEAD_BYTES = _HEAD.size + _OWN.size
MOST_JOURNAL_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One group: `rows` from row `first` on, committed at `time` (ns since 1970), with the CRC-32 of them and notes."""

    first: int
    rows: int
    time: int
    notes: bytes
    checksum: int

    @property
    def end(self) -> int:
        """The row behind its last."""
        return self.first + self.rows

    def packed(self) -> bytes:
        """The entry as it stands in the file."""
        head = _HEAD.pack(self.first, self.rows, self.time, len(self.notes), self.checksum)
        return head + _OWN.pack(zlib.crc32(head)) + self.notes


def packed_notes(notes: Iterable[tuple[str, tuple[str, ...]]]) -> bytes:
    """What the reader remarked on a group's images, of which most have nothing."""
    told = [[image, *own] for image, own in notes if own]
    return json.dumps(told).encode() if told else b""


def unpacked_notes(path: Path, entry: JournalEntry) -> Notes:
    """The notes of an entry, whose bytes have their checksum; raises DamagedError where they are none all the same."""
    told = json_value(path, entry.notes) if entry.notes else []
    try:
        return {str(image): tuple(map(str, own)) for image, *own in told}
    except (TypeError, ValueError) as error:
        raise DamagedError(path, "holds notes of no image") from error


def read_journal(path: Path, capacity: int) -> tuple[list[JournalEntry], str]:
    """The entries, and in what the rest cannot be believed; an entry that a kill cut off is no fault.

    Entries follow one another from row 0 on; the first that does not, or has not its checksum, ends what is read.
    """
    try:
        data = read_regular(path, MOST_JOURNAL_BYTES)
    except FileNotFoundError:
        return [], ""
    except DamagedError as error:
        return [], f"{path.name} {error.reason}"
    found, place, end = list[JournalEntry](), 0, 0
    while len(data) - place >= HEAD_BYTES:
        first, rows, time, size, checksum = _HEAD.unpack_from(data, place)
        own = _OWN.unpack_from(data, place + _HEAD.size)[0]
        if zlib.crc32(data[place : place + _HEAD.size]) != own or first != end or not 0 < rows <= capacity - first:
            return found, f"{path.name} is damaged behind its first {len(found)} groups"
        notes = data[place + HEAD_BYTES : place + HEAD_BYTES + size]
        if len(notes) < size:
            break
        found.append(JournalEntry(first, rows, time, notes, checksum))
        place, end = place + HEAD_BYTES + size, first + rows
    return found, ""


FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
HEADER_BYTES = 128
ITEM_BYTES = 4
_MAPPED_FROM = 1 << 20  # bytes of rows; fewer are read, since before Python 3.13 each mapping holds a descriptor open


def header(rows: int, dim: int) -> bytes:
    """The first bytes of a `.npy` (format 1.0) of little-endian float32 (rows, dim) in C order."""
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    told = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}".encode()
    return (start + told).ljust(HEADER_BYTES - 1) + b"\n"


class RowFile:
    """A `.npy` that is filled from the front; until it is closed it is sparse, and its header tells the capacity."""

    def __init__(self, path: Path, capacity: int, dim: int) -> None:
        self._dim = dim
        self._file = path.open("w+b", buffering=0)
        self._file.write(header(capacity, dim))
        self._file.truncate(self._place(capacity))

    def _place(self, row: int) -> int:
        return HEADER_BYTES + ITEM_BYTES * row * self._dim

    def write(self, row: int, values: FloatArray) -> None:
        """Write rows from `row` on; `sync` makes them durable."""
        write_at(self._file, self._place(row), np.ascontiguousarray(values, "<f4"))

    def sync(self) -> None:
        """Make what was written durable."""
        sync_file(self._file)

    def close(self, rows: int) -> None:
        """Cut the file to so many rows, so that any reader of `.npy` can use it."""
        # First the length: a reader takes a header of the capacity, or of the rows that the file holds.
        self._file.truncate(self._place(rows))
        write_at(self._file, 0, header(rows, self._dim))
        self.sync()
        self._file.close()


def write_at(file: io.FileIO, place: int, data: Any) -> None:
    """Write all bytes of a buffer from a place of an unbuffered file on."""
    left = memoryview(data).cast("B")
    file.seek(place)
    while left:
        left = left[file.write(left) :]


def mapped_rows(path: Path, rows: int, dim: int, capacity: int, spoken: int = 0) -> FloatArray:
    """The first `rows` (at least one) of a `RowFile`, mapped into memory where they are many: (rows, dim) float32.

    `spoken`: the rows that the journal speaks of, where the file has lost some. Raises UnreadableError for what the
    system does not read or map now, DamagedError unless the header is, byte for byte, one that is written for such rows
    and the file holds them.
    """
    try:
        with opened_regular(path, most=None) as file:
            found = file.read(HEADER_BYTES)
            whole = (os.fstat(file.fileno()).st_size - HEADER_BYTES) // (ITEM_BYTES * dim)
            if found not in {header(count, dim) for count in (capacity, rows, whole, spoken)}:
                raise DamagedError(path, f"has not the header of float32 rows of {dim} values")
            if whole < rows:
                raise DamagedError(path, f"holds {max(whole, 0)} rows, and the journal speaks of {rows}")
            return mapped_items(path, file, HEADER_BYTES, np.dtype("<f4"), rows * dim).reshape(rows, dim)
    except FileNotFoundError as error:
        raise DamagedError(path, "is gone") from error


def mapped_items(path: Path, file: BinaryIO, place: int, kind: np.dtype[Any], count: int) -> NDArray[Any]:
    """Items of a file from a place on, mapped into memory where they are many; the file has been found long enough."""
    size = count * kind.itemsize
    if size < _MAPPED_FROM:
        file.seek(place)
        data = file.read(size)
        if len(data) < size:
            raise DamagedError(path, "became shorter while it was read")
        return np.frombuffer(data, kind)
    with reading(path):
        return np.frombuffer(_mapped(file.fileno(), place + size), kind, offset=place)


def _mapped(handle: int, size: int) -> mmap.mmap:
    if sys.version_info >= (3, 13) and os.name == "posix":
        return mmap.mmap(handle, size, access=mmap.ACCESS_READ, trackfd=False)
    return mmap.mmap(handle, size, access=mmap.ACCESS_READ)


def checked_rows(tap: str, values: FloatArray, shape: tuple[int, int]) -> None:
    """Nothing, or IntegrityError: the vectors of a tap have another shape, or a value that is not finite."""
    if values.shape != shape:
        raise IntegrityError(f"tap {tap!r} has shape {values.shape}, not {shape}")
    if not np.isfinite(values).all():
        raise IntegrityError(f"tap {tap!r} holds values that are not finite; try --precision float32")
