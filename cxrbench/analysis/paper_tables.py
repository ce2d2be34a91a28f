"""Tables 2 to 4 as data: every printed cell beside the record that measures it, and their difference."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Literal

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.means import Mean, Weighted, kinds, mean_difference, mean_estimate, mean_interval, why_not_means
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, NumberFormat
from cxrbench.evaluate.statistics.estimate import Estimate
from cxrbench.evaluate.statistics.interval import FoldSpread, Interval
from cxrbench.evaluate.statistics.paired import not_worse
from cxrbench.records.predictions import read_cell, taken_as_independent
from cxrbench.records.record import Record
from cxrbench.records.selection import newest_record
from cxrbench.records.validity import given_note, pretrained_on, printed_flaws
from cxrbench.specs.paper import MISSING, Average, PublishedTable, Row, averages, rounded_half_up
from cxrbench.specs.settings import Variant

Standing = Literal["best", "not worse", "worse"]
PRETRAINED = "pre-trained on the collection that the task's images are from; an average: on that of one of its tasks"
PERCENT = NumberFormat()
CONTROLS = "negative controls, which must do badly"  # the section of such rows


@dataclass(frozen=True, slots=True)
class TableCell:
    """One cell in percent: as printed, as measured (None without a record), and the record's id.

    `flaws` say why the measured number is not the one asked for; it is shown marked, and compared with nothing. `seen`:
    the model was pre-trained on the collection that the task's images are from (†), in an average on that of one of
    its tasks. `interval`, `spread` (both 0 to 1) and `standing` in the column are there when
    `with_intervals` has found the predictions. `source`: where the published number is printed, and how it is known,
    where the table has many; `copied`: nobody has read it where it was first printed (‡).
    `marks` are further ones, which the view's notes explain; `beside` stands on a line below the number, and `about`
    holds further facts by name, alike in all cells of a view.
    """

    published: str
    measured: Decimal | None = None
    record: str | None = None
    flaws: tuple[str, ...] = ()
    seen: bool = False
    interval: Interval | None = None
    spread: FoldSpread | None = None
    standing: Standing | None = None
    copied: bool = False
    source: str | None = None
    marks: str = ""
    beside: str = ""
    about: Mapping[str, str | None] = field(default_factory=dict)

    @property
    def difference(self) -> Decimal | None:
        """Measured minus printed, None as soon as one of them is missing or the measured one is flawed."""
        if self.measured is None or self.published == MISSING or self.flaws:
            return None
        return self.measured - Decimal(self.published)


@dataclass(frozen=True, slots=True)
class ViewRow:
    """One row: a row of the paper, or a model of the user's own with no printed cell.

    A `control` is a negative control: its section holds nothing else, and it stands in no comparison. An `own` row is
    none of the paper's.
    """

    section: str
    name: str
    model: str
    cells: Mapping[str, TableCell]
    control: bool = False
    own: bool = False


@dataclass(frozen=True, slots=True)
class TableView:
    """A table ready to render; `columns` are (id, title) in the paper's order, averages last.

    `number` is None for a table that the paper has not. `about` says of each of its columns what it holds, and
    `formats` how its numbers are written where that is not in percent with two decimals.
    """

    number: int | None
    title: str
    source: str
    variant: str
    columns: tuple[tuple[str, str], ...]
    rows: tuple[ViewRow, ...]
    notes: tuple[str, ...]
    about: Mapping[str, Mapping[str, str | None]] = field(default_factory=dict)
    formats: Mapping[str, NumberFormat] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """The title with the table's number, if it has one."""
        return self.title if self.number is None else f"Table {self.number}. {self.title}"

    def format_of(self, column: str) -> NumberFormat:
        """How numbers of a column are written."""
        return self.formats.get(column, PERCENT)

    @property
    def intervals(self) -> list[tuple[str, Interval]]:
        """Those of measured cells, each with the title of its column; averages speak of what these do."""
        titles = dict(self.columns)
        return [(titles[n], c.interval) for row in self.rows for n, c in row.cells.items() if c.interval and c.record]


def shown_value(record: Record, metric: str = BALANCED_ACCURACY.name) -> Decimal | None:
    """A metric of the folds in percent with two decimals, rounded as the variant says; None where a fold has none.

    `released`: each fold to three decimals, their mean to four (protocol of the released code); `unrounded`: once.
    """
    values = [fold.metrics[metric] for fold in record.folds]
    if None in values:
        return None
    folds = [float(value) for value in values]
    if record.settings.rounding == "released":
        folds = [round(value * 1000) / 1000 for value in folds]
        return rounded_half_up(Decimal(f"{sum(folds) / len(folds):.4f}") * 100)
    return rounded_half_up(Decimal(sum(folds) / len(folds)) * 100)


