"""One process's finished embeddings of one key: committed in groups, read back as the journal says.

A shard holds `shard.json` (which key, taps, widths, and what computes them), `rows.bin` (36 bytes a row: the image's
SHA-256 and a CRC-32 of the row's values), one plain `.npy` a tap and `journal.bin`. A group of rows is written and
synced first, its journal entry after it: a kill at any moment leaves either a whole group or none, since readers
believe the journal alone. Opening a shard reads the journal and `rows.bin`; the values of a row are held against its
CRC when they are used. What a file's header tells is never taken: it must be what the description says.
"""

import contextlib
import json
import os
import shutil
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from cxrbench.errors import IntegrityError
from cxrbench.store.atomic import sync_file, sync_folder
from cxrbench.store.schema import Spec
from cxrbench.store.sealed import (
    DamagedError,
    listed,
    opened_regular,
    read_sealed,
    reading,
    write_sealed,
)
from cxrbench.store.shard_files import (
    HEADER_BYTES,
    ITEM_BYTES,
    FloatArray,
    IntArray,
    JournalEntry,
    Notes,
    RowFile,
    checked_rows,
    mapped_items,
    mapped_rows,
    packed_notes,
    read_journal,
    unpacked_notes,
    write_at,
)

DESCRIPTION, ROWS, JOURNAL = "shard.json", "rows.bin", "journal.bin"
MOST_BYTES = 1 << 24  # of a description
ABANDONED_S = 60.0  # seconds without a row
ROW = np.dtype([("image", "u1", (32,)), ("checksum", "<u4")])  # of `rows.bin`


