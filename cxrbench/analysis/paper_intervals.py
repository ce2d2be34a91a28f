"""How certain a table's measured cells are: intervals, spread over folds, and which are as good as the best."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.means import Mean, Weighted, kinds, mean_difference, mean_estimate, mean_interval, why_not_means
from cxrbench.analysis.paper_tables import Cell, Standing, TableView, ViewRow
from cxrbench.evaluate.statistics.estimate import Estimate
from cxrbench.evaluate.statistics.paired import not_worse
from cxrbench.evaluate.statistics.shares import Metric
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.records.shared_patients import taken_as_independent
from cxrbench.specs.paper import Average, PublishedTable

METRIC: Metric = "balanced_accuracy"  # what Tables 2 to 4 show


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


def standings(means: Mapping[int, Mean]) -> Standings:
    """The best of several cells or averages, and which of the others are not shown to be worse than another.

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
    return Standings({**found, best: "best"}, refused)


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
    changed: Cell = replace(row.cells[column], **changes)  # type: ignore[arg-type]
    return replace(row, cells={**row.cells, column: changed})