def table_view(table: PublishedTable, records: Iterable[Record], variant: str, *, synthetic: bool) -> TableView:
    """The table with the measured cells filled in from records of one variant bundle, which is named `variant`.

    With `synthetic` only records of synthetic weights or images are used, as the title says; without it, none of them.
    The newest sound record of a cell is shown, and a note counts those it replaces. A number from an incomplete or
    altered input is marked, its flaws are noted, and no average is taken over it. A cell without a record stays empty,
    and an average over an empty cell is empty. Negative controls follow each section, as one of their own.
    """
    views, notes = [], list(table.notes)
    for found in _filled(table, [record for record in records if record.synthetic == synthetic]):
        row = found.row
        cells, replaced = _cells(table, row, found.records)
        views.append(ViewRow(found.section, row.name, row.model, cells, found.control, found.own))
        notes += [
            f"{row.name}, {title}: {'; '.join(cells[name].flaws)}"
            for name, title in ((c.id, c.title) for c in table.columns)
            if cells[name].flaws
        ]
        notes += dict.fromkeys(note for record in found.records if (note := given_note(record)))
        if replaced:
            notes.append(f"{row.name}: {replaced} older record{'s' * (replaced > 1)} of the same cells not shown")
    mark = "PHANTOM, synthetic images or weights, no result: " if synthetic else ""
    columns = tuple((c.id, c.title) for c in table.columns) + tuple((a.id, a.title) for a in table.averages)
    return TableView(table.table, mark + table.title, table.source, variant, columns, tuple(views), tuple(notes))


@dataclass(frozen=True, slots=True)
class _Filled:
    """A row with the records that may fill it."""

    row: Row
    records: Sequence[Record]
    control: bool = False
    own: bool = True

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
    rows = [_Filled(row, models, own=False) for row in table.rows] + [_Filled(row, models) for row in own]
    rows += [_Filled(row, controls, control=True) for row in _unprinted(table, controls)]
    sections = list(dict.fromkeys(row.section for row in table.rows))
    return sorted(rows, key=lambda found: sections.index(found.row.section))


def _unprinted(table: PublishedTable, records: Sequence[Record]) -> list[Row]:
    """A row without printed cells for every section and model that was measured in one of its columns, by name.

    It bears the model's title, with the name where another row has the same.
    """
    titles = row_titles(records, [row.name for row in table.rows])
    empty = {c.id: MISSING for c in table.columns} | {a.id: MISSING for a in table.averages}
    rows = []
    for section, protocol, shots, prompts in dict.fromkeys(
        (row.section, row.protocol, row.shots, row.prompts) for row in table.rows
    ):
        for model in sorted(titles):
            row = Row(
                section=section,
                name=titles[model],
                model=model,
                protocol=protocol,
                shots=shots,
                prompts=prompts,
                cells=empty,
            )
            if any(record.measures(row, column) for record in records for column in table.columns):
                rows.append(row)
    return rows


def row_titles(records: Iterable[Record], taken: Iterable[str] = ()) -> dict[str, str]:
    """What the row of each model is called: by its newest title, and by its name too where that is taken or not unique.

    A record without a title is called by the model's name.
    """
    newest = {record.model.name: record.model.title for record in sorted(records, key=lambda r: r.runtime.started)}
    counts = Counter([*newest.values(), *set(taken)])
    told = {name: title or name for name, title in newest.items()}
    return {name: title if counts[title] <= 1 or title == name else f"{title} ({name})" for name, title in told.items()}


def _cells(table: PublishedTable, row: Row, records: Sequence[Record]) -> tuple[dict[str, TableCell], int]:
    cells, replaced = {}, 0
    for column in table.columns:
        fitting = [record for record in records if record.measures(row, column)]
        replaced += max(0, len(fitting) - 1)
        best = newest_record(fitting, printed_flaws)
        printed = row.cells[column.id]
        seen = pretrained_on(row.model, best, column.task)
        cells[column.id] = (
            TableCell(printed, seen=seen)
            if best is None
            else TableCell(printed, shown_value(best), best.id, printed_flaws(best), seen)
        )
    means = averages({name: None if c.flaws else c.measured for name, c in cells.items()}, table.averages)
    for average in table.averages:
        seen = any(cells[part].seen for part in average.over)
        cells[average.id] = TableCell(row.cells[average.id], means[average.id], seen=seen)
    return cells, replaced


METRIC = BALANCED_ACCURACY  # what Tables 2 to 4 show


@dataclass(frozen=True, slots=True)
class Standings:
    """Where rows of one column stand, by place, and of rows that cannot be compared with the best the reasons why."""

    standing: Mapping[int, Standing]
    refused: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Material:
    """Measurements by record, and the shares of each average."""

    cells: Mapping[str, Measurement]
    shares: Mapping[str, Mapping[str, Fraction]]

    def mean(self, row: ViewRow, column: str) -> Mean:
        """The sound cells behind a cell or an average; empty when one of them is missing or flawed."""
        parts = self.shares.get(column, {column: Fraction(1)})
        found = []
        for name, share in parts.items():
            cell = row.cells[name]
            scored = self.cells.get(cell.record or "")
            if cell.flaws or cell.measured is None or scored is None:
                return ()
            found.append(Weighted(scored, float(share)))
        return found


