"""Two models, task by task on the same images: is one better, and could these test sets show it?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from cxrbench.analysis.cell import CellNumber, Measurement, measurement
from cxrbench.analysis.means import Weighted, kinds, mean_difference, over_of, units_of
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.metric_table import Metric
from cxrbench.evaluate.statistics.estimate import ALPHA
from cxrbench.evaluate.statistics.finding_shares import AnyRows
from cxrbench.evaluate.statistics.interval import DRAWN, Interval, interval, wider
from cxrbench.evaluate.statistics.paired import McNemar, holm_of_given, mcnemar, seeded, sign_flip_p
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.records.predictions import ScoredCell, read_cell, taken_as_independent
from cxrbench.records.record import Record
from cxrbench.records.selection import Selected, Setting, why_not_paired

WEIGHTS = "these weights are compared, not their methods: another training run may differ"
Verdict = Literal["a", "b", "undecided"]


@dataclass(frozen=True, slots=True)
class TaskDifference:
    """One task: both models' numbers and their paired difference, A minus B.

    `p` is below 0.05 exactly where the interval leaves 0 out, None where nothing spreads; `p_holm` is adjusted over the
    tasks of the setting that have one. `resolvable` is the smallest true difference that would be found with 80 %
    power in the first step of that correction. `mcnemar` is there where no draws are spoken of.
    """

    task: str
    a: CellNumber
    b: CellNumber
    difference: Interval
    p: float | None
    p_holm: float | None
    resolvable: float | None
    mcnemar: McNemar | None

    @property
    def verdict(self) -> Verdict:
        """Which model is better on this task after correction at 5 %, if any."""
        if self.p_holm is None or self.p_holm >= ALPHA or not self.difference.estimate:
            return "undecided"
        return "a" if self.difference.estimate > 0 else "b"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models in one setting; `refused` maps tasks that cannot be compared to the reasons.

    `mean` is the unweighted mean of the differences over tasks and `mean_p` its p: they speak of these tasks.
    `sign_flip` asks whether it would hold on other tasks: one p from as many values as there are tasks, None for one.
    """

    setting: Setting
    variant: str
    synthetic: bool
    metric: Metric
    a: str
    b: str
    tasks: tuple[TaskDifference, ...]
    mean: Interval
    mean_p: float | None
    sign_flip: float | None
    refused: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


Pair = tuple[Measurement, Measurement]


def compare(out: Path, selected: Selected, metric: Metric, *, these_draws: bool = False) -> Comparison:
    """The comparison of the two models of a setting from their predictions below the results folder.

    It speaks of other test images and other draws, or with `these_draws` of other test images alone. Raises
    NotApplicableError with the reasons where no task can be compared, DataError and IntegrityError for predictions that
    are gone or changed.
    """
    cells, refused = paired_cells(out, selected)
    pairs = list[Pair]()
    for a, b in cells:
        task = a.record.data.task
        try:
            pair = measurement(a, metric, these_draws=these_draws), measurement(b, metric, these_draws=these_draws)
        except NotApplicableError as error:
            refused[task] = (str(error),)
            continue
        if np.isnan(pair[0].shares.value - pair[1].shares.value):
            refused[task] = (metric.undefined_in(pair[0].cell.kind),)
        else:
            pairs.append(pair)
    if not pairs:
        told = "; ".join(f"{task}: {', '.join(reasons)}" for task, reasons in refused.items())
        raise NotApplicableError(f"no task has this {metric.title}: {told}")
    first, tasks = pairs[0][0].cell.record, [task_difference(pair, len(pairs)) for pair in pairs]
    adjusted = holm_of_given([task.p for task in tasks])
    one, two = ([Weighted(pair[side], 1 / len(pairs)) for pair in pairs] for side in (0, 1))
    mean = mean_difference(one, two)
    covers = tuple(dict.fromkeys(wider(a.covers, b.covers) for a, b in pairs))
    return Comparison(
        selected.setting,
        first.variant,
        first.synthetic,
        metric,
        selected.models[0],
        selected.models[1],
        tuple(replace(task, p_holm=p) for task, p in zip(tasks, adjusted, strict=True)),
        interval(mean, over_of(one), units_of(one), covers),
        mean.p(),
        _over_tasks(tasks, pairs, metric),
        refused,
        (*selected.notes, *_notes([(a.cell, b.cell) for a, b in pairs]), *taken_as_independent(kinds(one))),
    )


