"""Tables 2 to 4 as data: every printed cell beside the record that measures it, and their difference."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from cxrbench.evaluate.statistics.uncertainty import FoldSpread, Interval
from cxrbench.records.cells import newest_record
from cxrbench.records.contamination import pretrained_on
from cxrbench.records.record import Record
from cxrbench.records.validity import printed_flaws
from cxrbench.specs.paper import MISSING, PublishedTable, Row, averages, rounded_half_up

Standing = Literal["best", "not worse", "worse"]
PRETRAINED = "pre-trained on the collection that the task's images are from; an average: on that of one of its tasks"
CONTROLS = "negative controls, which must do badly"  # the section of such rows


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell in percent: as printed, as measured (None without a record), and the record's id.

    `flaws` say why the measured number is not the one asked for; it is shown marked, and compared with nothing. `seen`:
    the model was pre-trained on the collection that the task's images are from (†), in an average on that of one of
    its tasks. `interval`, `spread` (both 0 to 1) and `standing` in the column are there when
    `paper_intervals.with_intervals` has found the predictions.
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
    """One row: a row of the paper, or a model of the user's own with no printed cell.

    A `control` is a negative control: its section holds nothing else, and it stands in no comparison.
    """

    section: str
    name: str
    model: str
    cells: Mapping[str, Cell]
    control: bool = False


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

    @property
    def intervals(self) -> list[tuple[str, Interval]]:
        """Those of measured cells, each with the title of its column; averages speak of what these do."""
        titles = dict(self.columns)
        return [(titles[n], c.interval) for row in self.rows for n, c in row.cells.items() if c.interval and c.record]


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
    and an average over an empty cell is empty. Negative controls follow each section, as one of their own.
    """
    views, notes = [], list(table.notes)
    for found in _filled(table, [record for record in records if record.synthetic == synthetic]):
        row = found.row
        cells, replaced = _cells(table, row, found.records)
        views.append(ViewRow(found.section, row.name, row.model, cells, found.control))
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


@dataclass(frozen=True, slots=True)
class _Filled:
    """A row with the records that may fill it."""

    row: Row
    records: Sequence[Record]
    control: bool = False

    @property
    def section(self) -> str:
        """The row's own, or that of the negative controls below it."""
        if not self.control:
            return self.row.section
        return f"{self.row.section}: {CONTROLS}" if self.row.section else CONTROLS


def _filled(table: PublishedTable, records: Sequence[Record]) -> list[_Filled]:
    """Every row, section by section: those of the paper, other models by name, negative controls by name."""
    models = [record for record in records if not record.control]
    controls = [record for record in records if record.control]
    printed = {(row.section, row.model) for row in table.rows}
    own = [row for row in _unprinted(table, models) if (row.section, row.model) not in printed]
    rows = [_Filled(row, models) for row in (*table.rows, *own)]
    rows += [_Filled(row, controls, control=True) for row in _unprinted(table, controls)]
    sections = list(dict.fromkeys(row.section for row in table.rows))
    return sorted(rows, key=lambda found: sections.index(found.row.section))


def _unprinted(table: PublishedTable, records: Sequence[Record]) -> list[Row]:
    """A row without printed cells for every section and model that was measured in one of its columns, by name."""
    empty = {c.id: MISSING for c in table.columns} | {a.id: MISSING for a in table.averages}
    rows = []
    for section, protocol, shots, prompts in dict.fromkeys(
        (row.section, row.protocol, row.shots, row.prompts) for row in table.rows
    ):
        for model in sorted({record.model.name for record in records}):
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
                rows.append(row)
    return rows


def _cells(table: PublishedTable, row: Row, records: Sequence[Record]) -> tuple[dict[str, Cell], int]:
    cells, replaced = {}, 0
    for column in table.columns:
        fitting = [record for record in records if record.measures(row, column)]
        replaced += max(0, len(fitting) - 1)
        best = newest_record(fitting, printed_flaws)
        printed = row.cells[column.id]
        seen = pretrained_on(row.model, best, column.task)
        cells[column.id] = (
            Cell(printed, seen=seen)
            if best is None
            else Cell(printed, shown_value(best), best.id, printed_flaws(best), seen)
        )
    means = averages({name: None if c.flaws else c.measured for name, c in cells.items()}, table.averages)
    for average in table.averages:
        seen = any(cells[part].seen for part in average.over)
        cells[average.id] = Cell(row.cells[average.id], means[average.id], seen=seen)
    return cells, replaced