def measured_view(
    table: PublishedTable,
    found: Iterable[Record],
    variant: Variant,
    out: Path,
    *,
    synthetic: bool,
    intervals: bool = True,
    these_draws: bool = False,
) -> TableView:
    """The view of a variant's records among those found, with intervals where they are wanted and there is any.

    Raises what `with_intervals` does.
    """
    records = [record for record in found if record.variant_digest == variant.digest]
    view = table_view(table, records, variant.name, synthetic=synthetic)
    return with_intervals(view, table, records, out, these_draws=these_draws) if intervals and records else view


def with_intervals(
    view: TableView, table: PublishedTable, records: Iterable[Record], out: Path, *, these_draws: bool = False
) -> TableView:
    """The view with intervals and standings of every measured cell and average, from the predictions below `out`.

    Of the rows of a column and section that can be compared, those that may be the best are marked: see `not_worse`.
    Flawed cells, averages over them and negative controls take no part. Raises DataError and IntegrityError for
    predictions that are gone or changed.
    """
    cells = _read(view, {record.id: record for record in records}, out, these_draws=these_draws)
    material = _Material(cells, shares(table.averages))
    rows = [_with_intervals(row, material) for row in view.rows]
    means = [mean for row in view.rows for name in material.shares if (mean := material.mean(row, name))]
    kin = dict.fromkeys(note for mean in means for note in taken_as_independent(kinds(mean)))
    notes = [*view.notes, *kin]
    for section in dict.fromkeys(row.section for row in rows):
        places = [place for place, row in enumerate(rows) if row.section == section and not row.control]
        for name, title in view.columns:
            found = standings({place: material.mean(rows[place], name) for place in places})
            for place, standing in found.standing.items():
                rows[place] = _changed(rows[place], name, standing=standing)
            for place, reasons in found.refused.items():
                notes.append(f"{rows[place].name}, {title}: not compared with the best: {'; '.join(reasons)}")
    return replace(view, rows=tuple(rows), notes=tuple(notes))


def shares(averages: Sequence[Average]) -> dict[str, dict[str, Fraction]]:
    """What each column counts in each average, an average of averages taken apart; they sum to 1."""
    found: dict[str, dict[str, Fraction]] = {}
    for average in averages:
        total: dict[str, Fraction] = {}
        for part in average.over:
            for column, share in found.get(part, {part: Fraction(1)}).items():
                total[column] = total.get(column, Fraction(0)) + share / len(average.over)
        found[average.id] = total
    return found


_EQUAL = 1e-12  # sums in another order differ by so much at most


def standings(means: Mapping[int, Mean]) -> Standings:
    """The best of several cells or averages (all that tie), and which others are not shown to be worse than another.

    `means` by place; an empty one takes no part. Nothing stands anywhere when no two can be compared.
    """
    every = {place: mean_estimate(mean).value for place, mean in means.items() if mean}
    values = {place: value for place, value in every.items() if not math.isnan(value)}
    if len(values) < 2:
        return Standings({}, {})
    best = max(values, key=lambda place: values[place])
    refused = {p: why for p in values if p != best and (why := why_not_means(means[best], means[p]))}
    compared = [place for place in values if place not in refused]
    if len(compared) < 2:
        return Standings({}, refused)
    pairs: dict[tuple[int, int], Estimate] = {
        (one, two): mean_difference(means[one], means[two])
        for one, two in itertools.combinations(compared, 2)
        if not why_not_means(means[one], means[two])
    }
    kept = not_worse(pairs, compared)
    found: dict[int, Standing] = {place: "not worse" if place in kept else "worse" for place in compared}
    ties = [place for place in compared if math.isclose(values[place], values[best], rel_tol=0, abs_tol=_EQUAL)]
    return Standings({**found, **dict.fromkeys(ties, "best")}, refused)


def _read(view: TableView, known: Mapping[str, Record], out: Path, *, these_draws: bool) -> dict[str, Measurement]:
    """What was measured in the shown records."""
    shown = {cell.record for row in view.rows for cell in row.cells.values() if cell.record is not None}
    return {name: measurement(read_cell(out, known[name]), METRIC, these_draws=these_draws) for name in sorted(shown)}


def _with_intervals(row: ViewRow, material: _Material) -> ViewRow:
    for name, cell in row.cells.items():
        own = material.cells.get(cell.record or "")
        if own is not None:
            number = own.number
            row = _changed(row, name, interval=number.interval, spread=number.spread)
        elif name in material.shares and (mean := material.mean(row, name)):
            row = _changed(row, name, interval=mean_interval(mean))
    return row


def _changed(row: ViewRow, column: str, **changes: object) -> ViewRow:
    changed: TableCell = replace(row.cells[column], **changes)  # type: ignore[arg-type]
    return replace(row, cells={**row.cells, column: changed})
