"""Curves as inline SVG, up to six models in colour: few-shot curves by task, and ROC and precision-recall curves."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.reports.html.boards import Board, Line
from cxrbench.reports.html.operating import Operating
from cxrbench.reports.html.show import protocol_title, spoken
from cxrbench.types import Shots, shots_in_words, shots_order

COLOURED = 6  # models that eyes tell apart, by colour and by marker
WIDTH, HEIGHT = 300, 190  # of a panel's view box, as all sizes here
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 10, 30  # margins
APART = 3  # between the intervals of two models, which stand side by side
STEP = 0.1  # of the vertical axis, whose range is whole steps


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One number of a curve: shots, its place in the panel, and that of its interval's ends where it has one."""

    shots: Shots
    x: float
    y: float
    low: float | None
    high: float | None
    interval: Interval


@dataclass(frozen=True, slots=True)
class CurveLine:
    """One model's curve; `number` (0 to 5) is its colour and marker in its row of panels, `marked` by the dagger."""

    model: str
    title: str
    marked: bool
    number: int
    points: tuple[CurvePoint, ...]

    @property
    def line(self) -> str:
        """The curve as an SVG path: through the numbers K, since shares of the training part are on no scale with K."""
        joined = [f"{p.x:g} {p.y:g}" for p in self.points if isinstance(p.shots, int)]
        return "M" + "L".join(joined) if joined else ""


@dataclass(frozen=True, slots=True)
class Panel:
    """One task, or the mean over tasks where `task` is None; `ticks` (y, percent), `shots` (x, how many): its axes.

    `covers` is what its intervals speak of, by shots where these differ.
    """

    task: str | None
    covers: str
    curves: tuple[CurveLine, ...]
    ticks: tuple[tuple[float, int], ...]
    shots: tuple[tuple[float, Shots], ...]

    @property
    def shares(self) -> bool:
        """Whether any of its numbers is of a share of the training part."""
        return any(isinstance(shots, str) for _, shots in self.shots)


@dataclass(frozen=True, slots=True)
class CurveFigure:
    """All panels of one protocol, prompt set, label group and kind of task.

    `how` is the first two in words, `metric` the title of what is drawn. `rows` are of at most six models (name, title)
    each, those of the first board first; `panels` have all models' curves, of which a row draws its own in colour.
    """

    how: str
    group: str
    metric: str
    rows: tuple[tuple[tuple[str, str], ...], ...]
    panels: tuple[Panel, ...]


def figures(boards: Sequence[Board]) -> list[CurveFigure]:
    """One for each protocol, prompt set, label group and kind of task with two numbers of shots; no controls."""
    groups: dict[tuple[str, str | None, str, str], list[Board]] = {}
    for board in boards:
        how = board.setting
        if how.shots is not None:
            groups.setdefault((how.protocol, how.prompts, how.group, how.kind), []).append(board)
    order = [line.model for own in groups.values() for board in _most_shots_first(own) for line in board.models]
    return [_figure(own, order) for own in groups.values() if len(own) > 1]


def _most_shots_first(boards: Sequence[Board]) -> list[Board]:
    return sorted(boards, key=lambda board: shots_order(board.setting.shots), reverse=True)


def _figure(boards: Sequence[Board], order: Sequence[str]) -> CurveFigure:
    """The figure of one group; models in one order for all groups, so that each keeps its colour."""
    ordered = _most_shots_first(boards)[::-1]
    found = {line.model: line.title for board in ordered for line in board.models}
    models = {model: found[model] for model in sorted(found, key=order.index)}
    named = list(models.items())
    rows = tuple(tuple(named[place : place + COLOURED]) for place in range(0, len(named), COLOURED))
    tasks = list(dict.fromkeys(task for board in ordered for task in board.tasks))
    means = [None] if any(line.mean for board in ordered for line in board.models) else []
    how = boards[0].setting
    title = ", ".join(filter(None, (protocol_title(how.protocol), how.prompts)))
    panels = tuple(_panel(task, ordered, models) for task in [*tasks, *means])
    return CurveFigure(title, how.group, boards[0].metric.title, rows, panels)