class Description(Spec):
    """`shard.json`: the digest of the key, the most rows, each tap's width, and what computed them.

    `engine`: device, batch size, memory format, library versions.
    """

    key: str
    capacity: int = Field(ge=0)
    taps: Mapping[Annotated[str, Field(pattern=r"^[^/\\]+$")], Annotated[int, Field(gt=0)]]
    engine: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that were committed together at `time` (ns since 1970): `count` of them from row `first` on."""

    time: int
    first: int
    count: int
    notes: Notes


class Shard:
    """The committed groups of one shard whose journal and `rows.bin` are what was written.

    `images` (n, 32) uint8 are the SHA-256 of each row's image; `faults` say what is not as it was written, and why.
    """

    def __init__(
        self,
        folder: Path,
        groups: Sequence[Group] = (),
        rows: NDArray[np.void] | None = None,
        taps: Mapping[str, FloatArray] | None = None,
        engine: Mapping[str, str] | None = None,
        faults: Sequence[str] = (),
    ) -> None:
        self.folder, self.groups, self.faults = folder, tuple(groups), tuple(faults)
        self.taps, self.engine = dict(taps or {}), dict(engine or {})
        self._rows = np.zeros(0, ROW) if rows is None else rows
        self._checked = np.zeros(len(self._rows), np.int8)  # of each row: 0 not yet, 1 as written, -1 not
        self._start = _start(folder, {tap: array.shape[1] for tap, array in self.taps.items()})

    def __len__(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def images(self) -> NDArray[np.uint8]:
        """(n, 32) uint8, mapped."""
        found: NDArray[np.uint8] = self._rows["image"]
        return found

    def sound(self, rows: IntArray) -> NDArray[np.bool_]:
        """Which of the rows have values that are as written; each row is read once for it."""
        for row in np.unique(rows[self._checked[rows] == 0]).tolist():
            values = [self.taps[tap][row] for tap in sorted(self.taps)]
            own = row_checksum(self._start, self._rows["image"][row], values)
            self._checked[row] = 1 if own == self._rows["checksum"][row] else -1
        found: NDArray[np.bool_] = self._checked[rows] > 0
        return found

    def refused(self, rows: IntArray) -> NDArray[np.bool_]:
        """Which of the rows are known not to be as written; none of them is read for it."""
        found: NDArray[np.bool_] = self._checked[rows] < 0
        return found

    def verify(self) -> tuple[str, ...]:
        """What is not as it was written, the values of every row included: reads all of them."""
        rows = [np.arange(group.first, group.first + group.count) for group in self.groups]
        torn = int((~self.sound(np.concatenate(rows))).sum()) if rows else 0
        return (*self.faults, *([f"{torn} of {len(self)} rows do not fit their checksum"] if torn else []))


def row_checksum(start: int, image: NDArray[np.uint8], values: Iterable[FloatArray]) -> int:
    """CRC-32 of a row: whose it is, and the little-endian float32 of its taps in the order of their names."""
    found = zlib.crc32(image.data, start)
    for own in values:
        found = zlib.crc32(own.data, found)
    return found


class Writer:
    """Appends rows to a shard of its own; a context manager that commits and trims the shard when it leaves.

    What `append` was given survives a kill once `commit` has returned.
    """

    def __init__(self, folder: Path, capacity: int, dims: Mapping[str, int], engine: Mapping[str, str]) -> None:
        folder.mkdir(parents=True)
        about = Description(key=folder.parent.name, capacity=capacity, taps=dict(dims), engine=dict(engine))
        write_sealed(folder / DESCRIPTION, about.model_dump(mode="json"))
        self._folder, self._capacity, self._dims = folder, capacity, dict(sorted(dims.items()))
        self._count = self._committed = 0  # rows appended, and in the journal
        self._start = self._checksum = _start(folder, self._dims)
        self._notes = list[tuple[str, tuple[str, ...]]]()
        self._taps = {tap: RowFile(folder / f"{tap}.npy", capacity, dim) for tap, dim in self._dims.items()}
        self._rows = (folder / ROWS).open("wb", buffering=0)
        self._journal = (folder / JOURNAL).open("wb", buffering=0)
        self._journalled = 0  # bytes
        sync_folder(folder)
        sync_folder(folder.parent)

    def append(
        self, images: Sequence[str], taps: Mapping[str, FloatArray], notes: Sequence[tuple[str, ...]] = ()
    ) -> None:
        """Take rows: (n, dim) float32 for each tap. They are there for no reader before `commit`.

        `notes` are what the image reader remarked on each image, kept with the rows. Raises IntegrityError when a
        tap is missing, has another shape, or holds a value that is not finite; then none of the rows is taken.
        """
        self._check(images, taps)
        rows = np.empty(len(images), ROW)
        rows["image"] = image_bytes(images)
        values = [np.ascontiguousarray(taps[tap], dtype="<f4") for tap in self._dims]
        rows["checksum"] = [
            row_checksum(self._start, image, own) for image, *own in zip(rows["image"], *values, strict=True)
        ]
        for tap, own in zip(self._dims, values, strict=True):
            self._taps[tap].write(self._count, own)
        write_at(self._rows, self._count * ROW.itemsize, rows)
        self._checksum = zlib.crc32(rows.data, self._checksum)
        self._notes += zip(images, notes, strict=True) if notes else ()
        self._count += len(images)

    def _check(self, images: Sequence[str], taps: Mapping[str, FloatArray]) -> None:
        if set(taps) != set(self._dims):
            raise IntegrityError(f"{self._folder.name}: taps {sorted(taps)} given, {sorted(self._dims)} announced")
        if self._count + len(images) > self._capacity:
            raise IntegrityError(f"{self._folder.name}: more than the announced {self._capacity} rows")
        for tap, values in taps.items():
            checked_rows(tap, values, (len(images), self._dims[tap]))

    def commit(self) -> None:
        """Make all rows durable as one group; returns when they would survive a kill and a power cut."""
        rows = self._count - self._committed
        if not rows:
            return
        if not os.fstat(self._journal.fileno()).st_nlink:
            raise IntegrityError(f"{self._folder}: was removed while rows were written into it; run again")
        for tap in self._taps.values():
            tap.sync()
        sync_file(self._rows)
        told = packed_notes(self._notes)
        checksum = zlib.crc32(told, self._checksum)
        entry = JournalEntry(self._committed, rows, time.time_ns(), told, checksum).packed()
        try:
            write_at(self._journal, self._journalled, entry)
            sync_file(self._journal)
        except BaseException:
            with contextlib.suppress(OSError):  # else a reader finds an entry of rows that nobody promised
                self._journal.truncate(self._journalled)
            raise
        self._journalled += len(entry)
        self._committed, self._checksum, self._notes = self._count, self._start, []

    def close(self) -> None:
        """Commit, and trim the arrays to their rows, so that any reader of `.npy` can use them; drop an empty shard."""
        with contextlib.ExitStack() as stack:
            stack.callback(self._rows.close)
            stack.callback(self._journal.close)
            for tap in self._taps.values():
                stack.callback(self._trim, tap)
            self.commit()
        if self._committed == 0:
            for file in self._folder.iterdir():
                file.unlink()
            self._folder.rmdir()

    def _trim(self, tap: RowFile) -> None:
        """Close a tap with the committed rows, or with all where the journal may speak of more."""
        sure = os.fstat(self._journal.fileno()).st_size == self._journalled
        tap.close(self._committed if sure else self._count)

    def __enter__(self) -> "Writer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


Images = Sequence[str] | NDArray[np.uint8]  # SHA-256 of each, in hex, or (n, 32) bytes


def image_bytes(images: Images) -> NDArray[np.uint8]:
    """(n, 32) uint8."""
    if isinstance(images, np.ndarray):
        return images
    return np.frombuffer(bytes.fromhex("".join(images)), np.uint8).reshape(len(images), ROW["image"].shape[0])


def _start(folder: Path, dims: Mapping[str, int]) -> int:
    """CRC-32 of whose rows they are: of which key, shard, taps and widths, so that files of another do not fit."""
    return zlib.crc32(json.dumps([folder.parent.name, folder.name, sorted(dims.items())]).encode())


def clear_abandoned(folder: Path) -> None:
    """Remove shards of one key's folder that were begun a while ago and have no row: a kill came before their commit.

    A writer that still lives commits within seconds; one whose shard went all the same says so.
    """
    for shard in shard_folders(folder):
        try:
            about = (shard / JOURNAL).stat()
            if about.st_size == 0 and time.time() - about.st_mtime > ABANDONED_S:
                shutil.rmtree(shard, ignore_errors=True)
        except OSError:
            continue


def shard_folders(folder: Path) -> list[Path]:
    """The shards of one key's folder, by name; raises UnreadableError for a folder that cannot be listed now."""
    return [folder / name for name in listed(folder) if name.startswith("shard-")]


