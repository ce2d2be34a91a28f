"""ROC and precision-recall curves whose areas are the AUROC and the average precision that metrics give.

The mean of curves is taken at equal x: of ROC curves at equal false positive rate, of precision-recall curves at equal
recall (vertical averaging: Fawcett, Pattern Recognition Letters 27, 2006). An area is linear in its curve, so that of a
mean curve is the mean of the areas.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.findings import steps

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Curve:
    """Points from x = 0 to x = 1, x (T,) never falling, y (T,), both float64; two points of one x are a vertical."""

    x: FloatArray
    y: FloatArray

    @property
    def area(self) -> float:
        """The area below it, by trapezoids."""
        return float((np.diff(self.x) * (self.y[1:] + self.y[:-1]) / 2).sum())


def roc(scores: FloatArray, holds: NDArray[np.bool_]) -> Curve:
    """True over false positive rate of scores (n,), tied rows together. Raises DataError where one side has no row."""
    _both_sides(holds)
    met = steps(scores, holds)
    return Curve(np.insert(met.wrong / (~holds).sum(), 0, 0.0), np.insert(met.right / holds.sum(), 0, 0.0))


def precision_recall(scores: FloatArray, holds: NDArray[np.bool_]) -> Curve:
    """Precision over recall as average precision takes it: that of a threshold holds back to the recall before it.

    Raises DataError where one side has no row.
    """
    _both_sides(holds)
    met = steps(scores, holds)
    gains = np.diff(met.right, prepend=0) > 0
    recall, precision = met.right[gains] / holds.sum(), (met.right / (met.right + met.wrong))[gains]
    return Curve(np.repeat(np.insert(recall, 0, 0.0), 2)[1:-1], np.repeat(precision, 2))


def _both_sides(holds: NDArray[np.bool_]) -> None:
    if holds.all() or not holds.any():
        raise DataError(f"of {len(holds)} rows {int(holds.sum())} are positive: a curve needs both kinds")


def mean_curve(curves: Sequence[Curve], weights: Sequence[float]) -> Curve:
    """The weighted sum of curves at equal x, exact at every bend; weights should sum to 1."""
    weight = np.repeat(weights, [len(one.x) - 1 for one in curves])
    start, end = (np.concatenate([one.x[part] for one in curves]) for part in (slice(-1), slice(1, None)))
    rise = weight * np.concatenate([np.diff(one.y) for one in curves])
    knots, place = np.unique(np.concatenate([start, end]), return_inverse=True)
    first, last = place[: len(start)], place[len(start) :]
    upright = first == last
    slope = np.where(upright, 0.0, rise / np.where(upright, 1.0, end - start))
    slopes = np.cumsum(_sums(first, slope, len(knots)) - _sums(last, slope, len(knots)))
    jumps = _sums(first[upright], rise[upright], len(knots))
    begin = float(np.dot(weights, [one.y[0] for one in curves]))
    after = begin + np.cumsum(jumps) + np.insert(np.cumsum(slopes[:-1] * np.diff(knots)), 0, 0.0)
    return Curve(np.repeat(knots, 2), np.stack([after - jumps, after], axis=1).ravel())


def _sums(place: NDArray[np.intp], values: FloatArray, size: int) -> FloatArray:
    return np.asarray(np.bincount(place, weights=values, minlength=size), dtype=np.float64)


FINE = 8  # points of a curve that are nearer than a step by this are one


def drawn(curve: Curve, steps_of_one: int) -> list[tuple[int, int]]:
    """Corners on a grid of so many steps from 0 to 1, whose line is within two steps of the curve.

    Points within a step of the line between others are left out (Douglas and Peucker); the others go to the
    nearest crossing of the grid.
    """
    fine = np.rint(np.stack([curve.x, curve.y], axis=1) * (steps_of_one * FINE)) / FINE
    fine = _without_repeats(fine)
    kept, todo = {0, len(fine) - 1}, [(0, len(fine) - 1)]
    while todo:
        low, high = todo.pop()
        if high - low < 2:
            continue
        far = _off_line(fine[low + 1 : high], fine[low], fine[high])
        most = int(far.argmax())
        if far[most] > 1.0:
            kept.add(low + 1 + most)
            todo += [(low, low + 1 + most), (low + 1 + most, high)]
    return [(int(x), int(y)) for x, y in _without_repeats(np.rint(fine[sorted(kept)]))]


def _without_repeats(points: FloatArray) -> FloatArray:
    """Points (n, 2) without those that repeat the one before."""
    return points[np.concatenate([[True], (np.diff(points, axis=0) != 0).any(axis=1)])]


def _off_line(points: FloatArray, one: FloatArray, other: FloatArray) -> FloatArray:
    """How far points (n, 2) are from the stretch between two others."""
    along, off = other - one, points - one
    length = float(along @ along)
    share = np.clip(off @ along / length, 0.0, 1.0) if length else np.zeros(len(off))
    return np.asarray(np.hypot(*(off - share[:, None] * along).T))
