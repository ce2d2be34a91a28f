"""Verdicts on the cells that the paper prints: repeats of its own rows and draws, and second measurements."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cxrbench.analysis.cell import covered, measurement
from cxrbench.analysis.cell_verdict import CellVerdict, Verdict, percent, value_of
from cxrbench.analysis.reproduction import arithmetic, why_not_exact
from cxrbench.analysis.two_measurements import MARGIN, Judgement, difference, judged
from cxrbench.evaluate.statistics.estimate import Estimate
from cxrbench.evaluate.statistics.uncertainty import covers_words
from cxrbench.evaluate.statistics.units import UnitKind
from cxrbench.records.cells import newest_record
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.record import Record
from cxrbench.records.validity import why_not
from cxrbench.specs.paper import MISSING, Column, Row, published_table

TABLES = (2, 3, 4)
Known = tuple[Estimate, UnitKind]  # of a record's balanced accuracy, and what its error counts


@dataclass(frozen=True, slots=True)
class _Cell:
    """A printed number in percent with its place in the tables, and the record to set beside it."""

    name: str
    printed: float
    record: Record | None


@dataclass(frozen=True, slots=True)
class _Second:
    """A second measurement that waits for the verdict; the finding has all else."""

    finding: CellVerdict
    difference: Estimate
    words: tuple[str, ...]


def against_paper(
    out: Path, records: Sequence[Record], known: Mapping[str, Known] | None = None, margin: float = MARGIN
) -> list[CellVerdict]:
    """One finding for each cell that the paper prints, in its order.

    What is `known` of records, by id, is not computed again; `margin` is in points. Raises DataError
    and IntegrityError for predictions that are gone or changed.
    """
    found = [_compared(out, known or {}, cell) for cell in _printed(records)]
    # A number that two tables print of one record is one question.
    asked = {(one.finding.record, one.finding.expected): one.difference for one in found if isinstance(one, _Second)}
    verdicts = dict(zip(asked, judged(list(asked.values()), margin), strict=True))
    return [
        _told(one, verdicts[one.finding.record, one.finding.expected], len(asked), margin)
        if isinstance(one, _Second)
        else one
        for one in found
    ]


def _printed(records: Sequence[Record]) -> Iterator[_Cell]:
    for number in TABLES:
        table = published_table(number)
        for row in table.rows:
            for column in table.columns:
                if row.cells[column.id] != MISSING:
                    name = f"Table {number}, {f'{row.section} {row.name}'.strip()}, {column.title}"
                    yield _Cell(name, float(row.cells[column.id]), _best(records, row, column))


def _best(records: Sequence[Record], row: Row, column: Column) -> Record | None:
    """The newest record of a printed cell, of those that are comparable if any is."""
    fitting = [record for record in records if record.measures(row, column)]
    return newest_record(fitting, why_not)


def _compared(out: Path, known: Mapping[str, Known], cell: _Cell) -> CellVerdict | _Second:
    name, printed, record = cell.name, cell.printed, cell.record
    if record is None:
        return CellVerdict("paper", name, "missing", printed, reasons=("no record",))
    value, reasons = value_of(record), why_not(record)
    if reasons or value is None:
        told = reasons or ("a class has no test image in a fold",)
        return CellVerdict("paper", name, "not comparable", printed, percent(value), None, told, record.id)
    others = why_not_exact(record)
    if not others:
        return _repeated(name, printed, 100 * value, read_cell(out, record))
    own, counted = known.get(record.id) or _measured(out, record)
    over = covers_words((covered(record),), counted)
    return _Second(
        CellVerdict("paper", name, "cannot tell", printed, 100 * value, record=record.id, kind="two measurements"),
        difference(own, printed / 100),
        (
            f"two measurements: it is not known that the rows are the paper's own ({'; '.join(others)})",
            f"allowed for, of both numbers: {over}",
        ),
    )


def _measured(out: Path, record: Record) -> Known:
    cell = read_cell(out, record)
    return measurement(cell, "balanced_accuracy").estimate, cell.over


def _repeated(name: str, printed: float, value: float, cell: ScoredCell) -> CellVerdict:
    """The paper's own images and draws: what is left is arithmetic."""
    allowed = arithmetic(cell)
    width = 100 * allowed.width
    verdict: Verdict = "agrees" if abs(value - printed) <= width else "differs"
    told = (
        f"exact reproduction: the paper's own images and draws, which leaves arithmetic, {width:.3f} points",
        f"tolerance: {allowed.source}",
    )
    return CellVerdict("paper", name, verdict, printed, value, width, told, cell.record.id, "exact reproduction")


def _told(second: _Second, found: Judgement, tests: int, margin: float) -> CellVerdict:
    low, high = 100 * found.low, 100 * found.high
    inside = f"{'within' if found.within else 'not within'} the margin of {margin:g} points"
    reasons = (
        *second.words,
        f"p {_p(found.p)} after Holm over {tests} cell{'s' * (tests > 1)}",
        f"90 % interval of the difference {low:+.2f} to {high:+.2f}, {inside}",
    )
    return replace(
        second.finding, verdict=found.verdict, tolerance=margin, reasons=reasons, p=found.p, between=(low, high)
    )


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
