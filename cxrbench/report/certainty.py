"""How certain a table's measured cells are: intervals, spread over folds, and which are as good as the best."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from cxrbench.evaluate.statistics.counts import Metric
from cxrbench.evaluate.statistics.interval import RESAMPLES, too_few, too_rare
from cxrbench.evaluate.statistics.paired import holm
from cxrbench.published import Average, PublishedTable
from cxrbench.record import Record
from cxrbench.report.view import Cell, Standing, TableView, ViewRow
from cxrbench.verdict.average import Mean, Weighted, kinds, mean_interval, mean_p, why_not_means
from cxrbench.verdict.cell import cell_interval, spread
from cxrbench.verdict.compare import ALPHA
from cxrbench.verdict.drawn import drawn
from cxrbench.verdict.kinship import taken_as_independent
from cxrbench.verdict.predictions import ScoredCell, read_cell

METRIC: Metric = "balanced_accuracy"  # what Tables 2 to 4 show


@dataclass(frozen=True, slots=True)
class Standings:
    """Where rows of one column stand, by place, and the reasons against comparing others with the best."""

    standing: Mapping[int, Standing]
    refused: Mapping[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Material:
    """Predictions by record, the shares of each average, and how often to draw."""

    cells: Mapping[str, ScoredCell]
    shares: Mapping[str, Mapping[str, Fraction]]
    resamples: int

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
    view: TableView, table: PublishedTable, records: Iterable[Record], out: Path, resamples: int = RESAMPLES
) -> TableView:
    """The view with intervals and standings of every measured cell and average, from the predictions below `out`.

    The best of a column and section, and what it is not significantly better than (paired, Holm over the column's
    comparisons, 5 %), is marked where two rows can be compared; flawed cells, averages over them and negative controls
    take no part. Raises DataError and IntegrityError for predictions that are gone or changed.
    """
    cells = _read(view, {record.id: record for record in records}, out)
    material = _Material(cells, shares(table.averages), resamples)
    rows = [_with_intervals(row, material) for row in view.rows]
    means = [mean for row in view.rows for name in material.shares if (mean := material.mean(row, name))]
    kin = dict.fromkeys(note for mean in means for note in taken_as_independent(kinds(mean)))
    notes = [*view.notes, *kin]
    for section in dict.fromkeys(row.section for row in rows):
        places = [place for place, row in enumerate(rows) if row.section == section and not row.control]
        for name, title in view.columns:
            found = standings({place: material.mean(rows[place], name) for place in places}, resamples)
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


def standings(means: Mapping[int, Mean], resamples: int = RESAMPLES) -> Standings:
    """The best of several cells or averages, and which of the others its difference from is not significant at 5 %.

    `means` by place; an empty one takes no part. Nothing stands anywhere when no two can be compared.
    """
    values = {place: _estimate(mean) for place, mean in means.items() if mean}
    if len(values) < 2:
        return Standings({}, {})
    best = max(values, key=lambda place: values[place])
    others = [place for place in values if place != best]
    refused = {place: reasons for place in others if (reasons := why_not_means(means[best], means[place]))}
    if reasons := _untestable(means[best], resamples):
        refused |= {place: reasons for place in others if place not in refused}
    compared = [place for place in others if place not in refused]
    adjusted = holm([mean_p(means[best], means[place], resamples) for place in compared])
    found: dict[int, Standing] = {
        place: "worse" if p < ALPHA and values[place] < values[best] else "not worse"
        for place, p in zip(compared, adjusted, strict=True)
    }
    return Standings({best: "best", **found} if found else {}, refused)


def _untestable(mean: Mean, resamples: int) -> tuple[str, ...]:
    """Why no test can be made of a mean, as for one cell: a class too rare to be resampled."""
    cells = [part.cell for part in mean]
    poor = [f"{c.record.data.task}: {reason}" for c in cells if (reason := too_few(c.folds, c.over))]
    if poor:
        return tuple(poor)
    found = zip(cells, drawn(cells, METRIC, resamples), strict=True)
    return tuple(f"{c.record.data.task}: {reason}" for c, values in found if (reason := too_rare(values.drawn)))


def _estimate(mean: Mean) -> float:
    folds = [[float(fold.metrics[METRIC]) for fold in part.cell.record.folds] for part in mean]
    return sum(part.weight * sum(own) / len(own) for part, own in zip(mean, folds, strict=True))


def _read(view: TableView, known: Mapping[str, Record], out: Path) -> dict[str, ScoredCell]:
    """Predictions of the shown records."""
    shown = {cell.record for row in view.rows for cell in row.cells.values() if cell.record is not None}
    return {name: read_cell(out, known[name]) for name in sorted(shown)}


def _with_intervals(row: ViewRow, material: _Material) -> ViewRow:
    for name, cell in row.cells.items():
        own = material.cells.get(cell.record or "")
        if own is not None:
            found = cell_interval(own, METRIC, material.resamples)
            row = _changed(row, name, interval=found, spread=spread(own, METRIC))
        elif name in material.shares and (mean := material.mean(row, name)):
            row = _changed(row, name, interval=mean_interval(mean, METRIC, material.resamples))
    return row


def _changed(row: ViewRow, column: str, **changes: object) -> ViewRow:
    changed: Cell = replace(row.cells[column], **changes)  # type: ignore[arg-type]
    return replace(row, cells={**row.cells, column: changed})
