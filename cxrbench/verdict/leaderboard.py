"""Many models over the tasks they share: ranks, what tells them apart, and which neighbours nothing does."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.statistics.counts import Metric
from cxrbench.evaluate.statistics.interval import RESAMPLES, interval_of, too_rare
from cxrbench.evaluate.statistics.paired import holm_of_given
from cxrbench.evaluate.statistics.ranks import RankTest, rank_intervals, rank_test
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import rarest_class
from cxrbench.verdict.compare import ALPHA, DrawnCell, drawn_difference
from cxrbench.verdict.drawn import drawn
from cxrbench.verdict.predictions import read_cell
from cxrbench.verdict.selection import Selected, Setting, why_not_paired

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two models that follow each other on a task, the better one first; `p_holm` is over all such pairs with a p."""

    task: str
    better: str
    worse: str
    difference: Interval
    p: float | None
    p_holm: float | None

    @property
    def told_apart(self) -> bool:
        """Whether this task's test set shows a difference at 5 % after correction."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True, slots=True)
class ControlRow:
    """A negative control's number on each task of the board, None where it has none on the same images."""

    model: str
    values: tuple[Interval | None, ...]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Models of one setting, the best average rank first, on the tasks that all of them share.

    Negative controls are no models: they stand apart, without a rank, and no test includes them.

    `values[t][m]` are the intervals; `ranks` follow `models`, its rows and columns too. `rank_intervals` (M, 2) are
    over test units, with the tasks as they are; `ranks` tests over tasks, with the numbers as they are.
    """

    setting: Setting
    variant: str
    synthetic: bool
    metric: Metric
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    values: tuple[tuple[Interval, ...], ...]
    ranks: RankTest
    rank_intervals: FloatArray
    neighbours: tuple[Neighbours, ...]
    refused: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    controls: tuple[ControlRow, ...] = ()

    @property
    def untold(self) -> float:
        """Share of neighbouring pairs, all tasks together, that cannot be told apart."""
        return sum(not pair.told_apart for pair in self.neighbours) / len(self.neighbours)


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task of a board: models with their intervals, and values (M, B) of all of them on the same resamples.

    `neighbours` are not yet corrected; `controls` have their interval, None where they score other images.
    """

    task: str
    models: tuple[str, ...]
    intervals: tuple[Interval, ...]
    estimates: tuple[float, ...]
    drawn: FloatArray
    neighbours: tuple[Neighbours, ...]
    controls: Mapping[str, Interval | None]


Refused = tuple[str, ...]


def leaderboard(out: Path, selected: Selected, metric: Metric, resamples: int = RESAMPLES) -> Leaderboard:
    """The board of a setting with three models or more, from their predictions below the results folder.

    A task enters if every model but negative controls has a record of the same images. Raises NotApplicableError with
    the reasons below two such tasks or three such models, DataError and IntegrityError for predictions that are gone or
    changed.
    """
    checked_models(selected)
    rows: dict[str, TaskRow | Refused] = {}
    for task, records in selected.records.items():
        cells = [read_cell(out, records[model]) for model in selected.models if model in records]
        found = zip(cells, drawn(cells, metric, resamples), strict=True)
        rows[task] = task_row(selected, {cell.record.model.name: (cell, own) for cell, own in found}, metric, resamples)
    return board_of(selected, rows, metric)


def checked_models(selected: Selected) -> tuple[str, ...]:
    """The models that can be ranked: all but negative controls. Raises NotApplicableError below three."""
    controls = _controls(selected)
    models = tuple(model for model in selected.models if model not in controls)
    if len(models) < 3:
        told = f"there are {len(models)}" + (f", and the controls {', '.join(sorted(controls))}" if controls else "")
        raise NotApplicableError(f"ranks need three models that are no negative controls ({selected.setting}); {told}")
    return models


def _controls(selected: Selected) -> set[str]:
    return {r.model.name for row in selected.records.values() for r in row.values() if r.control}


