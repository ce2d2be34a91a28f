"""Images once through every model that wants them: one decoding sweep, a store of embeddings at its end."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

from cxrbench.batch import Batch, Shards
from cxrbench.contained import PASSING, contained
from cxrbench.data.decoder_check import self_test
from cxrbench.decoding import Claims, Decoded, Encoder, Reader, Work, decoded
from cxrbench.errors import CxrBenchError, ImageError, MissingImageError, UnexpectedError
from cxrbench.ledger import Ledger, Stamp
from cxrbench.progress import Progress
from cxrbench.store import Embeddings, Key, Store


@dataclass(slots=True)
class Sweep:
    """What a sweep found: contents by path, what could not be read, and how much work it was.

    `missing` files are not there, though they were listed. `problems` are what went wrong beside files and models.
    """

    content: dict[Path, str] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    missing: dict[Path, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)  # reasons by content
    broken: dict[Key, CxrBenchError] = field(default_factory=dict)  # what a model could not go on with, and why
    problems: list[CxrBenchError] = field(default_factory=list)
    reader: Reader = "fast"
    decoded: int = 0
    encoded: int = 0


class _Notebook:
    """Collects what files hold and hands it to their ledgers some hundred at a time, and at the end.

    A ledger that cannot be written is a problem, but ends nothing: the next run reads the files again.
    """

    _EVERY = 256

    def __init__(self, ledgers: Callable[[Path], Ledger], problems: list[CxrBenchError]) -> None:
        self._ledgers, self._problems = ledgers, problems
        self._entries = list[tuple[Path, Stamp, str]]()

    def add(self, path: Path, at: Stamp, content: str) -> None:
        self._entries.append((path, at, content))
        if len(self._entries) >= self._EVERY:
            self._hand_over()

    def _hand_over(self) -> None:
        by_ledger: dict[int, tuple[Ledger, list[tuple[Path, Stamp, str]]]] = {}
        for entry in self._entries:
            ledger = self._ledgers(entry[0])
            by_ledger.setdefault(id(ledger), (ledger, []))[1].append(entry)
        self._entries = []
        for ledger, entries in by_ledger.values():
            try:
                ledger.add(entries)
            except BaseException as error:
                self._problems.append(contained(error, "remembering the hashes of images"))

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
    or give finite vectors, ends only that. So does any exception, of whatever kind: it is in the result.
    Several models and recipes share one read and one decoding of each file. Embeddings are durable batch by batch.
    """
    sweep = Sweep()
    have = {key: _stored(store, key, encoder.name, sweep) for encoder in encoders for key in encoder.outputs}
    pending = _pending(demands, have, ledgers, sweep)
    if not pending:
        return sweep
    sweep.reader = _reader()
    with ExitStack() as stack:
        counts = {key: sum(key in keys for keys in pending.values()) for key in have}
        shards = [Shards(store, encoder, counts, sweep.broken) for encoder in encoders]
        for own in shards:
            stack.callback(own.close)
        batches = [Batch(encoder, batch_size, own, sweep.broken) for encoder, own in zip(encoders, shards, strict=True)]
        notebook = stack.enter_context(_Notebook(ledgers, sweep.problems))
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


def _stored(store: Store, key: Key, name: str, sweep: Sweep) -> Embeddings:
    """What the store holds of a key; a key that cannot be read is broken, and counts as empty."""
    try:
        return store.read(key)
    except BaseException as error:
        sweep.broken[key] = contained(error, f"{name}: reading the store, {store.root}")
        return Embeddings([])


def _reader() -> Reader:
    try:
        return "fast" if self_test().passed else "reference"
    except PASSING:
        raise
    except BaseException:  # a decoder that cannot even be tested is none to trust
        return "reference"


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
    """The files that must be read: content unknown, or known and wanted by a key that lacks it.

    What is wanted by broken keys alone is left.
    """
    pending: dict[Path, Sequence[Key]] = {}
    for path, wanted in demands.items():
        keys = [key for key in wanted if key not in sweep.broken]
        if not keys:
            continue
        content = _known(ledgers, path)
        if content is not None:
            sweep.content[path] = content
        if content is None or any(content not in have[key] for key in keys):
            pending[path] = keys
    return pending


def _known(ledgers: Callable[[Path], Ledger], path: Path) -> str | None:
    """The content that is remembered; whatever stands in the way of asking shows when the file is read."""
    try:
        return ledgers(path).known(path)
    except PASSING:
        raise
    except BaseException:
        return None


def _note(item: Decoded, sweep: Sweep, notebook: _Notebook) -> None:
    if item.failed is not None:
        _note_failure(item, item.failed, sweep)
        return
    sweep.content[item.path] = item.content
    if item.at is not None:
        notebook.add(item.path, item.at, item.content)
    if item.wanted:
        sweep.decoded += 1


def _note_failure(item: Decoded, failed: CxrBenchError, sweep: Sweep) -> None:
    reason = str(failed).encode("utf-8", "backslashreplace").decode()  # names of files need not be Unicode
    sweep.content.pop(item.path, None)
    if isinstance(failed, MissingImageError):
        sweep.missing[item.path] = reason
        return
    sweep.unreadable[item.path] = reason
    if item.content:
        sweep.failed[item.content] = reason
    kinds = {problem.kind for problem in sweep.problems if isinstance(problem, UnexpectedError)}
    if not isinstance(failed, ImageError) and not (isinstance(failed, UnexpectedError) and failed.kind in kinds):
        sweep.problems.append(failed)  # one of its kind: a decoder with a bug has it for every file


def _advance(encoder: Encoder, sweep: Sweep, step: Callable[[], int]) -> None:
    """One step of one model; an error ends this model's part of the sweep and no other's."""
    if all(key in sweep.broken for key in encoder.outputs):
        return
    try:
        sweep.encoded += step()
    except BaseException as error:
        failed = contained(error, encoder.name)
        sweep.broken.update({key: failed for key in encoder.outputs if key not in sweep.broken})
