"""One process's finished embeddings of one key: appended durably, read back as the journal says.

A shard holds `shard.json` (which key, taps, widths, and what computes them), `ids.bin` (32 bytes of image SHA-256 a
row), one plain `.npy` a tap and `journal.bin`. A batch is written and synced first, its journal entry after it: a kill
at any moment leaves either a whole batch or none, since readers believe the journal alone. What a file's header tells
is never taken: it must be what the description says.
"""

import json
import mmap
import os
import struct
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cxrbench.errors import IntegrityError
from cxrbench.store.atomic import sync_file, sync_folder
from cxrbench.store.schema import Spec
from cxrbench.store.sealed import (
    DamagedError,
    json_value,
    listed,
    opened_regular,
    read_regular,
    read_sealed,
    reading,
    write_sealed,
)

Notes = Mapping[str, tuple[str, ...]]  # what the reader remarked, by image
_HEAD = struct.Struct("<QQQII")  # first row, rows, time, bytes of notes, CRC-32 of the batch; then CRC-32 of these
_OWN = struct.Struct("<I")
HEAD_BYTES = _HEAD.size + _OWN.size
MOST_JOURNAL_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One batch: `rows` from row `first` on, finished at `time` (ns since 1970), and the CRC-32 of all its bytes."""

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


def packed_notes(images: Sequence[str], notes: Sequence[tuple[str, ...]]) -> bytes:
    """What the reader remarked on a batch's images, of which most have nothing."""
    told = [[image, *own] for image, own in zip(images, notes, strict=True) if own]
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
            return found, f"{path.name} is damaged behind its first {len(found)} batches"
        notes = data[place + HEAD_BYTES : place + HEAD_BYTES + size]
        if len(notes) < size:
            break
        found.append(JournalEntry(first, rows, time, notes, checksum))
        place, end = place + HEAD_BYTES + size, first + rows
    return found, ""


FloatArray = NDArray[np.float32]
Sync = Callable[[BinaryIO], None]
HEADER_BYTES = 128
_ITEM_BYTES = 4
_MAPPED_FROM = 1 << 20  # bytes of rows; fewer are read, since before Python 3.13 each mapping holds a descriptor open


def header(rows: int, dim: int) -> bytes:
    """The first bytes of a `.npy` (format 1.0) of little-endian float32 (rows, dim) in C order."""
    start = b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little")
    told = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, {dim}), }}".encode()
    return (start + told).ljust(HEADER_BYTES - 1) + b"\n"


class RowFile:
    """A `.npy` that is filled from the front; until it is closed it is sparse, and its header tells the capacity."""

    def __init__(self, path: Path, capacity: int, dim: int, sync: Sync) -> None:
        self._dim, self._sync = dim, sync
        self._file = path.open("w+b")
        self._file.write(header(capacity, dim))
        self._file.truncate(self._place(capacity))

    def _place(self, row: int) -> int:
        return HEADER_BYTES + _ITEM_BYTES * row * self._dim

    def write(self, row: int, data: bytes) -> None:
        """Write rows durably from `row` on."""
        self._file.seek(self._place(row))
        self._file.write(data)
        self._sync(self._file)

    def close(self, rows: int) -> None:
        """Cut the file to so many rows, so that any reader of `.npy` can use it."""
        # First the length: a reader takes a header of the capacity, or of the rows that the file holds.
        self._file.truncate(self._place(rows))
        self._file.seek(0)
        self._file.write(header(rows, self._dim))
        self._sync(self._file)
        self._file.close()


def mapped_rows(path: Path, rows: int, dim: int, capacity: int) -> FloatArray:
    """The first `rows` (at least one) of a `RowFile`, mapped into memory where they are many: (rows, dim) float32.

    Raises UnreadableError for what the system does not read or map now, DamagedError unless
    the header is, byte for byte, one that is written for such rows and the file holds them.
    """
    try:
        with opened_regular(path, most=None) as file:
            found = file.read(HEADER_BYTES)
            whole = (os.fstat(file.fileno()).st_size - HEADER_BYTES) // (_ITEM_BYTES * dim)
            if found not in {header(count, dim) for count in (capacity, rows, whole)}:
                raise DamagedError(path, f"has not the header of float32 rows of {dim} values")
            if whole < rows:
                raise DamagedError(path, f"holds {max(whole, 0)} rows, and the journal speaks of {rows}")
            return _rows(path, file, _ITEM_BYTES * rows * dim).reshape(rows, dim)
    except FileNotFoundError as error:
        raise DamagedError(path, "is gone") from error


