"""Figure 3 as data: balanced accuracy of linear probes over the number of shots, per task and on average."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.means import Weighted, kinds, mean_interval
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.evaluate.statistics.interval import FoldSpread, Interval
from cxrbench.records.predictions import read_cell, taken_as_independent
from cxrbench.records.record import Record
from cxrbench.records.selection import CellFilter, measured
from cxrbench.records.validity import flaws, pretrained_on
from cxrbench.specs import catalog
from cxrbench.specs.paper import MISSING, published_table
from cxrbench.specs.settings import choosing

SHOTS = (1, 2, 4, 8, 16)
_NAMED = 8  # commands that an error spells out


@dataclass(frozen=True, slots=True)
class PrintedCurve:
    """A number of the paper in percent, and its table."""

    table: int
    value: Decimal


@dataclass(frozen=True, slots=True)
class Point:
    """One number of shots: the interval, the spread over folds (None for an average), and the paper's.

    Without a record, or for an average without all its cells, `interval` is None: a gap.
    """

    shots: int
    interval: Interval | None
    spread: FoldSpread | None = None
    record: str | None = None
    printed: tuple[PrintedCurve, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """A model on a task, or on the average of all tasks where `task` is None; a point for each of `SHOTS`.

    `seen`: it was pre-trained on the collection that the task's images are from (†).
    """

    model: str
    task: str | None
    seen: bool
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class FewShotCurves:
    """Curves of all models, task by task in the paper's order, the average last where there is more than one task."""

    variant: str
    synthetic: bool
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


Cells = Mapping[tuple[str, str, int], Measurement]  # by model, task and shots


def few_shot(
    out: Path, records: Iterable[Record], asked: CellFilter, *, allow_missing: bool = False, these_draws: bool = False
) -> FewShotCurves:
    """The curves of linear probes on all classes, from the records of the models and tasks asked for.

    Raises DataError that names what to run where a model lacks one of `SHOTS` on a task, unless `allow_missing`; a gap
    is never filled in. Raises IntegrityError for predictions that changed.
    """
    found = measured(records, asked)
    chosen = [record for record in found.records if record.protocol.shots in SHOTS]
    models = tuple(sorted({record.model.name for record in found.records}))
    tasks = tuple(dict.fromkeys(record.data.task for record in found.records))
    cells = {_place(r): measurement(read_cell(out, r), BALANCED_ACCURACY, these_draws=these_draws) for r in chosen}
    absent = [place for place in _places(models, tasks) if place not in cells]
    if absent and not allow_missing:
        raise DataError(_missing(absent, asked))
    curves = [_curve(model, task, cells, found.records) for task in tasks for model in models]
    if len(tasks) > 1:
        curves += [_average(model, tasks, cells) for model in models]
    gaps = [
        f"no record: {model}, {', '.join(of)}, K = {', '.join(map(str, shots))}"
        for model, of, shots in _together(absent)
    ]
    first = found.records[0]
    averaged = any(curve.task is None and point.interval for curve in curves for point in curve.points)
    kin = taken_as_independent(kinds([Weighted(cell, 1.0) for cell in cells.values()])) if averaged else ()
    return FewShotCurves(first.variant, first.synthetic, models, tasks, tuple(curves), (*found.notes, *gaps, *kin))


def _place(record: Record) -> tuple[str, str, int]:
    return record.model.name, record.data.task, record.protocol.shots or 0


def _places(models: Sequence[str], tasks: Sequence[str]) -> Iterator[tuple[str, str, int]]:
    yield from ((model, task, shots) for model in models for task in tasks for shots in SHOTS)


def _together(absent: Sequence[tuple[str, str, int]]) -> list[tuple[str, tuple[str, ...], tuple[int, ...]]]:
    """The missing points as model, tasks and shots: tasks of a model that lack the same shots stand together."""
    shots: dict[tuple[str, str], tuple[int, ...]] = {}
    for model, task, number in absent:
        shots[model, task] = (*shots.get((model, task), ()), number)
    tasks: dict[tuple[str, tuple[int, ...]], tuple[str, ...]] = {}
    for (model, task), numbers in shots.items():
        tasks[model, numbers] = (*tasks.get((model, numbers), ()), task)
    return [(model, of, numbers) for (model, numbers), of in tasks.items()]


def _missing(absent: Sequence[tuple[str, str, int]], asked: CellFilter) -> str:
    """The error's text: which cells are missing and the commands that measure them."""
    built_in = catalog.card_files()
    variant = "" if asked.variant.name == "paper-code" else f" {choosing(asked.variant.name)}"
    commands = [
        f"cxrbench run --model {model if model in built_in else f'{model}.toml'} --task {','.join(tasks)} "
        f"--protocol linear-probe --shots {','.join(map(str, shots))}{variant}"
        for model, tasks, shots in _together(absent)
    ]
    more = f"\n  and {len(commands) - _NAMED} more" if len(commands) > _NAMED else ""
    told = "\n  ".join(commands[:_NAMED])
    return (
        f"{len(absent)} points of the curves were not measured; run\n  {told}{more}\nor draw gaps with --allow-missing"
    )


def _curve(model: str, task: str, cells: Cells, records: Sequence[Record]) -> Curve:
    own = next((r for r in records if (r.model.name, r.data.task) == (model, task)), None)
    points = []
    for shots in SHOTS:
        cell = cells.get((model, task, shots))
        paper = () if records[0].synthetic else printed(model, (task,), shots)  # all are made, or none
        if cell is None:
            points.append(Point(shots, None, printed=paper))
            continue
        number = cell.number
        points.append(Point(shots, number.interval, number.spread, number.record, paper))
    return Curve(model, task, pretrained_on(model, own, task), tuple(points))


def _average(model: str, tasks: Sequence[str], cells: Cells) -> Curve:
    """The curve of the mean over tasks; a gap where a task is missing or its number is flawed."""
    made = any(cell.cell.record.synthetic for cell in cells.values())
    points = []
    for shots in SHOTS:
        own = [cells.get((model, task, shots)) for task in tasks]
        sound = [cell for cell in own if cell is not None and not flaws(cell.cell.record)]
        paper = () if made else printed(model, tasks, shots)
        mean = [Weighted(cell, 1 / len(tasks)) for cell in sound]
        interval = mean_interval(mean) if len(sound) == len(tasks) else None
        points.append(Point(shots, interval, printed=paper))
    return Curve(model, None, False, tuple(points))


def printed(model: str, tasks: Sequence[str], shots: int) -> tuple[PrintedCurve, ...]:
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
