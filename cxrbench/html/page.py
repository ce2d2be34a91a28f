"""The whole report as data: everything that its template shows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from cxrbench import catalog
from cxrbench.audit import contamination
from cxrbench.audit.finding import Finding, counted
from cxrbench.audit.wordings import unequal_prompts
from cxrbench.errors import DataError
from cxrbench.html.boards import WEIGHT, Board, BoardAsked, board
from cxrbench.html.cells import CellAsked, CellPage, cell_page
from cxrbench.html.chapters import Chapter, chapters, known_task, marked, sound
from cxrbench.html.curves import Figure, figures
from cxrbench.html.paper import PaperTable, paper_tables
from cxrbench.html.wordings import WordingLine, wordings
from cxrbench.html.work import Work
from cxrbench.record import Record
from cxrbench.task import TaskSpec
from cxrbench.verdict.selection import in_order


@dataclass(frozen=True, slots=True)
class ChapterPages:
    """One chapter with everything computed; `pages` by record, `first` is the board that is shown first."""

    chapter: Chapter
    pages: Mapping[str, CellPage]
    boards: tuple[Board, ...]
    first: Board
    tables: tuple[PaperTable, ...]
    figures: tuple[Figure, ...]
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

    def in_detail(self, shots: int | None, group: str) -> bool:
        """Whether classes, confusion and subgroups are shown: of probes, for the most shots of the group alone."""
        return self.chapter.in_detail(shots, group)

    @property
    def by_attribute(self) -> bool:
        """Whether any subgroup is known."""
        return any(page.subgroups for page in self.pages.values())

    @property
    def models(self) -> int:
        """How many models it has."""
        return len({record.model.name for record in self.chapter.records.values()})


@dataclass(frozen=True, slots=True)
class Audit:
    """What could make a number look too good; `whole` when `cxrbench audit` looked at label tables too."""

    found: tuple[Finding, ...]
    unknown: tuple[Finding, ...]
    whole: bool


@dataclass(frozen=True, slots=True)
class Report:
    """A results folder; it leaves out `unsound` records (by id, with the reasons), `controls` and `foreign` files."""

    chapters: tuple[ChapterPages, ...]
    tasks: Mapping[str, TaskSpec | None]
    newest: str
    audit: Audit
    unsound: Mapping[str, tuple[str, ...]]
    controls: int
    foreign: int
    resamples: int

    def title(self, task: str | None) -> str:
        """The task's title, or its name where this installation does not have it; without a task, that of the mean."""
        if task is None:
            return "Mean over tasks"
        known = self.tasks.get(task)
        return task if known is None else known.title


def report(work: Work, found: tuple[Sequence[Record], int], audited: Sequence[Finding] | None) -> Report:
    """The report of what `read_records` found below the results folder: records, and how many files are none.

    `audited` are the findings of `cxrbench audit`; with None, only what cards, tasks and records tell is looked at.
    Raises DataError where no record is left.
    """
    records, foreign = found
    real = [record for record in records if record.protocol.labels == "true"]
    kept, unsound = sound(work, real)
    if not kept:
        raise DataError(
            f"{work.out}: there is no record to report; {len(unsound)} are not what their predictions say (`cxrbench "
            f"check` tells), {foreign} files are no records of this version. `cxrbench run` writes records; --out says "
            "where."
        )
    tasks = {name: known_task(name) for name in sorted({record.data.task for record in kept})}
    return Report(
        chapters=tuple(_pages(work, chapter, tasks) for chapter in chapters(kept)),
        tasks=tasks,
        newest=max(record.runtime.started for record in kept),
        audit=_audit(kept, tasks, audited),
        unsound=unsound,
        controls=len(records) - len(real),
        foreign=foreign,
        resamples=work.resamples,
    )


def _pages(work: Work, chapter: Chapter, tasks: Mapping[str, TaskSpec | None]) -> ChapterPages:
    asked = [
        CellAsked(r, marked(r, tasks), chapter.in_detail(r.protocol.shots, r.data.group))
        for r in chapter.records.values()
    ]
    pages = {page.record.id: page for page in work.each(partial(cell_page, work), asked)}
    boards = tuple(work.each(partial(board, work), [BoardAsked.of(s, pages) for s in chapter.settings], WEIGHT))
    return ChapterPages(
        chapter=chapter,
        pages=pages,
        boards=boards,
        first=max(boards, key=_weight),
        tables=tuple(paper_tables(work, chapter)),
        figures=tuple(figures(boards)),
        wordings=tuple(wordings(pages.values())),
    )


def _weight(found: Board) -> tuple[bool, bool, int, int]:
    """What is shown first: all classes, a ranking, the most cells, the most shots."""
    cells = sum(len(line.pages) for line in found.lines)
    return found.setting.group == "all", found.ranking is not None, cells, found.setting.shots or 0


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