def _panel(task: str | None, boards: Sequence[Board], models: Mapping[str, str]) -> Panel:
    known: dict[str, dict[Shots, Interval]] = {}
    marked = set[str]()
    for board in boards:
        for line in board.models:
            found = _interval(line, task)
            if found is not None and found.estimate is not None:
                assert board.setting.shots is not None  # the caller's choice
                known.setdefault(line.model, {})[board.setting.shots] = found
                marked |= {line.model} if _marked(line, task) else set()
    axes = _axes(known.values())
    curves = []
    for place, (model, title) in enumerate(models.items()):
        number = place % COLOURED
        points = tuple(_point(shots, one, axes, number) for shots, one in known.get(model, {}).items())
        if points:
            curves.append(CurveLine(model, title, model in marked, number, points))
    covers = spoken((shots_in_words(p.shots), p.interval) for curve in curves for p in curve.points)
    return Panel(task, covers, tuple(curves), axes.ticks, tuple((x, k) for k, x in axes.across.items()))


def _interval(line: Line, task: str | None) -> Interval | None:
    if task is None:
        return line.mean
    return line.pages[task].interval if task in line.pages else None


def _marked(line: Line, task: str | None) -> bool:
    return line.marked if task is None else line.pages[task].marked


@dataclass(frozen=True, slots=True)
class _Axes:
    """A panel's axes: the range of values, and the place of each number of shots."""

    low: float
    high: float
    across: Mapping[Shots, float]

    def up(self, value: float) -> float:
        """The place of a value, counted from above."""
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (self.high - value) / (self.high - self.low), 1)

    @property
    def ticks(self) -> tuple[tuple[float, int], ...]:
        """Places and percents of the horizontal lines."""
        steps = range(round(self.low / STEP), round(self.high / STEP) + 1)
        return tuple((self.up(step * STEP), round(100 * step * STEP)) for step in steps)


def _axes(known: Collection[Mapping[Shots, Interval]]) -> _Axes:
    """Axes of whole steps around all intervals, numbers of shots at equal distances."""
    ends = [end for own in known for one in own.values() for end in (one.low, one.high, one.estimate)]
    told = [end for end in ends if end is not None]
    low, high = math.floor(min(told, default=0) / STEP), math.ceil(max(told, default=1) / STEP)
    shots = sorted({k for own in known for k in own}, key=shots_order)
    width = WIDTH - LEFT - RIGHT
    across = {k: round(LEFT + width * (place + 0.5) / len(shots), 1) for place, k in enumerate(shots)}
    return _Axes(STEP * low, STEP * max(high, low + 1), across)


def _point(shots: Shots, known: Interval, axes: _Axes, number: int) -> CurvePoint:
    assert known.estimate is not None  # the caller's choice
    x = round(axes.across[shots] + APART * (number - (COLOURED - 1) / 2), 1)
    low, high = (None if end is None else axes.up(end) for end in (known.low, known.high))
    return CurvePoint(shots, x, axes.up(known.estimate), low, high, known)


@dataclass(frozen=True, slots=True)
class OperatingRow:
    """Up to six models of one task, each with its number (0 to 5) of colour and dash; `share` is chance of precision.

    `decimals` are those of the table that has the same AUROC.
    """

    task: str
    of: str
    share: float
    decimals: int
    lines: tuple[tuple[int, Line, Operating], ...]


def operating_rows(board: Board, boards: Sequence[Board], few_shot: Sequence[CurveFigure]) -> list[OperatingRow]:
    """The panels of a board, by task; negative controls are in none. Models keep the colours of few-shot curves."""
    place = {model: number for number, model in enumerate(_order(boards, few_shot))}
    rows = []
    for task in board.tasks:
        found = [
            (place[line.model], line, curves)
            for line in board.models
            if task in line.pages and (curves := line.pages[task].operating) is not None
        ]
        for row in sorted({number // COLOURED for number, *_ in found}):
            own = [(number % COLOURED, line, one) for number, line, one in found if number // COLOURED == row]
            decimals = 2 if board.setting.kind == "multi-label" else 1
            share = fmean(one.share for *_, one in own)
            rows.append(OperatingRow(task, own[0][2].of, share, decimals, tuple(own)))
    return rows


def _order(boards: Sequence[Board], few_shot: Sequence[CurveFigure]) -> list[str]:
    """All models: first as few-shot curves have them, then as the boards do."""
    curves = (model for figure in few_shot for row in figure.rows for model, _ in row)
    return list(dict.fromkeys([*curves, *(line.model for board in boards for line in board.models)]))
