"""Many models over the tasks they share: the places that each may have, who may be best, and what no test set shows."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.means import Part, Weighted, interval_of_parts, mean_difference, part_of
from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.metric_table import Metric
from cxrbench.evaluate.statistics.estimate import ALPHA, Estimate, total
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.evaluate.statistics.paired import ModelPlaces, RankTest, holm_of_given, not_worse, places, rank_test
from cxrbench.records.predictions import ScoredCell, namespace, read_cell, taken_as_independent
from cxrbench.records.row_order import row_order_note
from cxrbench.records.selection import Selected, Setting, why_not_paired

Pairs = Mapping[tuple[str, str], Estimate]  # differences, the first minus the second
Refused = tuple[str, ...]
Row = Mapping[str, Measurement]  # of one task, by model


@dataclass(frozen=True, slots=True)
class ControlRow:
    """A negative control's number on each task of the board, None where it has none on the same images."""

    model: str
    values: tuple[Interval | None, ...]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task of a board, or tasks that show the same patients.

    `intervals` and `pairs` are of each task; `part` is what each model's number adds to a sum over tasks, and
    `part_pairs` what its differences do. `controls` have their intervals by task, None where they score other images.
    """

    tasks: tuple[str, ...]
    intervals: Mapping[str, Mapping[str, Interval]]
    pairs: Mapping[str, Pairs]
    part: Mapping[str, Part]
    part_pairs: Pairs
    controls: Mapping[str, Mapping[str, Interval | None]]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Models of one setting, the best mean first, on the tasks that all of them share.

    Negative controls are no models: they stand apart, without a place, and no test includes them.

    `values[t][m]` and `means[m]` are intervals. `places` are those of the means over these tasks; `best` the models
    that may be the best of each task, `best_mean` of the means. `told_apart` counts pairs of models task by task after
    Holm's correction over all of them. `ranks` follow `models` and test over tasks: they speak of other tasks.
    `row_order` says by task and model what another order of the training images changes, where it changes decisions.
    """

    setting: Setting
    variant: str
    synthetic: bool
    metric: Metric
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    values: tuple[tuple[Interval, ...], ...]
    means: tuple[Interval, ...]
    places: ModelPlaces
    best: tuple[tuple[str, ...], ...]
    best_mean: tuple[str, ...]
    told_apart: int
    compared: int
    ranks: RankTest
    refused: Mapping[str, Refused]
    notes: tuple[str, ...]
    controls: tuple[ControlRow, ...] = ()
    row_order: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def leaderboard(out: Path, selected: Selected, metric: Metric, *, these_draws: bool = False) -> Leaderboard:
    """The board of a setting with three models or more, from their predictions below the results folder.

    A task enters if every model but negative controls has a record of the same images. Raises NotApplicableError with
    the reasons below two such tasks or three such models, DataError and IntegrityError for predictions that are gone or
    changed.
    """
    checked_models(selected)
    found, unfit = dict[str, Row](), dict[str, Refused]()
    for task, records in selected.records.items():
        cells = {model: read_cell(out, records[model]) for model in selected.models if model in records}
        try:
            found[task] = {m: measurement(cell, metric, these_draws=these_draws) for m, cell in cells.items()}
        except NotApplicableError as error:
            unfit[task] = (str(error),)
    groups, refused = by_shared_patients(selected, found)
    return board_of(selected, [task_row(selected, own) for own in groups], {**refused, **unfit}, metric)


def by_shared_patients(selected: Selected, found: Mapping[str, Row]) -> tuple[list[dict[str, Row]], dict[str, Refused]]:
    """Tasks that can be part of a board, those that share patients or draws together, and why others cannot."""
    models, groups, refused = checked_models(selected), dict[str, dict[str, Row]](), dict[str, Refused]()
    for task, row in found.items():
        if reasons := why_not_row(selected, row):
            refused[task] = reasons
        else:
            groups.setdefault(_kin(task, row[models[0]].cell), {})[task] = row
    return list(groups.values()), refused


def _kin(task: str, cell: ScoredCell) -> str:
    """What tasks have in common that are no independent parts of a mean: patients, or the draws of another task."""
    other = cell.record.data.trained_on
    return namespace(task, cell.over) if other is None else f"trained on {other.task}"


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


def why_not_row(selected: Selected, found: Row) -> Refused:
    """The reasons why a task cannot be part of a board, from its measurements by model; none where it can."""
    models = checked_models(selected)
    if absent := tuple(f"no record of {model}" for model in models if model not in found):
        return absent
    first = found[models[0]].cell
    if reasons := tuple(
        f"{model}: {reason}" for model in models[1:] for reason in why_not_paired(first, found[model].cell)
    ):
        return reasons
    undefined = any(np.isnan(found[model].shares.value) for model in models)
    return (found[models[0]].metric.undefined_in(found[models[0]].cell.kind),) if undefined else ()


