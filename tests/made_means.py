"""Cells of several tasks drawn from known laws, without files: for means over tasks whose true value is known."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from made_records import made_record
from made_scores import Law, Wards, recalls, two_normals
from numpy.typing import NDArray

from cxrbench.evaluate.statistics.counts import Metric
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind
from cxrbench.record import Record
from cxrbench.verdict.average import Mean, Weighted
from cxrbench.verdict.predictions import ScoredCell

DrawMean = Callable[[np.random.Generator, int], Mean]


@dataclass(frozen=True)
class MeanLaw:
    """A way of drawing the cells of a mean, and its true value.

    The number tells the records and units of a draw from those of others: equal ones would be resampled alike.
    """

    draw: DrawMean
    truth: float
    metric: Metric


@cache
def _record(task: str) -> Record:
    return made_record(data__task=task)


def cell_of(
    task: str, folds: Sequence[ScoredRows], names: Mapping[int, str] | None = None, number: int = 0
) -> ScoredCell:
    """A cell of a task from its rows; `names` of its patients by their number, where they are known."""
    used = np.unique(np.concatenate([fold.unit for fold in folds]))
    own = [f"{task}{number:04}{place:06}" if names is None else names[int(place)] for place in used]
    order = np.argsort(own)
    place: NDArray[np.int64] = np.empty(int(used.max()) + 1, dtype=np.int64)
    place[used[order]] = np.arange(len(used))
    moved = tuple(replace(fold, unit=place[fold.unit]) for fold in folds)
    over: UnitKind = "image" if names is None else "patient"
    units = tuple(own[k] for k in order)
    record = _record(task).model_copy(update={"id": f"{task}-{number}"})
    return ScoredCell(record, moved, over, units, units, tuple(fold.unit for fold in moved))


def mean_of(cells: Sequence[ScoredCell]) -> Mean:
    """The unweighted mean."""
    return [Weighted(cell, 1 / len(cells)) for cell in cells]


def apart(metric: Metric, laws: Mapping[str, Law]) -> MeanLaw:
    """Tasks without a common image, each by its own law."""

    def draw(rng: np.random.Generator, number: int) -> Mean:
        return mean_of([cell_of(task, law.draw(rng), None, number) for task, law in laws.items()])

    return MeanLaw(draw, float(np.mean([law.truth for law in laws.values()])), metric)


def shared(metric: Metric, wards: Wards, tasks: Sequence[str], *, named: bool = True) -> MeanLaw:
    """Tasks that show the same patients, each image in one of them; `named`: records tell who the patients are."""

    def draw(rng: np.random.Generator, number: int) -> Mean:
        (whole,) = wards.draw(rng)
        task = rng.integers(0, len(tasks), len(whole.labels))
        cells = []
        for place, name in enumerate(tasks):
            rows = task == place
            folds = [ScoredRows(whole.unit[rows], whole.labels[rows], whole.scores[rows])]
            names = {int(unit): f"{number:04}{unit:08}" for unit in whole.unit} if named else None
            cells.append(cell_of(name, folds, names, number))
        return mean_of(cells)

    return MeanLaw(draw, wards.law(metric).truth, metric)


INDEPENDENT: Mapping[str, Callable[[], MeanLaw]] = {
    "balanced accuracy, three tasks": lambda: apart(
        "balanced_accuracy",
        {
            "chexpert5x200": recalls(40, np.array([0.5, 0.3, 0.6, 0.4, 0.7])),
            "rsna": recalls(300, np.array([0.8, 0.7])),
            "vindr": recalls(20, np.array([0.5, 0.2, 0.3])),
        },
    ),
    "AUROC, three tasks": lambda: apart(
        "macro_auroc",
        {
            "chexpert5x200": two_normals(40, 160, 0.75),
            "rsna": two_normals(100, 100, 0.9),
            "vindr": two_normals(25, 60, 0.8),
        },
    ),
}
FROM_ONE = Wards(150, 2)
