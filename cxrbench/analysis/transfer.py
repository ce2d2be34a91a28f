"""Trained on one task, scored on another: a row what was trained on, a column what is scored, and chance beside it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrbench.analysis.cell import measurement
from cxrbench.analysis.cell_table import OVERLAP, OVERLAPS, task_title, value_shown, written_value
from cxrbench.analysis.paper_tables import CONTROLS, TableCell, TableView, ViewRow, row_titles
from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.metric_table import KINDS, Metric, main_metric
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.records.row_order import REORDERED, UNSETTLED, row_order_note
from cxrbench.records.selection import (
    CellFilter,
    MeasuredCells,
    Setting,
    cell_name,
    in_order,
    measured,
    prompt_set,
    setting_of,
)
from cxrbench.records.validity import flaws, overlap_doubt, pretrained_on
from cxrbench.specs.paper import MISSING
from cxrbench.types import TaskKind, shots_in_words

OWN = "°"
OWN_TASK = (
    f"{OWN} fitted to the task's own training images, over all its labels: the other numbers of its column are over "
    "the labels that two tasks share"
)
_CHANCE: Mapping[str, float] = {"macro_auroc": 0.5, "kappa": 0.0, "macro_mcc": 0.0}


@dataclass(frozen=True, slots=True)
class TransferAsked:
    """What the tables are asked for beside the cells: rows by the tasks trained on, metric, intervals of what."""

    trained_on: Sequence[str] = ()
    metric: Metric | None = None
    intervals: bool = True
    these_draws: bool = False


def chance(metric: Metric, kind: TaskKind, labels: int) -> float | None:
    """What scores that know nothing come to, 0 to 1; None where that depends on how often a label holds."""
    if metric.name == "balanced_accuracy" and kind == "single-label":
        return 1 / labels
    return _CHANCE.get(metric.name)


def transfer_views(out: Path, records: Iterable[Record], asked: CellFilter, how: TransferAsked) -> list[TableView]:
    """One table for each kind of task: a section for each model and setting, with the tasks' own probes where measured.

    `asked` tells models, scored tasks, protocols and shots. Raises SpecError for names that were not measured,
    DataError where no cell was trained on another task, DataError and IntegrityError for predictions that are gone or
    changed.
    """
    found = measured(records, replace(asked, group=None))
    crossed = [r for r in found.records if _is_asked(r, how.trained_on)]
    if not crossed:
        told = f" trained on {', '.join(how.trained_on)}" if how.trained_on else ""
        raise DataError(
            f"no record of these cells is{told or ' trained on another task'}; `cxrbench run -m all --trained-on TASK "
            "--task OTHER --protocol linear-probe` measures one"
        )
    every = measured(records, replace(asked, group=None, tasks=("all",)))  # a row's own probe, whatever is scored
    return [
        _view(out, found, every, own, kind, how)
        for kind in KINDS
        if (own := [r for r in crossed if r.data.kind == kind])
    ]


def _is_asked(record: Record, trained_on: Sequence[str]) -> bool:
    other = record.data.trained_on
    return other is not None and (not trained_on or other.task in trained_on)


Place = tuple[str, str | None]  # the task that is trained on, and the mapping where it is not the strict one
Section = tuple[bool, str, Setting]


def _place(record: Record) -> Place:
    other = record.data.trained_on
    return (record.data.task, None) if other is None else (other.task, other.mapping)


def _section(record: Record) -> Section:
    """Controls last, then by model and by setting, whatever the group."""
    return record.control, record.model.name, replace(setting_of(record), group="")


def _order(section: Section) -> tuple[object, ...]:
    control, model, setting = section
    return control, model, setting.order


@dataclass(frozen=True, slots=True)
class _Material:
    """Where predictions lie and what of them is asked for; `notes` are added to."""

    out: Path
    how: TransferAsked
    metric: Metric
    columns: tuple[str, ...]
    titles: Mapping[str, str]
    notes: list[str]


def _view(
    out: Path, found: MeasuredCells, every: MeasuredCells, crossed: Sequence[Record], kind: TaskKind, how: TransferAsked
) -> TableView:
    metric = how.metric or main_metric(kind, crossed[0].data.group)
    tasks = {name for record in crossed for name in (_place(record)[0], record.data.task)}
    keys = {_section(record) for record in crossed}
    probes = [r for r in every.records if _is_probe(r) and r.data.task in tasks and _section(r) in keys]
    used = [*probes, *crossed]
    columns = tuple(in_order({record.data.task for record in used}))
    material = _Material(out, how, metric, columns, row_titles(used), [])
    sections = {key: [r for r in used if _section(r) == key] for key in sorted(keys, key=_order)}
    rows = [row for key, own in sections.items() for row in _rows(key, own, material)]
    told = [note for note in found.notes if any(note.startswith(f"{cell_name(record)}: ") for record in used)]
    told += [f"{cell_name(record)}: {note}" for record in used if (note := row_order_note(record))]
    marks = [OWN_TASK] * bool(probes) + [OVERLAPS] * any(map(overlap_doubt, used))
    marks += [REORDERED] * any(map(row_order_note, used))
    versions = ", ".join(sorted({f"{r.code.version} ({r.code.sources})" for r in used}))
    unit = " in percent" if metric.shown.percent else ""
    mark = "PHANTOM, synthetic images or weights, no result: " if used[0].synthetic else ""
    return TableView(
        None,
        f"{mark}Transfer between {kind} tasks, trained on the row and scored on the column: {metric.title}{unit}",
        f"measured by cxrbench {versions}",
        used[0].variant,
        tuple((task, task_title(task)) for task in columns),
        tuple(rows),
        tuple(dict.fromkeys([*marks, *told, *material.notes])),
        {task: {"task": task, "metric": metric.name} for task in columns},
        dict.fromkeys(columns, metric.shown),
    )


def _is_probe(record: Record) -> bool:
    """Whether a record is of a task's own probe over all its labels."""
    return record.data.trained_on is None and record.data.group == "all"