def _rows(path: Path, file: BinaryIO, size: int) -> FloatArray:
    if size < _MAPPED_FROM:
        file.seek(HEADER_BYTES)
        data = file.read(size)
        if len(data) < size:
            raise DamagedError(path, "became shorter while it was read")
        return np.frombuffer(data, "<f4")
    with reading(path):
        return np.frombuffer(_mapped(file.fileno(), HEADER_BYTES + size), "<f4", offset=HEADER_BYTES)


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


DESCRIPTION, IDS, JOURNAL = "shard.json", "ids.bin", "journal.bin"
MOST_BYTES = 1 << 24  # of a description
_ID_BYTES = 32


class Description(Spec):
    """`shard.json`: the digest of the key, the most rows, each tap's width, and what computed them.

    `engine`: device, batch size, memory format, library versions.
    """

    key: str
    capacity: int = Field(ge=0)
    taps: Mapping[Annotated[str, Field(pattern=r"^[^/\\]+$")], Annotated[int, Field(gt=0)]]
    engine: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ShardBatch:
    """Rows that were finished together at `time` (ns since 1970): `images` stand in every tap from row `first` on."""

    time: int
    first: int
    images: tuple[str, ...]
    notes: Notes


@dataclass(frozen=True, slots=True)
class Shard:
    """The finished batches of one shard that are what they were when written; `faults` say what is not, and why."""

    folder: Path
    batches: tuple[ShardBatch, ...]
    taps: Mapping[str, FloatArray]
    engine: Mapping[str, str]
    faults: tuple[str, ...]

    def __len__(self) -> int:
        return sum(len(batch.images) for batch in self.batches)


