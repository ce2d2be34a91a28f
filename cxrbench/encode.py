"""Images once through every model that wants them: one decoding sweep, a store of embeddings at its end."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.decoder_check import self_test
from cxrbench.decoding import Claims, Decoded, Encoder, Forward, Reader, Taps, Wanted, Work, decoded
from cxrbench.errors import CxrBenchError
from cxrbench.ledger import Ledger, Stamp
from cxrbench.progress import Progress
from cxrbench.shard import Writer
from cxrbench.store import Embeddings, Key, Store

FloatArray = NDArray[np.float32]


@dataclass(slots=True)
class Sweep:
    """What a sweep found: contents by path, what could not be read, and how much work it was."""

    content: dict[Path, str] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # reasons by content
    broken: dict[Key, CxrBenchError] = field(default_factory=dict)  # what a model could not go on with, and why
    reader: Reader = "fast"
    decoded: int = 0
    encoded: int = 0


class _Batch:
    """Images that wait for one model; flushed at a fixed size, the last one padded to it.

    A key that fails joins the `broken` ones and is asked for no more; an error that is raised is the whole model's.
    """

    def __init__(
        self, encoder: Encoder, size: int, writer: Callable[[Key], Writer], broken: dict[Key, CxrBenchError]
    ) -> None:
        self._encoder, self._size, self._writer, self._broken = encoder, size, writer, broken
        self._waiting: list[tuple[str, Wanted]] = []
        self._forward: Forward | None = None

    def add(self, content: str, image: Wanted) -> int:
        """Images encoded by this call: the batch size when it became full, else 0."""
        if all(key in self._broken for key in image.keys):
            return 0
        self._waiting.append((content, image))
        return self.flush() if len(self._waiting) == self._size else 0

    def flush(self) -> int:
        """Encode and store what waits; the padding repeats the last image, so a feature knows no company."""
        count = len(self._waiting)
        if count == 0:
            return 0
        if self._forward is None:
            self._forward = self._encoder.forward()
        images = [image.pixels for _, image in self._waiting]
        wanted = dict.fromkeys(key for _, image in self._waiting for key in image.keys)
        keys = [key for key in wanted if key not in self._broken]
        for key, taps in self._forward(np.stack(images + [images[-1]] * (self._size - count)), keys).items():
            try:
                self._store(key, taps)
            except CxrBenchError as error:
                self._broken[key] = error
        self._waiting = []
        return count

    def _store(self, key: Key, found: Taps | CxrBenchError) -> None:
        if isinstance(found, CxrBenchError):
            raise found
        rows = [row for row, (_, image) in enumerate(self._waiting) if key in image.keys]
        contents, notes = ([self._waiting[row][0] for row in rows], [self._waiting[row][1].notes for row in rows])
        self._writer(key).append(contents, {tap: values[rows] for tap, values in found.items()}, notes)


class _Notebook:
    """Collects what files hold and hands it to their ledgers some hundred at a time, and at the end."""

    _EVERY = 256

    def __init__(self, ledgers: Callable[[Path], Ledger]) -> None:
        self._ledgers, self._entries = ledgers, list[tuple[Path, Stamp, str]]()

    def add(self, path: Path, at: Stamp, content: str) -> None:
        self._entries.append((path, at, content))
        if len(self._entries) >= self._EVERY:
            self._hand_over()

    def _hand_over(self) -> None:
        by_ledger: dict[int, tuple[Ledger, list[tuple[Path, Stamp, str]]]] = {}
        for entry in self._entries:
            ledger = self._ledgers(entry[0])
            by_ledger.setdefault(id(ledger), (ledger, []))[1].append(entry)
        for ledger, entries in by_ledger.values():
            ledger.add(entries)
        self._entries = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hand_over()


def encode(
    demands: Mapping[Path, Sequence[Key]],
    encoders: Sequence[Encoder],
    store: Store,
    ledgers: Callable[[Path], Ledger],
    *,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> Sweep:
    """Bring every wanted embedding into the store; what is there already is neither decoded nor encoded.

    `demands` says which keys want which file. Files that cannot be read are reported in the result and end nothing;
    a model that cannot be loaded is reported and ends only itself, and what one cannot do, such as score a set of texts
    or give finite vectors, ends only that.
    Several models and recipes share one read and one decoding of each file. Embeddings are durable batch by batch.
    """
    sweep = Sweep()
    have = {key: store.read(key) for encoder in encoders for key in encoder.outputs}
    pending = _pending(demands, have, ledgers, sweep)
    if not pending:
        return sweep
    sweep.reader = "fast" if self_test().passed else "reference"
    with ExitStack() as stack:
        counts = {key: sum(key in keys for keys in pending.values()) for key in have}
        batches = [
            _Batch(encoder, batch_size, _lazy_writers(store, encoder, counts, stack), sweep.broken)
            for encoder in encoders
        ]
        notebook = stack.enter_context(_Notebook(ledgers))
        progress.start(len(pending), f"{len(encoders)} encoder{'s' * (len(encoders) > 1)}")
        stack.callback(progress.stop)
        for item in decoded(pending, Work(encoders, Claims(have), sweep.reader), workers, stack):
            _note(item, sweep, notebook)
            for place, image in item.wanted.items():
                _advance(encoders[place], sweep, partial(batches[place].add, item.content, image))
            progress.advance()
        for encoder, batch in zip(encoders, batches, strict=True):
            _advance(encoder, sweep, batch.flush)
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


def _lazy_writers(
    store: Store, encoder: Encoder, counts: Mapping[Key, int], stack: ExitStack
) -> Callable[[Key], Writer]:
    opened: dict[Key, Writer] = {}

    def writer(key: Key) -> Writer:
        if key not in opened:
            made = store.writer(key, counts[key], encoder.outputs[key], encoder.engine())
            opened[key] = stack.enter_context(made)
        return opened[key]

    return writer


def _note(item: Decoded, sweep: Sweep, notebook: _Notebook) -> None:
    if item.failed:
        sweep.content.pop(item.path, None)
        sweep.unreadable[item.path] = item.failed
        if item.content:
            sweep.failed[item.content] = item.failed
        return
    sweep.content[item.path] = item.content
    if item.at is not None:
        notebook.add(item.path, item.at, item.content)
    if item.wanted:
        sweep.decoded += 1


def _advance(encoder: Encoder, sweep: Sweep, step: Callable[[], int]) -> None:
    """One step of one model; an error of ours ends this model's part of the sweep and no other's."""
    if all(key in sweep.broken for key in encoder.outputs):
        return
    try:
        sweep.encoded += step()
    except CxrBenchError as error:
        sweep.broken.update({key: error for key in encoder.outputs if key not in sweep.broken})
