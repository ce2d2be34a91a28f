"""Measured cells as a table of one's own: models as rows; tasks, groups, protocols, shots and metrics as columns."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.means import Weighted
from cxrbench.analysis.paper_tables import (
    CONTROLS,
    TableCell,
    TableView,
    ViewRow,
    row_titles,
    shown_value,
    standings,
)
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, Metric, main_metric
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.record import Record
from cxrbench.records.row_order import REORDERED, UNSETTLED, row_order_note
from cxrbench.records.selection import CellFilter, Selected, Setting, selected_settings
from cxrbench.records.validity import flaws, overlap_doubt, pretrained_on, why_not
from cxrbench.specs import catalog
from cxrbench.specs.paper import MISSING, rounded_half_up
from cxrbench.types import shots_in_words

OVERLAP = "§"
OVERLAPS = f"{OVERLAP} images or patients of the task may be among the training images, which are another task's"


@dataclass(frozen=True, slots=True)
class CellColumn:
    """One column: a task in a setting, by a metric, with the records that count by model."""

    task: str
    setting: Setting
    metric: Metric
    records: Mapping[str, Record]

    @property
    def id(self) -> str:
        """What tells it from all other columns."""
        return f"{self.task}: {self.setting}: {self.metric.name}"

    def words(self) -> dict[str, str]:
        """What it is of, by kind, as a head has it; kinds that do not apply are empty."""
        how = self.setting
        return {
            "task": task_title(self.task),
            "group": "" if how.group == "all" else how.group,
            "protocol": how.protocol,
            "shots": "" if how.shots is None else shots_in_words(how.shots),
            "prompts": how.prompts or "",
            "metric": self.metric.title,
        }

    def about(self) -> dict[str, str | None]:
        """The same by name, for CSV and JSON."""
        how, first = self.setting, next(iter(self.records.values()))
        return {
            "task": self.task,
            "split": first.data.split,
            "group": how.group,
            "protocol": how.protocol,
            "shots": None if how.shots is None else str(how.shots),
            "prompts": how.prompts,
            "metric": self.metric.name,
        }


def task_title(name: str) -> str:
    """A task's title; its name where this installation does not have it."""
    known = catalog.known_task(name)
    return name if known is None else known.title


def cell_table(
    out: Path,
    records: Iterable[Record],
    asked: CellFilter,
    metrics: Sequence[Metric] = (),
    *,
    intervals: bool = True,
    these_draws: bool = False,
) -> TableView:
    """The table of the cells asked for, from records and, for intervals, their predictions below `out`.

    Without `metrics` each task has its main one. A metric that does not fit a cell leaves a dash, and a note says why.
    Raises what `selected_settings` does, DataError and IntegrityError for predictions that are gone or changed.
    """
    found = selected_settings(records, asked)
    columns = _columns(found, metrics)
    used = {r.id: r for column in columns for r in column.records.values()}
    notes = [REORDERED] * any(map(row_order_note, used.values()))
    notes += [OVERLAPS] * any(map(overlap_doubt, used.values()))
    notes += dict.fromkeys(note for selected in found for note in selected.notes)
    material = _Material(out, these_draws, intervals, {}, {}, notes)
    rows = _rows(found, columns, list(used.values()), material)
    if intervals:
        rows = _standing(rows, columns, material)
    first = next(iter(used.values()))
    shared, titles = _titles(columns)
    mark = "PHANTOM, synthetic images or weights, no result: " if asked.synthetic else ""
    versions = ", ".join(sorted({f"{r.code.version} ({r.code.sources})" for r in used.values()}))
    return TableView(
        None,
        mark + _title(shared, columns),
        f"measured by cxrbench {versions}",
        first.variant,
        tuple((column.id, title) for column, title in zip(columns, titles, strict=True)),
        tuple(rows),
        tuple(material.notes),
        {column.id: column.about() for column in columns},
        {column.id: column.metric.shown for column in columns},
    )


def _columns(found: Sequence[Selected], metrics: Sequence[Metric]) -> list[CellColumn]:
    """By task in the order asked for, then by setting, then by metric."""
    tasks = dict.fromkeys(task for selected in found for task in selected.records)
    asked = {task: number for number, task in enumerate(_task_order(found, list(tasks)))}
    columns = []
    for task in sorted(tasks, key=lambda name: asked[name]):
        for selected in found:
            own = selected.records.get(task)
            if own:
                chosen = metrics or (main_metric(selected.setting.kind, selected.setting.group),)
                columns += [CellColumn(task, selected.setting, metric, own) for metric in chosen]
    return columns


def _task_order(found: Sequence[Selected], tasks: list[str]) -> list[str]:
    """Each setting has its tasks in the order asked for; tasks that one lacks follow where the next has them."""
    order: list[str] = []
    for selected in sorted(found, key=lambda one: -len(one.records)):
        order += [task for task in selected.records if task not in order]
    return order + [task for task in tasks if task not in order]


def _titles(columns: Sequence[CellColumn]) -> tuple[dict[str, str], list[str]]:
    """What all columns share, by kind, and what tells each from the others."""
    words = [column.words() for column in columns]
    kinds = list(words[0])
    shared = {kind: words[0][kind] for kind in kinds if len({own[kind] for own in words}) == 1}
    told = [kind for kind in kinds if kind not in shared or kind == "task"]
    return shared, [", ".join(filter(None, (own[kind] for kind in told))) for own in words]


