"""All images of a corpus decoded once, for every run: a memory-mapped store that is filled in parallel.

A row is named by recipe and by the content of the file, so runs, corpora and copies of a data set share it.
"""

import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, IntegrityError, RunError
from cxrbench.pretrain.image_files import Readers, ReadPixels, read, recipe_key
from cxrbench.pretrain.pixel_store import Bytes, Filler, PixelStore, pixel_stores
from cxrbench.specs.recipe import Canvas
from cxrbench.store import digest
from cxrbench.store.file_hashes import FileHashes
from cxrbench.system.progress import Progress, Quiet
from cxrbench.types import IntArray

BATCH = 256  # images that become durable together
MOST_MENDED = 256  # images decoded again one by one in the midst of a run; above, the store is better filled anew
PATIENCE_S = 60  # how long a mended image waits for its place


@dataclass(frozen=True, slots=True)
class WantedImages:
    """Which images, how they are read, and where the store lies.

    `workers` processes decode (1: a thread of this one). `waiting_s`: how long to wait for another process that
    fills the same store; below 0 for as long as it takes.
    """

    paths: Sequence[Path]
    recipe: Canvas
    cache: Path
    workers: int = 1
    waiting_s: float = -1


@dataclass(frozen=True, slots=True)
class StoredImages:
    """The images of a corpus: `pixels` has one row for each of its rows, of which only the `readable` ones may be asked
    for; `unreadable` gives the reason of each other row.
    """

    pixels: "StoredPixels"
    readable: NDArray[np.bool_]  # (n,)
    unreadable: dict[int, str]
    decoded: int  # files that had to be decoded now, and could be
    digest: str  # of the bytes of all readable files, row by row


class StoredPixels:
    """Rows as batches want them, each held against its checksum whenever it is asked for.

    An image whose stored pixels are not what was written is decoded again from its file, at once, and put behind the
    others; `notes` then tell of it. Raises IntegrityError where the file is not the one that it was, for a row whose
    image could not be read, so that none is zeros, and where more are damaged than are worth mending one by one.
    """

    def __init__(self, pixel_store: PixelStore, wanted: WantedImages, contents: Sequence[str | None]) -> None:
        held = pixel_store.held()
        self._pixel_store, self._wanted, self._contents = pixel_store, wanted, contents
        self._mapped, self._checksums = pixel_store.mapped(len(held.checksums)), held.checksums
        self.places: IntArray = np.array(
            [-1 if content is None else held.rows.get(content, -1) for content in contents], dtype=np.int64
        )
        self._mended: dict[int, Bytes] = {}
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: IntArray) -> Bytes:
        """(n,) rows to (n, S, S) uint8, in the order asked for."""
        places = self.places[rows]
        if len(places) and places.min() < 0:
            raise IntegrityError(f"row {rows[int(places.argmin())]} has no image: it could not be read")
        out = self._mapped.copied(places)
        for image, row, wanted in zip(out, rows.tolist(), self._checksums[places].tolist(), strict=True):
            if zlib.crc32(image.data) != wanted:
                image[...] = self._mend(row)
        return out

    def _mend(self, row: int) -> Bytes:
        if row not in self._mended:
            if len(self._mended) >= MOST_MENDED:
                raise IntegrityError(
                    f"{self._pixel_store.pixels}: more than {MOST_MENDED} images are not what was written. Look after "
                    "the "
                    f"disk, remove {self._pixel_store.folder}, then --resume: all are decoded again."
                )
            self._mended[row] = self._decoded_again(row)
        return self._mended[row]

    def _decoded_again(self, row: int) -> Bytes:
        path, content = self._wanted.paths[row], self._contents[row]
        found = read(path, self._wanted.recipe)
        if found.array is None or found.content != content:
            raise IntegrityError(
                f"{self._pixel_store.pixels}: the pixels of {path} are not what was written, and that file is not "
                "what it "
                f"was when it was decoded ({found.reason or 'it has other bytes'}). Restore the file, then --resume."
            )
        self.notes.append(
            f"the pixels of {path} in {self._pixel_store.folder} were damaged; the file was decoded again"
        )
        try:
            with self._pixel_store.writing(PATIENCE_S) as filler:
                filler.append([found.content], found.array[None])
        except RunError as error:
            self.notes.append(f"{path} will have to be decoded once more by the next run: {error}")
        return found.array


