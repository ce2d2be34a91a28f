"""Decoded images on disk: one growing file of raw bytes and a journal that alone says what is in it. Beside it, files
that no decoder could read, by content, so that they are not read again at every start.

A batch is written and synced first, its journal entry (rows, contents, checksums) after it, so that a kill at any
moment leaves either a whole batch or none. Only the holder of the lock writes, and only behind what is there; readers
need no lock, since no byte that a journal ever named changes.
"""

import mmap
import shutil
import stat
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cxrbench.errors import RunError
from cxrbench.pretrain.log import writing
from cxrbench.store.atomic import sync_file, sync_folder
from cxrbench.store.sealed import (
    DamagedError,
    opened_regular,
    read_regular,
    read_sealed,
    reading,
    write_sealed,
)
from cxrbench.types import IntArray

_HEAD = struct.Struct("<QI")  # first row, rows
_ROW = np.dtype([("content", "V32"), ("checksum", "<u4")])  # SHA-256 of the file, CRC-32 of its pixels
_CRC_BYTES = 4


@dataclass(frozen=True, slots=True)
class PixelEntry:
    """A batch: rows `start` up to `end` hold `contents` (32 bytes each), with the CRC-32 of each row's pixels.

    The next entry begins `behind` it in the journal.
    """

    start: int
    contents: NDArray[np.void]
    checksums: NDArray[np.uint32]
    behind: int

    @property
    def end(self) -> int:
        """The first row that is not its own."""
        return self.start + len(self.contents)


def entries(data: bytes) -> Iterator[PixelEntry]:
    """The entries of a journal up to the first that is not what was written."""
    at = 0
    while at + _HEAD.size <= len(data):
        start, count = _HEAD.unpack_from(data, at)
        body = at + _HEAD.size
        end = body + count * _ROW.itemsize
        behind = end + _CRC_BYTES
        if behind > len(data) or zlib.crc32(data[at:end]) != int.from_bytes(data[end:behind], "little"):
            return
        rows = np.frombuffer(data, _ROW, count, body)
        yield PixelEntry(start, rows["content"], rows["checksum"], behind)
        at = behind


def packed(start: int, contents: Sequence[str], images: NDArray[np.uint8]) -> bytes:
    """The entry of a batch: `contents` (n) in hex, `images` (n, S, S) contiguous, of rows from `start` on."""
    rows = np.zeros(len(contents), _ROW)
    rows["content"] = np.frombuffer(bytes.fromhex("".join(contents)), "V32")
    rows["checksum"] = [zlib.crc32(image.data) for image in images]
    entry = _HEAD.pack(start, len(contents)) + rows.tobytes()
    return entry + zlib.crc32(entry).to_bytes(_CRC_BYTES, "little")


Bytes = NDArray[np.uint8]
SIZE = "size.json"  # there before the first image is
_MOST = 1 << 50
_REFUSALS = 256  # that become durable together
_WHOLE_BATCHES = "Make room and start again: whole batches are kept."


