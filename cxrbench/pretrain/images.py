"""All images of a corpus decoded once, for every run: a memory-mapped store that is filled in parallel.

A row is named by recipe and by the content of the file, so runs, corpora and copies of a data set share it.
"""

import zlib
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from cxrbench.errors import DataError, ImageError, IntegrityError, RunError, UnreadableError
from cxrbench.images import raster
from cxrbench.images.grey import refusing
from cxrbench.images.header import is_dicom
from cxrbench.images.images import read_bytes
from cxrbench.images.pixels import pixels_by
from cxrbench.pretrain.image_shelf import Bytes, Filler, Shelf, pixel_stores
from cxrbench.specs.recipe import Canvas
from cxrbench.store import digest
from cxrbench.store.file_hashes import FileHashes, Stamp, stamp
from cxrbench.system.progress import Progress, Quiet
from cxrbench.system.sources import code_digest
from cxrbench.types import IntArray

_READERS = ("pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "python-gdcm")
_WITHIN_PILLOW = ("libjpeg_turbo", "jpg_2000", "libtiff", "webp")
_JPEG = b"\xff\xd8"
_EIGHT_BITS = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB"})


def recipe_key(recipe: Canvas) -> str:
    """Hex SHA-256 of what decides the stored bytes of a file, and whether it has any.

    The recipe without mean and std, which come after the store, the code that reads and resizes, and the decoders.
    """
    told = {"recipe": plain(recipe).model_dump(mode="json"), "code": pixel_code(), "decoders": decoders()}
    return digest.of_json(told)


def pixel_code() -> str:
    """Digest of the code between a file's bytes and its stored pixels."""
    return code_digest(__name__)


@cache
def decoders() -> str:
    """The libraries that decode, with their versions: another release may round otherwise, or read more files."""
    within = ((name, features.version(name)) for name in _WITHIN_PILLOW if features.check(name))
    found = [("pillow", version("pillow")), *within, *((name, version(name)) for name in _READERS)]
    return ", ".join(f"{name} {told}" for name, told in found if told)


def version(name: str) -> str:
    """A library's version, "" where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def plain(recipe: Canvas) -> Canvas:
    """The recipe without normalisation."""
    return recipe.model_copy(update={"mean": (0.0,), "std": (1.0,)})


@cache
def _deep(recipe: Canvas) -> Canvas:
    return recipe.model_copy(update={"decode": "radiograph", "polarity": "header"})


def stored_pixels(data: bytes, name: str, recipe: Canvas) -> NDArray[np.uint8]:
    """(S, S) uint8: the recipe's 0..1 times 255, rounded half to even; at most half a grey level from the recipe.

    Rasters of more than 8 bits (PadChest's PNG) are stretched from their least to their greatest value, since the
    released arithmetic, which divides every depth by 255, has no use for them. Raises ImageError for what is no
    picture, and for a deep raster of one value.
    """
    asked = plain(recipe)
    with refusing(name):
        if asked.decode == "official" and _is_deep(data):
            asked = _deep(asked)
    made = pixels_by(data, name, asked)
    if asked.decode == "radiograph" and any(note.startswith("every pixel has") for note in made.notes):
        raise ImageError(f"{name}: {made.notes[0]}: nothing can be stretched. Leave it out.")
    return np.rint(np.clip(made.array[0], 0, 1) * 255).astype(np.uint8)


def _is_deep(data: bytes) -> bool:
    if data.startswith(_JPEG) or is_dicom(data):
        return False
    image: Image.Image = raster.opened(data)
    return image.mode not in _EIGHT_BITS


GROUP = 8  # images that a worker is given at once
AHEAD = 64  # groups under way


@dataclass(frozen=True, slots=True)
class ReadPixels:
    """What one file came to: `array` (S, S) uint8, or a `reason` why there is none.

    `content` is the SHA-256 of its bytes; "" where there were none to be had, or the machine was short: that may pass.
    """

    at: Stamp | None
    content: str = ""
    array: NDArray[np.uint8] | None = None
    reason: str = ""


def read(path: Path, recipe: Canvas) -> ReadPixels:
    """The file's pixels, or the reason why it has none; the stamp is taken before the bytes are."""
    at, content = stamp(path), ""
    try:
        data = read_bytes(path)
        content = digest.of_bytes(data)
        return ReadPixels(at, content, stored_pixels(data, path.name, recipe))
    except ImageError as error:
        return ReadPixels(at, content, reason=str(error))
    except UnreadableError as error:
        return ReadPixels(at, reason=str(error))


class Readers:
    """`workers` processes that read files (1: a thread beside the one that writes); a context manager."""

    def __init__(self, recipe: Canvas, workers: int) -> None:
        self._recipe, self._workers = recipe, workers
        self._pool = self._started(workers)

    def read(self, paths: Sequence[Path]) -> Iterator[ReadPixels]:
        """What the files came to, in their order; only so many are under way that memory stays bounded.

        Where a process died (a decoder crashed, or the system took its memory back), the files under way are read one
        by one in another, and that over which it dies again is told as unreadable.
        """
        groups = iter([list(paths[at : at + GROUP]) for at in range(0, len(paths), GROUP)])
        waiting = deque((group, self._begun(group)) for group in islice(groups, AHEAD))
        while waiting:
            group, future = waiting.popleft()
            try:
                yield from future.result()
            except BrokenExecutor:
                held = [group, *(group for group, _ in waiting)]
                waiting.clear()
                yield from self._one_by_one([path for group in held for path in group])
                self._pool.shutdown()
                self._pool = self._started(self._workers)
            room = AHEAD - len(waiting)
            waiting.extend((group, self._begun(group)) for group in islice(groups, room))

    def _begun(self, group: list[Path]) -> "Future[list[ReadPixels]]":
        try:
            return self._pool.submit(_read_group, group, self._recipe)
        except BrokenExecutor as error:  # it died between two files; told with the group
            lost: Future[list[ReadPixels]] = Future()
            lost.set_exception(error)
            return lost

    def _one_by_one(self, paths: Sequence[Path]) -> Iterator[ReadPixels]:
        pool = self._process(1)
        for path in paths:
            try:
                yield pool.submit(_read_group, [path], self._recipe).result()[0]
            except BrokenExecutor:
                yield ReadPixels(None, reason=f"{path.name}: the process that decodes it dies. Get a fresh copy.")
                pool.shutdown()
                pool = self._process(1)
        pool.shutdown()

    def _started(self, workers: int) -> Executor:
        return ThreadPoolExecutor(1) if workers <= 1 else self._process(workers)

    @staticmethod
    def _process(workers: int) -> Executor:
        """Fresh processes, as a fork with threads may hang."""
        return ProcessPoolExecutor(workers, mp_context=get_context("spawn"))

    def __enter__(self) -> "Readers":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)


def _read_group(paths: list[Path], recipe: Canvas) -> list[ReadPixels]:
    return [read(path, recipe) for path in paths]


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

    def __init__(self, shelf: Shelf, wanted: WantedImages, contents: Sequence[str | None]) -> None:
        held = shelf.held()
        self._shelf, self._wanted, self._contents = shelf, wanted, contents
        self._mapped, self._checksums = shelf.mapped(len(held.checksums)), held.checksums
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
                    f"{self._shelf.pixels}: more than {MOST_MENDED} images are not what was written. Look after the "
                    f"disk, remove {self._shelf.folder}, then --resume: all are decoded again."
                )
            self._mended[row] = self._decoded_again(row)
        return self._mended[row]

    def _decoded_again(self, row: int) -> Bytes:
        path, content = self._wanted.paths[row], self._contents[row]
        found = read(path, self._wanted.recipe)
        if found.array is None or found.content != content:
            raise IntegrityError(
                f"{self._shelf.pixels}: the pixels of {path} are not what was written, and that file is not what it "
                f"was when it was decoded ({found.reason or 'it has other bytes'}). Restore the file, then --resume."
            )
        self.notes.append(f"the pixels of {path} in {self._shelf.folder} were damaged; the file was decoded again")
        try:
            with self._shelf.writing(PATIENCE_S) as filler:
                filler.append([found.content], found.array[None])
        except RunError as error:
            self.notes.append(f"{path} will have to be decoded once more by the next run: {error}")
        return found.array


