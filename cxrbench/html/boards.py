"""The leaderboard of a setting: models, their numbers on each task, and ranks where they can be given."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import UnitKind
from cxrbench.html.cells import CellPage
from cxrbench.verdict.average import Part, mean_of
from cxrbench.verdict.kinship import taken_as_independent
from cxrbench.verdict.leaderboard import Leaderboard, Refused, TaskRow, board_of
from cxrbench.verdict.selection import Selected, Setting
from cxrbench.verdict.subgroups import Subgroups


@dataclass(frozen=True, slots=True)
class Line:
    """One model of a board, by its pages of each task.

    `mean` is over all tasks of the board, None for a single task, and where a task is missing or has a caution. `rank`
    is the average rank with its interval, None for a model that is not ranked.
    """

    model: str
    title: str
    pages: Mapping[str, CellPage]
    mean: Interval | None
    rank: tuple[float, float, float] | None

    @property
    def control(self) -> bool:
        """Whether it is a negative control."""
        return any(page.record.control for page in self.pages.values())

    @property
    def flawed(self) -> bool:
        """Whether a number is not the one asked for (*)."""
        return any(page.cautions for page in self.pages.values())

    @property
    def marked(self) -> bool:
        """Whether it was pre-trained on the collection of one of its tasks (†)."""
        return any(page.marked for page in self.pages.values())


@dataclass(frozen=True, slots=True)
class Board:
    """The models of one setting, the best first, negative controls last.

    `unranked` says why there are no ranks, where there are none.
    """

    setting: Setting
    tasks: tuple[str, ...]
    lines: tuple[Line, ...]
    ranking: Leaderboard | None
    unranked: str
    notes: tuple[str, ...]

    @property
    def scale(self) -> tuple[int, int]:
        """The tens of percent around all intervals of the board."""
        known = [page.interval for line in self.lines for page in line.pages.values()]
        ends = [end for one in known for end in (one.low, one.high, one.estimate) if end is not None]
        low, high = math.floor(10 * min(ends, default=0)), math.ceil(10 * max(ends, default=1))
        return 10 * low, 10 * max(high, low + 1)

    def attributes(self) -> list[tuple[str, str, list[tuple[Line, Subgroups]]]]:
        """Task, attribute, and the models with their subgroups, for every attribute that is known."""
        found: dict[tuple[str, str], list[tuple[Line, Subgroups]]] = {}
        for task in self.tasks:
            for line in self.models:
                for one in line.pages[task].subgroups if task in line.pages else ():
                    found.setdefault((task, one.by), []).append((line, one))
        return [(task, by, lines) for (task, by), lines in found.items()]

    def unnumbered(self) -> list[tuple[str, list[str]]]:
        """Tasks, each with the attributes whose groups are all too small for a number."""
        found: dict[str, list[str]] = {}
        for task, by, lines in self.attributes():
            if not self.numbered(lines):
                found.setdefault(task, []).append(by)
        return list(found.items())

    @staticmethod
    def numbered(lines: Sequence[tuple[Line, Subgroups]]) -> bool:
        """Whether any model has a number for any of its subgroups."""
        return any(group.interval is not None for _, found in lines for group in found.groups)

    @property
    def models(self) -> tuple[Line, ...]:
        """The lines without negative controls."""
        return tuple(line for line in self.lines if not line.control)

    def of(self, task: str) -> list[Line]:
        """The lines that have a number on a task."""
        return [line for line in self.lines if task in line.pages]

    def labels(self, task: str) -> tuple[str, ...]:
        """The classes of a task of the board."""
        return next(line.pages[task].record.data.labels for line in self.lines if task in line.pages)

    def seen(self, model: str, task: str) -> bool:
        """Whether a model of the board was pre-trained on the task's own collection (†)."""
        return any(line.pages[task].marked for line in self.lines if line.model == model and task in line.pages)

    def chance(self, task: str | None = None) -> float:
        """Balanced accuracy of any guess that looks at no image: one by the classes of a task, or its mean over all."""
        if task is None:
            return fmean(self.chance(task) for task in self.tasks)
        return 1 / len(self.labels(task))


@dataclass(frozen=True, slots=True)
class BoardAsked:
    """A setting to make the board of, with all pages, its rows by task, and the parts of each model's mean by task."""

    selected: Selected
    pages: Mapping[str, CellPage]
    rows: Mapping[str, TaskRow | Refused]
    parts: Mapping[str, Mapping[str, Part]]


def board(asked: BoardAsked) -> Board:
    """The board of a setting."""
    selected = asked.selected
    ranking, unranked = _ranking(asked)
    lines = sorted(_lines(asked, ranking), key=_best_first)
    refused = {} if ranking is None else ranking.refused
    unranked_tasks = (f"{task} is in no rank: {'; '.join(reasons)}" for task, reasons in refused.items())
    notes = (*selected.notes, *unranked_tasks, *_kin(lines))
    return Board(selected.setting, tuple(selected.records), tuple(lines), ranking, unranked, notes)


def _kin(lines: Sequence[Line]) -> tuple[str, ...]:
    """What the means of the lines take as independent."""
    over: dict[str, UnitKind] = {}
    for task, page in ((task, page) for line in lines if line.mean for task, page in line.pages.items()):
        over[task] = "image" if over.get(task) == "image" else page.interval.over
    return taken_as_independent(over)


def _lines(asked: BoardAsked, ranking: Leaderboard | None) -> list[Line]:
    records, found = asked.selected.records, []
    for model in asked.selected.models:
        own = {task: asked.pages[row[model].id] for task, row in records.items() if model in row}
        if own:
            title = next(iter(own.values())).record.model.title
            mean = _mean(own, asked.parts.get(model, {})) if len(own) == len(records) else None
            found.append(Line(model, title, own, mean, _rank(model, ranking)))
    return found


def _mean(own: Mapping[str, CellPage], parts: Mapping[str, Part]) -> Interval | None:
    if len(own) < 2 or any(page.cautions or page.interval.estimate is None for page in own.values()):
        return None
    return mean_of([parts[task] for task in own if task in parts], "balanced_accuracy")


def _rank(model: str, ranking: Leaderboard | None) -> tuple[float, float, float] | None:
    if ranking is None or model not in ranking.models:
        return None
    place = ranking.models.index(model)
    low, high = ranking.rank_intervals[place].tolist()
    return float(ranking.ranks.ranks[place]), low, high


def _best_first(line: Line) -> tuple[bool, bool, float, bool, float, str]:
    """By average rank, then by mean; models without either after them, by name; negative controls last."""
    rank = float("inf") if line.rank is None else line.rank[0]
    mean = None if line.mean is None else line.mean.estimate
    return line.control, line.rank is None, rank, mean is None, -(mean or 0.0), line.model


def ranked(selected: Selected) -> tuple[str, ...]:
    """The models that were measured on all tasks of a setting, or all if these are fewer than three; no controls."""
    controls = {r.model.name for row in selected.records.values() for r in row.values() if r.control}
    measured = {model for row in selected.records.values() for model in row} - controls
    whole = [m for m in sorted(measured) if all(m in row for row in selected.records.values())]
    return tuple(whole if len(whole) > 2 else sorted(measured))


def _ranking(asked: BoardAsked) -> tuple[Leaderboard | None, str]:
    models = ranked(asked.selected)
    if len(models) < 3:
        return None, f"they need three models, negative controls apart; measured: {len(models)}"
    rows = {task: asked.rows[task] for task in asked.selected.records}
    try:
        return board_of(replace(asked.selected, models=models), rows, "balanced_accuracy"), ""
    except (NotApplicableError, DataError) as error:
        return None, str(error)