@dataclass(frozen=True, slots=True)
class Held:
    """What a pixel store holds: the row of each content (hex SHA-256), and the CRC-32 of each row's pixels (n,)."""

    rows: Mapping[str, int]
    checksums: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class PixelStore:
    """All images of one recipe, whatever corpus asked for them: `folder`/pixels.u8 and `folder`/journal.bin."""

    folder: Path
    size: int

    @property
    def pixels(self) -> Path:
        """Raw uint8, image after image, each `size` x `size`."""
        return self.folder / "pixels.u8"

    @property
    def journal(self) -> Path:
        """Entries of a head, a content and a checksum for each row, and a CRC-32 of all that."""
        return self.folder / "journal.bin"

    @property
    def refusals(self) -> Path:
        """Which contents no decoder reads, and why."""
        return self.folder / "refused.json"

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.size * self.size

    def held(self) -> Held:
        """Every whole batch. Of a duplicated content the later row counts, and of a row the later content."""
        written = list(self._entries())
        length = self._length() if written else 0  # taken after the journal: it covers every entry that was read
        here = [entry for entry in written if entry.end <= length]
        rows = max((entry.end for entry in here), default=0)
        contents, checksums = np.zeros(rows, "V32"), np.zeros(rows, np.uint32)
        known = np.zeros(rows, bool)
        for entry in here:
            part = slice(entry.start, entry.end)
            contents[part], checksums[part], known[part] = entry.contents, entry.checksums, True
        names = contents.tobytes()
        named = {names[32 * row : 32 * row + 32].hex(): row for row in np.flatnonzero(known).tolist()}
        return Held(named, checksums)

    def rows(self) -> dict[str, int]:
        """Content (hex SHA-256) to row, for every whole batch."""
        return dict(self.held().rows)

    def _length(self) -> int:
        """Whole images in the file of pixels."""
        try:
            about = self.pixels.stat()
        except FileNotFoundError:
            return 0
        if not stat.S_ISREG(about.st_mode):
            raise DamagedError(self.pixels, "is not a file", f"Remove {self.folder}.")
        return about.st_size // self.image_bytes

    def _entries(self) -> Iterator[PixelEntry]:
        try:
            return entries(read_regular(self.journal))
        except FileNotFoundError:
            return iter(())

    def refused(self) -> dict[str, str]:
        """Content (hex SHA-256) to the reason why there is no image of it; nothing if the file is damaged.

        Then those files are tried again.
        """
        try:
            return dict(read_sealed(self.refusals))
        except (FileNotFoundError, DamagedError):
            return {}

    def mapped(self, rows: int) -> "MappedPixels":
        """The first `rows` images, memory-mapped and read-only."""
        shape = (rows, self.size, self.size)
        if not rows:
            return MappedPixels(np.zeros(shape, np.uint8), None)
        with opened_regular(self.pixels, _MOST) as file, reading(self.pixels):
            view = mmap.mmap(file.fileno(), rows * self.image_bytes, access=mmap.ACCESS_READ)
        return MappedPixels(np.frombuffer(view, np.uint8).reshape(shape), view)

    def damaged(self) -> list[int]:
        """Rows in use whose bytes are not those that the journal promises; reads the whole file."""
        held = self.held()
        pixels = self.mapped(len(held.checksums)).array
        return [row for row in held.rows.values() if zlib.crc32(pixels[row].data) != held.checksums[row]]

    @contextmanager
    def writing(self, waiting_s: float = -1) -> Iterator["Filler"]:
        """The one writer, once others are done (`waiting_s`: at most so long; RunError then); see `Filler`."""
        with writing(self.folder, _WHOLE_BATCHES):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "lock", timeout=waiting_s):
                yield from self._filling()
        except Timeout as error:
            raise RunError(
                f"{self.folder}: another process still fills it after {waiting_s:g} s; wait longer."
            ) from error

    def _filling(self) -> Iterator["Filler"]:
        with writing(self.folder / SIZE, _WHOLE_BATCHES):
            write_sealed(self.folder / SIZE, {"size": self.size})
        *_, journal_end = 0, *(entry.behind for entry in self._entries())
        self._length()
        with writing(self.folder, _WHOLE_BATCHES):
            filler = Filler(self, journal_end)
        try:
            yield filler
        except BaseException:
            with suppress(RunError):  # what went wrong first is told
                filler.close()
            raise
        filler.close()


def pixel_stores(cache: Path) -> Path:
    """The folder of a cache that holds a pixel store for each recipe."""
    return cache / "pixels"


def pixel_store_folders(cache: Path) -> list[Path]:
    """The folders of all pixel stores of a cache, by name, sound or not."""
    return sorted(at.parent for at in pixel_stores(cache).glob(f"*/{SIZE}"))