def _rows(key: Section, records: Sequence[Record], material: _Material) -> list[ViewRow]:
    """A row for each task that is trained on, in the paper's order, the strict mapping first."""
    control, model, setting = key
    cells = {(_place(record), record.data.task): record for record in records}
    order = in_order({place[0] for place, _ in cells})
    places = sorted({place for place, _ in cells}, key=lambda place: (order.index(place[0]), place[1] or ""))
    words = [material.titles[model], setting.protocol, "" if setting.shots is None else shots_in_words(setting.shots)]
    section = ", ".join(filter(None, [*words, setting.prompts or "", CONTROLS if control else ""]))
    for task in order:
        if any(place[0] == task and pretrained_on(model, record, task) for (place, _), record in cells.items()):
            material.notes.append(f"{model} was pre-trained on the collection of {task}, whose images it is trained on")
    return [
        ViewRow(
            section,
            task_title(place[0]) + (f", by {place[1]}" if place[1] else ""),
            model,
            {task: _cell(place, cells.get((place, task)), material) for task in material.columns},
            control,
            own=True,
        )
        for place in places
    ]


def _marks(record: Record) -> str:
    own = OWN * (record.data.trained_on is None)
    return own + UNSETTLED * bool(row_order_note(record)) + OVERLAP * bool(overlap_doubt(record))


def _cell(place: Place, record: Record | None, material: _Material) -> TableCell:
    if record is None:
        return TableCell(MISSING, about=_about(place, None, None))
    labels = len(record.data.labels)
    at = chance(material.metric, record.data.kind, labels)
    cell = TableCell(
        MISSING,
        value_shown(record, material.metric),
        record.id,
        flaws(record),
        pretrained_on(record.model.name, record, record.data.task),
        marks=_marks(record),
        beside=f"{labels} label{'s' * (labels > 1)}"
        + ("" if at is None else f", chance {_plain(at, material.metric)}"),
        about=_about(place, record, at),
    )
    if not material.how.intervals and material.metric.name in record.summary:
        return cell
    try:
        own = measurement(read_cell(material.out, record), material.metric, these_draws=material.how.these_draws)
    except NotApplicableError as error:
        material.notes.append(f"{record.model.name}, {record.data.task}: {error}")
        return cell
    value = cell.measured if cell.measured is not None else written_value(own.estimate.value, material.metric)
    cell = replace(cell, measured=value)
    return replace(cell, interval=own.interval, spread=own.spread) if material.how.intervals else cell


def _about(place: Place, record: Record | None, at: float | None) -> dict[str, str | None]:
    """The cell's facts by name, for CSV and JSON; a cell without a record has the row's alone."""
    facts: dict[str, str | None] = {"trained_on": place[0], "mapping": place[1]}
    names = ("own", "group", "protocol", "shots", "prompts", "labels", "chance", "apart")
    if record is None:
        return {**facts, **dict.fromkeys(names)}
    other, shots = record.data.trained_on, record.protocol.shots
    values = (
        "yes" if other is None else None,
        record.data.group,
        record.protocol.protocol,
        None if shots is None else str(shots),
        prompt_set(record),
        "; ".join(record.data.labels),
        None if at is None else repr(at),
        None if other is None else other.apart,
    )
    return {**facts, **dict(zip(names, values, strict=True))}


def _plain(value: float, metric: Metric) -> str:
    return f"{100 * value if metric.shown.percent else value:.{min(1, metric.shown.decimals)}f}"
