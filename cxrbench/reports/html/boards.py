"""The leaderboard of a setting: what predictions give of each model and task, and places where there are any."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import fmean

from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.leaderboard import Leaderboard, Refused, Row, TaskRow, board_of, by_shared_patients, task_row
from cxrbench.analysis.means import Part, Weighted, interval_of_parts, part_of
from cxrbench.analysis.subgroups import Subgroups
from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.metric_table import Metric, load_metric, main_metric
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.evaluate.statistics.shares import UnitKind
from cxrbench.records.integrity import checked_cell
from cxrbench.records.predictions import namespace, taken_as_independent
from cxrbench.records.record import Record, predictions_path
from cxrbench.records.selection import Selected, Setting, setting_of
from cxrbench.reports.html.cells import CellAsked, CellPage, cell_page
from cxrbench.reports.html.chapters import Chapter, ReportWork, nameless
from cxrbench.reports.html.show import about, spoken

MOST_BYTES = 64_000_000  # of predictions, as they lie on the disk, that one share reads


@dataclass(frozen=True, slots=True)
class ShownShare:
    """Settings on tasks that may show the same patients, with the models that each one's board ranks: none below three.

    `marked` and `detail` are ids of records.
    """

    settings: tuple[Selected, ...]
    ranked: tuple[tuple[str, ...], ...]
    marked: frozenset[str]
    detail: frozenset[str]

    @property
    def records(self) -> dict[str, Record]:
        """Its records by id, each once."""
        return {r.id: r for setting in self.settings for row in setting.records.values() for r in row.values()}


@dataclass(frozen=True, slots=True)
class Added:
    """What some tasks add to a board: rows of the ranked models, tasks that are in no ranking, and parts by model.

    Parts are there for the models that were measured on all of these tasks.
    """

    rows: tuple[TaskRow, ...]
    refused: Mapping[str, Refused]
    parts: Mapping[str, Part]


@dataclass(frozen=True, slots=True)
class Computed:
    """Pages by record, and what is added to the board of each setting.

    Where `faults` names records whose predictions do not hold, nothing else was computed.
    """

    faults: Mapping[str, tuple[str, ...]]
    pages: Mapping[str, CellPage]
    added: Mapping[Setting, Added]


Measured = Mapping[str, Measurement]  # by record


def shares(
    work: ReportWork, chapter: Chapter, ranked: Mapping[Setting, tuple[str, ...]], marked: frozenset[str]
) -> list[ShownShare]:
    """Everything that a chapter shows, in shares of related tasks and bounded size; a setting is in one for each."""
    detail = frozenset(r.id for r in chapter.records.values() if chapter.in_detail(setting_of(r)))
    kin: dict[str, set[str]] = {}
    for task in dict.fromkeys(r.data.task for r in chapter.records.values()):
        kin.setdefault(namespace(task, "patient"), set()).add(task)
    found = []
    shared_draws = [setting for setting in chapter.settings if _trained_elsewhere(setting)]
    apart = [setting for setting in chapter.settings if setting not in shared_draws]
    for tasks in (None, *kin.values()):
        own = shared_draws if tasks is None else [_on(setting, tasks) for setting in apart]
        for some in _bounded(work.out, [setting for setting in own if setting.records]):
            models = tuple(ranked.get(setting.setting, ()) for setting in some)
            found.append(ShownShare(tuple(some), models, marked, detail))
    return found


def _trained_elsewhere(setting: Selected) -> bool:
    """Whether another task trains its cells, so that all its tasks share their draws."""
    return any(r.data.trained_on is not None for row in setting.records.values() for r in row.values())


def _on(setting: Selected, tasks: set[str]) -> Selected:
    return replace(setting, records={task: row for task, row in setting.records.items() if task in tasks})


def _bounded(out: Path, settings: Sequence[Selected]) -> Iterator[list[Selected]]:
    """Settings put together as long as their predictions are small enough; a file that is gone counts nothing."""
    some, total = list[Selected](), 0
    for setting in settings:
        records = chain(*(row.values() for row in setting.records.values()))
        size = sum(_size(out, record) for record in records)
        if some and total + size > MOST_BYTES:
            yield some
            some, total = [], 0
        some, total = [*some, setting], total + size
    if some:
        yield some


def _size(out: Path, record: Record) -> int:
    path = predictions_path(out, record)
    return path.stat().st_size if path.is_file() else 0


def computed(work: ReportWork, share: ShownShare) -> Computed:
    """Everything of a share, each file read once; only what is wrong where a record is not what its predictions say."""
    read = {ident: checked_cell(work.out, record) for ident, record in share.records.items()}
    if faults := {ident: nameless(work, told) for ident, (_, told) in read.items() if told}:
        return Computed(faults, {}, {})
    more = tuple(load_metric(name) for name in work.metrics)
    measured = {
        ident: measurement(cell, main_metric(cell.kind, cell.record.data.group), these_draws=work.these_draws)
        for ident, (cell, _) in read.items()
        if cell is not None
    }
    pages = {
        ident: cell_page(found, CellAsked(ident in share.marked, ident in share.detail, work.these_draws, more))
        for ident, found in measured.items()
    }
    boards = zip(share.settings, share.ranked, strict=True)
    return Computed({}, pages, {own.setting: _added(own, models, measured) for own, models in boards})


def _added(setting: Selected, ranked: tuple[str, ...], measured: Measured) -> Added:
    """What the tasks of a setting add to its board."""
    found = {
        task: {model: measured[record.id] for model, record in row.items()} for task, row in setting.records.items()
    }
    whole = [model for model in setting.models if all(model in row for row in found.values())]
    parts = {model: part_of([Weighted(row[model], 1.0) for row in found.values()]) for model in whole}
    rows, refused = _rows(replace(setting, models=ranked), found) if len(ranked) > 2 else ((), {})
    return Added(rows, refused, parts)


def _rows(selected: Selected, found: Mapping[str, Row]) -> tuple[tuple[TaskRow, ...], dict[str, Refused]]:
    """The rows of the tasks on which all ranked models can be paired, by shared patients, and why others have none."""
    groups, refused = by_shared_patients(selected, found)
    rows = list[TaskRow]()
    for group in groups:
        try:
            rows.append(task_row(selected, group))
        except DataError as error:
            refused |= dict.fromkeys(group, (str(error),))
    return tuple(rows), refused


@dataclass(frozen=True, slots=True)
class Line:
    """One model of a board, by its pages of each task.

    `mean` is over all tasks of the board, None for a single task, and where a task is missing or has a caution. `place`
    is from which to which place its mean may stand, None for a model that is not ranked.
    """

    model: str
    title: str
    pages: Mapping[str, CellPage]
    mean: Interval | None
    place: tuple[int, int] | None

    def interval(self, task: str | None = None) -> Interval | None:
        """That of a task, or of the mean over tasks; None where it has none."""
        if task is None:
            return self.mean
        return self.pages[task].interval if task in self.pages else None

    @property
    def control(self) -> bool:
        """Whether it is a negative control."""
        return any(page.record.control for page in self.pages.values())

    @property
    def flawed(self) -> bool:
        """Whether a number is not the one asked for (*)."""
        return any(page.cautions for page in self.pages.values())

    @property
    def doubtful(self) -> bool:
        """Whether training images may show what one of its cells scores (§)."""
        return any(page.doubt for page in self.pages.values())

    @property
    def marked(self) -> bool:
        """Whether it was pre-trained on the collection of one of its tasks (†)."""
        return any(page.marked for page in self.pages.values())


@dataclass(frozen=True, slots=True)
class Board:
    """The models of one setting, the best first, negative controls last.

    `unranked` says why there are no places, where there are none.
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

    def covers(self, task: str | None = None) -> str:
        """What most intervals of a task, or of the means, speak of and what to beware of: stands in the column's head.

        Of equally many the first; empty where there is no interval.
        """
        told = [about(one) for line in self.lines if (one := line.interval(task)) is not None and one.low is not None]
        return max(told, key=told.count, default="")

    def best(self, task: str | None = None) -> tuple[str, ...]:
        """The ranked models that may be the best of a task, or of the means; empty where that is not known."""
        if self.ranking is None:
            return ()
        if task is None:
            return self.ranking.best_mean
        return dict(zip(self.ranking.tasks, self.ranking.best, strict=True)).get(task, ())

    def standings(self) -> list[tuple[Line, float, list[Line]]]:
        """The ranked models with their average rank over tasks and those that each is shown to be better than."""
        if self.ranking is None:
            return []
        lines = {line.model: line for line in self.lines}
        ranks = dict(zip(self.ranking.models, self.ranking.ranks.ranks.tolist(), strict=True))
        apart = self.ranking.places.apart
        return [
            (lines[model], rank, [lines[worse] for worse in ranks if (model, worse) in apart])
            for model, rank in ranks.items()
        ]

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
    def grouped(lines: Sequence[tuple[Line, Subgroups]]) -> str:
        """What the intervals of subgroups speak of."""
        groups = (group for _, found in lines for group in found.groups)
        return spoken((group.name, group.interval) for group in groups if group.interval is not None)

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

    @property
    def metric(self) -> Metric:
        """What it shows: boards, curves and subgroups have the main metric of their tasks."""
        return main_metric(self.setting.kind, self.setting.group)

    def chance(self, task: str | None = None) -> float:
        """What any guess that looks at no image comes to: one by the classes of a task, one half of its findings.

        Of a retrieval task it is the share of candidates that are right. Without a task, the mean over all.
        """
        if self.setting.kind == "multi-label":
            return 0.5
        if self.setting.kind == "retrieval":
            return fmean(self._right_share(one) for one in ([task] if task else self.tasks))
        if task is None:
            return fmean(self.chance(task) for task in self.tasks)
        return 1 / len(self.labels(task))

    def _right_share(self, task: str) -> float:
        page = next(line.pages[task] for line in self.lines if task in line.pages)
        return float(page.record.protocol.options["chance"])


