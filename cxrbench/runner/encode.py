"""Images once through every model that wants them: one decoding sweep in batches, a store of embeddings at its end."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import CxrBenchError, ImageError, MissingImageError, UnexpectedError, UnreadableError
from cxrbench.images.decoder_check import self_test
from cxrbench.models.base import Adapter, Padding
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.runner.decoding import (
    Claims,
    Decoded,
    DecodingWork,
    Encoder,
    Forward,
    Reader,
    Shards,
    Taps,
    WaitingImages,
    decoded,
)
from cxrbench.store.embeddings import Embeddings, Key, Store
from cxrbench.store.file_hashes import FileHashes, Stamp
from cxrbench.system.contained import PASSING, contained
from cxrbench.system.progress import Progress


@dataclass(slots=True)
class Sweep:
    """What a sweep found: contents by path, what could not be read, and how much work it was.

    `refused`: why a key that lacked it can have nothing of a content, after the file's name, or of a file whose bytes
    are not to be had; `unreadable`: those files, and where only some encoders lack one, which. `missing` files are not
    there, though they were listed. `problems` are what went wrong beside files and models.
    """

    content: dict[Path, str] = field(default_factory=dict)
    refused: dict[tuple[Key, str | Path], str] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    missing: dict[Path, str] = field(default_factory=dict)
    broken: dict[Key, CxrBenchError] = field(default_factory=dict)  # what a model could not go on with, and why
    problems: list[CxrBenchError] = field(default_factory=list)
    reader: Reader = "fast"
    decoded: int = 0
    encoded: int = 0

    def reason(self, path: Path, keys: Iterable[Key]) -> str | None:
        """Why one of the keys has nothing of a file; None where all have.

        It rests on the content, so a copy is as unreadable as the file that was decoded, and on no other key: what is
        stored stays, whoever else asks for the file.
        """
        content = self.content.get(path, "")
        for key in keys:
            if (key, path) in self.refused:
                return self.refused[key, path]
            if (key, content) in self.refused:
                return f"{_shown(path.name)}: {self.refused[key, content]}"
        return None


class _HashBatch:
    """Collects what files hold and hands it to their tables of file hashes some hundred at a time, and at the end.

    A table of file hashes that cannot be written is a problem, but ends nothing: the next run reads the files again.
    """

    _EVERY = 256

    def __init__(self, hashes_of: Callable[[Path], FileHashes], problems: list[CxrBenchError]) -> None:
        self._hashes_of, self._problems = hashes_of, problems
        self._entries = list[tuple[Path, Stamp, str]]()

    def add(self, path: Path, at: Stamp, content: str) -> None:
        self._entries.append((path, at, content))
        if len(self._entries) >= self._EVERY:
            self._hand_over()

    def _hand_over(self) -> None:
        by_hashes: dict[int, tuple[FileHashes, list[tuple[Path, Stamp, str]]]] = {}
        for entry in self._entries:
            hashes = self._hashes_of(entry[0])
            by_hashes.setdefault(id(hashes), (hashes, []))[1].append(entry)
        self._entries = []
        for hashes, entries in by_hashes.values():
            try:
                hashes.add(entries)
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
    hashes_of: Callable[[Path], FileHashes],
    *,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> Sweep:
    """Bring every wanted embedding into the store; what is there already is neither decoded nor encoded.

    `demands` says which keys want which file. Files that cannot be read are reported in the result and end nothing;
    a model that cannot be loaded is reported and ends only itself, and what one cannot do, such as score a set of texts
    or give finite vectors, ends only that. So does any exception, of whatever kind: it is in the result.
    What one recipe makes of a file does not depend on the others: a file that one refuses is read for the others.
    Several models and recipes share one read and one decoding of each file. Embeddings are durable batch by batch.
    """
    sweep = Sweep()
    have = {key: _stored(store, key, encoder.name, sweep) for encoder in encoders for key in encoder.outputs}
    pending = _pending(demands, have, hashes_of, sweep)
    if not pending:
        return sweep
    sweep.reader = _reader()
    with ExitStack() as stack:
        counts = {key: sum(key in keys for keys in pending.values()) for key in have}
        shards = [Shards(store, encoder, counts, sweep.broken) for encoder in encoders]
        for own in shards:
            stack.callback(own.close)
        batches = [
            WaitingImages(encoder, batch_size, own, sweep.broken) for encoder, own in zip(encoders, shards, strict=True)
        ]
        hash_batch = stack.enter_context(_HashBatch(hashes_of, sweep.problems))
        progress.start(len(pending), f"{len(encoders)} encoder{'s' * (len(encoders) > 1)}")
        stack.callback(progress.stop)
        for item in decoded(pending, DecodingWork(encoders, Claims(have), sweep.reader), workers, stack):
            _note(item, _lacking(pending[item.path], sweep.content.get(item.path), have), sweep, hash_batch)
            for place, image in item.wanted.items():
                _advance(encoders[place], sweep, partial(batches[place].add, item.content, image))
            progress.advance()
        for encoder, batch in zip(encoders, batches, strict=True):
            _advance(encoder, sweep, batch.flush)
    sweep.unreadable = _unreadable(demands, encoders, sweep)
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


def _unreadable(demands: Mapping[Path, Sequence[Key]], encoders: Sequence[Encoder], sweep: Sweep) -> dict[Path, str]:
    """The files of which some encoder makes nothing, with the reason, and with the encoders unless none makes any."""
    found: dict[Path, str] = {}
    for path, keys in demands.items() if sweep.refused else ():
        asked = [(encoder.name, [key for key in keys if key in encoder.outputs]) for encoder in encoders]
        asked = [(name, own) for name, own in asked if own]
        told = {name: why for name, own in asked if (why := sweep.reason(path, own)) is not None}
        if told:
            whose = f" [{', '.join(told)}; others read it]" if len(told) < len(asked) else ""
            found[path] = f"{next(iter(told.values()))}{whose}"
    return found


def _pending(
    demands: Mapping[Path, Sequence[Key]],
    have: Mapping[Key, Embeddings],
    hashes_of: Callable[[Path], FileHashes],
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
        content = _known(hashes_of, path)
        if content is not None:
            sweep.content[path] = content
        if _lacking(keys, content, have):
            pending[path] = keys
    return pending


def _lacking(keys: Sequence[Key], content: str | None, have: Mapping[Key, Embeddings]) -> list[Key]:
    """The keys that need the file read: all where its content is not known."""
    return [key for key in keys if content is None or content not in have[key]]


def _known(hashes_of: Callable[[Path], FileHashes], path: Path) -> str | None:
    """The content that is remembered; whatever stands in the way of asking shows when the file is read."""
    try:
        return hashes_of(path).known(path)
    except PASSING:
        raise
    except BaseException:
        return None


def _note(item: Decoded, lacking: Sequence[Key], sweep: Sweep, hash_batch: _HashBatch) -> None:
    if item.failed is not None:
        _note_failure(item, item.failed, lacking, sweep)
        return
    sweep.content[item.path] = item.content
    if item.at is not None:
        hash_batch.add(item.path, item.at, item.content)
    for key, why in item.refused.items():
        told = _shown(str(why)).removeprefix(_shown(f"{item.path}: ")).removeprefix(_shown(f"{item.path.name}: "))
        sweep.refused[key, item.content] = told
        _note_problem(why, sweep)
    if item.wanted:
        sweep.decoded += 1


def _note_failure(item: Decoded, failed: CxrBenchError, lacking: Sequence[Key], sweep: Sweep) -> None:
    if isinstance(failed, MissingImageError):
        sweep.content.pop(item.path, None)
        sweep.missing[item.path] = _shown(str(failed))
        return
    sweep.refused.update({(key, item.path): _shown(str(failed)) for key in lacking})
    _note_problem(failed, sweep)


def _note_problem(failed: CxrBenchError, sweep: Sweep) -> None:
    """What is no image's fault is a problem, one of its kind: a bug, or a machine that is short, is met many times."""
    if not isinstance(failed, ImageError) and _kind(failed) not in map(_kind, sweep.problems):
        sweep.problems.append(failed)


