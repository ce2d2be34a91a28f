"""Decoded images on disk: one growing file of raw bytes and a journal that alone says what is in it. Beside it, files
that no decoder could read, by content, so that they are not read again at every start.

A batch is written and synced first, its journal entry (rows, contents, checksum) after it, so that a kill at any moment
leaves either a whole batch or none. Only the holder of the lock writes; readers need none, since nothing that the
journal names ever changes.
"""

import errno
import json
import mmap
import os
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cxrbench.durable import sync_folder, write_atomically
from cxrbench.errors import IntegrityError, RunError

Bytes = NDArray[np.uint8]
SIZE = "size.json"  # there before the first image is
_HEAD = struct.Struct("<QII")  # first row, rows, CRC-32 of the pixels
_CONTENT = 32  # bytes of a SHA-256


@dataclass(frozen=True, slots=True)
class Shelf:
    """All images of one recipe, whatever corpus asked for them: `folder`/pixels.u8 and `folder`/journal.bin."""

    folder: Path
    size: int

    @property
    def pixels(self) -> Path:
        """Raw uint8, image after image, each `size` x `size`."""
        return self.folder / "pixels.u8"

    @property
    def journal(self) -> Path:
        """Entries of a head, the contents' SHA-256, and a CRC-32 of both."""
        return self.folder / "journal.bin"

    @property
    def refusals(self) -> Path:
        """Which decoders refused which contents, and why."""
        return self.folder / "refused.json"

    @property
    def image_bytes(self) -> int:
        """Bytes of one image."""
        return self.size * self.size

    def rows(self) -> dict[str, int]:
        """Content (hex SHA-256) to row, for every whole batch."""
        return {content.hex(): row for row, content in self._contents()}

    def _contents(self) -> Iterator[tuple[int, bytes]]:
        for entry in self._entries():
            for number, content in enumerate(entry.contents):
                yield entry.start + number, content

    def _entries(self) -> Iterator["_Entry"]:
        data = self.journal.read_bytes() if self.journal.exists() else b""
        held = self.pixels.stat().st_size if self.pixels.exists() else 0
        at = 0
        while at + _HEAD.size <= len(data):
            start, count, checksum = _HEAD.unpack_from(data, at)
            end = at + _HEAD.size + count * _CONTENT
            if end + 4 > len(data) or zlib.crc32(data[at:end]) != int.from_bytes(data[end : end + 4], "little"):
                return
            if (start + count) * self.image_bytes > held:
                return
            contents = [data[i : i + _CONTENT] for i in range(at + _HEAD.size, end, _CONTENT)]
            yield _Entry(start, contents, checksum, end + 4)
            at = end + 4

    def refused(self, decoders: str) -> dict[str, str]:
        """Content (hex SHA-256) to the reason why these `decoders`, by name and version, make no image of it.

        Raises IntegrityError if the file is damaged.
        """
        if not self.refusals.exists():
            return {}
        try:
            told = json.loads(self.refusals.read_bytes())
            return dict(told["reasons"]) if told["decoders"] == decoders else {}
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"{self.refusals}: is damaged ({error}). Remove it.") from error

    def mapped(self, rows: int) -> "Mapped":
        """The first `rows` images, memory-mapped and read-only."""
        shape = (rows, self.size, self.size)
        if not rows:
            return Mapped(np.zeros(shape, np.uint8), None)
        with self.pixels.open("rb") as file:
            view = mmap.mmap(file.fileno(), rows * self.image_bytes, access=mmap.ACCESS_READ)
        return Mapped(np.frombuffer(view, np.uint8).reshape(shape), view)

    def damaged(self) -> list[int]:
        """Rows of batches whose bytes are not those that the journal promises; reads the whole file."""
        entries = list(self._entries())
        pixels = self.mapped(max((e.start + len(e.contents) for e in entries), default=0)).array
        bad: list[int] = []
        for entry in entries:
            rows = range(entry.start, entry.start + len(entry.contents))
            if zlib.crc32(pixels[rows.start : rows.stop].data) != entry.checksum:
                bad += rows
        return bad

    @contextmanager
    def writing(self, waiting_s: float = -1) -> Iterator["Filler"]:
        """The one writer, once others are done (`waiting_s`: at most so long; RunError then); see `Filler`."""
        with _telling(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(self.folder / "lock", timeout=waiting_s):
                yield from self._filling()
        except Timeout as error:
            raise RunError(
                f"{self.folder}: another process still fills it after {waiting_s:g} s; wait longer."
            ) from error

    def _filling(self) -> Iterator["Filler"]:
        with _telling(self.folder):
            write_atomically(self.folder / SIZE, json.dumps({"size": self.size}).encode())
        entries = list(self._entries())
        rows = max((e.start + len(e.contents) for e in entries), default=0)
        with _telling(self.folder):
            filler = Filler(self, rows, entries[-1].end if entries else 0)
        try:
            yield filler
        finally:
            filler.close()


def pixel_stores(cache: Path) -> Path:
    """The folder of a cache that holds a shelf for each recipe."""
    return cache / "pixels"


def shelves(cache: Path) -> list[Shelf]:
    """All of a cache, by name."""
    found = sorted(pixel_stores(cache).glob(f"*/{SIZE}"))
    return [Shelf(at.parent, int(json.loads(at.read_bytes())["size"])) for at in found]


@dataclass(frozen=True, slots=True)
class Mapped:
    """`array` (n, S, S) uint8 over the mapped file; `view` is None where there is nothing to map."""

    array: Bytes
    view: mmap.mmap | None

    def copied(self, rows: NDArray[np.int64]) -> Bytes:
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


@dataclass(frozen=True, slots=True)
class _Entry:
    start: int
    contents: list[bytes]
    checksum: int
    end: int  # where the next entry begins in the journal


class Filler:
    """Appends batches; what a killed writer left behind the last whole batch is cut off first."""

    def __init__(self, shelf: Shelf, rows: int, journal_end: int) -> None:
        self._shelf, self._rows = shelf, rows
        self._pixels = shelf.pixels.open("ab")
        self._journal = shelf.journal.open("ab")
        self._pixels.truncate(rows * shelf.image_bytes)
        self._journal.truncate(journal_end)
        sync_folder(shelf.folder)

    def require_room(self, images: int) -> None:
        """Raise RunError if the disk has less room than so many images take."""
        needed, free = images * self._shelf.image_bytes, shutil.disk_usage(self._shelf.folder).free
        if needed > free:
            raise RunError(
                f"{self._shelf.folder}: {images} decoded images take {needed / 1e9:.2f} GB, the disk has "
                f"{free / 1e9:.2f} GB left. Name another cache folder, or take fewer images."
            )

    def append(self, contents: Sequence[str], images: Bytes) -> None:
        """Write a batch durably: (n, size, size) uint8; raises RunError where the disk refuses, and nothing is lost."""
        data = np.ascontiguousarray(images)
        head = _HEAD.pack(self._rows, len(contents), zlib.crc32(data.data))
        entry = head + b"".join(bytes.fromhex(content) for content in contents)
        with _telling(self._shelf.folder):
            for file, block in ((self._pixels, data.data), (self._journal, _signed(entry))):
                file.write(block)
                file.flush()
                os.fdatasync(file.fileno())
        self._rows += len(contents)

    def refuse(self, decoders: str, reasons: Mapping[str, str]) -> None:
        """Remember contents that these decoders cannot read, durably; what others could not is forgotten."""
        told = {"decoders": decoders, "reasons": {**self._shelf.refused(decoders), **reasons}}
        with _telling(self._shelf.folder):
            write_atomically(self._shelf.refusals, json.dumps(told, indent=1).encode())

    def close(self) -> None:
        """Close both files."""
        for file in (self._pixels, self._journal):
            try:
                file.close()
            except OSError:  # a full disk was told of when the batch was written; the journal does not name it
                continue


def _signed(entry: bytes) -> bytes:
    return entry + zlib.crc32(entry).to_bytes(4, "little")


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    """What the disk refuses becomes a RunError that says what to do."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        way_out = "Make room and start again: whole batches are kept." if full else "Name a folder that can be written."
        raise RunError(f"{folder}: {error.strerror or error}. {way_out}") from error