def board(selected: Selected, pages: Mapping[str, CellPage], added: Sequence[Added]) -> Board:
    """The board of a setting from all pages and what its tasks add."""
    ranking, unranked = _ranking(selected, added)
    lines = sorted(_lines(selected, pages, added, ranking), key=_best_first(ranking))
    refused = {} if ranking is None else ranking.refused
    unranked_tasks = (f"{task} is in no place and no test: {'; '.join(why)}" for task, why in refused.items())
    notes = (*selected.notes, *unranked_tasks, *_kin(lines))
    return Board(selected.setting, tuple(selected.records), tuple(lines), ranking, unranked, notes)


def _kin(lines: Sequence[Line]) -> tuple[str, ...]:
    """What the means of the lines take as independent."""
    over: dict[str, UnitKind] = {}
    for task, page in ((task, page) for line in lines if line.mean for task, page in line.pages.items()):
        over[task] = "image" if over.get(task) == "image" else page.interval.over
    return taken_as_independent(over)


def _lines(
    selected: Selected, pages: Mapping[str, CellPage], added: Sequence[Added], ranking: Leaderboard | None
) -> list[Line]:
    found, places = [], {} if ranking is None else ranking.places.of
    for model in selected.models:
        own = {task: pages[row[model].id] for task, row in selected.records.items() if model in row}
        if own:
            title = next(iter(own.values())).record.model.title
            whole = len(own) == len(selected.records)
            mean = _mean(own, [one.parts[model] for one in added]) if whole else None
            found.append(Line(model, title, own, mean, places.get(model)))
    return found


