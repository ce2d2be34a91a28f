"""The metrics of a cell as functions of counts: mean over folds of each fold's value, as in a record's summary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cxrbench.evaluate.statistics.resample import Statistic
from cxrbench.evaluate.statistics.units import ScoredRows, check_same_classes
from cxrbench.index import IntArray

FloatArray = NDArray[np.floating[Any]]
Metric = Literal["balanced_accuracy", "accuracy", "macro_auroc", "macro_f1", "kappa"]
METRICS: tuple[Metric, ...] = get_args(Metric)


def statistic(metric: Metric, folds: Sequence[ScoredRows], n_units: int) -> Statistic:
    """The metric of a cell whose folds number their units below `n_units`; NaN where a class of a fold has no row."""
    check_same_classes(folds)
    if metric == "macro_auroc":
        return _mean([_areas(fold, n_units) for fold in folds])
    if metric in ("balanced_accuracy", "accuracy"):
        of = _recall if metric == "balanced_accuracy" else _accuracy
        return _mean([_hits(same, n_units, of) for same in _sharing(folds)])
    return _mean([_agreement(fold, n_units, _f1 if metric == "macro_f1" else _kappa) for fold in folds])


@dataclass(frozen=True, slots=True)
class _Part:
    """Counts of one fold, or of several that score the same rows, and their value times `folds`."""

    matrix: sparse.csr_array
    of: Callable[[FloatArray], FloatArray]
    folds: int = 1


def _mean(parts: Sequence[_Part]) -> Statistic:
    ends = np.cumsum([part.matrix.shape[0] for part in parts])
    total = sum(part.folds for part in parts)

    def of(counts: FloatArray) -> FloatArray:
        pieces = np.split(counts, ends[:-1])
        return np.sum([p.of(piece) * p.folds for p, piece in zip(parts, pieces, strict=True)], axis=0) / total

    return Statistic(sparse.vstack([part.matrix for part in parts], format="csr"), of)


def _sharing(folds: Sequence[ScoredRows]) -> list[list[ScoredRows]]:
    """Folds put together that score the same rows in the same order."""
    together: dict[bytes, list[ScoredRows]] = {}
    for fold in folds:
        together.setdefault(np.concatenate([fold.unit, fold.labels]).tobytes(), []).append(fold)
    return list(together.values())


def _counted(rows: IntArray, units: IntArray, shape: tuple[int, int]) -> sparse.csr_array:
    return sparse.csr_array((np.ones(len(rows), dtype=np.int64), (rows, units)), shape=shape)


def _hits(folds: Sequence[ScoredRows], n_units: int, of: Callable[..., FloatArray]) -> _Part:
    """Hits and rows of every class, hits summed over folds of the same rows."""
    rows, n_classes = folds[0], folds[0].scores.shape[1]
    right = [fold.predictions == fold.labels for fold in folds]
    hits = [fold.labels[own] for fold, own in zip(folds, right, strict=True)]
    units = [fold.unit[own] for fold, own in zip(folds, right, strict=True)]
    both = np.concatenate([*hits, n_classes + rows.labels]), np.concatenate([*units, rows.unit])
    matrix = _counted(*both, (2 * n_classes, n_units))
    return _Part(matrix, lambda counts: of(*np.split(counts, 2)) / len(folds), len(folds))


def _recall(hits: FloatArray, truths: FloatArray) -> FloatArray:
    return _over(hits, truths).mean(axis=0)


def _accuracy(hits: FloatArray, truths: FloatArray) -> FloatArray:
    return _over(hits.sum(axis=0), truths.sum(axis=0))


def _agreement(fold: ScoredRows, n_units: int, of: Callable[..., FloatArray]) -> _Part:
    """Hits, rows and predictions of every class."""
    shape, found = (fold.scores.shape[1], n_units), fold.predictions
    hit = found == fold.labels
    pieces = [_counted(fold.labels[hit], fold.unit[hit], shape), _counted(fold.labels, fold.unit, shape)]
    matrix = sparse.vstack([*pieces, _counted(found, fold.unit, shape)], format="csr")
    return _Part(matrix, lambda counts: of(*np.split(counts, 3)))


def _f1(hits: FloatArray, truths: FloatArray, predicted: FloatArray) -> FloatArray:
    values = _over(2 * hits, truths + predicted).mean(axis=0)
    return np.where((truths > 0).all(axis=0), values, np.nan)


def _kappa(hits: FloatArray, truths: FloatArray, predicted: FloatArray) -> FloatArray:
    total = truths.sum(axis=0)
    by_chance = (truths * predicted).sum(axis=0) / total
    return _over(hits.sum(axis=0) - by_chance, total - by_chance)


def _areas(fold: ScoredRows, n_units: int) -> _Part:
    """Macro AUROC, one class against the rest, from ranks with ties halved.

    For each class the counts are its rows at each distinct score of the class, then all other rows below the first of
    these scores, at it, between it and the second, and so on.
    """
    matrices, distinct = [], []
    for number in range(fold.scores.shape[1]):
        own, scores = fold.labels == number, fold.scores[:, number]
        levels, place = np.unique(scores[own], return_inverse=True)
        between = np.searchsorted(levels, scores[~own], "left") + np.searchsorted(levels, scores[~own], "right")
        matrices.append(_counted(place, fold.unit[own], (len(levels), n_units)))
        matrices.append(_counted(between, fold.unit[~own], (2 * len(levels) + 1, n_units)))
        distinct.append(len(levels))
    ends = np.cumsum([m.shape[0] for m in matrices])

    def of(counts: FloatArray) -> FloatArray:
        pieces = np.split(counts, ends[:-1])
        return np.mean([_area(own, rest) for own, rest in zip(pieces[::2], pieces[1::2], strict=True)], axis=0)

    return _Part(sparse.vstack(matrices, format="csr"), of)


def _area(own: FloatArray, rest: FloatArray) -> FloatArray:
    """Area (B,) from a class's rows (m, B) by rising score and the others (2m + 1, B) between and at these scores."""
    reached = np.cumsum(rest, axis=0)
    below = (reached[:-1:2] + reached[1::2]) / 2  # half of those at the score itself
    return _over((own * below).sum(axis=0), own.sum(axis=0) * reached[-1])


def _over(above: FloatArray, below: FloatArray) -> FloatArray:
    return np.divide(above, below, out=np.full(above.shape, np.nan, dtype=above.dtype), where=below > 0)
