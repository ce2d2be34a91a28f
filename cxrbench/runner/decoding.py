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
from cxrbench.images.images import read_bytes
from cxrbench.images.pixels import Pixels, pixels
from cxrbench.specs.recipe import Recipe
from cxrbench.store.embeddings import Embeddings, Key, digest
from cxrbench.store.file_hashes import Stamp, stamp
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
class Wanted:
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
    wanted: Mapping[int, Wanted] = field(default_factory=dict)
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
class Work:
    """What a decoding thread needs; `reader` is `reference` where the fast paths failed their self-test."""

    encoders: Sequence[Encoder]
    claims: Claims
    reader: Reader

    def claimed(self, content: str, keys: Sequence[Key]) -> dict[int, tuple[Key, ...]]:
        """The keys that now await the content, by the encoder that will serve them."""
        taken = self.claims.take(content, keys)
        served = ((i, tuple(key for key in taken if key in e.outputs)) for i, e in enumerate(self.encoders))
        return {i: mine for i, mine in served if mine}


def decoded(pending: Mapping[Path, Sequence[Key]], work: Work, workers: int, stack: ExitStack) -> Iterator[Decoded]:
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


def _decode(path: Path, keys: Sequence[Key], work: Work) -> Decoded:
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
    wanted = {i: Wanted(p.array, p.notes, mine) for i, (p, mine) in found.items() if isinstance(p, Pixels)}
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
