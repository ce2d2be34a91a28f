"""All images of a corpus decoded once, for every run: a memory-mapped store that is filled in parallel.

A row is named by recipe and by the content of the file, so runs, corpora and copies of a data set share it.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, IntegrityError
from cxrbench.index import IntArray
from cxrbench.ledger import Ledger
from cxrbench.pretrain.image_files import Read, decoders, read, recipe_key
from cxrbench.pretrain.image_shelf import Filler, Mapped, Shelf, pixel_stores
from cxrbench.progress import Progress, Quiet
from cxrbench.recipe import Canvas

BATCH = 256  # images that become durable together
GROUP = 8  # images that a worker is given at once
AHEAD = 64  # groups under way


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which images, how they are read, and where the store lies.

    `workers` processes decode (1: a thread of this one). `waiting_s`: how long to wait for another process that
    fills the same store; below 0 for as long as it takes. `verify`: hold every stored byte against its checksum first.
    """

    paths: Sequence[Path]
    recipe: Canvas
    cache: Path
    workers: int = 1
    waiting_s: float = -1
    verify: bool = False


@dataclass(frozen=True, slots=True)
class Stored:
    """The images of a corpus: `pixels` has one row for each of its rows, of which only the `readable` ones may be asked
    for; `unreadable` gives the reason of each other row.
    """

    pixels: "StoredPixels"
    readable: NDArray[np.bool_]  # (n,)
    unreadable: dict[int, str]
    decoded: int  # files that had to be decoded now, and could be


class StoredPixels:
    """Rows as batches want them; raises IntegrityError for one whose image could not be read, so that none is zeros."""

    def __init__(self, mapped: Mapped, places: IntArray) -> None:
        self._mapped, self._places = mapped, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, rows: IntArray) -> NDArray[np.uint8]:
        """(n,) rows to (n, S, S) uint8, in the order asked for."""
        places = self._places[rows]
        if len(places) and places.min() < 0:
            raise IntegrityError(f"row {rows[int(places.argmin())]} has no image: it could not be read")
        return self._mapped.copied(places)


def stored(wanted: Wanted, progress: Progress | None = None) -> Stored:
    """The store with all images that can be read; what is not in it yet is decoded and kept batch by batch.

    Raises DataError if no image can be read, RunError where the disk is full or another process keeps the store,
    IntegrityError where `verify` finds other bytes than were written.
    """
    shelf = Shelf(pixel_stores(wanted.cache) / recipe_key(wanted.recipe)[:32], wanted.recipe.size)
    if wanted.verify and (bad := shelf.damaged()):
        raise IntegrityError(f"{shelf.pixels}: {len(bad)} images are not what was written. Remove {shelf.folder}.")
    contents = _contents(wanted)[1]
    unreadable: dict[int, str] = {}
    decoded = 0
    if _absent(contents, {**shelf.rows(), **shelf.refused(decoders())}):
        with shelf.writing(wanted.waiting_s) as filler:
            ledger, contents = _contents(wanted)  # again: another process may have filled the store meanwhile
            rows = shelf.rows()
            missing = _absent(contents, {**rows, **shelf.refused(decoders())})
            unreadable = _fill(wanted, missing, contents, _Sink(filler, ledger, set(rows)), progress or Quiet())
            decoded = len(missing) - len(unreadable)
    return _opened(shelf, contents, unreadable, decoded)


def _contents(wanted: Wanted) -> tuple[Ledger, list[str | None]]:
    """Who holds which bytes, as far as a look at size and modification time tells; None where the file must be read."""
    anchor = Path(wanted.paths[0].resolve().anchor) if wanted.paths else wanted.cache
    ledger = Ledger(wanted.cache, anchor)
    return ledger, [ledger.known(path) for path in wanted.paths]


def _opened(shelf: Shelf, contents: Sequence[str | None], unreadable: dict[int, str], decoded: int) -> Stored:
    rows, refused = shelf.rows(), shelf.refused(decoders())
    before = {n: refused[content] for n, content in enumerate(contents) if content in refused}
    unreadable = dict(sorted((before | unreadable).items()))
    places = np.array([-1 if content is None else rows.get(content, -1) for content in contents], dtype=np.int64)
    if len(places) and places.max() < 0:
        raise DataError(f"none of {len(places)} images can be read; the first: {next(iter(unreadable.values()), '')}")
    held = max(rows.values(), default=-1) + 1
    return Stored(StoredPixels(shelf.mapped(held), places), places >= 0, unreadable, decoded)


def _absent(contents: Sequence[str | None], known: Collection[str]) -> list[int]:
    return [number for number, content in enumerate(contents) if content is None or content not in known]


@dataclass(frozen=True, slots=True)
class _Sink:
    """Where decoded images go; `held` are the contents that are there already."""

    filler: Filler
    ledger: Ledger
    held: set[str]

    def take(self, batch: Sequence[tuple[Path, Read]]) -> None:
        """Keep a batch: new pixels and refusals first, then who has them."""
        fresh = {r.content: r.array for _, r in batch if r.array is not None and r.content not in self.held}
        if fresh:
            self.filler.append(list(fresh), np.stack(list(fresh.values())))
            self.held.update(fresh)
        if refused := {r.content: r.reason for _, r in batch if r.array is None and r.content}:
            self.filler.refuse(decoders(), refused)
        self.ledger.add([(path, r.at, r.content) for path, r in batch if r.at is not None and r.content])


def _fill(
    wanted: Wanted, missing: Sequence[int], contents: list[str | None], sink: _Sink, progress: Progress
) -> dict[int, str]:
    """Decode the missing rows; fills in their contents and returns the reasons of those that have none."""
    unreadable: dict[int, str] = {}
    sink.filler.require_room(len(missing))
    progress.start(len(missing), "the pixel store")
    try:
        with _pool(wanted.workers) as pool:
            found = _in_order(pool, partial(_read_group, recipe=wanted.recipe), [wanted.paths[n] for n in missing])
            numbered = zip(missing, found, strict=True)
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


@contextmanager
def _pool(workers: int) -> Iterator[Executor]:
    """One worker is a thread beside the one that writes; more are fresh processes, as a fork with threads may hang."""
    if workers <= 1:
        with ThreadPoolExecutor(1) as threads:
            yield threads
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as processes:
        yield processes


def _in_order(pool: Executor, job: Callable[[list[Path]], list[Read]], paths: Sequence[Path]) -> Iterator[Read]:
    """Results in the order of the paths; only so many are under way that memory stays bounded."""
    groups = iter([list(paths[at : at + GROUP]) for at in range(0, len(paths), GROUP)])
    waiting = deque(pool.submit(job, group) for group in islice(groups, AHEAD))
    while waiting:
        yield from waiting.popleft().result()
        waiting.extend(pool.submit(job, group) for group in islice(groups, 1))


def _read_group(paths: list[Path], recipe: Canvas) -> list[Read]:
    return [read(path, recipe) for path in paths]
