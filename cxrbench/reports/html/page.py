"""The whole report as data: everything that its template shows, with Tables 2 to 4 beside the paper."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from cxrbench.analysis import contamination
from cxrbench.analysis.against_paper import TABLES, CellVerdict, Finding, Known, against_paper, counted
from cxrbench.analysis.contamination import unequal_prompts
from cxrbench.analysis.paper_tables import TableCell, TableView, ViewRow, table_view
from cxrbench.analysis.prompts import Spread, spread_of
from cxrbench.errors import DataError
from cxrbench.records.integrity import Results
from cxrbench.records.record import Record
from cxrbench.records.selection import Setting, in_order
from cxrbench.reports.html.boards import Board, Computed, board, computed, ranked, shares
from cxrbench.reports.html.cells import CellPage
from cxrbench.reports.html.chapters import Chapter, ReportWork, chapters, marked, nameless, sound
from cxrbench.reports.html.curves import CurveFigure, figures
from cxrbench.reports.html.show import spoken
from cxrbench.specs import catalog
from cxrbench.specs.paper import MISSING, PublishedTable, published_table
from cxrbench.specs.task import TaskSpec
from cxrbench.types import shots_order


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


@dataclass(frozen=True, slots=True)
class SetLine:
    """One prompt set of a model on a task; `singles` are draws of one per class, None where none were recorded."""

    page: CellPage
    singles: Spread | None


@dataclass(frozen=True, slots=True)
class WordingLine:
    """A model on a task and group with all prompt sets it was asked in; `over_sets` is None for a single set."""

    task: str
    group: str
    lines: tuple[SetLine, ...]
    over_sets: Spread | None

    @property
    def worst(self) -> CellPage:
        """The page of the prompt set with the lowest number."""
        return min((line.page for line in self.lines), key=_value)

    @property
    def best(self) -> CellPage:
        """The page of the prompt set with the highest number."""
        return max((line.page for line in self.lines), key=_value)


def wordings(pages: Iterable[CellPage]) -> list[WordingLine]:
    """One line for every model, task and group that was asked in words alone, in the order of the pages."""
    found: dict[tuple[str, str, str], list[CellPage]] = {}
    for page in pages:
        told, data = page.record.prompts, page.record.data
        if told is not None and told.source == "prompts" and page.record.protocol.shots is None:
            found.setdefault((data.task, data.group, page.record.model.name), []).append(page)
    return [_line(task, group, own) for (task, group, _), own in found.items()]


def _line(task: str, group: str, pages: Sequence[CellPage]) -> WordingLine:
    lines = tuple(SetLine(page, spread_of(page.record.single_prompts)) for page in pages)
    values = spread_of([page.interval.estimate for page in pages])
    return WordingLine(task, group, lines, values if len(pages) > 1 else None)


def _value(page: CellPage) -> float:
    return -1.0 if page.interval.estimate is None else page.interval.estimate


@dataclass(frozen=True, slots=True)
class ChapterPages:
    """One chapter with everything computed; `pages` by record, `first` is the board that is shown first."""

    chapter: Chapter
    pages: Mapping[str, CellPage]
    boards: tuple[Board, ...]
    first: Board
    tables: tuple[PaperChapter, ...]
    figures: tuple[CurveFigure, ...]
    wordings: tuple[WordingLine, ...]

    @property
    def anchor(self) -> str:
        """What the ids of the chapter begin with."""
        return f"{'made' if self.chapter.synthetic else 'measured'}-{self.chapter.variant_digest[:8]}"

    def by_task(self) -> list[tuple[str, list[tuple[str, list[CellPage]]]]]:
        """All pages, by task in the boards' order, then by model."""
        found: dict[str, dict[str, list[CellPage]]] = {}
        for page in self.pages.values():
            found.setdefault(page.record.data.task, {}).setdefault(page.record.model.name, []).append(page)
        return [(task, list(found[task].items())) for task in in_order(set(found))]

    def in_detail(self, setting: Setting) -> bool:
        """Whether classes, confusion and subgroups are shown: see `Chapter.in_detail`."""
        return self.chapter.in_detail(setting)

    @property
    def kinds(self) -> set[str]:
        """The kinds of its tasks."""
        return {record.data.kind for record in self.chapter.records.values()}

    @property
    def by_attribute(self) -> bool:
        """Whether any subgroup is known."""
        return any(page.subgroups for page in self.pages.values())

    @property
    def titles(self) -> dict[str, str]:
        """The title of each model, by name."""
        return {r.model.name: r.model.title for r in sorted(self.chapter.records.values(), key=lambda r: r.model.name)}

    @property
    def controls(self) -> set[str]:
        """The models that are negative controls."""
        return {record.model.name for record in self.chapter.records.values() if record.control}

    @property
    def drawn(self) -> bool:
        """Whether any image is made."""
        return any(record.data.synthetic for record in self.chapter.records.values())

    @property
    def untrue(self) -> bool:
        """Whether any weights are synthetic."""
        return any(record.model.synthetic for record in self.chapter.records.values())

    @property
    def singles(self) -> bool:
        """Whether single prompts of any set were measured."""
        return any(one.singles is not None for found in self.wordings for one in found.lines)

    @property
    def spoken(self) -> str:
        """What the intervals of prompt sets speak of, by task where these differ."""
        pages = (one.page for found in self.wordings for one in found.lines)
        return spoken((page.record.data.task, page.interval) for page in pages)

    def covered(self, table: PaperChapter, rows: Sequence[ViewRow]) -> str:
        """What the intervals of a section of a table speak of, by column where these differ."""
        cells = ((title, row.cells[column].record) for column, title in table.view.columns for row in rows)
        return spoken((title, page.interval) for title, ident in cells if (page := self.pages.get(ident or "")))

    @property
    def models(self) -> int:
        """How many models it has, negative controls apart."""
        return len(self.titles.keys() - self.controls)

    def absent(self, board: Board) -> list[str]:
        """Titles of the models that the board has no number of; negative controls are not missed."""
        here = {line.model for line in board.lines} | self.controls
        return [title for model, title in self.titles.items() if model not in here]


