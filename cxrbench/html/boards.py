"""The leaderboard of a setting: models, their numbers on each task, and ranks where they can be given."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.html.cells import CellPage
from cxrbench.html.work import Work
from cxrbench.verdict.average import Weighted, mean_interval
from cxrbench.verdict.leaderboard import Leaderboard, leaderboard
from cxrbench.verdict.predictions import read_cell
from cxrbench.verdict.selection import Selected, Setting
from cxrbench.verdict.subgroups import Subgroups

WEIGHT = 100  # cells that take as long as a board


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


@dataclass(frozen=True, slots=True)
class Board:
    """The models of one setting, the best first; `unranked` says why there are no ranks, where there are none."""

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
            for line in self.lines:
                for one in line.pages[task].subgroups if task in line.pages else ():
                    found.setdefault((task, one.by), []).append((line, one))
        return [(task, by, lines) for (task, by), lines in found.items()]

    def labels(self, task: str) -> tuple[str, ...]:
        """The classes of a task of the board."""
        return next(line.pages[task].record.data.labels for line in self.lines if task in line.pages)


@dataclass(frozen=True, slots=True)
class BoardAsked:
    """A setting to make the board of, with the pages of its records."""

    selected: Selected
    pages: Mapping[str, CellPage]

    @classmethod
    def of(cls, selected: Selected, pages: Mapping[str, CellPage]) -> "BoardAsked":
        """The setting with its own pages out of all."""
        return cls(selected, {r.id: pages[r.id] for row in selected.records.values() for r in row.values()})


def board(work: Work, asked: BoardAsked) -> Board:
    """The board of a setting. Ranked are the models that were measured on all its tasks, if there are three or more."""
    selected = asked.selected
    ranking, unranked = _ranked(work, selected)
    lines = sorted(_lines(work, asked, ranking), key=_best_first)
    return Board(selected.setting, tuple(selected.records), tuple(lines), ranking, unranked, selected.notes)


def _lines(work: Work, asked: BoardAsked, ranking: Leaderboard | None) -> list[Line]:
    records, found = asked.selected.records, []
    for model in asked.selected.models:
        own = {task: asked.pages[row[model].id] for task, row in records.items() if model in row}
        if own:
            title = next(iter(own.values())).record.model.title
            mean = _mean(work, own) if len(own) == len(records) else None
            found.append(Line(model, title, own, mean, _rank(model, ranking)))
    return found


def _mean(work: Work, own: Mapping[str, CellPage]) -> Interval | None:
    if len(own) < 2 or any(page.cautions or page.interval.estimate is None for page in own.values()):
        return None
    cells = [read_cell(work.out, page.record) for page in own.values()]
    return mean_interval([Weighted(cell, 1 / len(cells)) for cell in cells], "balanced_accuracy", work.resamples)


def _rank(model: str, ranking: Leaderboard | None) -> tuple[float, float, float] | None:
    if ranking is None or model not in ranking.models:
        return None
    place = ranking.models.index(model)
    low, high = ranking.rank_intervals[place].tolist()
    return float(ranking.ranks.ranks[place]), low, high


def _best_first(line: Line) -> tuple[bool, float, bool, float, str]:
    """By average rank, then by mean; models without either at the end, by name."""
    rank = float("inf") if line.rank is None else line.rank[0]
    mean = None if line.mean is None else line.mean.estimate
    return line.rank is None, rank, mean is None, -(mean or 0.0), line.model


def _ranked(work: Work, selected: Selected) -> tuple[Leaderboard | None, str]:
    controls = {r.model.name for row in selected.records.values() for r in row.values() if r.control}
    measured = {model for row in selected.records.values() for model in row} - controls
    whole = [m for m in sorted(measured) if all(m in row for row in selected.records.values())]
    models = tuple(whole if len(whole) > 2 else sorted(measured))
    if len(models) < 3:
        return None, f"they need three models, negative controls apart; measured: {len(models)}"
    kept = {task: {m: row[m] for m in models if m in row} for task, row in selected.records.items()}
    shared = replace(selected, models=models, records=kept)
    try:
        return leaderboard(work.out, shared, "balanced_accuracy", work.resamples), ""
    except (NotApplicableError, DataError) as error:
        return None, str(error)
