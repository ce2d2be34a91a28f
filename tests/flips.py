"""A campaign of flipped bits and cut files against everything that is written and read again.

What a kind of file adds is one entry in `KINDS`: how the file is made, and what its reader believes. A damaged file is
right when the reader believes what it believed before, or less and says so, or refuses by name; `made_again` marks
files whose loss is mended by computing anew, as after a kill, so that nobody needs to be told.
"""

import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import numpy as np
from made_results import scores, write_result

from cxrbench.analysis.against_paper import Finding, Tolerance
from cxrbench.checks.audit import read_findings
from cxrbench.checks.audit import write as write_findings
from cxrbench.checks.baseline import entry, read_baseline, write_baseline
from cxrbench.data.manifest import manifest, read_manifest
from cxrbench.errors import CxrBenchError
from cxrbench.records.integrity import place_of, read_results
from cxrbench.records.predictions import read_cell
from cxrbench.store.array_cache import ArrayCache, CachedArray
from cxrbench.store.embeddings import Key, Store, digest, read_key
from cxrbench.store.sealed import DamagedError
from cxrbench.types import Partition, Table

Verdict = Literal["same", "made again", "refused", "silent", "nameless", "traceback", "hang"]
WRONG: frozenset[Verdict] = frozenset({"silent", "nameless", "traceback", "hang"})
PATIENCE = 20.0  # seconds of one read, which takes milliseconds


