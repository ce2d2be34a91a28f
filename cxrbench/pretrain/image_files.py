"""Files read one by one, or by processes of which one may die over a file without taking the others' along."""

from collections import deque
from collections.abc import Iterator, Sequence
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

from cxrbench.errors import ImageError, UnreadableError
from cxrbench.images import raster
from cxrbench.images.grey import refusing
from cxrbench.images.header import is_dicom
from cxrbench.images.pixels import pixels_by
from cxrbench.images.radiograph import read_bytes
from cxrbench.specs.recipe import Canvas
from cxrbench.store import digest
from cxrbench.store.file_hashes import Stamp, stamp
from cxrbench.system.sources import code_digest

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
    image: Image.Image = raster.open_picture(data)
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
