"""Files to pixels by threads, a little ahead of the models, each file read and decoded once."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import CxrBenchError
from cxrbench.images.pixels import Pixels, pixels
from cxrbench.images.radiograph import read_bytes
from cxrbench.specs.recipe import Recipe
from cxrbench.store.atomic import naming
from cxrbench.store.embeddings import Embeddings, Key, Store, digest
from cxrbench.store.file_hashes import Stamp, stamp
from cxrbench.store.shard import Writer
from cxrbench.system.contained import contained

FloatArray = NDArray[np.float32]
Taps = Mapping[str, FloatArray]  # of (B, dim)
# (B, C, H, W) to the taps of the keys asked for, or to why one cannot have any
Forward = Callable[[FloatArray, Sequence[Key]], Mapping[Key, Taps | CxrBenchError]]
Reader = Literal["fast", "reference"]


@dataclass(frozen=True, slots=True)
class Encoder:
    """One model with one recipe, and all that is stored of an image that goes through it.

    `outputs`: taps and their dimensions by key: the image's vectors, and its scores of every set of texts that the
    model scores as a whole. `forward` gives the network, loaded when the first image needs it.
    """

    recipe: Recipe
    outputs: Mapping[Key, Mapping[str, int]]
    forward: Callable[[], Forward]
    engine: Callable[[], Mapping[str, str]]  # what runs the network, known once it is loaded; kept with the rows
    name: str = "a model"  # for messages


@dataclass(frozen=True, slots=True)
class WantedImage:
    """An image as one encoder takes it, (C, H, W), and the keys that want it and have not got it."""

    pixels: FloatArray
    notes: tuple[str, ...]
    keys: tuple[Key, ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """One file: its content, and what each encoder (by its place in the work) is to make of it.

    `refused`: why keys can have nothing of it; `failed`: why its bytes are not to be had. An ImageError is the
    file's fault, another the decoder's or the machine's.
    """

    path: Path
    at: Stamp | None
    content: str = ""
    wanted: Mapping[int, WantedImage] = field(default_factory=dict)
    refused: Mapping[Key, CxrBenchError] = field(default_factory=dict)
    failed: CxrBenchError | None = None


class Claims:
    """Which contents each key has or is about to get, so that no image goes through a model twice."""

    def __init__(self, have: Mapping[Key, Embeddings]) -> None:
        self._have, self._claimed, self._lock = have, set[tuple[Key, str]](), Lock()

    def take(self, content: str, keys: Sequence[Key]) -> list[Key]:
        """The keys that neither have the content nor await it; from now on they await it."""
        with self._lock:
            wanted = [k for k in keys if content not in self._have[k] and (k, content) not in self._claimed]
            self._claimed.update((key, content) for key in wanted)
            return wanted


@dataclass(frozen=True, slots=True)
class DecodingWork:
    """What a decoding thread needs; `reader` is `reference` where the fast paths failed their self-test."""

    encoders: Sequence[Encoder]
    claims: Claims
    reader: Reader

    def claimed(self, content: str, keys: Sequence[Key]) -> dict[int, tuple[Key, ...]]:
        """The keys that now await the content, by the encoder that will serve them."""
        taken = self.claims.take(content, keys)
        served = ((i, tuple(key for key in taken if key in e.outputs)) for i, e in enumerate(self.encoders))
        return {i: mine for i, mine in served if mine}


def decoded(
    pending: Mapping[Path, Sequence[Key]], work: DecodingWork, workers: int, stack: ExitStack
) -> Iterator[Decoded]:
    """Files read and decoded by threads a little ahead of the models, handed over in order."""
    pool = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="decode"))
    ahead: deque[Future[Decoded]] = deque()
    stack.callback(lambda: [future.cancel() for future in ahead])
    for path, keys in pending.items():
        ahead.append(pool.submit(_decode, path, keys, work))
        if len(ahead) > 4 * workers:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _decode(path: Path, keys: Sequence[Key], work: DecodingWork) -> Decoded:
    at = None
    try:
        at = stamp(path)
        data = read_bytes(path)
        content = digest.of_bytes(data)
    except BaseException as error:
        return Decoded(path, at, failed=contained(error, str(path)))
    claimed = work.claimed(content, keys)
    recipes = {i: work.encoders[i].recipe for i in claimed}
    made = _made(path, data, {recipe.digest: recipe for recipe in recipes.values()}, work.reader)
    found = {i: (made[recipe.digest], claimed[i]) for i, recipe in recipes.items()}
    wanted = {i: WantedImage(p.array, p.notes, mine) for i, (p, mine) in found.items() if isinstance(p, Pixels)}
    refused = {key: why for why, mine in found.values() if not isinstance(why, Pixels) for key in mine}
    return Decoded(path, at, content, wanted, refused)


def _made(path: Path, data: bytes, recipes: Mapping[str, Recipe], reader: Reader) -> dict[str, Pixels | CxrBenchError]:
    """What each recipe makes of the file, by its digest."""
    try:
        found = pixels(data, path.name, list(recipes.values()), reader) if recipes else []
    except BaseException as error:
        return dict.fromkeys(recipes, contained(error, str(path)))
    parts = (one if isinstance(one, Pixels) else contained(one, str(path)) for one in found)
    return dict(zip(recipes, parts, strict=True))


class Shards:
    """What one model writes: a shard for each of its keys, begun when the first row comes, closed at the end."""

    def __init__(self, store: Store, encoder: Encoder, counts: Mapping[Key, int], broken: dict[Key, CxrBenchError]):
        self._store, self._encoder, self._counts, self._broken = store, encoder, counts, broken
        self._opened: dict[Key, Writer] = {}

    def append(self, key: Key, rows: Sequence[tuple[str, WantedImage]], taps: Taps) -> None:
        """Write the rows of a batch; an error of the disk names the store."""
        with naming(self._store.root):
            if key not in self._opened:
                encoder = self._encoder
                made = self._store.writer(key, self._counts[key], encoder.outputs[key], encoder.engine())
                self._opened[key] = made
            contents, notes = [content for content, _ in rows], [image.notes for _, image in rows]
            self._opened[key].append(contents, taps, notes)

    def close(self) -> None:
        """Close every shard; one that cannot be is broken, and ends no other."""
        for key, writer in self._opened.items():
            try:
                with naming(self._store.root):
                    writer.close()
            except BaseException as error:
                self._broken.setdefault(key, contained(error, f"{self._encoder.name}: writing to the store"))


def padded(images: Sequence[FloatArray], size: int) -> FloatArray:
    """The images (C, H, W) as a batch of `size`, the last one repeated, so that a network always sees as many."""
    return np.stack([*images, *[images[-1]] * (size - len(images))])


class WaitingImages:
    """Images that wait for one model; flushed at a fixed size, the last one padded to it.

    A key that fails joins the `broken` ones and is asked for no more; an error that is raised is the whole model's.
    """

    def __init__(self, encoder: Encoder, size: int, shards: Shards, broken: dict[Key, CxrBenchError]) -> None:
        self._encoder, self._size, self._shards, self._broken = encoder, size, shards, broken
        self._waiting: list[tuple[str, WantedImage]] = []
        self._forward: Forward | None = None

    def add(self, content: str, image: WantedImage) -> int:
        """Take an image; returns the images encoded by this call: the batch size when it became full, else 0."""
        if all(key in self._broken for key in image.keys):
            return 0
        self._waiting.append((content, image))
        return self.flush() if len(self._waiting) == self._size else 0

    def flush(self) -> int:
        """Encode and store what waits."""
        count = len(self._waiting)
        if count == 0:
            return 0
        if self._forward is None:
            self._forward = self._encoder.forward()
        images = [image.pixels for _, image in self._waiting]
        wanted = dict.fromkeys(key for _, image in self._waiting for key in image.keys)
        keys = [key for key in wanted if key not in self._broken]
        for key, taps in self._forward(padded(images, self._size), keys).items():
            try:
                self._store(key, taps)
            except BaseException as error:
                self._broken[key] = contained(error, f"{self._encoder.name}: writing to the store")
        self._waiting = []
        return count

    def _store(self, key: Key, found: Taps | CxrBenchError) -> None:
        if isinstance(found, CxrBenchError):
            raise found
        rows = [row for row, (_, image) in enumerate(self._waiting) if key in image.keys]
        taps = {tap: values[rows] for tap, values in found.items()}
        self._shards.append(key, [self._waiting[row] for row in rows], taps)
