"""A record held against its own predictions: the file that it names, and every number computed again from it."""

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from cxrbench import digest
from cxrbench.errors import CxrBenchError
from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.record import Record
from cxrbench.verdict.predictions import ScoredCell, read_cell

ROUNDING = 1e-12  # sums in another order, on another machine, differ by so much at most


def faults(out: Path, record: Record) -> tuple[str, ...]:
    """In what the record is not what its predictions say; none for a sound record."""
    try:
        return tuple(_differences(read_cell(out, record)))
    except (CxrBenchError, OSError, ValueError) as error:
        return (str(error),)


def _differences(cell: ScoredCell) -> Iterator[str]:
    record = cell.record
    for result, rows, image in zip(record.folds, cell.folds, cell.image, strict=True):
        ids = [cell.images[place] for place in image]
        if (len(ids), digest.of_lines(ids)) != (result.test_rows, result.test_digest):
            yield f"fold {result.fold}: the predictions are of other images"
        again = asdict(fold_metrics(rows.scores, rows.labels))
        if wrong := [name for name, value in result.metrics.items() if not _same(value, again.get(name))]:
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
