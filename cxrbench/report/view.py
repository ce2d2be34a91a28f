"""Tables 2 to 4 as data: every printed cell beside the record that measures it, and their difference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Literal

from cxrbench import catalog
from cxrbench.audit.contamination import contaminated
from cxrbench.comparable import flaws
from cxrbench.evaluate.statistics.uncertainty import FoldSpread, Interval
from cxrbench.published import MISSING, PublishedTable, Row, averages, rounded_half_up
from cxrbench.record import Record
from cxrbench.task import TaskSpec

Standing = Literal["best", "not worse", "worse"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell in percent: as printed, as measured (None without a record), and the record's id.

    `flaws` say why the measured number is not the one asked for; it is shown marked, and compared with nothing. `seen`:
    the model was pre-trained on the collection that the task's images are from (†). `interval`, `spread` (both 0 to 1)
    and `standing` in the column are there when `certainty.with_intervals` has found the predictions.
    """

    published: str
    measured: Decimal | None = None
    record: str | None = None
    flaws: tuple[str, ...] = ()
    seen: bool = False
    interval: Interval | None = None
    spread: FoldSpread | None = None
    standing: Standing | None = None

    @property
    def difference(self) -> Decimal | None:
        """Measured minus printed, None as soon as one of them is missing or the measured one is flawed."""
        if self.measured is None or self.published == MISSING or self.flaws:
            return None
        return self.measured - Decimal(self.published)


@dataclass(frozen=True, slots=True)
class ViewRow:
    """One row: a row of the paper, or a model of the user's own with no printed cell."""

    section: str
    name: str
    model: str
    cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class TableView:
    """A table ready to render; `columns` are (id, title) in the paper's order, averages last."""

    number: int
    title: str
    source: str
    variant: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[ViewRow, ...]
    notes: tuple[str, ...]


def shown_value(record: Record) -> Decimal | None:
    """Balanced accuracy in percent with two decimals, rounded as the record's variant says; None where a fold has none.

    `released`: each fold to three decimals, their mean to four (protocol of the released code); `unrounded`: once.
    """
    values = [fold.metrics["balanced_accuracy"] for fold in record.folds]
    if None in values:
        return None
    folds = [float(value) for value in values]
    if record.settings.rounding == "released":
        folds = [round(value * 1000) / 1000 for value in folds]
        return rounded_half_up(Decimal(f"{sum(folds) / len(folds):.4f}") * 100)
    return rounded_half_up(Decimal(sum(folds) / len(folds)) * 100)


def table_view(table: PublishedTable, records: Iterable[Record], variant: str, *, synthetic: bool) -> TableView:
    """The table with the measured cells filled in from records of one variant bundle, which is named `variant`.

    With `synthetic` only records of made weights or images are used and the title says so; without it, none of them.
    The newest sound record of a cell is shown, and a note counts those it replaces. A number from an incomplete or
    altered input is marked, its flaws are noted, and no average is taken over it. A cell without a record stays empty,
    and an average over an empty cell is empty.
    """
    chosen = [record for record in records if record.synthetic == synthetic]
    sections = list(dict.fromkeys(row.section for row in table.rows))
    rows = sorted([*table.rows, *_own_rows(table, chosen)], key=lambda row: sections.index(row.section))
    views, notes = [], list(table.notes)
    for row in rows:
        cells, replaced = _cells(table, row, chosen)
        views.append(ViewRow(row.section, row.name, row.model, cells))
        notes += [
            f"{row.name}, {title}: {'; '.join(cells[name].flaws)}"
            for name, title in ((c.id, c.title) for c in table.columns)
            if cells[name].flaws
        ]
        if replaced:
            notes.append(f"{row.name}: {replaced} older record{'s' * (replaced > 1)} of the same cells not shown")
    mark = "PHANTOM, made images or weights, no result: " if synthetic else ""
    columns = tuple((c.id, c.title) for c in table.columns) + tuple((a.id, a.title) for a in table.averages)
    return TableView(table.table, mark + table.title, table.source, variant, columns, tuple(views), tuple(notes))


def _own_rows(table: PublishedTable, records: Sequence[Record]) -> list[Row]:
    """One row a section for every model that the paper's rows do not name, in order of name."""
    sections: dict[tuple[str, str, int | None, str | None], set[str]] = {}
    for row in table.rows:
        sections.setdefault((row.section, row.protocol, row.shots, row.prompts), set()).add(row.model)
    empty = {c.id: MISSING for c in table.columns} | {a.id: MISSING for a in table.averages}
    own = []
    for (section, protocol, shots, prompts), printed in sections.items():
        for model in sorted({r.model.name for r in records} - printed):
            row = Row(
                section=section,
                name=model,
                model=model,
                protocol=protocol,
                shots=shots,
                prompts=prompts,
                cells=empty,
            )
            if any(record.measures(row, column) for record in records for column in table.columns):
                own.append(row)
    return own


def _cells(table: PublishedTable, row: Row, records: Sequence[Record]) -> tuple[dict[str, Cell], int]:
    cells, replaced = {}, 0
    for column in table.columns:
        fitting = [record for record in records if record.measures(row, column)]
        replaced += max(0, len(fitting) - 1)
        best = max(fitting, key=lambda record: (not flaws(record), record.runtime.started), default=None)
        printed = row.cells[column.id]
        seen = pretrained_on(row.model, best, column.task)
        cells[column.id] = (
            Cell(printed, seen=seen) if best is None else Cell(printed, shown_value(best), best.id, flaws(best), seen)
        )
    means = averages({name: None if c.flaws else c.measured for name, c in cells.items()}, table.averages)
    for average in table.averages:
        cells[average.id] = Cell(row.cells[average.id], means[average.id])
    return cells, replaced


def pretrained_on(model: str, record: Record | None, task: str) -> bool:
    """Whether the model was pre-trained on the task's collection, by its record, or by its card without one."""
    if record is not None:
        return contaminated(filter(None, record.model.pretraining.split("+")), _task(task))
    return contaminated(_letters(model), _task(task))


@cache
def _task(name: str) -> TaskSpec:
    return catalog.load_task(name)


@cache
def _letters(model: str) -> tuple[str, ...]:
    return catalog.load_card(model).pretraining if model in catalog.card_files() else ()
