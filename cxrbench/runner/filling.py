"""Filling the store: what files lack under which keys, encoded whole or in parts that know nothing of each other.

A part takes the files whose names hash to its number. Every process writes shards of its own, and the store alone tells
what is there, so that parts need no lock, may be cut anew at any time, and are done by the same command again.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Protocol

import numpy as np

from cxrbench.errors import CxrBenchError, SpecError
from cxrbench.runner.decoding import Encoder
from cxrbench.runner.encode import Demands, encode, known_images, lacking_files
from cxrbench.runner.lay_out import lay_out
from cxrbench.runner.plan import Demand
from cxrbench.runner.request import Engine, Request
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically
from cxrbench.store.embeddings import Key, Store
from cxrbench.store.file_hashes import FileHashes
from cxrbench.store.sealed import DamagedError, listed, read_sealed, seal
from cxrbench.store.shard_files import IntArray
from cxrbench.system.contained import contained
from cxrbench.system.progress import Progress


@dataclass(frozen=True, slots=True)
class FilePart:
    """Part `number` of `count`, from 0 on; raises SpecError for one that there is not."""

    number: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.number < self.count:
            raise SpecError(f"part {self.number}/{self.count}: write I/N with I from 0 to N - 1, such as 0/8")

    @classmethod
    def parse(cls, text: str) -> "FilePart":
        """`I/N`."""
        number, separator, count = text.partition("/")
        if not separator or not number.isdecimal() or not count.isdecimal():
            raise SpecError(f"--shard {text}: write I/N with I from 0 to N - 1, such as 0/8")
        return cls(int(number), int(count))

    def shared(self, count: int) -> "list[FilePart]":
        """The part cut into so many: each of its files is in one of them, and no other file is."""
        return [FilePart(self.number + n * self.count, self.count * count) for n in range(count)]

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def part_numbers(names: Sequence[str], count: int) -> IntArray:
    """The part of each file by its name below its root, (n,): the same on every machine, whatever else is there."""
    heads = [sha256(name.encode("utf-8", "surrogateescape")).digest()[:8] for name in names]
    return np.array([int.from_bytes(head, "big") % count for head in heads], np.int64)


@dataclass(slots=True)
class Filling:
    """Files, and the keys that want them; `names` are those of the files, `titles` the keys in words.

    `broken` are keys that cannot be had, `problems` what else stands in the way.
    """

    files: Sequence[Path]
    names: Sequence[str]
    known: Sequence[str | None]
    wanted: Mapping[Key, IntArray]
    encoders: Sequence[Encoder]
    titles: Mapping[Key, str]
    store: Store
    hashes: Callable[[Path], FileHashes]
    engine: Engine
    broken: Mapping[Key, CxrBenchError] = field(default_factory=dict)
    problems: Sequence[CxrBenchError] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of all files' names and keys: which job a part is of."""
        keys = sorted(key.digest for key in self.wanted)
        return digest.of_json([keys, digest.of_lines(self.names)])

    @property
    def obstacles(self) -> list[CxrBenchError]:
        """Everything that stands in the way before any file is read, each once."""
        return [*self.problems, *_once(self.broken)]


@dataclass(slots=True)
class Filled:
    """What encoding a part came to; files by name, `contents` the SHA-256 of those whose bytes were known or read."""

    part: str
    decoded: int = 0
    encoded: int = 0
    unreadable: dict[str, str] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    problems: list[CxrBenchError] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    contents: dict[str, str] = field(default_factory=dict)


class StoreJob(Protocol):
    """What can be filled, small enough to be sent to another machine."""

    def filling(self) -> Filling:
        """Everything laid out, on the machine where it is asked for."""
        ...


@dataclass(frozen=True, slots=True)
class RequestJob:
    """The vectors and scores that the cells of a request are measured from."""

    request: Request

    def filling(self) -> Filling:
        """See `StoreJob`."""
        made = lay_out(self.request)
        needs = Demand(made)
        encoders = needs.encoders
        names = [needs.name(path) for path in needs.files]
        problems = [*made.problems, *dict.fromkeys(needs.refused.values())]
        return Filling(
            tuple(needs.files),
            names,
            needs.known,
            needs.table(made.cells),
            encoders,
            needs.names,
            needs.store,
            needs.hashes,
            self.request.engine,
            needs.broken,
            problems,
        )