def stored(wanted: WantedImages, progress: Progress | None = None) -> StoredImages:
    """The store with all images that can be read; what is not in it yet is decoded and kept batch by batch.

    Raises DataError if no image can be read, RunError where the disk is full or another process keeps the store.
    """
    shelf = Shelf(pixel_stores(wanted.cache) / recipe_key(wanted.recipe)[:32], wanted.recipe.size)
    contents = _contents(wanted)[1]
    unreadable: dict[int, str] = {}
    decoded = 0
    if _absent(contents, {**shelf.rows(), **shelf.refused()}):
        with shelf.writing(wanted.waiting_s) as filler:
            ledger, contents = _contents(wanted)  # again: another process may have filled the store meanwhile
            rows = shelf.rows()
            missing = _absent(contents, {**rows, **shelf.refused()})
            unreadable = _fill(wanted, missing, contents, _Sink(filler, ledger, set(rows)), progress or Quiet())
            decoded = len(missing) - len(unreadable)
    return _opened(shelf, wanted, contents, unreadable, decoded)


def _contents(wanted: WantedImages) -> tuple[FileHashes, list[str | None]]:
    """Who holds which bytes, as far as a look at size and modification time tells; None where the file must be read."""
    anchor = Path(wanted.paths[0].resolve().anchor) if wanted.paths else wanted.cache
    ledger = FileHashes(wanted.cache, anchor)
    return ledger, [ledger.known(path) for path in wanted.paths]


def _opened(
    shelf: Shelf, wanted: WantedImages, contents: Sequence[str | None], unreadable: dict[int, str], decoded: int
) -> StoredImages:
    refused = shelf.refused()
    before = {n: refused[content] for n, content in enumerate(contents) if content in refused}
    unreadable = dict(sorted((before | unreadable).items()))
    pixels = StoredPixels(shelf, wanted, contents)
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
    ledger: FileHashes
    held: set[str]

    def take(self, batch: Sequence[tuple[Path, ReadPixels]]) -> None:
        """Keep a batch: new pixels and refusals first, then who has them."""
        fresh = {r.content: r.array for _, r in batch if r.array is not None and r.content not in self.held}
        if fresh:
            self.filler.append(list(fresh), np.stack(list(fresh.values())))
            self.held.update(fresh)
        if refused := {r.content: r.reason for _, r in batch if r.array is None and r.content}:
            self.filler.refuse(refused)
        self.ledger.add([(path, r.at, r.content) for path, r in batch if r.at is not None and r.content])


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
