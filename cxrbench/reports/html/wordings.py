"""How much of a zero-shot number is wording: over prompt sets, and over single prompts of a set."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cxrbench.analysis.prompts import Spread, spread_of
from cxrbench.reports.html.cells import CellPage


@dataclass(frozen=True, slots=True)
class SetLine:
    """One prompt set of a model on a task; `singles` are draws of one prompt a class, None where none were recorded."""

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
    """One line for every model, task and group that was asked in words, in the order of the pages."""
    found: dict[tuple[str, str, str], list[CellPage]] = {}
    for page in pages:
        told, data = page.record.prompts, page.record.data
        if told is not None and told.source == "prompts":
            found.setdefault((data.task, data.group, page.record.model.name), []).append(page)
    return [_line(task, group, own) for (task, group, _), own in found.items()]


def _line(task: str, group: str, pages: Sequence[CellPage]) -> WordingLine:
    lines = tuple(SetLine(page, spread_of(page.record.single_prompts)) for page in pages)
    values = spread_of([page.interval.estimate for page in pages])
    return WordingLine(task, group, lines, values if len(pages) > 1 else None)


def _value(page: CellPage) -> float:
    return -1.0 if page.interval.estimate is None else page.interval.estimate