def task_row(
    selected: Selected, cells: Mapping[str, DrawnCell], metric: Metric, resamples: int = RESAMPLES
) -> TaskRow | Refused:
    """One task of a board from its cells by model, or the reasons why it cannot be part of it.

    Raises DataError where the metric is not defined in every fold.
    """
    models = checked_models(selected)
    if absent := tuple(f"no record of {model}" for model in models if model not in cells):
        return absent
    row = [cells[model] for model in models]
    first = row[0][0]
    if reasons := tuple(
        f"{cell.record.model.name}: {reason}" for cell, _ in row[1:] for reason in why_not_paired(first, cell)
    ):
        return reasons
    if any(rarest_class(cell.folds)[1] < 2 for cell, _ in row):
        return ("a class has too few test images for any resample",)
    if rare := {reason for _, values in row if (reason := too_rare(values.drawn))}:
        return tuple(sorted(rare))
    task, estimates = first.record.data.task, tuple(values.estimate for _, values in row)
    if np.isnan(estimates).any():
        raise DataError(f"{task}: {metric} is not defined in every fold, so nothing can be ranked")
    others = {name: cells.get(name) for name in selected.models if name not in models}
    return TaskRow(
        task,
        models,
        tuple(_interval(own, metric) for own in row),
        estimates,
        np.array([values.drawn for _, values in row]),
        _neighbours(row, metric, resamples),
        {n: None if o is None or why_not_paired(first, o[0]) else _interval(o, metric) for n, o in others.items()},
    )


def _interval(own: DrawnCell, metric: Metric) -> Interval:
    return interval_of(metric, own[0].folds, own[0].over, own[1])


def board_of(selected: Selected, found: Mapping[str, TaskRow | Refused], metric: Metric) -> Leaderboard:
    """The board from its tasks. Raises NotApplicableError with the reasons below two that can be part of it."""
    models = checked_models(selected)
    rows = [row for row in found.values() if isinstance(row, TaskRow)]
    refused = {task: row for task, row in found.items() if not isinstance(row, TaskRow)}
    if len(rows) < 2:
        told = "; ".join(f"{task}: {', '.join(reasons)}" for task, reasons in refused.items())
        raise NotApplicableError(
            f"ranks need two tasks that all of {', '.join(models)} share ({selected.setting}); "
            f"there are {len(rows)}. {told}"
        )
    ranks = rank_test(np.array([row.estimates for row in rows]))
    order = np.argsort(ranks.ranks, kind="stable")
    first = selected.records[rows[0].task][models[0]]
    return Leaderboard(
        selected.setting,
        first.variant,
        first.synthetic,
        metric,
        tuple(models[place] for place in order),
        tuple(row.task for row in rows),
        tuple(tuple(row.intervals[place] for place in order) for row in rows),
        _ordered(ranks, order),
        rank_intervals(np.array([row.drawn[order] for row in rows])),
        _corrected([pair for row in rows for pair in row.neighbours]),
        refused,
        selected.notes,
        tuple(ControlRow(n, tuple(row.controls[n] for row in rows)) for n in selected.models if n not in models),
    )


def _ordered(ranks: RankTest, order: NDArray[np.intp]) -> RankTest:
    return RankTest(
        ranks.ranks[order], ranks.friedman, ranks.p, ranks.nemenyi[np.ix_(order, order)], ranks.critical_difference
    )


def _neighbours(row: Sequence[DrawnCell], metric: Metric, resamples: int) -> tuple[Neighbours, ...]:
    """Each model and the next one below it, not yet corrected."""
    means = [np.mean([fold.metrics[metric] for fold in cell.record.folds]) for cell, _ in row]
    best_first = [row[place] for place in np.argsort(-np.array(means), kind="stable")]
    found = []
    for a, b in itertools.pairwise(best_first):
        names = a[0].record.data.task, a[0].record.model.name, b[0].record.model.name
        found.append(Neighbours(*names, *drawn_difference(metric, a, b, resamples), None))
    return tuple(found)


def _corrected(pairs: Sequence[Neighbours]) -> tuple[Neighbours, ...]:
    adjusted = holm_of_given([pair.p for pair in pairs])
    return tuple(replace(pair, p_holm=p_holm) for pair, p_holm in zip(pairs, adjusted, strict=True))