def _kind(problem: CxrBenchError) -> tuple[type, str]:
    if isinstance(problem, UnexpectedError):
        return UnexpectedError, problem.kind
    return type(problem), problem.reason if isinstance(problem, UnreadableError) else str(problem)


def _shown(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()  # names of files need not be Unicode


def _advance(encoder: Encoder, sweep: Sweep, step: Callable[[], int]) -> None:
    """One step of one model; an error ends this model's part of the sweep and no other's."""
    if all(key in sweep.broken for key in encoder.outputs):
        return
    try:
        sweep.encoded += step()
    except BaseException as error:
        failed = contained(error, encoder.name)
        sweep.broken.update({key: failed for key in encoder.outputs if key not in sweep.broken})


FloatArray = NDArray[np.float32]
SCORES = "scores"  # the tap of a key that holds scores of a set of texts


@dataclass(frozen=True, slots=True)
class TextSet:
    """Texts that a model scores together, in this order."""

    texts: tuple[str, ...]
    padding: Padding


class Loaded(Protocol):
    """A model whose network is loaded at first use."""

    device: str

    @property
    def adapter(self) -> Adapter:
        """The network."""
        ...


def forward(model: Loaded, asked: Mapping[Key, TextSet]) -> Forward:
    """What the keys of an encoder want of a batch (B, C, H, W) float32: vectors, or scores (B, P) of a set of texts.

    Texts are encoded at the first batch that they are asked for. A set of texts that cannot be scored gets the error,
    and all others what they asked for.
    """
    import torch

    adapter = model.adapter
    texts: dict[Key, TextFeatures] = {}

    def scored(key: Key, images: ImageFeatures) -> FloatArray:
        if key not in texts:
            texts[key] = adapter.encode_text(asked[key].texts, asked[key].padding)
        return adapter.score(images, texts[key]).float().cpu().numpy()

    def scores(key: Key, features: ImageFeatures) -> Taps | CxrBenchError:
        try:
            return {SCORES: scored(key, features)}
        except BaseException as error:
            return contained(error, f"{adapter.card.name}: scores of {len(asked[key].texts)} texts")

    def found(images: FloatArray, keys: Sequence[Key]) -> Mapping[Key, Taps | CxrBenchError]:
        batch = torch.from_numpy(images)
        if model.device.startswith("cuda"):
            batch = batch.pin_memory().to(model.device, non_blocking=True)
        features = adapter.encode_image(batch)
        vectors = {tap: values.float().cpu().numpy() for tap, values in features.taps.items()}
        return {key: scores(key, features) if key in asked else vectors for key in keys}

    return found
