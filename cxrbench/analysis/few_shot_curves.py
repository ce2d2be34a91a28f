"""Figure 3 as data: balanced accuracy over the shots that were measured, by protocol, per task and on average."""

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.means import Weighted, kinds, mean_interval
from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, KINDS, Metric, main_metric
from cxrbench.evaluate.statistics.interval import FoldSpread, Interval
from cxrbench.records.predictions import read_cell, taken_as_independent
from cxrbench.records.record import Record
from cxrbench.records.row_order import REORDERED, UNSETTLED, unsettled
from cxrbench.records.selection import (
    PROTOTYPES,
    CellFilter,
    MeasuredCells,
    chosen_protocols,
    in_words,
    measured,
    of_variant,
    prompt_set,
)
from cxrbench.records.validity import flaws, pretrained_on
from cxrbench.specs import catalog
from cxrbench.specs.paper import MISSING, published_table
from cxrbench.types import Shots, shots_in_words, shots_order


@dataclass(frozen=True, slots=True)
class PrintedCurve:
    """A number of the paper in percent, and its table."""

    table: int
    value: Decimal


@dataclass(frozen=True, slots=True)
class Method:
    """A protocol, and the prompt set where it is given words (`prototypes` for class vectors of the model's own)."""

    protocol: str
    prompts: str | None = None

    def __str__(self) -> str:
        return self.protocol if self.prompts is None else f"{self.protocol} ({self.prompts})"


