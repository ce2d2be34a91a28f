"""What every reader of records calls: a record is believed as far as its name, checksum and predictions agree.

An editor can make the checksum fit again, but not the numbers, which are computed anew from the predictions, nor what
else the record states, whose digest they hold.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cxrbench.errors import CxrBenchError, DataError, IntegrityError, UnreadableError
from cxrbench.evaluate.findings import Chosen, FindingMetrics, PerFinding, metrics_of, summarised
from cxrbench.evaluate.metrics import FoldMetrics, generalised, harmonic_mean, mean_and_spread
from cxrbench.evaluate.retrieval import QueryMetrics, QueryRows, query_metrics
from cxrbench.evaluate.statistics.finding_shares import AnyRows
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.record import (
    WAY_OUT,
    ForeignError,
    Record,
    predictions_path,
    read_record,
    record_path,
    results_of,
)
from cxrbench.store import digest
from cxrbench.store.sealed import DamagedError, read_regular, read_sealed, write_sealed
from cxrbench.system.sources import code_digest

MOST_BYTES = 1 << 30  # of a file of predictions


class VerifiedBefore:
    """Pairs of files, by the digests of both, that agreed; kept in the cache for one version of the code that looked.

    What is edited has other bytes, so it is looked at again. A damaged or lost list costs time and nothing else.
    """

    def __init__(self, cache: Path, out: Path) -> None:
        self._out = out
        self._file = cache / "verified" / f"{code_digest('cxrbench.records.integrity')[:32]}.json"
        self._known = self._read()
        self._fresh: set[str] = set()

    def _read(self) -> set[str]:
        try:
            return {str(name) for name in read_sealed(self._file)}
        except (FileNotFoundError, DamagedError, UnreadableError, TypeError):
            return set()

    def name(self, record: Record) -> str | None:
        """The digest of a record's two files as they lie there; None where one of them cannot be read."""
        place = record_path(self._out, record.data.task, record.model.name, record.id)
        try:
            files = [place, predictions_path(self._out, record)]
            return digest.of_lines(digest.of_bytes(read_regular(file, MOST_BYTES)) for file in files)
        except (FileNotFoundError, DamagedError, UnreadableError):
            return None

    def __contains__(self, name: object) -> bool:
        return name in self._known

    def add(self, name: str) -> None:
        """Remember a pair that agreed."""
        self._fresh.add(name)

    def keep(self) -> None:
        """Write what is new; a cache that cannot be written is none."""
        if self._fresh:
            with suppress(OSError):
                write_sealed(self._file, sorted(self._read() | self._fresh))


ROUNDING = 1e-12  # sums in another order, on another machine, differ by so much at most


@dataclass(frozen=True, slots=True)
class Results:
    """The records below a results folder, by path; what was left out, by its place there, with the reason and way out.

    `foreign` counts files that say they are of an older or newer format.
    """

    records: tuple[Record, ...]
    left_out: Mapping[str, str]
    foreign: int


def read_results(out: Path, cache: Path) -> Results:
    """The records that are what their names, checksums and predictions say, and what is left out since it is not.

    Pairs of files that agreed before, and have the same bytes still, are known from the cache. Raises what
    `found_results` does.
    """
    found, sound, left_out = found_results(out), list[Record](), dict[str, str]()
    verified = VerifiedBefore(cache, out)
    for record in found.records:
        name = verified.name(record)
        if name not in verified and (told := faults(out, record)):
            left_out[place_of(record)] = f"{out / place_of(record)}: {'; '.join(told)}. {WAY_OUT}"
            continue
        sound.append(record)
        if name is not None and name not in verified:
            verified.add(name)
    verified.keep()
    return Results(tuple(sound), {**found.left_out, **left_out}, found.foreign)


def found_results(out: Path) -> Results:
    """`read_results` for those who hold every record against its predictions by themselves, by `checked_cell`.

    Raises DataError where there is no such folder.
    """
    if not out.is_dir():
        raise DataError(f"{out}: there is no such folder; `cxrbench run` writes records; --out says where they are.")
    records, left_out, foreign = list[Record](), dict[str, str](), 0
    for path in sorted((out / "records").glob("*/*/*.json")):
        try:
            records.append(read_record(path))
        except ForeignError:
            foreign += 1
        except (IntegrityError, UnreadableError) as error:
            left_out[str(path.relative_to(out))] = str(error)
    return Results(tuple(records), left_out, foreign)