def task_row(selected: Selected, found: Mapping[str, Row]) -> TaskRow:
    """What tasks of the same patients add to a board, from their measurements by task and model."""
    models = checked_models(selected)
    own = {model: [Weighted(found[task][model], 1.0) for task in found] for model in models}
    every = list(itertools.combinations(models, 2))
    pairs = {task: {(a, b): row[a].minus(row[b]) for a, b in every} for task, row in found.items()}
    alone = next(iter(pairs.values())) if len(pairs) == 1 else None
    return TaskRow(
        tuple(found),
        {task: {model: row[model].interval for model in models} for task, row in found.items()},
        pairs,
        {model: part_of(own[model]) for model in models},
        alone or {(a, b): mean_difference(own[a], own[b]) for a, b in every},
        {task: _control_intervals(selected, models, row) for task, row in found.items()},
    )


def _control_intervals(selected: Selected, models: Sequence[str], row: Row) -> dict[str, Interval | None]:
    names = [name for name in selected.models if name not in models]
    first = row[models[0]].cell
    fits = {name: name in row and not why_not_paired(first, row[name].cell) for name in names}
    return {name: row[name].interval if fits[name] else None for name in names}


def board_of(
    selected: Selected, rows: Sequence[TaskRow], refused: Mapping[str, Refused], metric: Metric
) -> Leaderboard:
    """The board from its tasks. Raises NotApplicableError with the reasons below two that can be part of it."""
    models = checked_models(selected)
    known = {task: row for row in rows for task in row.tasks}
    tasks = tuple(task for task in selected.records if task in known)
    if len(tasks) < 2:
        told = "; ".join(f"{task}: {', '.join(reasons)}" for task, reasons in refused.items())
        raise NotApplicableError(
            f"ranks need two tasks that all of {', '.join(models)} share ({selected.setting}); "
            f"there are {len(tasks)}. {told}"
        )
    means = {model: interval_of_parts([row.part[model] for row in rows], len(tasks)) for model in models}
    values = {task: known[task].intervals[task] for task in tasks}
    order = sorted(models, key=lambda model: -(means[model].estimate or 0.0))
    every = list(itertools.combinations(models, 2))
    differences = {pair: total(row.part_pairs[pair] for row in rows).scaled(1 / len(tasks)) for pair in every}
    adjusted = holm_of_given([known[task].pairs[task][pair].p() for task in tasks for pair in every])
    first = selected.records[tasks[0]][models[0]]
    return Leaderboard(
        selected.setting,
        first.variant,
        first.synthetic,
        metric,
        tuple(order),
        tasks,
        tuple(tuple(values[task][model] for model in order) for task in tasks),
        tuple(means[model] for model in order),
        places(differences, models),
        tuple(_sorted(not_worse(known[task].pairs[task], models), order) for task in tasks),
        _sorted(not_worse(differences, models), order),
        sum(p is not None and p < ALPHA for p in adjusted),
        sum(p is not None for p in adjusted),
        _ranks(values, order),
        refused,
        (*selected.notes, *taken_as_independent({task: known[task].part[models[0]].over for task in tasks})),
        _control_rows(selected, models, known, tasks),
        _row_order(selected, tasks),
    )


def _row_order(selected: Selected, tasks: Sequence[str]) -> dict[str, dict[str, str]]:
    told = {task: {m: row_order_note(record) for m, record in selected.records[task].items()} for task in tasks}
    noted = {task: {model: note for model, note in row.items() if note} for task, row in told.items()}
    return {task: row for task, row in noted.items() if row}


def _sorted(names: frozenset[str], order: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in order if name in names)


def _ranks(values: Mapping[str, Mapping[str, Interval]], order: Sequence[str]) -> RankTest:
    numbers: NDArray[np.float64] = np.array([[row[model].estimate for model in order] for row in values.values()])
    if not np.isfinite(numbers).all():
        raise DataError("a number is not defined in every fold, so nothing can be ranked")
    return rank_test(numbers)


def _control_rows(
    selected: Selected, models: Sequence[str], known: Mapping[str, TaskRow], tasks: Sequence[str]
) -> tuple[ControlRow, ...]:
    names = [name for name in selected.models if name not in models]
    return tuple(ControlRow(n, tuple(known[task].controls[task][n] for task in tasks)) for n in names)