@dataclass(frozen=True, slots=True)
class Audit:
    """What could make a number look too good; `whole` when `cxrbench audit` looked at label tables too."""

    found: tuple[Finding, ...]
    unknown: tuple[Finding, ...]
    whole: bool

    def together(self) -> list[tuple[Finding, list[str]]]:
        """Findings that say the same of several scopes once, with all of these."""
        scopes: dict[Finding, list[str]] = {}
        for one in self.found:
            scopes.setdefault(replace(one, scope=""), []).append(one.scope)
        return list(scopes.items())


@dataclass(frozen=True, slots=True)
class Report:
    """A results folder; it leaves out `unsound` records (by id or place, with the reasons) and `foreign` files.

    It also leaves out `shuffled`, which are fitted to shuffled labels under the name of a model that is no control.
    `these_draws` tells that its intervals speak of other test images alone. `named` is its title, with its `authors`.
    """

    chapters: tuple[ChapterPages, ...]
    tasks: Mapping[str, TaskSpec | None]
    newest: str
    audit: Audit
    unsound: Mapping[str, tuple[str, ...]]
    shuffled: int
    foreign: int
    these_draws: bool
    named: str = "cxrbench report"
    authors: tuple[str, ...] = ()

    @property
    def multi_label(self) -> bool:
        """Whether any of its tasks is a multi-label one."""
        return any("multi-label" in part.kinds for part in self.chapters)

    @property
    def retrieval(self) -> bool:
        """Whether any of its tasks is a retrieval one."""
        return any("retrieval" in part.kinds for part in self.chapters)

    def title(self, task: str | None) -> str:
        """The task's title, or its name where this installation does not have it; without a task, that of the mean."""
        if task is None:
            return "Mean over tasks"
        known = self.tasks.get(task)
        return task if known is None else known.title


