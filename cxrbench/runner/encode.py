"""Images once through every model that wants them: one decoding sweep in batches, a store of embeddings at its end."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import CxrBenchError, ImageError, MissingImageError, UnexpectedError, UnreadableError
from cxrbench.images.decoder_check import self_test
from cxrbench.runner.decoding import (
    Claims,
    Decoders,
    Encoder,
    ImageBatch,
    Lane,
    LaneOver,
    Reader,
    ReadFile,
)
from cxrbench.runner.forward import AtWork, Running, Shards
from cxrbench.store.committer import Committer
from cxrbench.store.embeddings import Embeddings, Key, Store
from cxrbench.store.file_hashes import FileHashes, Stamp
from cxrbench.store.shard import image_bytes
from cxrbench.store.shard_files import IntArray
from cxrbench.system.contained import PASSING, contained
from cxrbench.system.progress import Progress

if TYPE_CHECKING:
    pass

FloatArray = NDArray[np.float32]
_HASHES_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Demands:
    """Which keys want which files: places among `files`, ascending; `known` is the remembered content of each.

    `read` are those of `wanted` whose stored rows somebody is going to read: they are held against their checksums
    first, so that what is damaged is encoded again.
    """

    files: Sequence[Path]
    known: Sequence[str | None]
    wanted: Mapping[Key, IntArray]
    read: Mapping[Key, IntArray]


@dataclass(slots=True)
class Sweep:
    """What a sweep found: contents by path, what could not be read, and how much work it was.

    `refused`: why a key that lacked it can have nothing of a content, after the file's name, or of a file whose bytes
    are not to be had; `no_pictures`: contents, with the keys that refuse them for what they are; `unreadable`: those
    files, and where only some encoders lack one, which. `missing` files are not there, though they were listed.
    `problems` are what went wrong beside files and models; `remarks` what the run should say. `embeddings`: what the
    store holds at the end, by key.
    """

    content: dict[Path, str] = field(default_factory=dict)
    refused: dict[tuple[Key, str | Path], str] = field(default_factory=dict)
    no_pictures: dict[str, set[Key]] = field(default_factory=dict)
    unreadable: dict[Path, str] = field(default_factory=dict)
    missing: dict[Path, str] = field(default_factory=dict)
    broken: dict[Key, CxrBenchError] = field(default_factory=dict)  # what a model could not go on with, and why
    problems: list[CxrBenchError] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    embeddings: dict[Key, Embeddings] = field(default_factory=dict)
    reader: Reader = "fast"
    decoded: int = 0
    encoded: int = 0

    def reason(self, path: Path, keys: Iterable[Key]) -> str | None:
        """Why one of the keys has nothing of a file; None where all have.

        It rests on the content, so a copy is as unreadable as the file that was decoded, and on no other key: what is
        stored stays, whoever else asks for the file.
        """
        if not self.refused:
            return None
        content = self.content.get(path, "")
        for key in keys:
            if (key, path) in self.refused:
                return self.refused[key, path]
            if (key, content) in self.refused:
                return f"{_shown(path.name)}: {self.refused[key, content]}"
        return None


def encode(
    demands: Demands,
    encoders: Sequence[Encoder],
    store: Store,
    hashes_of: Callable[[Path], FileHashes],
    *,
    batch_size: int,
    workers: int,
    progress: Progress,
) -> Sweep:
    """Bring every wanted embedding into the store; what is there already is neither decoded nor encoded.

    Files that cannot be read are reported in the result and end nothing; a model that cannot be loaded is reported and
    ends only itself, and what one cannot do, such as score a set of texts or give finite vectors, ends only that. So
    does any exception, of whatever kind: it is in the result. What one recipe makes of a file does not depend on the
    others: a file that one refuses is read for the others. Several models and recipes share one read and one decoding
    of each file. Embeddings become durable about once a second, of all models together. Where no model is left that can
    go on, no more files are read.
    """
    sweep = Sweep()
    have = {key: _stored(store, key, encoder.name, sweep) for encoder in encoders for key in encoder.outputs}
    sweep.embeddings = have
    sweep.content = {path: known for path, known in zip(demands.files, demands.known, strict=True) if known is not None}
    known = known_images(demands.known)
    lacking = {
        key: lacking_files(demands.wanted.get(key), demands.read, key, have[key], known)
        for key in have
        if key not in sweep.broken
    }
    lanes = _lanes(encoders, lacking, len(demands.files))
    pending = np.flatnonzero(np.any([lane.wants > 0 for lane in lanes], axis=0)) if lanes else np.zeros(0, np.int64)
    if not len(pending):
        return sweep
    sweep.reader = _reader()
    shards = [Shards(store, encoder, lacking, sweep.broken) for encoder in encoders]
    with ExitStack() as stack:
        for own in shards:
            stack.callback(own.close)
        committer = stack.enter_context(Committer(partial(_commit, shards)))
        hash_batch = _HashBatch(hashes_of, committer, sweep.problems)
        progress.start(len(pending), f"{len(encoders)} encoder{'s' * (len(encoders) > 1)}")
        stack.callback(progress.stop)
        files = [(place, demands.files[place]) for place in pending.tolist()]
        claims = Claims(lanes, have, demands.known)
        decoders = stack.enter_context(
            Decoders(files, lanes, claims, sweep.reader, batch_size=batch_size, workers=workers)
        )
        running = {id(own.encoder): Running(own, committer, sweep.remarks) for own in shards}
        at_work = AtWork(running[id(encoder)] for lane in lanes for encoder in lane.encoders)
        left = len(files)
        for event in decoders:
            if isinstance(event, ReadFile):
                _note(event, sweep, hash_batch)
                progress.advance()
                left -= 1
                continue
            if isinstance(event, LaneOver):
                for encoder in event.lane.encoders if left else ():  # at the end nobody else wants the room
                    at_work.done(running[id(encoder)])
                continue
            for encoder in event.lane.encoders:
                sweep.encoded += _advanced(running[id(encoder)], event, at_work)
            committer.submit(partial(decoders.give_back, event))
            if at_work.nobody:  # every encoder has failed: an archive is not read for none
                break
        hash_batch.hand_over()
    for own in shards:
        for key in own.written:
            have[key] = _stored(store, key, own.encoder.name, sweep)
    sweep.unreadable = _unreadable(demands, encoders, sweep)
    return sweep


def _advanced(one: Running, batch: ImageBatch, at_work: AtWork) -> int:
    """Of how many images one encoder makes something; a network that can go on with nothing is done at once."""
    found = one.advance(batch)
    if one.ended:
        at_work.done(one)
    return found


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


def _commit(shards: Sequence[Shards]) -> None:
    for own in shards:
        own.commit()


def known_images(known: Sequence[str | None]) -> tuple[NDArray[np.bool_], NDArray[np.uint8]]:
    """Which files have a content that is remembered, (n,), and its bytes, (n, 32), zero elsewhere."""
    there = np.array([content is not None for content in known], np.bool_)
    images = np.zeros((len(known), 32), np.uint8)
    images[there] = image_bytes([content for content in known if content is not None])
    return there, images


def lacking_files(
    wanted: IntArray | None,
    read: Mapping[Key, IntArray],
    key: Key,
    have: Embeddings,
    known: tuple[NDArray[np.bool_], NDArray[np.uint8]],
) -> NDArray[np.bool_]:
    """Which of the wanted files must be read for a key, (n,): content unknown, or known and not in the store.

    The rows of files in `read` are held against their checksums first.
    """
    there, images = known
    lacking = np.zeros(len(there), np.bool_)
    if wanted is None:
        return lacking
    lacking[wanted] = True
    if len(have):
        used, asked = read.get(key), wanted[there[wanted]]
        if used is not None:
            have.check(images[used[there[used]]])
        lacking[asked] = ~have.has(images[asked])
    return lacking


def _lanes(encoders: Sequence[Encoder], lacking: Mapping[Key, NDArray[np.bool_]], files: int) -> list[Lane]:
    """Encoders that lack something, together where they share batches; what a broken key wants counts for nothing."""
    none = np.zeros(files, np.bool_)
    groups: dict[tuple[str, bytes], list[Encoder]] = {}
    for encoder in encoders:
        columns = np.array([lacking.get(key, none) for key in encoder.outputs])
        if columns.any():
            alone = "" if encoder.look_up is None else f" {id(encoder)}"
            groups.setdefault((f"{encoder.recipe.digest}{alone}", np.packbits(columns, axis=1).tobytes()), []).append(
                encoder
            )
    return [_lane(own, [lacking.get(key, none) for key in own[0].outputs]) for own in groups.values()]


def _lane(encoders: Sequence[Encoder], columns: Sequence[NDArray[np.bool_]]) -> Lane:
    found, wants = np.unique(np.packbits(np.array(columns).T, axis=1), axis=0, return_inverse=True)
    unpacked = np.unpackbits(found, axis=1, count=len(columns))
    patterns = [tuple(np.flatnonzero(row).tolist()) for row in unpacked]
    order = sorted(range(len(patterns)), key=lambda n: patterns[n] != ())  # 0: nothing is wanted
    if patterns[order[0]]:
        order, patterns = [len(patterns), *order], [*patterns, ()]
    renumbered = np.empty(len(patterns), np.int32)
    renumbered[order] = np.arange(len(patterns))
    return Lane(tuple(encoders), renumbered[wants.reshape(-1)], tuple(patterns[n] for n in order))


def _unreadable(demands: Demands, encoders: Sequence[Encoder], sweep: Sweep) -> dict[Path, str]:
    """The files of which some encoder makes nothing, with the reason, and with the encoders unless none makes any."""
    if not sweep.refused:
        return {}
    bad = {what for _, what in sweep.refused}
    places = [n for n, path in enumerate(demands.files) if path in bad or sweep.content.get(path) in bad]
    member = {key: np.isin(places, wanted) for key, wanted in demands.wanted.items()}
    found: dict[Path, str] = {}
    for number, place in enumerate(places):
        path = demands.files[place]
        asked = [(e.name, [key for key in e.outputs if key in member and member[key][number]]) for e in encoders]
        asked = [(name, own) for name, own in asked if own]
        told = {name: why for name, own in asked if (why := sweep.reason(path, own)) is not None}
        if told:
            whose = f" [{', '.join(told)}; others read it]" if len(told) < len(asked) else ""
            found[path] = f"{next(iter(told.values()))}{whose}"
    return found


class _HashBatch:
    """Collects what files hold and has it handed to their tables of file hashes some hundred at a time.

    A table of file hashes that cannot be written is a problem, but ends nothing: the next run reads the files again.
    """

    def __init__(
        self, hashes_of: Callable[[Path], FileHashes], committer: Committer, problems: list[CxrBenchError]
    ) -> None:
        self._hashes_of, self._committer, self._problems = hashes_of, committer, problems
        self._entries = list[tuple[Path, Stamp, str]]()

    def add(self, path: Path, at: Stamp, content: str) -> None:
        self._entries.append((path, at, content))
        if len(self._entries) >= _HASHES_AT_ONCE:
            self.hand_over()

    def hand_over(self) -> None:
        self._committer.submit(partial(self._keep, self._entries))
        self._entries = []

    def _keep(self, found: Sequence[tuple[Path, Stamp, str]]) -> None:
        by_hashes: dict[int, tuple[FileHashes, list[tuple[Path, Stamp, str]]]] = {}
        for entry in found:
            hashes = self._hashes_of(entry[0])
            by_hashes.setdefault(id(hashes), (hashes, []))[1].append(entry)
        for hashes, entries in by_hashes.values():
            try:
                hashes.add(entries)
            except BaseException as error:
                self._problems.append(contained(error, "remembering the hashes of images"))


def _note(item: ReadFile, sweep: Sweep, hash_batch: _HashBatch) -> None:
    if item.failed is not None:
        _note_failure(item, item.failed, sweep)
        return
    sweep.content[item.path] = item.content
    if item.at is not None:
        hash_batch.add(item.path, item.at, item.content)
    for key, why in item.refused.items():
        told = _shown(str(why)).removeprefix(_shown(f"{item.path}: ")).removeprefix(_shown(f"{item.path.name}: "))
        sweep.refused[key, item.content] = told
        if isinstance(why, ImageError):
            sweep.no_pictures.setdefault(item.content, set()).add(key)
        _note_problem(why, sweep)
    if item.decoded:
        sweep.decoded += 1


def _note_failure(item: ReadFile, failed: CxrBenchError, sweep: Sweep) -> None:
    if isinstance(failed, MissingImageError):
        sweep.content.pop(item.path, None)
        sweep.missing[item.path] = _shown(str(failed))
        return
    sweep.refused.update({(key, item.path): _shown(str(failed)) for key in item.lacking})
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