def sound_record(path: Path) -> Record:
    """One record from its file; raises IntegrityError that names it if it does not hold, and says the way out."""
    record = read_record(path)
    if told := faults(results_of(path), record):
        raise DamagedError(path, "; ".join(told), WAY_OUT)
    return record


def place_of(record: Record) -> str:
    """Where a record lies below its results folder."""
    return record_path(Path(), record.data.task, record.model.name, record.id).as_posix()


def faults(out: Path, record: Record) -> tuple[str, ...]:
    """In what the record is not what its predictions say; none for a sound record."""
    return checked_cell(out, record)[1]


def checked_cell(out: Path, record: Record) -> tuple[ScoredCell | None, tuple[str, ...]]:
    """The record with its predictions, None where they cannot be read, and its `faults`."""
    try:
        cell = read_cell(out, record)
        return cell, tuple(_differences(cell)) or tuple(_other_statement(cell))
    except (CxrBenchError, ValueError) as error:
        return None, (str(error),)


def _differences(cell: ScoredCell) -> Iterator[str]:
    record, again = cell.record, list[dict[str, Any]]()
    for result, rows, image in zip(record.folds, cell.folds, cell.image, strict=True):
        ids = [cell.images[place] for place in image]
        if (len(ids), digest.of_lines(ids)) != (result.test_rows, result.test_digest):
            yield f"fold {result.fold}: the predictions are of other images"
        again.append(asdict(_metrics(rows, result.thresholds)))
        if wrong := _unlike(result.metrics, again[-1]):
            yield f"fold {result.fold}: the predictions give another {', '.join(wrong)}"
    summary = {name: mean_and_spread([fold[name] for fold in again]) for name in _summarised(record)}
    for name in _unlike(record.summary, summary):
        part = _part(record.summary.get(name), summary.get(name))
        yield f"the {part} of {name} is not that of the folds"
    if wrong := _unlike(record.generalised or {}, _joint(cell)):
        yield f"the predictions give another {', '.join(wrong)} in the joint label space"


def _metrics(rows: AnyRows, thresholds: Mapping[Chosen, PerFinding]) -> FoldMetrics | FindingMetrics | QueryMetrics:
    return query_metrics(rows) if isinstance(rows, QueryRows) else metrics_of(rows.scores, rows.labels, thresholds)


def _summarised(record: Record) -> tuple[str, ...]:
    return summarised(record.data.kind, record.data.group)


def _other_statement(cell: ScoredCell) -> Iterator[str]:
    if cell.statement != cell.record.statement:
        yield "it states something else than when its predictions were written, of its model, data, protocol or prompts"


def _unlike(told: Mapping[str, Any], again: Mapping[str, Any]) -> list[str]:
    """The names under which the two hold another value, or only one of them any."""
    names = dict.fromkeys([*again, *told])
    return [name for name in names if name not in told or name not in again or not _same(told[name], again[name])]


def _part(told: Any, again: Any) -> str:
    if not isinstance(told, dict) or not isinstance(again, dict):
        return "summary"
    words = {"mean": "mean", "std": "standard deviation", "folds": "number"}
    return " and ".join(words.get(name, name) for name in _unlike(told, again))


def _joint(cell: ScoredCell) -> dict[str, Any]:
    """What the predictions give for base and new classes together; nothing for a record that tells nothing of it."""
    told, labels = cell.record.generalised, cell.record.data.labels
    if told is None:
        return {}
    new = [label for label in told.get("new_classes", ()) if label in labels]
    folds = [generalised(rows.scores, rows.labels, [labels.index(label) for label in new]) for rows in cell.classes_of]
    base, fresh = (mean_and_spread(values)["mean"] for values in ([f.base for f in folds], [f.new for f in folds]))
    return {"base": base, "new": fresh, "harmonic_mean": harmonic_mean(base, fresh), "new_classes": new}


def _same(one: Any, other: Any) -> bool:
    """Equal but for rounding, through sequences and mappings; JSON's lists count as tuples."""
    if isinstance(one, float) or isinstance(other, float):
        return isinstance(one, float | int) and isinstance(other, float | int) and abs(one - other) <= ROUNDING
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)