def _title(shared: Mapping[str, str], columns: Sequence[CellColumn]) -> str:
    metrics = list(dict.fromkeys(column.metric for column in columns))
    percent = all(metric.shown.percent for metric in metrics)
    unit = " in percent" if percent else ""
    told = [shared.get(kind, "") for kind in ("group", "protocol", "shots", "prompts")]
    return ", ".join(filter(None, [" and ".join(metric.title for metric in metrics) + unit, *told]))


@dataclass(frozen=True, slots=True)
class _Material:
    """What was read so far: predictions by record, measurements by record and metric; notes are added to."""

    out: Path
    these_draws: bool
    intervals: bool
    cells: dict[str, ScoredCell]
    measured: dict[tuple[str, str], Measurement | None]
    notes: list[str]

    def of(self, record: Record, metric: Metric) -> Measurement | None:
        """A record by a metric, from its predictions; None where the metric does not fit, which is noted."""
        key = (record.id, metric.name)
        if key not in self.measured:
            if record.id not in self.cells:
                self.cells[record.id] = read_cell(self.out, record)
            try:
                self.measured[key] = measurement(self.cells[record.id], metric, these_draws=self.these_draws)
            except NotApplicableError as error:
                self.measured[key] = None
                self.notes.append(f"{record.model.name}, {record.data.task}: {error}")
        return self.measured[key]


def _rows(
    found: Sequence[Selected], columns: Sequence[CellColumn], used: Sequence[Record], material: _Material
) -> list[ViewRow]:
    """Models in the order asked for, then negative controls in a section of their own."""
    titles = row_titles(used)
    controls = {record.model.name for record in used if record.control}
    models = [model for model in found[0].models if model in titles]
    return [
        ViewRow(
            CONTROLS if model in controls else "",
            titles[model],
            model,
            {column.id: _cell(column, model, material) for column in columns},
            model in controls,
            own=True,
        )
        for model in [*(m for m in models if m not in controls), *(m for m in models if m in controls)]
    ]


def _cell(column: CellColumn, model: str, material: _Material) -> TableCell:
    record = column.records.get(model)
    seen = pretrained_on(model, record, column.task)
    if record is None:
        return TableCell(MISSING, seen=seen)
    own = material.of(record, column.metric) if _needs(record, column.metric, material) else None
    value = value_shown(record, column.metric)
    if value is None and own is not None:
        value = written_value(own.estimate.value, column.metric)
    note = row_order_note(record)
    told = f"{model}, {column.task}, {column.setting}: {note}"
    if note and told not in material.notes:
        material.notes.append(told)
    marks = UNSETTLED * bool(note) + OVERLAP * bool(overlap_doubt(record))
    cell = TableCell(_printed(record, column.metric), value, record.id, flaws(record), seen, marks=marks)
    return cell if own is None else replace(cell, interval=own.number.interval, spread=own.number.spread)


def _needs(record: Record, metric: Metric, material: _Material) -> bool:
    """Whether predictions must be read: for intervals, and for metrics that the record does not hold."""
    return material.intervals or metric.name not in record.summary


def value_shown(record: Record, metric: Metric) -> Decimal | None:
    """A recorded metric as it is written; None where the record has none, or a fold has none.

    Where the folds hold it, it is rounded as the record's variant says (`shown_value`), else the mean is rounded once.
    """
    if metric.name not in record.summary:
        return None
    if metric.shown == BALANCED_ACCURACY.shown and all(metric.name in fold.metrics for fold in record.folds):
        return shown_value(record, metric.name)
    mean = record.summary[metric.name]["mean"]
    return None if mean is None else written_value(float(mean), metric)


def written_value(value: float, metric: Metric) -> Decimal | None:
    """A number as its metric is written; None where it is not defined."""
    if math.isnan(value):
        return None
    return rounded_half_up(Decimal(value) * (100 if metric.shown.percent else 1), metric.shown.decimals)


def _printed(record: Record, metric: Metric) -> str:
    """What the paper prints for the cell, where the two may be compared."""
    there = metric == BALANCED_ACCURACY and record.published and not why_not(record)
    return record.published[0].value if there else MISSING


def _standing(rows: Sequence[ViewRow], columns: Sequence[CellColumn], material: _Material) -> list[ViewRow]:
    """The rows with the best of each column and what is not shown to be worse; not of controls and flawed cells."""
    found = list(rows)
    for column in columns:
        means = {}
        for place, row in enumerate(found):
            cell, record = row.cells[column.id], column.records.get(row.model)
            own = material.measured.get((cell.record or "", column.metric.name))
            if record is not None and own is not None and not row.control and not cell.flaws:
                means[place] = [Weighted(own, 1.0)]
        told = standings(means)
        for place, standing in told.standing.items():
            cells = found[place].cells
            changed = {**cells, column.id: replace(cells[column.id], standing=standing)}
            found[place] = replace(found[place], cells=changed)
        for place, reasons in told.refused.items():
            about = f"{found[place].name}, {task_title(column.task)}, {column.setting}"
            material.notes.append(f"{about}: not compared with the best: {'; '.join(reasons)}")
    return found
