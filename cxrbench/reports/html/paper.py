"""Tables 2 to 4 beside the paper: what is printed, what was measured, and whether the two agree."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxrbench.analysis.against_paper import TABLES, Known, against_paper
from cxrbench.analysis.cell_verdict import CellVerdict
from cxrbench.analysis.paper_tables import TableCell, TableView, ViewRow, table_view
from cxrbench.reports.html.chapters import Chapter, ReportWork
from cxrbench.specs.paper import MISSING, PublishedTable, published_table


@dataclass(frozen=True, slots=True)
class PaperCell:
    """A cell of a table; `verdict` is None where nothing is printed or nothing measured.

    `how` says in a few words what the verdict rests on. `reasons` are numbers of the table's list of reasons, from 1.
    """

    cell: TableCell
    verdict: str | None
    how: str
    reasons: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PaperChapter:
    """A table with verdicts; `reasons` are those against comparing, each once.

    Of synthetic numbers it has no rows that only the paper fills, since nothing can be compared with them.
    """

    synthetic: bool
    view: TableView
    cells: Mapping[tuple[str, str, str], PaperCell]  # section, row, column
    reasons: tuple[str, ...]

    def at(self, row: ViewRow, column: str) -> PaperCell:
        """The cell of a row and column."""
        return self.cells[row.section, row.name, column]

    @property
    def printed(self) -> bool:
        """Whether a shown row has numbers of the paper."""
        return any(c.published != MISSING for _, rows in self.sections() for row in rows for c in row.cells.values())

    def sections(self) -> list[tuple[str, list[ViewRow]]]:
        """The rows by section, in their order."""
        found: dict[str, list[ViewRow]] = {}
        for row in self.view.rows:
            if not self.synthetic or any(cell.measured is not None for cell in row.cells.values()):
                found.setdefault(row.section, []).append(row)
        return list(found.items())


def paper_tables(work: ReportWork, chapter: Chapter, known: Mapping[str, Known]) -> list[PaperChapter]:
    """Tables 2 to 4 with the chapter's records; tables of which it measures no cell are left out.

    What is `known` of records is by id; of others it is computed from their predictions.
    """
    findings = {found.cell: found for found in against_paper(work.out, chapter.all, known)}
    found = []
    for number in TABLES:
        table = published_table(number)
        view = table_view(table, chapter.all, chapter.variant, synthetic=chapter.synthetic)
        if any(cell.measured is not None for row in view.rows for cell in row.cells.values()):
            found.append(_judged(table, view, findings, synthetic=chapter.synthetic))
    return found


def _judged(
    table: PublishedTable, view: TableView, findings: Mapping[str, CellVerdict], *, synthetic: bool
) -> PaperChapter:
    reasons = dict[str, int]()
    cells = {}
    for row in view.rows:
        for column, title in view.columns:
            cell = row.cells[column]
            told = findings.get(f"Table {table.table}, {f'{row.section} {row.name}'.strip()}, {title}")
            cells[row.section, row.name, column] = _cell(cell, told, reasons)
    return PaperChapter(synthetic, view, cells, tuple(reasons))


def _cell(cell: TableCell, told: CellVerdict | None, reasons: dict[str, int]) -> PaperCell:
    if told is None or told.verdict == "missing" or cell.measured is None:
        return PaperCell(cell, None, "", ())
    why: Sequence[str] = told.reasons if told.verdict == "not comparable" else ()
    numbers = tuple(reasons.setdefault(reason, len(reasons) + 1) for reason in why)
    return PaperCell(cell, told.verdict, _how(told), numbers)


def _how(told: CellVerdict) -> str:
    """What a verdict rests on: arithmetic alone, or the 90 % interval of a difference and the margin."""
    if told.between is None:
        return f"as repeated, to {told.tolerance:.2f} points" if told.kind == "exact reproduction" else ""
    low, high = told.between
    return f"by {low:+.1f} to {high:+.1f}, margin {told.tolerance:g}"