@dataclass(frozen=True)
class Answer:
    """What a reader would use, by name, and what it says about that which it would not."""

    believed: Mapping[str, Any]
    named: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of file: `make` fills an empty folder and returns the file, `read` what is believed of the folder."""

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Answer]
    made_again: bool = False


class _HangError(Exception):
    """A read that takes much longer than any does."""


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(signum: int, frame: FrameType | None) -> None:
        raise _HangError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def verdict(kind: Kind, folder: Path, file: Path, whole: Answer) -> tuple[Verdict, str]:
    """What the reader makes of the folder as it is now, against what it made of it when it was whole."""
    try:
        with _limit(PATIENCE):
            found = kind.read(folder)
    except CxrBenchError as error:
        return ("refused" if file.name in str(error) else "nameless"), str(error)
    except _HangError:
        return "hang", ""
    except Exception as error:
        return "traceback", repr(error)
    return _judged(kind, found, whole)


def _judged(kind: Kind, found: Answer, whole: Answer) -> tuple[Verdict, str]:
    if wrong := [name for name, value in found.believed.items() if whole.believed.get(name) != value]:
        return "silent", f"another {wrong[0]}"
    if found.believed.keys() == whole.believed.keys():
        return "same", ""
    if found.named:
        return "refused", found.named[0]
    return ("made again", "") if kind.made_again else ("silent", "less than there was, and nothing said")


def damages(data: bytes, flips: int, cuts: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """The file with one bit flipped, so many times, then cut to so many lengths, 0 among them."""
    rng = np.random.default_rng([seed, len(data)])
    for place, bit in zip(rng.integers(0, len(data), flips), rng.integers(0, 8, flips), strict=True):
        flipped = bytearray(data)
        flipped[place] ^= 1 << bit
        yield f"bit {bit} of byte {place}", bytes(flipped)
    for length in (0, *rng.integers(0, len(data), cuts - 1)):
        yield f"cut to {length}", data[:length]


def _restore(folder: Path, sound: Mapping[Path, bytes]) -> None:
    """Undo what a reader mended, without a new time stamp on what did not change."""
    for path in folder.rglob("*"):
        if path.is_file() and path not in sound:
            path.unlink()
    for path, data in sound.items():
        if not path.is_file() or path.read_bytes() != data:
            path.write_bytes(data)


def campaign(kind: Kind, folder: Path, flips: int, cuts: int) -> tuple[Counter[Verdict], list[str]]:
    """How often each verdict was given, and the wrong ones in words."""
    file = kind.make(folder)
    whole = kind.read(folder)
    assert whole.believed and not whole.named, f"{kind.name}: a whole file is not believed: {whole.named}"
    sound = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    counts, wrong = Counter[Verdict](), list[str]()
    for how, damaged in damages(sound[file], flips, cuts):
        _restore(folder, sound)
        file.write_bytes(damaged)
        found, why = verdict(kind, folder, file, whole)
        counts[found] += 1
        wrong += [f"{kind.name}, {how}: {found}: {why}"] if found in WRONG else []
    _restore(folder, sound)
    assert kind.read(folder) == whole, f"{kind.name}: the whole file is not believed any more"
    return counts, wrong


KEY = Key(**dict.fromkeys(Key.__slots__, "a") | {"texts": ""})  # type: ignore[arg-type]
TAPS = {"pooled": 6, "joint": 3}
IMAGES = [digest.of_bytes(bytes([number])) for number in range(24)]


def make_store(folder: Path, note: str = "all black") -> Path:
    """A store with one shard of six batches; returns the shard."""
    rng = np.random.default_rng(0)
    with Store(folder).writer(KEY, len(IMAGES), TAPS, {"device": "cpu"}) as writer:
        for start in range(0, len(IMAGES), 4):
            taps = {tap: rng.normal(size=(4, dim)).astype(np.float32) for tap, dim in TAPS.items()}
            writer.append(IMAGES[start : start + 4], taps, [(note,), (), (), ()])
            writer.commit()
    return next(folder.rglob("shard-*"))


def read_store(folder: Path) -> Answer:
    """Vectors, notes and engine of every image."""
    found = Store(folder).read(KEY)
    named = found.verify()
    believed = {
        image: ([found.rows(tap, [image]).tobytes() for tap in TAPS], found.notes(image), found.engines([image]))
        for image in IMAGES
        if image in found
    }
    return Answer(believed, tuple(f"{shard}: {told}" for shard, told in named.items()))


def read_keys(folder: Path) -> Answer:
    """Every key that a folder tells, beside all that the store holds."""
    believed, named = dict[str, Any](read_store(folder).believed), list[str]()
    for name, place in Store(folder).folders().items():
        try:
            believed[name] = read_key(place)
        except DamagedError as error:
            named.append(str(error))
    return Answer(believed, tuple(named))


VECTORS = np.random.default_rng(1).normal(size=(5, 7)).astype(np.float32)


def _make_array_cache(folder: Path) -> Path:
    ArrayCache(folder).array({"texts": ["a"]}, lambda: CachedArray(VECTORS, {"device": "cpu"}))
    return next(folder.rglob("*.vec"))


def _read_array_cache(folder: Path) -> Answer:
    return Answer(
        {
            "array": ArrayCache(folder)
            .array({"texts": ["a"]}, lambda: CachedArray(VECTORS, {"device": "cpu"}))
            .array.tobytes()
        }
    )


def make_results(folder: Path) -> Path:
    """Two records with predictions; returns the file of one."""
    records = [write_result(folder, scores(seed, rows=40, errors=6), protocol__shots=4 + seed) for seed in (0, 1)]
    return folder / place_of(records[0])


def read_records(folder: Path) -> Answer:
    """All of every record, and its scores."""
    found = read_results(folder, folder / "cache")
    believed = {r.id: (r, [fold.scores.tobytes() for fold in read_cell(folder, r).folds]) for r in found.records}
    foreign = (f"{found.foreign} files of another version",) if found.foreign else ()
    return Answer(believed, (*found.left_out.values(), *foreign))


def _make_baseline(folder: Path) -> Path:
    record = write_result(folder, scores(rows=40, errors=6))
    write_baseline(folder / "baseline.toml", [entry(record, Tolerance(width=1e-9, source="rounding"))])
    return folder / "baseline.toml"


def _read_baseline(folder: Path) -> Answer:
    return Answer({cell.text: cell for cell in read_baseline(folder / "baseline.toml").cells})


def _make_manifest(folder: Path) -> Path:
    labels = np.eye(2, dtype=np.int8)[[0, 1, 1, 0]]
    parts = {name: Table(tuple(f"{name}{n}" for n in range(4)), labels, ("A", "B")) for name in ("train", "test")}
    manifest(Partition("rsna", "s", parts, {})).write(folder / "m.json")
    return folder / "m.json"


def _read_manifest(folder: Path) -> Answer:
    return Answer({"manifest": read_manifest(folder / "m.json")})


def _make_findings(folder: Path) -> Path:
    write_findings(folder / "audit.json", [Finding("shared patients", f"task {n}", "of both", n, 9) for n in range(3)])
    return folder / "audit.json"


def _read_findings(folder: Path) -> Answer:
    return Answer({found.scope: asdict(found) for found in read_findings(folder / "audit.json")})


KINDS: Sequence[Kind] = (
    Kind("shard rows", lambda folder: make_store(folder) / "rows.bin", read_store, made_again=True),
    Kind("taps", lambda folder: make_store(folder) / "pooled.npy", read_store, made_again=True),
    Kind("journal", lambda folder: make_store(folder) / "journal.bin", read_store, made_again=True),
    Kind("notes", lambda folder: make_store(folder, 300 * "x") / "journal.bin", read_store, made_again=True),
    Kind("shard description", lambda folder: make_store(folder) / "shard.json", read_store, made_again=True),
    Kind("key", lambda folder: make_store(folder).parent / "key.json", read_keys),
    Kind("memo array", _make_array_cache, _read_array_cache),
    Kind("record", make_results, read_records),
    Kind("predictions", lambda folder: make_results(folder).with_suffix(".parquet"), read_records),
    Kind("baseline", _make_baseline, _read_baseline),
    Kind("manifest", _make_manifest, _read_manifest),
    Kind("audit findings", _make_findings, _read_findings),
)
