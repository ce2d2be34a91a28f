"""Images once through every model that wants them: one decoding sweep, a store of embeddings at its end."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from cxrbench import digest
from cxrbench.data.decoder_check import self_test
from cxrbench.data.images import read_bytes
from cxrbench.data.pixels import pixels
from cxrbench.errors import ImageError
from cxrbench.ledger import Ledger, Stamp, stamp
from cxrbench.recipe import Recipe
from cxrbench.store import Embeddings, Key, Store, Writer

FloatArray = NDArray[np.float32]
Forward = Callable[[FloatArray], Mapping[str, FloatArray]]  # (B, C, H, W) to taps of (B, dim)


class Progress(Protocol):
    """Told how many images there are, and of each that is done."""

    def start(self, total: int, what: str) -> None:
        """A sweep over `total` image files begins."""

    def advance(self) -> None:
        """One more image file is decoded and waits for, or has been through, the models."""

    def stop(self) -> None:
        """The sweep is over."""


@dataclass(frozen=True, slots=True)
class Encoder:
    """One model with one recipe. `forward` gives its network, loaded when the first image needs it."""

    key: Key
    recipe: Recipe
    dims: Mapping[str, int]  # tap to dimension
    forward: Callable[[], Forward]


@dataclass(slots=True)
class Sweep:
    """What a sweep found: contents by path, what could not be read, and how much work it was."""

    content: dict[Path, str] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # reasons by content
    decoded: int = 0
    encoded: int = 0


@dataclass(frozen=True, slots=True)
class _Decoded:
    """One file: its content, and the pixels for every key that wants it and has not got it."""

    path: Path
    at: Stamp | None
    content: str = ""  # known even for some files that fail
    pixels: Mapping[Key, tuple[FloatArray, tuple[str, ...]]] = field(default_factory=dict)
    failed: str = ""


class _Claims:
    """Which contents each key has or is about to get, so that no image goes through a model twice."""

    def __init__(self, have: Mapping[Key, Embeddings]) -> None:
        self._have, self._claimed, self._lock = have, set[tuple[Key, str]](), Lock()

    def take(self, content: str, keys: Sequence[Key]) -> list[Key]:
        with self._lock:
            wanted = [k for k in keys if content not in self._have[k] and (k, content) not in self._claimed]
            self._claimed.update((key, content) for key in wanted)
            return wanted


@dataclass(frozen=True, slots=True)
class _Work:
    """What a decoding thread needs; `reader` is `reference` where the fast paths failed their self-test."""

    encoders: Mapping[Key, Encoder]
    claims: _Claims
    reader: Literal["fast", "reference"]


class _Batch:
    """Images that wait for one model; flushed at a fixed size, the last one padded to it."""

    def __init__(self, encoder: Encoder, size: int, writer: Callable[[], Writer]) -> None:
        self._encoder, self._size, self._writer = encoder, size, writer
        self._contents: list[str] = []
        self._pixels: list[FloatArray] = []
        self._notes: list[tuple[str, ...]] = []
        self._forward: Forward | None = None

    def add(self, content: str, image: FloatArray, notes: tuple[str, ...]) -> int:
        """Images encoded by this call: the batch size when it became full, else 0."""
        self._contents.append(content)
        self._pixels.append(image)
        self._notes.append(notes)
        return self.flush() if len(self._contents) == self._size else 0

    def flush(self) -> int:
        """Encode and store what waits; the padding repeats the last image, so a feature knows no company."""
        count = len(self._contents)
        if count == 0:
            return 0
        if self._forward is None:
            self._forward = self._encoder.forward()
        images = np.stack(self._pixels + [self._pixels[-1]] * (self._size - count))
        taps = {tap: values[:count] for tap, values in self._forward(images).items()}
        self._writer().append(self._contents, taps, self._notes)
        self._contents, self._pixels, self._notes = [], [], []
        return count


def encode(
    demands: Mapping[Path, Sequence[Key]],
    encoders: Mapping[Key, Encoder],
    store: Store,
    ledgers: Callable[[Path], Ledger],
    *,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> Sweep:
    """Bring every wanted embedding into the store; what is there already is neither decoded nor encoded.

    `demands` says which keys want which file. Files that cannot be read are reported in the result and end nothing.
    Several models and recipes share one read and one decoding of each file. Embeddings are durable batch by batch.
    """
    sweep = Sweep()
    have = {key: store.read(key) for key in encoders}
    pending = _pending(demands, have, ledgers, sweep)
    if not pending:
        return sweep
    with ExitStack() as stack:
        batches = _batches(
            encoders, store, {k: sum(k in keys for keys in pending.values()) for k in encoders}, batch_size, stack
        )
        work = _Work(encoders, _Claims(have), "fast" if self_test().passed else "reference")
        progress.start(len(pending), f"{len(encoders)} encoder{'s' * (len(encoders) > 1)}")
        stack.callback(progress.stop)
        for item in _decoded(pending, work, workers, stack):
            _take(item, batches, sweep, ledgers)
            progress.advance()
        for batch in batches.values():
            sweep.encoded += batch.flush()
    _spread_failures(sweep)
    return sweep


def _spread_failures(sweep: Sweep) -> None:
    """A copy of an unreadable file was not decoded a second time; it is as unreadable as the first."""
    for path, content in list(sweep.content.items()):
        if content in sweep.failed:
            sweep.unreadable[path] = sweep.failed[content]
            del sweep.content[path]


def _pending(
    demands: Mapping[Path, Sequence[Key]],
    have: Mapping[Key, Embeddings],
    ledgers: Callable[[Path], Ledger],
    sweep: Sweep,
) -> dict[Path, Sequence[Key]]:
    """The files that must be read: content unknown, or known and wanted by a key that lacks it."""
    pending = {}
    for path, keys in demands.items():
        content = ledgers(path).known(path)
        if content is not None:
            sweep.content[path] = content
        if content is None or any(content not in have[key] for key in keys):
            pending[path] = keys
    return pending


def _batches(
    encoders: Mapping[Key, Encoder], store: Store, counts: Mapping[Key, int], size: int, stack: ExitStack
) -> dict[Key, _Batch]:
    return {
        key: _Batch(encoder, size, _lazy_writer(store, encoder, counts[key], stack))
        for key, encoder in encoders.items()
    }


def _lazy_writer(store: Store, encoder: Encoder, capacity: int, stack: ExitStack) -> Callable[[], Writer]:
    opened: list[Writer] = []

    def writer() -> Writer:
        if not opened:
            opened.append(stack.enter_context(store.writer(encoder.key, capacity, encoder.dims)))
        return opened[0]

    return writer


def _decoded(pending: Mapping[Path, Sequence[Key]], work: _Work, workers: int, stack: ExitStack) -> Iterator[_Decoded]:
    """Files read and decoded by threads a little ahead of the models, handed over in order."""
    pool = stack.enter_context(ThreadPoolExecutor(workers, thread_name_prefix="decode"))
    ahead: deque[Future[_Decoded]] = deque()
    stack.callback(lambda: [future.cancel() for future in ahead])
    for path, keys in pending.items():
        ahead.append(pool.submit(_decode, path, keys, work))
        if len(ahead) > 4 * workers:
            yield ahead.popleft().result()
    while ahead:
        yield ahead.popleft().result()


def _decode(path: Path, keys: Sequence[Key], work: _Work) -> _Decoded:
    at, content = stamp(path), ""
    try:
        data = read_bytes(path)
        content = digest.of_bytes(data)
        recipes = {key: work.encoders[key].recipe for key in work.claims.take(content, keys)}
        distinct = list({recipe.digest: recipe for recipe in recipes.values()}.values())
        made = dict(zip(distinct, pixels(data, path.name, distinct, work.reader), strict=True)) if distinct else {}
    except ImageError as error:
        return _Decoded(path, at, content, failed=str(error))
    return _Decoded(path, at, content, {key: (made[r].array, made[r].notes) for key, r in recipes.items()})


def _take(item: _Decoded, batches: Mapping[Key, _Batch], sweep: Sweep, ledgers: Callable[[Path], Ledger]) -> None:
    if item.failed:
        sweep.content.pop(item.path, None)
        sweep.unreadable[item.path] = item.failed
        if item.content:
            sweep.failed[item.content] = item.failed
        return
    sweep.content[item.path] = item.content
    if item.at is not None:
        ledgers(item.path).add([(item.path, item.at, item.content)])
    if item.pixels:
        sweep.decoded += 1
    for key, (image, notes) in item.pixels.items():
        sweep.encoded += batches[key].add(item.content, image, notes)
