"""Figure 3 as data: balanced accuracy of linear probes over the shots that were measured, per task and on average."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.means import Weighted, kinds, mean_interval
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, KINDS, Metric, main_metric
from cxrbench.evaluate.statistics.interval import FoldSpread, Interval
from cxrbench.records.predictions import read_cell, taken_as_independent
from cxrbench.records.record import Record
from cxrbench.records.selection import PROTOTYPES, CellFilter, MeasuredCells, measured, prompt_set
from cxrbench.records.validity import flaws, pretrained_on
from cxrbench.specs.paper import MISSING, published_table
from cxrbench.types import Shots, shots_in_words, shots_order


@dataclass(frozen=True, slots=True)
class PrintedCurve:
    """A number of the paper in percent, and its table."""

    table: int
    value: Decimal


@dataclass(frozen=True, slots=True)
class Point:
    """One measured number of shots: the interval, the spread over folds and the record (None for an average)."""

    shots: Shots
    interval: Interval
    spread: FoldSpread | None = None
    record: str | None = None
    printed: tuple[PrintedCurve, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """A model on a task, or on the average of all tasks where `task` is None; its measured points by rising shots.

    `seen`: it was pre-trained on the collection that the task's images are from (†). `control`: a negative control.
    """

    model: str
    task: str | None
    seen: bool
    points: tuple[Point, ...]
    control: bool = False


@dataclass(frozen=True, slots=True)
class FewShotCurves:
    """Curves of all models, then of negative controls, task by task in the paper's order, the average last.

    There is an average where there is more than one task. `shots` are all that any of them was measured with.
    """

    variant: str
    synthetic: bool
    protocol: str
    group: str
    metric: Metric
    models: tuple[str, ...]
    controls: tuple[str, ...]
    tasks: tuple[str, ...]
    shots: tuple[Shots, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


Cells = Mapping[tuple[str, str, Shots], Measurement]  # by model, task and shots


def few_shot(
    out: Path,
    records: Iterable[Record],
    asked: CellFilter,
    metric: Metric | None = None,
    *,
    these_draws: bool = False,
) -> FewShotCurves:
    """The curves of one protocol on one label group, from the records of the models and tasks asked for.

    Without a `metric` it is the main one of the tasks: of single-label ones where there are any, since no average is
    over both kinds.

    A curve joins the numbers K that were measured; shares of the training part and all of it are points beside it, on
    no common scale with K. Where a model lacks shots that another one has, a note says so; an
    average has the shots that all tasks have. Raises IntegrityError for predictions that changed, and what `measured`
    raises; DataError for cells without shots, or of several protocols, groups or prompt sets; NotApplicableError for a
    metric that does not fit.
    """
    found, left_out = _of_one_kind(measured(records, asked), metric)
    metric = metric or main_metric(found.records[0].data.kind, found.records[0].data.group)
    _require_one(found.records)
    names = sorted({record.model.name for record in found.records})
    controls = tuple(name for name in names if any(r.control for r in found.records if r.model.name == name))
    models = tuple(name for name in names if name not in controls)
    tasks = tuple(dict.fromkeys(record.data.task for record in found.records))
    cells = {_place(r): measurement(read_cell(out, r), metric, these_draws=these_draws) for r in found.records}
    curves = [_curve(model, task, cells, found.records) for task in tasks for model in (*models, *controls)]
    if len(tasks) > 1:
        curves += [_average(model, tasks, cells) for model in (*models, *controls)]
    kept = tuple(curve for curve in curves if curve.points)
    first = found.records[0]
    averaged = any(curve.task is None for curve in kept)
    kin = taken_as_independent(kinds([Weighted(cell, 1.0) for cell in cells.values()])) if averaged else ()
    notes = (*found.notes, *left_out, *_absent(models, tasks, cells), *kin)
    shots = tuple(sorted({shots for _, _, shots in cells}, key=shots_order))
    how = (first.protocol.protocol, first.data.group, metric)
    return FewShotCurves(first.variant, first.synthetic, *how, models, controls, tasks, shots, kept, notes)


def _require_one(records: Sequence[Record]) -> None:
    """Raise DataError for records of several protocols, groups or prompt sets, or without shots."""
    hows = {(record.protocol.protocol, record.data.group) for record in records}
    if len(hows) > 1 or any(record.protocol.shots is None for record in records):
        told = ", ".join(f"{protocol} on group {group}" for protocol, group in sorted(hows))
        raise DataError(f"curves over K are of one protocol that has shots, and of one label group, not of {told}")
    sets = {words for record in records if (words := prompt_set(record)) not in (None, PROTOTYPES)}
    if len(sets) > 1:
        raise DataError(
            f"curves over K are of one prompt set, not of {', '.join(sorted(map(str, sets)))}; see --prompts"
        )


def _of_one_kind(found: MeasuredCells, metric: Metric | None) -> tuple[MeasuredCells, tuple[str, ...]]:
    """The records that are drawn, single-label ones before others, and which tasks are not."""
    kinds_there = {record.data.kind for record in found.records}
    fitting = [kind for kind in KINDS if kind in kinds_there and (metric is None or kind in metric.kinds)]
    if len(kinds_there) < 2 or not fitting:
        return found, ()
    own = tuple(record for record in found.records if record.data.kind == fitting[0])
    others = dict.fromkeys(record.data.task for record in found.records if record.data.kind != fitting[0])
    told = f"not drawn, as they are no {fitting[0]} tasks: {', '.join(others)}; --task draws them alone"
    return MeasuredCells(own, found.notes), (told,)


def _place(record: Record) -> tuple[str, str, Shots]:
    assert record.protocol.shots is not None  # the caller looked
    return record.model.name, record.data.task, record.protocol.shots


def _absent(models: Sequence[str], tasks: Sequence[str], cells: Cells) -> list[str]:
    """In words the shots that a model lacks on a task and that any model has there; tasks that lack the same together.

    Negative controls are not missed.
    """
    lacked: dict[tuple[str, tuple[Shots, ...]], list[str]] = {}
    for model in models:
        for task in tasks:
            there = sorted({shots for name, of, shots in cells if of == task and name in models}, key=shots_order)
            if gone := tuple(shots for shots in there if (model, task, shots) not in cells):
                lacked.setdefault((model, gone), []).append(task)
    return [f"no record: {model}, {', '.join(of)}, {_told(gone)}" for (model, gone), of in lacked.items()]


def _told(shots: Sequence[Shots]) -> str:
    """Numbers K together, then the others in words."""
    numbers = ", ".join(str(k) for k in shots if isinstance(k, int))
    others = [shots_in_words(k) for k in shots if isinstance(k, str)]
    return ", ".join([f"K = {numbers}"] * bool(numbers) + others)


def _curve(model: str, task: str, cells: Cells, records: Sequence[Record]) -> Curve:
    found = {shots: cell for (name, of, shots), cell in cells.items() if (name, of) == (model, task)}
    own = [found[shots] for shots in sorted(found, key=shots_order)]
    points = []
    for shots, cell in zip(sorted(found, key=shots_order), own, strict=True):
        number = cell.number
        paper = printed(model, (task,), shots) if _is_printed(cell) else ()
        points.append(Point(shots, number.interval, number.spread, number.record, paper))
    first = own[0].cell.record if own else next((r for r in records if r.model.name == model), None)
    control = first is not None and first.control
    return Curve(model, task, pretrained_on(model, first if own else None, task), tuple(points), control)


def _average(model: str, tasks: Sequence[str], cells: Cells) -> Curve:
    """The curve of the mean over tasks: a point where every task has a sound number."""
    own = {place: cell for place, cell in cells.items() if place[0] == model}
    points = []
    for shots in sorted({shots for _, _, shots in own}, key=shots_order):
        found = [own.get((model, task, shots)) for task in tasks]
        sound = [cell for cell in found if cell is not None and not flaws(cell.cell.record)]
        if len(sound) == len(tasks):
            paper = printed(model, tasks, shots) if all(map(_is_printed, sound)) else ()
            mean = mean_interval([Weighted(cell, 1 / len(tasks)) for cell in sound])
            points.append(Point(shots, mean, printed=paper))
    return Curve(model, None, False, tuple(points), any(cell.cell.record.control for cell in own.values()))


def _is_printed(cell: Measurement) -> bool:
    """Whether it is of the kind that the paper prints: balanced accuracy of a linear probe on all classes, measured."""
    record = cell.cell.record
    own = (record.protocol.protocol, record.data.group, cell.metric.name)
    return own == ("linear-probe", "all", BALANCED_ACCURACY.name) and not record.synthetic


def printed(model: str, tasks: Sequence[str], shots: Shots) -> tuple[PrintedCurve, ...]:
    """What Tables 2 and 4 print for a probe on all classes of one task, or for the average of exactly these tasks."""
    found = []
    for number in (2, 4):
        table = published_table(number)
        names = {column.task: column.id for column in table.columns if column.group == "all"}
        averages = {frozenset(average.over): average.id for average in table.averages}
        own = frozenset(names[task] for task in tasks if task in names)
        place = next(iter(own), None) if len(tasks) == 1 else averages.get(own)
        if place is None or len(own) != len(tasks):
            continue
        for row in table.rows:
            if (row.model, row.protocol, row.shots) == (model, "linear-probe", shots) and row.cells[place] != MISSING:
                found.append(PrintedCurve(number, Decimal(row.cells[place])))
    return tuple(found)
