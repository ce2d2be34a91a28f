"""A record held against its own predictions: the file that it names, and every number computed again from it."""

import json
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from cxrbench import digest
from cxrbench.errors import CxrBenchError, IntegrityError
from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.record import Record, read_record
from cxrbench.verdict.predictions import ScoredCell, read_cell

FORMAT = Record.model_fields["format"].default
ROUNDING = 1e-12  # sums in another order, on another machine, differ by so much at most


def faults(out: Path, record: Record) -> tuple[str, ...]:
    """In what the record is not what its predictions say; none for a sound record."""
    return checked_cell(out, record)[1]


def checked_cell(out: Path, record: Record) -> tuple[ScoredCell | None, tuple[str, ...]]:
    """The record with its predictions, None where they cannot be read, and its `faults`."""
    try:
        cell = read_cell(out, record)
        return cell, tuple(_differences(cell))
    except (CxrBenchError, OSError, ValueError) as error:
        return None, (str(error),)


def _differences(cell: ScoredCell) -> Iterator[str]:
    record = cell.record
    for result, rows, image in zip(record.folds, cell.folds, cell.image, strict=True):
        ids = [cell.images[place] for place in image]
        if (len(ids), digest.of_lines(ids)) != (result.test_rows, result.test_digest):
            yield f"fold {result.fold}: the predictions are of other images"
        again = fold_metrics(rows.scores, rows.labels)
        if wrong := [name for name, value in result.metrics.items() if not _same(value, getattr(again, name, None))]:
            yield f"fold {result.fold}: the predictions give another {', '.join(wrong)}"
    for name, spread in record.summary.items():
        values = [result.metrics[name] for result in record.folds if result.metrics.get(name) is not None]
        whole = len(values) == len(record.folds)
        if not _same(spread["mean"], fmean(values) if whole else None):
            yield f"the mean of {name} is not that of the folds"
        if not _same(spread["std"], pstdev(values) if whole else None):
            yield f"the standard deviation of {name} is not that of the folds"


def _same(one: Any, other: Any) -> bool:
    """Equal but for rounding, through sequences and mappings; JSON's lists count as tuples."""
    if isinstance(one, float) or isinstance(other, float):
        return isinstance(one, float | int) and isinstance(other, float | int) and abs(one - other) <= ROUNDING
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def sorted_out(out: Path) -> tuple[list[Record], dict[str, str], int]:
    """All records below the results folder; files that are damaged, by place, with the reason; and how many others.

    The others say that they are of another format: of an older or newer version.
    """
    records, damaged, foreign = list[Record](), dict[str, str](), 0
    for path in sorted((out / "records").glob("*/*/*.json")):
        try:
            records.append(read_record(path))
        except IntegrityError as error:
            if _is_of_another_format(path):
                foreign += 1
            else:
                damaged[str(path.relative_to(out))] = str(error)
    return records, damaged, foreign


def _is_of_another_format(path: Path) -> bool:
    try:
        told = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and told.get("format", FORMAT) != FORMAT
