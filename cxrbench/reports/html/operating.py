"""ROC and precision-recall curves of a cell as SVG paths, of binary and multi-label tasks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.operating_curves import Curve, drawn, mean_curve, precision_recall, roc
from cxrbench.records.predictions import ScoredCell

GRID = 200  # steps of a panel from 0 to 1, which are its view box

Sided = tuple[NDArray[np.float64], NDArray[np.bool_], float]  # scores (n,), which rows hold, weight


@dataclass(frozen=True, slots=True)
class Operating:
    """Both curves of a cell, as paths on the grid.

    `of` says what is told from what. `area` and `precision` are the areas of the curves, and so mean AUROC and average
    precision over folds, in a multi-label task over findings too; `share` is what precision is by chance.
    """

    of: str
    area: float
    precision: float
    share: float
    roc: str
    precision_recall: str


def operating(cell: ScoredCell) -> Operating | None:
    """The curves of a binary or a multi-label cell; None of other kinds, and where a fold has no area."""
    sides = list(_sides(cell))
    if not sides:
        return None
    areas, precisions = (_mean(make, sides) for make in (roc, precision_recall))
    share = sum(weight * float(holds.mean()) for _, holds, weight in sides)
    return Operating(_of(cell), areas.area, precisions.area, share, path(areas), path(precisions))


def _of(cell: ScoredCell) -> str:
    labels = cell.record.data.labels
    if cell.kind == "multi-label":
        return f"mean over {len(labels)} findings, each against its absence" if len(labels) > 1 else labels[0]
    return f"{labels[-1]} against {labels[0]}"


def _sides(cell: ScoredCell) -> Iterator[Sided]:
    """All folds, and all findings with a number in them, weighted as the mean over folds of macro means weights them.

    Nothing where a fold has no finding with a number, for then its macro means have none either.
    """
    folds = list(_folds(cell))
    if all(folds):
        for known in folds:
            yield from ((scores, holds, 1 / len(folds) / len(known)) for scores, holds in known)


def _folds(cell: ScoredCell) -> Iterator[list[tuple[NDArray[np.float64], NDArray[np.bool_]]]]:
    if cell.findings_of:
        for rows in cell.findings_of:
            found = (rows.finding(number) for number in range(rows.labels.shape[1]))
            yield [(np.asarray(one.score, dtype=np.float64), one.holds) for one in found if one.defined]
    elif cell.kind == "single-label" and len(cell.record.data.labels) == 2:
        for fold in cell.classes_of:
            holds = fold.labels == 1
            yield [(np.asarray(fold.scores[:, 1], dtype=np.float64), holds)] if 0 < holds.sum() < len(holds) else []


def _mean(make: Callable[[NDArray[np.float64], NDArray[np.bool_]], Curve], sides: Sequence[Sided]) -> Curve:
    return mean_curve([make(scores, holds) for scores, holds, _ in sides], [weight for *_, weight in sides])


def path(curve: Curve) -> str:
    """The curve as an SVG path on the grid, from one corner to the next."""
    points = [(x, GRID - y) for x, y in drawn(curve, GRID)]
    moved = (f"{x - a} {y - b}" for (a, b), (x, y) in pairwise(points))
    return f"M{points[0][0]} {points[0][1]}l{' '.join(moved)}".replace(" -", "-")