def pixel_store_in(folder: Path) -> PixelStore:
    """The pixel store of a folder; raises DamagedError where nothing says how large its images are."""
    told = read_sealed(folder / SIZE, f"`cxrbench cache prune {folder.name[:16]}` removes it.")
    return PixelStore(folder, int(told["size"]))


@dataclass(frozen=True, slots=True)
class MappedPixels:
    """`array` (n, S, S) uint8 over the mapped file; `view` is None where there is nothing to map."""

    array: Bytes
    view: mmap.mmap | None

    def copied(self, rows: IntArray) -> Bytes:
        """(m,) rows to (m, S, S). All are asked for before the first is copied: a cold disk then reads them together,
        which is three times as fast as one after the other.
        """
        order = np.sort(rows)
        if self.view is not None and hasattr(self.view, "madvise"):
            size = self.array[0].nbytes
            for start in (order * size).tolist():
                first = start // mmap.PAGESIZE * mmap.PAGESIZE
                self.view.madvise(mmap.MADV_WILLNEED, first, start + size - first)
        out = np.empty((len(rows), *self.array.shape[1:]), np.uint8)
        for place in np.argsort(rows, kind="stable").tolist():
            out[place] = self.array[rows[place]]
        return out


class Filler:
    """Appends batches behind all that is there; what a killed writer left in the journal is cut off first.

    What it left among the pixels stays, unnamed: another process may have mapped the file. Refusals become durable some
    hundred at a time (or an eighth of them, if that is more), and all at the end, since their file is written anew each
    time: a kill loses the latest, which are then read again.
    """

    def __init__(self, pixel_store: PixelStore, journal_end: int) -> None:
        self._pixel_store = pixel_store
        self._refused, self._fresh_refusals = pixel_store.refused(), 0
        self._pixels = pixel_store.pixels.open("ab")
        self._journal = pixel_store.journal.open("ab")
        self._rows = -(-self._pixels.tell() // pixel_store.image_bytes)
        self._pixels.truncate(self._rows * pixel_store.image_bytes)
        self._journal.truncate(journal_end)
        sync_folder(pixel_store.folder)

    def require_room(self, images: int) -> None:
        """Raise RunError if the disk has less room than so many images take."""
        needed, free = images * self._pixel_store.image_bytes, shutil.disk_usage(self._pixel_store.folder).free
        if needed > free:
            raise RunError(
                f"{self._pixel_store.folder}: {images} decoded images take {needed / 1e9:.2f} GB, the disk has "
                f"{free / 1e9:.2f} GB left. Name another cache folder, or take fewer images."
            )

    def append(self, contents: Sequence[str], images: Bytes) -> None:
        """Write a batch durably: (n, size, size) uint8; raises RunError where the disk refuses, and nothing is lost."""
        data = np.ascontiguousarray(images)
        entry = packed(self._rows, contents, data)
        for path, file, block in (
            (self._pixel_store.pixels, self._pixels, data.data),
            (self._pixel_store.journal, self._journal, memoryview(entry)),
        ):
            with writing(path, _WHOLE_BATCHES):
                file.write(block)
                sync_file(file)
        self._rows += len(contents)

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """Remember contents that cannot be read: durably once they are many, or at `close`."""
        self._refused |= reasons
        self._fresh_refusals += len(reasons)
        if self._fresh_refusals >= max(_REFUSALS, len(self._refused) // 8):
            self._keep_refusals()

    def _keep_refusals(self) -> None:
        with writing(self._pixel_store.refusals, _WHOLE_BATCHES):
            write_sealed(self._pixel_store.refusals, self._refused)
        self._fresh_refusals = 0

    def close(self) -> None:
        """Write the refusals that are still to be written, and close both files."""
        try:
            if self._fresh_refusals:
                self._keep_refusals()
        finally:
            for file in (self._pixels, self._journal):
                with suppress(OSError):  # a full disk was told of with the batch; the journal does not name it
                    file.close()