def fill_pixel_store(wanted: WantedImages, progress: Progress | None = None) -> StoredImages:
    """The store with all images that can be read; what is not in it yet is decoded and kept batch by batch.

    Raises DataError if no image can be read, RunError where the disk is full or another process keeps the store.
    """
    pixel_store = PixelStore(pixel_stores(wanted.cache) / recipe_key(wanted.recipe)[:32], wanted.recipe.size)
    contents = _contents(wanted)[1]
    unreadable: dict[int, str] = {}
    decoded = 0
    if _absent(contents, {**pixel_store.rows(), **pixel_store.refused()}):
        with pixel_store.writing(wanted.waiting_s) as filler:
            hashes, contents = _contents(wanted)  # again: another process may have filled the store meanwhile
            rows = pixel_store.rows()
            missing = _absent(contents, {**rows, **pixel_store.refused()})
            unreadable = _fill(wanted, missing, contents, _Sink(filler, hashes, set(rows)), progress or Quiet())
            decoded = len(missing) - len(unreadable)
    return _opened(pixel_store, wanted, contents, unreadable, decoded)


def _contents(wanted: WantedImages) -> tuple[FileHashes, list[str | None]]:
    """Who holds which bytes, as far as a look at size and modification time tells; None where the file must be read."""
    anchor = Path(wanted.paths[0].resolve().anchor) if wanted.paths else wanted.cache
    hashes = FileHashes(wanted.cache, anchor)
    return hashes, [hashes.known(path) for path in wanted.paths]


def _opened(
    pixel_store: PixelStore,
    wanted: WantedImages,
    contents: Sequence[str | None],
    unreadable: dict[int, str],
    decoded: int,
) -> StoredImages:
    refused = pixel_store.refused()
    before = {n: refused[content] for n, content in enumerate(contents) if content in refused}
    unreadable = dict(sorted((before | unreadable).items()))
    pixels = StoredPixels(pixel_store, wanted, contents)
    readable = pixels.places >= 0
    if len(readable) and not readable.any():
        raise DataError(f"none of {len(readable)} images can be read; the first: {next(iter(unreadable.values()), '')}")
    named = digest.of_lines((content or "") if there else "" for content, there in zip(contents, readable, strict=True))
    return StoredImages(pixels, readable, unreadable, decoded, named)


def _absent(contents: Sequence[str | None], known: Collection[str]) -> list[int]:
    return [number for number, content in enumerate(contents) if content is None or content not in known]


@dataclass(frozen=True, slots=True)
class _Sink:
    """Where decoded images go; `held` are the contents that are there already."""

    filler: Filler
    hashes: FileHashes
    held: set[str]

    def take(self, batch: Sequence[tuple[Path, ReadPixels]]) -> None:
        """Keep a batch: new pixels and refusals first, then who has them."""
        fresh = {r.content: r.array for _, r in batch if r.array is not None and r.content not in self.held}
        if fresh:
            self.filler.append(list(fresh), np.stack(list(fresh.values())))
            self.held.update(fresh)
        if refused := {r.content: r.reason for _, r in batch if r.array is None and r.content}:
            self.filler.refuse(refused)
        self.hashes.add([(path, r.at, r.content) for path, r in batch if r.at is not None and r.content])


def _fill(
    wanted: WantedImages, missing: Sequence[int], contents: list[str | None], sink: _Sink, progress: Progress
) -> dict[int, str]:
    """Decode the missing rows; fills in their contents and returns the reasons of those that have none."""
    unreadable: dict[int, str] = {}
    sink.filler.require_room(len(missing))
    progress.start(len(missing), "the pixel store")
    try:
        with Readers(wanted.recipe, wanted.workers) as readers:
            numbered = zip(missing, readers.read([wanted.paths[n] for n in missing]), strict=True)
            while batch := list(islice(numbered, BATCH)):
                sink.take([(wanted.paths[number], image) for number, image in batch])
                for number, image in batch:
                    progress.advance()
                    contents[number] = image.content or None
                    if image.array is None:
                        unreadable[number] = image.reason
    finally:
        progress.stop()
    return unreadable