def _mean(own: Mapping[str, CellPage], parts: Sequence[Part]) -> Interval | None:
    if len(own) < 2 or any(page.cautions or page.interval.estimate is None for page in own.values()):
        return None
    return interval_of_parts(parts, len(own))


def _best_first(ranking: Leaderboard | None) -> Callable[[Line], tuple[bool, int, bool, float, str]]:
    """The ranked models in their order, then the others by mean, those without after them; controls last."""
    order = () if ranking is None else ranking.models

    def key(line: Line) -> tuple[bool, int, bool, float, str]:
        mean = None if line.mean is None else line.mean.estimate
        place = order.index(line.model) if line.model in order else len(order)
        return line.control, place, mean is None, -(mean or 0.0), line.model

    return key


def ranked(selected: Selected) -> tuple[str, ...]:
    """The models that were measured on all tasks of a setting, or all if these are fewer than three; no controls."""
    controls = {r.model.name for row in selected.records.values() for r in row.values() if r.control}
    measured = {model for row in selected.records.values() for model in row} - controls
    whole = [m for m in sorted(measured) if all(m in row for row in selected.records.values())]
    return tuple(whole if len(whole) > 2 else sorted(measured))


def _ranking(selected: Selected, added: Iterable[Added]) -> tuple[Leaderboard | None, str]:
    models = ranked(selected)
    if len(models) < 3:
        return None, f"they need three models, negative controls apart; measured: {len(models)}"
    rows = [row for one in added for row in one.rows]
    refused = {task: reasons for one in added for task, reasons in one.refused.items()}
    try:
        metric = main_metric(selected.setting.kind, selected.setting.group)
        return board_of(replace(selected, models=models), rows, refused, metric), ""
    except (NotApplicableError, DataError) as error:
        return None, str(error)