def task_difference(pair: Pair, tests: int = 1) -> TaskDifference:
    """One task, not yet corrected; `tests` is over how many it will be. The same for the same records."""
    (a, b), found = pair, pair[0].minus(pair[1])
    covers = wider(a.covers, b.covers)
    alike = _alike(a, b)
    return TaskDifference(
        a.cell.record.data.task,
        a.number,
        b.number,
        interval(found.fixed() if alike else found, a.cell.over, a.units, (covers,), alike),
        1.0 if alike else found.p(),
        None,
        None if alike else found.resolvable(tests),
        None if covers in DRAWN or a.cell.kind != "single-label" else mcnemar(a.cell.classes_of, b.cell.classes_of),
    )


def _alike(a: Measurement, b: Measurement) -> str:
    """Why no choice of images or draws moves a difference; empty where one could."""
    same = len(a.cell.folds) == len(b.cell.folds) and all(
        np.array_equal(one.scores, two.scores) or (a.metric.reads == "predictions" and _same_predictions(one, two))
        for one, two in zip(a.cell.folds, b.cell.folds, strict=True)
    )
    return "both models judge every image alike" if same else ""


def _same_predictions(one: AnyRows, two: AnyRows) -> bool:
    if not isinstance(one, ScoredRows) or not isinstance(two, ScoredRows):
        return False
    return np.array_equal(one.predictions, two.predictions)


def paired_cells(
    out: Path, selected: Selected
) -> tuple[list[tuple[ScoredCell, ScoredCell]], dict[str, tuple[str, ...]]]:
    """Cells of two models that can be paired, in the order of tasks, and the reasons where they cannot.

    Raises NotApplicableError where none can.
    """
    (a, b), pairs, refused = selected.models, [], {}
    for task, row in selected.records.items():
        absent = [model for model in (a, b) if model not in row]
        if absent:
            refused[task] = tuple(f"no record of {model}" for model in absent)
            continue
        cells = read_cell(out, row[a]), read_cell(out, row[b])
        reasons = why_not_paired(*cells)
        if reasons:
            refused[task] = reasons
        else:
            pairs.append(cells)
    if not pairs:
        told = "; ".join(f"{task}: {', '.join(reasons)}" for task, reasons in refused.items())
        raise NotApplicableError(f"{a} and {b} cannot be compared ({selected.setting}): {told}")
    return pairs, refused


def _over_tasks(tasks: Sequence[TaskDifference], pairs: Sequence[Pair], metric: Metric) -> float | None:
    estimates = [task.difference.estimate for task in tasks if task.difference.estimate is not None]
    if len(estimates) < 2:
        return None
    words = ["sign flips over tasks", metric.name, *(one.cell.record.id for pair in pairs for one in pair)]
    return sign_flip_p(estimates, seeded(*words))


def _control(record: Record) -> str:
    if record.protocol.labels == "shuffled":
        return f"{record.model.name} is a negative control, fitted to shuffled labels: chance is all it may reach"
    return f"{record.model.name} is a negative control, no encoder of radiographs: what others must beat"


def _notes(pairs: Sequence[tuple[ScoredCell, ScoredCell]]) -> Iterator[str]:
    yield from dict.fromkeys(_control(cell.record) for pair in pairs for cell in pair if cell.record.control)
    for a, b in pairs:
        task = a.record.data.task
        if a.record.code.sources != b.record.code.sources:
            yield f"{task}: the records are from two states of the code"
        sources = {cell.record.prompts.source for cell in (a, b) if cell.record.prompts is not None}
        if len(sources) > 1:
            yield f"{task}: one model is scored by prompts, the other by class vectors of its own"