def report(work: ReportWork, found: Results, audited: Sequence[Finding] | None) -> Report:
    """The report of what lies below the results folder, as `found_results` tells.

    `audited` are the findings of `cxrbench audit`; with None, only what cards, tasks and records tell is looked at.
    Raises DataError where no record is left.
    """
    records, foreign = found.records, found.foreign
    real = [record for record in records if record.protocol.labels == "true" or record.model.control]
    checked = _checked(work, real)
    kept, tasks = checked.kept, checked.tasks
    unsound = {place: nameless(work, [why]) for place, why in found.left_out.items()} | dict(checked.unsound)
    if not kept:
        raise DataError(
            f"{work.out}: there is no record to report; {len(unsound)} are not what their predictions say (`cxrbench "
            f"check` tells), {foreign} files are no records of this version. `cxrbench run` writes records; --out says "
            "where."
        )
    return Report(
        chapters=tuple(_pages(work, chapter, found) for chapter, found in checked.chapters),
        tasks=tasks,
        newest=max(record.runtime.started for record in kept),
        audit=_audit(kept, tasks, audited),
        unsound=unsound,
        shuffled=len(records) - len(real),
        foreign=foreign,
        these_draws=work.these_draws,
    )


@dataclass(frozen=True, slots=True)
class _Checked:
    """Records that are what their predictions say and what was computed of them; the others by id with the reasons."""

    kept: Sequence[Record]
    unsound: Mapping[str, tuple[str, ...]]
    tasks: Mapping[str, TaskSpec | None]
    chapters: Sequence[tuple[Chapter, Sequence[Computed]]]


def _checked(work: ReportWork, records: Sequence[Record]) -> _Checked:
    """Everything computed from sound records.

    Predictions are read once, in the trust that they are sound; where some are not, which is rare, all is computed
    again without them.
    """
    used = {ident for chapter in chapters(records) for ident in chapter.records}
    _, unsound = sound(work, [record for record in records if record.id not in used])
    while True:
        kept = [record for record in records if record.id not in unsound]
        tasks = {name: catalog.known_task(name) for name in sorted({record.data.task for record in kept})}
        found = [(chapter, _computed(work, chapter, tasks)) for chapter in chapters(kept)]
        faults = {ident: told for _, own in found for one in own for ident, told in one.faults.items()}
        if not faults:
            return _Checked(kept, unsound, tasks, found)
        unsound |= faults


def _computed(work: ReportWork, chapter: Chapter, tasks: Mapping[str, TaskSpec | None]) -> list[Computed]:
    daggers = frozenset(record.id for record in chapter.records.values() if marked(record, tasks))
    models = {selected.setting: ranked(selected) for selected in chapter.settings}
    found = shares(work, chapter, models, daggers)
    return work.each(partial(computed, work), found, len(chapter.records) // len(found))


def _pages(work: ReportWork, chapter: Chapter, found: Sequence[Computed]) -> ChapterPages:
    known = {ident: page for one in found for ident, page in one.pages.items()}
    pages = {ident: known[ident] for ident in chapter.records}
    boards = tuple(
        board(selected, pages, [one.added[selected.setting] for one in found if selected.setting in one.added])
        for selected in chapter.settings
    )
    return ChapterPages(
        chapter=chapter,
        pages=pages,
        boards=boards,
        first=max(boards, key=_weight),
        tables=tuple(
            paper_tables(work, chapter, {name: (own.estimate, own.interval.over) for name, own in pages.items()})
        ),
        figures=tuple(figures(boards)),
        wordings=tuple(wordings(pages.values())),
    )


def _weight(found: Board) -> tuple[bool, bool, int, tuple[int, float]]:
    """What is shown first: all classes, a ranking, the most cells, the most shots."""
    cells = sum(len(line.pages) for line in found.lines)
    return found.setting.group == "all", found.ranking is not None, cells, shots_order(found.setting.shots)


def _audit(records: Sequence[Record], tasks: Mapping[str, TaskSpec | None], audited: Sequence[Finding] | None) -> Audit:
    if audited is not None:
        unknown = tuple(finding for finding in audited if finding.kind == "not known")
        return Audit(tuple(counted(audited)), unknown, whole=True)
    names = sorted({record.model.name for record in records} & catalog.card_files().keys())
    cards = [catalog.load_card(name) for name in names]
    known = [task for task in tasks.values() if task is not None]
    found = [f for task in known for f in contamination.pretrained_on_source(task, cards)]
    found += [f for task in known for f in contamination.confounded(task)]
    return Audit(tuple(counted([*found, *unequal_prompts(records)])), (), whole=False)
