"""Two models, task by task on the same images: is one better, and could these test sets show it?"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path
from typing import Literal

from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.statistics.counts import Metric
from cxrbench.evaluate.statistics.interval import RESAMPLES, Values
from cxrbench.evaluate.statistics.paired import (
    Difference,
    Pair,
    difference_of,
    holm,
    holm_of_given,
    sign_flip_p,
    tested,
)
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.record import Record
from cxrbench.verdict.average import Weighted, difference_interval, kinds
from cxrbench.verdict.cell import CellNumber, cell_number
from cxrbench.verdict.drawn import drawn, seeded, swaps
from cxrbench.verdict.kinship import taken_as_independent
from cxrbench.verdict.predictions import ScoredCell, read_cell
from cxrbench.verdict.selection import Selected, Setting, why_not_paired

ALPHA = 0.05
UNDEFINED = "a class has no test image in a fold, so the metric is not defined there"
DrawnCell = tuple[ScoredCell, Values]  # a cell and its metric on the resamples of its test set
Verdict = Literal["a", "b", "undecided"]


@dataclass(frozen=True, slots=True)
class TaskDifference:
    """One task: both models' numbers and their paired difference, A minus B.

    `p_holm` and `mcnemar_holm` are adjusted over the tasks of the setting, `p_holm` over those that have a p, and None
    for others; `verdict` is by `p_holm` at 5 %.
    """

    task: str
    a: CellNumber
    b: CellNumber
    difference: Difference
    p_holm: float | None
    mcnemar_holm: float

    @property
    def verdict(self) -> Verdict:
        """Which model is better on this task after correction, if any."""
        if self.p_holm is None or self.p_holm >= ALPHA or not self.difference.interval.estimate:
            return "undecided"
        return "a" if self.difference.interval.estimate > 0 else "b"


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two models in one setting; `refused` maps tasks that cannot be compared to the reasons.

    `mean` is the unweighted mean of the differences over tasks, with its interval over test units of these tasks.
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
    sign_flip: float | None
    refused: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]


def compare(out: Path, selected: Selected, metric: Metric, resamples: int = RESAMPLES) -> Comparison:
    """The comparison of the two models of a setting from their predictions below the results folder.

    Raises NotApplicableError with the reasons where no task can be compared, DataError and IntegrityError for
    predictions that are gone or changed.
    """
    pairs, refused = paired_cells(out, selected)
    first = pairs[0][0].record
    found = [cells_difference(*pair, metric, resamples) for pair in pairs]
    defined = [d.interval.estimate is not None for d in found]
    refused |= {a.record.data.task: (UNDEFINED,) for (a, _), good in zip(pairs, defined, strict=True) if not good}
    if not any(defined):
        raise NotApplicableError(f"no task has this {metric.replace('_', ' ')}: {', '.join(refused)}: {UNDEFINED}")
    pairs, found = list(compress(pairs, defined)), list(compress(found, defined))
    adjusted = holm_of_given([d.p for d in found]), holm([d.mcnemar.p for d in found])
    tasks = [
        TaskDifference(
            a.record.data.task, cell_number(a, metric, resamples), cell_number(b, metric, resamples), d, p, p_mcnemar
        )
        for (a, b), d, p, p_mcnemar in zip(pairs, found, *adjusted, strict=True)
    ]
    means = [[Weighted(pair[side], 1 / len(pairs)) for pair in pairs] for side in (0, 1)]
    return Comparison(
        selected.setting,
        first.variant,
        first.synthetic,
        metric,
        selected.models[0],
        selected.models[1],
        tuple(tasks),
        difference_interval(means[0], means[1], metric, resamples),
        _over_tasks(found, pairs, metric),
        refused,
        (*selected.notes, *_notes(pairs), *taken_as_independent(kinds(means[0]))),
    )


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


def cells_difference(a: ScoredCell, b: ScoredCell, metric: Metric, resamples: int = RESAMPLES) -> Difference:
    """The paired difference of two cells that can be paired; the same for the same records, in either order."""
    one, two = drawn([a, b], metric, resamples)
    rng = swaps((a.record.id, b.record.id), metric)
    return difference_of(metric, Pair(a.folds, b.folds, a.over), (one, two), rng, resamples)


def drawn_difference(
    metric: Metric, a: DrawnCell, b: DrawnCell, resamples: int = RESAMPLES
) -> tuple[Interval, float | None]:
    """The interval and the p of the same, from values on the resamples of their test set."""
    rng = swaps((a[0].record.id, b[0].record.id), metric)
    return tested(metric, Pair(a[0].folds, b[0].folds, a[0].over), (a[1], b[1]), rng, resamples)


def _over_tasks(
    found: Sequence[Difference], pairs: Sequence[tuple[ScoredCell, ScoredCell]], metric: Metric
) -> float | None:
    estimates = [d.interval.estimate for d in found if d.interval.estimate is not None]
    if len(estimates) < 2:
        return None
    ids = [cell.record.id for pair in pairs for cell in pair]
    return sign_flip_p(estimates, seeded("sign flips over tasks", metric, *ids))


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