def fill(filling: Filling, part: FilePart, progress: Progress, *, check: bool = False) -> Filled:
    """Encode what the files of a part lack; nothing is raised that ends the others.

    `check`: hold the rows that are there against their checksums first. Which contents are no pictures is written
    beside the store, so that `missing_parts` knows it.
    """
    own = part_numbers(filling.names, part.count) == part.number
    wanted = {key: places[own[places]] for key, places in filling.wanted.items() if key not in filling.broken}
    found = encode(
        Demands(filling.files, filling.known, wanted, wanted if check else {}),
        filling.encoders,
        filling.store,
        filling.hashes,
        batch_size=filling.engine.batch_size,
        workers=filling.engine.threads,
        progress=progress,
    )
    if found.no_pictures:
        told = {content: sorted(key.digest for key in keys) for content, keys in found.no_pictures.items()}
        write_atomically(_folder(filling) / f"{part.count}-{part.number}.json", seal(told))
    by_path = dict(zip(filling.files, filling.names, strict=True))
    return Filled(
        str(part),
        found.decoded,
        found.encoded,
        {by_path[path]: why for path, why in found.unreadable.items()},
        {by_path[path]: why for path, why in found.missing.items()},
        [*filling.obstacles, *_once(found.broken), *found.problems],
        found.remarks,
        {by_path[path]: content for path, content in found.content.items()},
    )


def _once(broken: Mapping[Key, CxrBenchError]) -> list[CxrBenchError]:
    return list({(type(error), str(error)): error for error in broken.values()}.values())


def _folder(filling: Filling) -> Path:
    return filling.store.root.with_name("no_pictures") / filling.digest[:32]


def _no_pictures(filling: Filling) -> dict[str, set[str]]:
    """The contents that earlier parts found to be no pictures, by the digest of the key that refuses them."""
    folder, found = _folder(filling), dict[str, set[str]]()
    for name in listed(folder):
        try:
            told = read_sealed(folder / name)
        except (DamagedError, FileNotFoundError):
            continue
        for content, keys in told.items():
            for key in keys:
                found.setdefault(key, set()).add(content)
    return found


@dataclass(frozen=True, slots=True)
class Waiting:
    """What is still to be encoded: `lacking` files of `wanted` for each key in words, and numbers of parts with any.

    `no_pictures`: how many files are known to be none by some key, which counts them as done until they change.
    """

    lacking: Mapping[str, tuple[int, int]]
    parts: tuple[int, ...]
    no_pictures: int

    @property
    def array(self) -> str:
        """The parts as `sbatch --array` takes them, such as `0-3,7`."""
        runs, numbers = list[str](), list(self.parts)
        while numbers:
            end = next((n for n in range(len(numbers) - 1) if numbers[n + 1] != numbers[n] + 1), len(numbers) - 1)
            runs.append(str(numbers[0]) if end == 0 else f"{numbers[0]}-{numbers[end]}")
            numbers = numbers[end + 1 :]
        return ",".join(runs)


def missing_parts(filling: Filling, count: int) -> Waiting:
    """What the store still lacks; reads no image.

    Raises UnreadableError where the store cannot be read now.
    """
    refused, known = _no_pictures(filling), known_images(filling.known)
    numbers = part_numbers(filling.names, count)
    lacking, waiting, out = dict[str, tuple[int, int]](), set[int](), set[int]()
    for key, wanted in filling.wanted.items():
        there = lacking_files(wanted, {}, key, filling.store.read(key), known)
        for place in np.flatnonzero(there).tolist() if key.digest in refused else ():
            if filling.known[place] in refused[key.digest]:
                there[place] = False
                out.add(place)
        waiting |= {*numbers[np.flatnonzero(there)].tolist()}
        title = filling.titles.get(key, "a key")
        before = lacking.get(title, (0, 0))
        lacking[title] = before[0] + int(there.sum()), before[1] + len(wanted)
    return Waiting(lacking, tuple(sorted(waiting)), len(out))


def fill_part(job: StoreJob, part: FilePart, progress: Progress) -> Filled:
    """Lay a job out and fill one part of it; what goes wrong before is the problem of the part."""
    try:
        return fill(job.filling(), part, progress)
    except BaseException as error:
        return Filled(str(part), problems=[contained(error, f"part {part}")])