class Writer:
    """Appends batches to a shard of its own; a context manager that trims the shard when it leaves."""

    def __init__(self, folder: Path, capacity: int, dims: Mapping[str, int], engine: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        about = Description(key=folder.parent.name, capacity=capacity, taps=dict(dims), engine=dict(engine))
        write_sealed(folder / DESCRIPTION, about.model_dump(mode="json"))
        self._folder, self._capacity, self._dims, self._count = folder, capacity, dict(dims), 0
        self._taps = {tap: RowFile(folder / f"{tap}.npy", capacity, dim, sync_file) for tap, dim in dims.items()}
        self._ids: BinaryIO = (folder / IDS).open("wb")
        self._journal: BinaryIO = (folder / JOURNAL).open("wb")
        sync_folder(folder)
        sync_folder(folder.parent)

    def append(
        self, images: Sequence[str], taps: Mapping[str, FloatArray], notes: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """Write a batch durably: (n, dim) float32 for each tap; returns when it would survive a kill.

        `notes` are what the image reader remarked on each image, kept with the rows. Raises IntegrityError when a
        tap is missing, has another shape, or holds a value that is not finite.
        """
        self._check(images, taps)
        ids, told = b"".join(map(bytes.fromhex, images)), packed_notes(images, notes or [()] * len(images))
        self._ids.write(ids)
        sync_file(self._ids)
        data = {tap: np.ascontiguousarray(taps[tap], dtype="<f4").tobytes() for tap in sorted(self._dims)}
        for tap, rows in data.items():
            self._taps[tap].write(self._count, rows)
        checksum = _checksum([_origin(self._folder, self._dims), ids, *data.values(), told])
        self._journal.write(JournalEntry(self._count, len(images), time.time_ns(), told, checksum).packed())
        sync_file(self._journal)
        self._count += len(images)

    def _check(self, images: Sequence[str], taps: Mapping[str, FloatArray]) -> None:
        if set(taps) != set(self._dims):
            raise IntegrityError(f"{self._folder.name}: taps {sorted(taps)} given, {sorted(self._dims)} announced")
        if self._count + len(images) > self._capacity:
            raise IntegrityError(f"{self._folder.name}: more than the announced {self._capacity} rows")
        for tap, values in taps.items():
            checked_rows(tap, values, (len(images), self._dims[tap]))

    def close(self) -> None:
        """Trim the arrays to the rows written, so that any reader of `.npy` can use them; drop an empty shard."""
        for tap in self._taps.values():
            tap.close(self._count)
        self._ids.close()
        self._journal.close()
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


def _origin(folder: Path, dims: Mapping[str, int]) -> bytes:
    """Whose batch it is: of which key, shard, taps and widths, so that files of another shard do not fit."""
    return json.dumps([folder.parent.name, folder.name, sorted(dims.items())]).encode()


def _checksum(parts: Iterable[bytes | memoryview]) -> int:
    found = 0
    for part in parts:
        found = zlib.crc32(part, found)
    return found


def shard_folders(folder: Path) -> list[Path]:
    """The shards of one key's folder, by name; raises UnreadableError for a folder that cannot be listed now."""
    return [folder / name for name in listed(folder) if name.startswith("shard-")]


def read_shard(folder: Path) -> Shard:
    """The journalled rows of a shard, each batch held against its checksum; no wrong byte is an error.

    Raises UnreadableError for what the system does not read now: nothing is known of such a shard.
    """
    try:
        about = _description(folder)
    except FileNotFoundError:  # killed before the shard was made, unless a journal speaks of rows
        return Shard(folder, (), {}, {}, (f"there is no {DESCRIPTION}",) if _begun(folder) else ())
    except DamagedError as error:
        return Shard(folder, (), {}, {}, (f"{error.path.name} {error.reason}",))
    entries, fault = read_journal(folder / JOURNAL, about.capacity)
    faults = [fault] if fault else []
    try:
        taps, ids = _content(folder, about, entries[-1].end) if entries else ({}, b"")
    except DamagedError as error:
        return Shard(folder, (), {}, about.engine, (*faults, f"{error.path.name} {error.reason}"))
    found = [_batch(folder, entry, taps, ids) for entry in entries]
    whole = tuple(batch for batch in found if batch is not None)
    torn = len(found) - len(whole)
    faults += [f"{torn} of {len(found)} batches do not fit their checksum"] if torn else []
    return Shard(folder, whole, taps, about.engine, tuple(faults))


def _begun(folder: Path) -> bool:
    try:
        with reading(folder):
            return any(path.name == JOURNAL for path in folder.iterdir())
    except FileNotFoundError:  # no folder at all
        return True


def _description(folder: Path) -> Description:
    path = folder / DESCRIPTION
    try:
        about = Description.model_validate(read_sealed(path, most=MOST_BYTES))
    except (ValidationError, RecursionError) as error:
        raise DamagedError(path, "is no description of a shard") from error
    if about.key != folder.parent.name:
        raise DamagedError(path, "is of another key")
    return about


def _content(folder: Path, about: Description, rows: int) -> tuple[dict[str, FloatArray], bytes]:
    """The taps by name and the ids of the first rows, that the journal speaks of."""
    taps = {tap: mapped_rows(folder / f"{tap}.npy", rows, dim, about.capacity) for tap, dim in about.taps.items()}
    path = folder / IDS
    try:
        with opened_regular(path, most=None) as file:
            return taps, file.read(rows * _ID_BYTES)
    except FileNotFoundError as error:
        raise DamagedError(path, "is gone") from error


def _batch(folder: Path, entry: JournalEntry, taps: Mapping[str, FloatArray], ids: bytes) -> ShardBatch | None:
    """The batch of an entry, None if it is not what was written."""
    own = ids[entry.first * _ID_BYTES : entry.end * _ID_BYTES]
    rows = (taps[tap][entry.first : entry.end].data for tap in sorted(taps))
    origin = _origin(folder, {tap: array.shape[1] for tap, array in taps.items()})
    if len(own) != entry.rows * _ID_BYTES or _checksum([origin, own, *rows, entry.notes]) != entry.checksum:
        return None
    try:
        return ShardBatch(entry.time, entry.first, tuple(_hex(own)), unpacked_notes(folder / JOURNAL, entry))
    except DamagedError:
        return None


def _hex(ids: bytes) -> Iterator[str]:
    digits = ids.hex()
    return (digits[place : place + 2 * _ID_BYTES] for place in range(0, len(digits), 2 * _ID_BYTES))