@dataclass(frozen=True, slots=True)
class Point:
    """One measured number of shots: the interval, the spread over folds and the record (None for an average).

    `shots` is None for a protocol that is given no training images.
    """

    shots: Shots | None
    interval: Interval
    spread: FoldSpread | None = None
    record: str | None = None
    printed: tuple[PrintedCurve, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """A model by a method on a task, or on the average of all tasks where `task` is None; points by rising shots.

    `seen`: it was pre-trained on the collection that the task's images are from (†). `control`: a negative control.
    `unsettled`: another order of the training images decides test images of a point otherwise (≈).
    """

    model: str
    method: Method
    task: str | None
    seen: bool
    points: tuple[Point, ...]
    control: bool = False
    unsettled: bool = False


@dataclass(frozen=True, slots=True)
class FewShotCurves:
    """Curves of all models, then of negative controls, task by task in the paper's order, the average last.

    There is an average where there is more than one task. `methods` are in the order asked for, `shots` all that any
    of them was measured with; what is given no training images is one point without shots.
    """

    variant: str
    synthetic: bool
    methods: tuple[Method, ...]
    group: str
    metric: Metric
    models: tuple[str, ...]
    controls: tuple[str, ...]
    tasks: tuple[str, ...]
    shots: tuple[Shots, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


Place = tuple[str, Method, str, Shots | None]  # model, method, task and shots
Cells = Mapping[Place, Measurement]


def few_shot(
    out: Path,
    records: Iterable[Record],
    asked: CellFilter,
    metric: Metric | None = None,
    *,
    these_draws: bool = False,
) -> FewShotCurves:
    """The curves of protocols and prompt sets on one label group, from the records of the models and tasks asked for.

    Without a `metric` it is the main one of the tasks: of single-label ones where there are any, since no average is
    over both kinds. `shots` narrow what has shots, and `prompts` what is given words; both leave the others.

    A curve joins the numbers K that were measured; shares of the training part and all of it are points beside it, on
    no common scale with K. Where a model lacks shots that another one has, a note says so; an
    average has the shots that all tasks have. Raises IntegrityError for predictions that changed, and what `measured`
    raises; SpecError for prompt sets that were not measured; DataError for cells of several groups or all without
    shots; NotApplicableError for a metric that fits none.
    """
    known = of_variant(list(records), asked)
    found, left_out = _of_one_kind(measured(known, _each_by_its_own(known, asked)), metric)
    metric = metric or main_metric(found.records[0].data.kind, found.records[0].data.group)
    _require_one(found.records)
    cells, unfit = _cells(out, found.records, metric, these_draws=these_draws)
    own = [record for record in found.records if record.id not in unfit]
    names = sorted({record.model.name for record in own})
    controls = tuple(name for name in names if any(r.control for r in own if r.model.name == name))
    models = tuple(name for name in names if name not in controls)
    tasks = tuple(dict.fromkeys(record.data.task for record in own))
    methods = _in_order({method for _, method, *_ in cells}, chosen_protocols(known, asked.protocol))
    everybody = [(model, method) for method in methods for model in (*models, *controls)]
    curves = [_curve(model, method, task, cells, own) for task in tasks for model, method in everybody]
    if len(tasks) > 1:
        curves += [_average(model, method, tasks, cells) for model, method in everybody]
    kept = tuple(curve for curve in curves if curve.points)
    first = own[0]
    averaged = any(curve.task is None for curve in kept)
    kin = taken_as_independent(kinds([Weighted(cell, 1.0) for cell in cells.values()])) if averaged else ()
    told = (*left_out, *dict.fromkeys(unfit.values()), *_absent(models, methods, tasks, cells), *_orders(kept, cells))
    notes = (*found.notes, *told, *kin)
    shots = tuple(sorted({k for *_, k in cells if k is not None}, key=shots_order))
    how = (methods, first.data.group, metric)
    return FewShotCurves(first.variant, first.synthetic, *how, models, controls, tasks, shots, kept, notes)


def _each_by_its_own(records: Sequence[Record], asked: CellFilter) -> CellFilter:
    """The question with the other choice filled in where only shots or only prompts narrow it.

    By itself each leaves out what the other is for, such as zero-shot levels beside K = 16. Prompt sets may be globs.
    Raises SpecError for one that was not measured, DataError where no protocol asked for is given words.
    """
    if asked.shots is None and asked.prompts is None:
        return asked
    protocols = chosen_protocols(records, asked.protocol)
    own = [r for r in records if protocols is None or r.protocol.protocol in protocols]
    worded = sorted({words for r in own if (words := prompt_set(r)) is not None})
    shots = asked.shots or tuple(dict.fromkeys(r.protocol.shots for r in own if r.protocol.shots is not None))
    if asked.prompts is None:
        return replace(asked, prompts=tuple(worded) or None)
    if not worded:
        raise DataError(f"prompts {in_words(asked.prompts)}: {', '.join(protocols or ())} is given none; see --prompts")
    named = [asked.prompts] if isinstance(asked.prompts, str) else asked.prompts
    return replace(asked, shots=shots, prompts=tuple(catalog.select(named, worded, "measured prompt set")))


def _in_order(found: Set[Method], protocols: Sequence[str] | None) -> tuple[Method, ...]:
    """Every method by its protocol in the order asked for."""
    order = list(protocols or sorted({method.protocol for method in found}))
    return tuple(sorted(found, key=lambda method: (order.index(method.protocol), method.prompts or "")))


def _methods_of(records: Sequence[Record]) -> dict[str, Method]:
    """The method of each record by its id.

    A model's own class vectors stand in the curves of a prompt set, where there is one and the model has none by it.
    """
    told = [(r.protocol.protocol, r.model.name, words) for r in records if (words := prompt_set(r))]
    worded = [one for one in told if one[2] != PROTOTYPES]
    found = {}
    for record in records:
        protocol, words = record.protocol.protocol, prompt_set(record)
        sets = {of for how, _, of in worded if how == protocol}
        apart = any((how, model) == (protocol, record.model.name) for how, model, _ in worded)
        joins = words == PROTOTYPES and len(sets) == 1 and not apart
        found[record.id] = Method(protocol, sets.pop() if joins else words)
    return found


def _cells(
    out: Path, records: Sequence[Record], metric: Metric, *, these_draws: bool
) -> tuple[dict[Place, Measurement], dict[str, str]]:
    """All records by the metric, and by id in words which it does not fit.

    Raises NotApplicableError where it fits none.
    """
    methods, cells, unfit = _methods_of(records), dict[Place, Measurement](), dict[str, str]()
    for record in records:
        place = (record.model.name, methods[record.id], record.data.task, record.protocol.shots)
        try:
            cells[place] = measurement(read_cell(out, record), metric, these_draws=these_draws)
        except NotApplicableError as error:
            unfit[record.id] = f"{record.data.task}: {error}"
    if not cells:
        raise NotApplicableError(next(iter(unfit.values())))
    return cells, unfit


def _require_one(records: Sequence[Record]) -> None:
    """Raise DataError for records of several groups, or all without shots."""
    groups = sorted({record.data.group for record in records})
    if len(groups) > 1:
        raise DataError(f"curves over K are of one label group, not of {', '.join(groups)}")
    if all(record.protocol.shots is None for record in records):
        told = ", ".join(sorted({record.protocol.protocol for record in records}))
        raise DataError(f"curves over K need a protocol that has shots, which {told} has not; see --protocol")


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


def _absent(models: Sequence[str], methods: Sequence[Method], tasks: Sequence[str], cells: Cells) -> list[str]:
    """In words the shots that a model lacks on a task and that any model has there; tasks that lack the same together.

    A task on which a method was not measured at all lacks what it has elsewhere. Negative controls are not missed.
    """
    lacked: dict[tuple[str, Method, tuple[Shots | None, ...]], list[str]] = {}
    for method in methods:
        own = [(name, of, k) for name, how, of, k in cells if how == method and name in models]
        for model in models:
            for task in tasks:
                there = sorted({k for _, of, k in own if of == task} or {k for *_, k in own}, key=shots_order)
                if gone := tuple(k for k in there if (model, method, task, k) not in cells):
                    lacked.setdefault((model, method, gone), []).append(task)
    return [
        f"no record: {', '.join(filter(None, [model, str(method) if len(methods) > 1 else '', *of, _told(gone)]))}"
        for (model, method, gone), of in lacked.items()
    ]


def _orders(curves: Sequence[Curve], cells: Cells) -> list[str]:
    """In words the tasks and shots of each curve whose decisions hang on the order of the training images."""
    told: dict[tuple[str, Method], dict[str, list[Shots]]] = {}
    for (model, method, task, shots), cell in cells.items():
        if shots is not None and unsettled(cell.cell.record):
            told.setdefault((model, method), {}).setdefault(task, []).append(shots)
    if not any(curve.unsettled for curve in curves):
        return []
    where = (
        f"{model}, {method}: "
        + "; ".join(f"{task} ({_told(sorted(of, key=shots_order))})" for task, of in found.items())
        for (model, method), found in told.items()
    )
    return [REORDERED, *(f"{UNSETTLED} {one}" for one in where)]


def _told(shots: Sequence[Shots | None]) -> str:
    """Numbers K together, then the others in words; nothing of what has no shots."""
    numbers = ", ".join(str(k) for k in shots if isinstance(k, int))
    others = [shots_in_words(k) for k in shots if isinstance(k, str)]
    return ", ".join([f"K = {numbers}"] * bool(numbers) + others)


def _curve(model: str, method: Method, task: str, cells: Cells, records: Sequence[Record]) -> Curve:
    found = {place[3]: cell for place, cell in cells.items() if place[:3] == (model, method, task)}
    points = []
    for shots in sorted(found, key=shots_order):
        number = found[shots].number
        paper = printed(model, (task,), shots) if shots is not None and _is_printed(found[shots]) else ()
        points.append(Point(shots, number.interval, number.spread, number.record, paper))
    own = [cell.cell.record for cell in found.values()]
    first = own[0] if own else next((r for r in records if r.model.name == model), None)
    control = first is not None and first.control
    seen = pretrained_on(model, own[0] if own else None, task)
    return Curve(model, method, task, seen, tuple(points), control, any(map(unsettled, own)))


def _average(model: str, method: Method, tasks: Sequence[str], cells: Cells) -> Curve:
    """The curve of the mean over tasks: a point where every task has a sound number."""
    own = {place: cell for place, cell in cells.items() if place[:2] == (model, method)}
    points, changed = [], False
    for shots in sorted({shots for *_, shots in own}, key=shots_order):
        found = [own.get((model, method, task, shots)) for task in tasks]
        sound = [cell for cell in found if cell is not None and not flaws(cell.cell.record)]
        if len(sound) == len(tasks):
            paper = printed(model, tasks, shots) if shots is not None and all(map(_is_printed, sound)) else ()
            mean = mean_interval([Weighted(cell, 1 / len(tasks)) for cell in sound])
            points.append(Point(shots, mean, printed=paper))
            changed = changed or any(unsettled(cell.cell.record) for cell in sound)
    control = any(cell.cell.record.control for cell in own.values())
    return Curve(model, method, None, False, tuple(points), control, changed)


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
