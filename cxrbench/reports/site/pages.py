"""What the pages of a leaderboard show, taken from a report: boards by protocol, and all cells of each model."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from cxrbench.records.integrity import place_of
from cxrbench.records.record import Record
from cxrbench.records.selection import in_order
from cxrbench.records.validity import has_known_card
from cxrbench.reports.html.boards import Board
from cxrbench.reports.html.cells import CellPage
from cxrbench.reports.html.page import ChapterPages, Report
from cxrbench.reports.html.render import Identities, identities
from cxrbench.reports.html.show import protocol_title
from cxrbench.reports.recipe_words import recipe_steps
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard
from cxrbench.types import TaskKind, shots_order

FOLDERS = {False: "models", True: "synthetic"}  # of the pages of models, measured and synthetic ones


@dataclass(frozen=True, slots=True)
class ProtocolBoards:
    """The boards of one protocol on one kind of tasks; `first` is the one that is open when the page is."""

    anchor: str
    protocol: str
    kind: TaskKind
    boards: tuple[Board, ...]

    @property
    def first(self) -> Board:
        """All classes before a group, a ranking before none, then the most cells and the most shots."""
        return max(self.boards, key=_weight)

    @property
    def title(self) -> str:
        """As a heading."""
        return protocol_title(self.protocol) + ("" if self.kind == "single-label" else f", {self.kind} tasks")


def _weight(board: Board) -> tuple[bool, bool, int, tuple[int, float]]:
    cells = sum(len(line.pages) for line in board.lines)
    return board.setting.group == "all", board.ranking is not None, cells, shots_order(board.setting.shots)


def by_protocol(part: ChapterPages) -> list[ProtocolBoards]:
    """The boards of a chapter, one kind of tasks and one protocol after another."""
    found: dict[tuple[TaskKind, str], list[Board]] = {}
    for board in part.boards:
        found.setdefault((board.setting.kind, board.setting.protocol), []).append(board)
    return [
        ProtocolBoards(f"{part.anchor}-{number}", protocol, kind, tuple(boards))
        for number, ((kind, protocol), boards) in enumerate(found.items())
    ]


@dataclass(frozen=True, slots=True)
class ModelPart:
    """The cells of a model in one variant, by task in the boards' order."""

    variant: str
    tasks: tuple[tuple[str, tuple[CellPage, ...]], ...]


@dataclass(frozen=True, slots=True)
class ModelPage:
    """All that is shown of a model's measured cells, or of its synthetic ones; never of both.

    `card` is the known card of its name, None where there is none or it says another thing than every record.
    """

    name: str
    synthetic: bool
    parts: tuple[ModelPart, ...]
    card: ModelCard | None
    sources: Identities

    @property
    def pages(self) -> tuple[CellPage, ...]:
        """Its cells in the order in which they are shown."""
        return tuple(page for part in self.parts for _, own in part.tasks for page in own)

    @property
    def newest(self) -> Record:
        """The record of the last cell that was measured, which tells of the model as a whole."""
        return max((page.record for page in self.pages), key=lambda record: (record.runtime.started, record.id))

    @property
    def file(self) -> str:
        """Its place below the site's folder."""
        return f"{FOLDERS[self.synthetic]}/{self.name}.html"

    @property
    def recipes(self) -> dict[str, tuple[str, ...]]:
        """The steps from the bytes of a file to what the network sees, of every recipe by its digest."""
        told = (page.record.preprocessing for page in self.pages)
        return {one.digest: recipe_steps(one.recipe) for one in told}

    @property
    def control(self) -> bool:
        """Whether it is a negative control."""
        return any(page.record.control for page in self.pages)


def model_pages(report: Report) -> list[ModelPage]:
    """A page for every model with measured cells, then one for every model with synthetic ones, by name."""
    found = []
    for synthetic in (False, True):
        chapters = [part for part in report.chapters if part.chapter.synthetic == synthetic]
        names = sorted({page.record.model.name for part in chapters for page in part.pages.values()})
        found += [_model_page(name, chapters, synthetic=synthetic) for name in names]
    return found


def _model_page(name: str, chapters: Sequence[ChapterPages], *, synthetic: bool) -> ModelPage:
    parts = []
    for chapter in chapters:
        own: dict[str, list[CellPage]] = {}
        for page in chapter.pages.values():
            if page.record.model.name == name:
                own.setdefault(page.record.data.task, []).append(page)
        if own:
            tasks = tuple((task, tuple(own[task])) for task in in_order(set(own)))
            parts.append(ModelPart(chapter.chapter.variant, tasks))
    records = [page.record for part in parts for _, cells in part.tasks for page in cells]
    return ModelPage(name, synthetic, tuple(parts), _known_card(records), identities(records))


def _known_card(records: Sequence[Record]) -> ModelCard | None:
    return catalog.load_card(records[0].model.name) if any(map(has_known_card, records)) else None


def address(record: Record) -> str:
    """The address of a cell, relative to the site's folder."""
    return f"{FOLDERS[record.synthetic]}/{quote(record.model.name, safe='')}.html#r{record.id}"


def file_address(record: Record) -> str:
    """The address of a record's file, relative to the site's folder."""
    return quote(place_of(record))


def web_address(source: str) -> str:
    """The source of a card where it is one address of the web, else nothing."""
    return source if source.startswith("https://") and not any(c.isspace() for c in source) else ""