def read_shard(folder: Path) -> Shard:
    """The journalled rows of a shard, each group held against its checksum; no wrong byte is an error.

    Values are mapped, and believed when they are used (`Shard.sound`). Raises UnreadableError for what the system does
    not read now: nothing is known of such a shard.
    """
    try:
        about = _description(folder)
    except FileNotFoundError:  # killed before the shard was made, unless a journal speaks of rows
        return Shard(folder, faults=(f"there is no {DESCRIPTION}",) if _begun(folder) else ())
    except DamagedError as error:
        return Shard(folder, faults=(f"{error.path.name} {error.reason}",))
    entries, fault = read_journal(folder / JOURNAL, about.capacity)
    faults = [fault] if fault else []
    if not entries:
        return Shard(folder, engine=about.engine, faults=faults)
    spoken = entries[-1].end
    end, short = _held(folder, about, spoken)
    if short:
        faults.append(short)
        entries = [entry for entry in entries if entry.end <= end]
        end = entries[-1].end if entries else 0
    if not entries:
        return Shard(folder, engine=about.engine, faults=faults)
    try:
        taps = {
            tap: mapped_rows(folder / f"{tap}.npy", end, dim, about.capacity, spoken) for tap, dim in about.taps.items()
        }
        rows = _mapped_rows_file(folder / ROWS, end)
    except DamagedError as error:
        return Shard(folder, engine=about.engine, faults=(*faults, f"{error.path.name} {error.reason}"))
    found = [_group(folder, about.taps, entry, rows) for entry in entries]
    whole = [group for group in found if group is not None]
    torn = len(found) - len(whole)
    faults += [f"{torn} of {len(found)} groups do not fit their checksum"] if torn else []
    return Shard(folder, whole, rows, taps, about.engine, faults)


def _held(folder: Path, about: Description, rows: int) -> tuple[int, str]:
    """How many of the rows all files hold, and which of them holds less; what is no file is told when it is opened."""
    held, short = rows, ""
    sizes = {f"{tap}.npy": (HEADER_BYTES, ITEM_BYTES * dim) for tap, dim in about.taps.items()}
    for name, (head, item) in {**sizes, ROWS: (0, ROW.itemsize)}.items():
        try:
            there = max((folder / name).stat().st_size - head, 0) // item
        except OSError:
            continue
        if there < held:
            held, short = there, f"{name} holds {there} rows, and the journal speaks of {rows}"
    return held, short


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


def _mapped_rows_file(path: Path, rows: int) -> NDArray[np.void]:
    """The first so many items of `rows.bin`."""
    try:
        with opened_regular(path, most=None) as file:
            there = os.fstat(file.fileno()).st_size // ROW.itemsize
            if there < rows:
                raise DamagedError(path, f"holds {there} rows, and the journal speaks of {rows}")
            return mapped_items(path, file, 0, ROW, rows)
    except FileNotFoundError as error:
        raise DamagedError(path, "is gone") from error


def _group(folder: Path, dims: Mapping[str, int], entry: JournalEntry, rows: NDArray[np.void]) -> Group | None:
    """The group of an entry, None if its rows and notes are not what was written."""
    own = zlib.crc32(rows[entry.first : entry.end].data, _start(folder, dims))
    if zlib.crc32(entry.notes, own) != entry.checksum:
        return None
    try:
        return Group(entry.time, entry.first, entry.rows, unpacked_notes(folder / JOURNAL, entry))
    except DamagedError:
        return None
