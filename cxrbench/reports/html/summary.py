"""What a chapter says on the first screen: what was measured, what may be concluded from it, and what may not."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cxrbench.analysis.leaderboard import Leaderboard
from cxrbench.evaluate.statistics.estimate import ALPHA
from cxrbench.reports.html.boards import Board, Line
from cxrbench.reports.html.cells import CellPage
from cxrbench.reports.html.page import ChapterPages, Report
from cxrbench.reports.html.show import heading, p_value, words

MOST = 6  # names that a sentence lists


@dataclass(frozen=True, slots=True)
class Answer:
    """Plain sentences of one chapter; `about` is the setting that both conclusions are of, that of its first board."""

    about: str
    measured: tuple[str, ...]
    may: tuple[str, ...]
    may_not: tuple[str, ...]


def answer(report: Report, part: ChapterPages) -> Answer:
    """The sentences of a chapter, made from what its first board and its records say: nothing is computed here."""
    return Answer(
        about=words(part.first.setting),
        measured=tuple(_measured(report, part)),
        may=tuple(_may(report, part.first, _names(part))),
        may_not=tuple(_may_not(report, part)),
    )


def _names(part: ChapterPages) -> dict[str, str]:
    """The title of each model, with its name where several have this title."""
    titles = part.titles
    often = Counter(titles.values())
    return {model: title if often[title] == 1 else f"{title} ({model})" for model, title in titles.items()}


def _some(names: Iterable[str]) -> str:
    """Names in a sentence: all, or the first and how many more."""
    told = list(dict.fromkeys(names))
    rest = len(told) - MOST
    return ", ".join(told) if rest < 2 else f"{', '.join(told[:MOST])} and {rest} more"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _measured(report: Report, part: ChapterPages) -> Iterator[str]:
    titles, controls = _names(part), part.controls
    tasks = [task for task, _ in part.by_task()]
    yield f"{_count(part.models, 'encoder')}: {_some(titles[model] for model in titles if model not in controls)}"
    yield f"{_count(len(tasks), 'task')}: {_some(report.title(task) for task in tasks)}"
    if controls:
        names = _some(titles[model].removeprefix("Control: ") for model in sorted(controls))
        yield f"{_count(len(controls), 'negative control')}: {names}"
    yield f"{_count(len(part.pages), 'cell')} in {_count(len(part.boards), 'setting')}"


def _may(report: Report, board: Board, titles: Mapping[str, str]) -> Iterator[str]:
    """Who is shown to be better than whom on the mean over the board's tasks, and who may be the best."""
    ranking = board.ranking
    if ranking is None:
        yield f"No encoder is shown to be better than another, for there are no places: {board.unranked}"
        return
    pairs = f"{_count(ranking.places.compared, 'pair')} of encoders"
    where = f"on the mean over {_some(report.title(task) for task in ranking.tasks)}"
    tested = f"paired on the same images, at {100 * ALPHA:g} % after Holm's correction"
    if not ranking.places.apart:
        yield f"No difference is shown {where}: none of {pairs} is told apart ({tested}), which does not mean equal"
        return
    yield f"{len(ranking.places.apart)} of {pairs} are told apart {where} ({tested})"
    yield from _better(board, titles)
    yield _best(ranking, titles)


def _better(board: Board, titles: Mapping[str, str]) -> Iterator[str]:
    told = [(titles[line.model], [titles[one.model] for one in worse]) for line, _, worse in board.standings() if worse]
    others = len(board.standings()) - 1
    for title, worse in told[:MOST]:
        yield f"{title} is better than {'all others' if len(worse) == others > 1 else _some(worse)}"
    if (rest := len(told) - MOST) > 0:
        yield f"{_count(rest, 'more encoder')} better than another: the leaderboard tells"


def _best(ranking: Leaderboard, titles: Mapping[str, str]) -> str:
    if len(ranking.best_mean) == len(ranking.models):
        return "Any of them may be the best"
    return f"May be the best: {_some(titles[model] for model in ranking.best_mean)}"


def _may_not(report: Report, part: ChapterPages) -> Iterator[str]:
    if part.chapter.synthetic:
        told = ((part.drawn, "the images are phantoms"), (part.untrue, "the weights are synthetic"))
        yield f"Anything about patients or published models: {' and '.join(why for holds, why in told if holds)}"
    yield from _marks(report, list(part.pages.values()), _names(part))
    yield from _intervals(report, part.first)
    yield from _controls(report, part.first)
    ranking = part.first.ranking
    if ranking is not None and ranking.ranks.p >= ALPHA:
        p = p_value(ranking.ranks.p)
        yield f"That this order holds on other tasks: average ranks are not shown to differ (Friedman, p {p})"
    yield "How any of them does in other hospitals: the test images of a task are of its own collection alone"
    if report.unsound:
        yield f"Anything from {_count(len(report.unsound), 'record')} left out of this report: the audit names why"


def _marks(report: Report, pages: Sequence[CellPage], titles: Mapping[str, str]) -> Iterator[str]:
    """What the marks *, †, § and ≈ of cells keep from being concluded."""
    flawed = [page for page in pages if page.cautions]
    if flawed:
        why = _some(caution for page in flawed for caution in page.cautions)
        yield f"What was asked, from {_count(len(flawed), 'cell')} with *: {why}"
    seen = [page for page in pages if page.marked]
    if seen:
        models = _some(titles[page.record.model.name] for page in seen)
        tasks = _some(report.title(page.record.data.task) for page in seen)
        yield f"How {models} would do on {tasks} had pre-training not seen that collection (†)"
    if doubted := sum(bool(page.doubt) for page in pages):
        yield f"That {_count(doubted, 'cell')} with § scored unseen images: training images may be among those scored"
    if moved := sum(bool(page.row_order) for page in pages):
        yield f"The last digits of {_count(moved, 'cell')} with ≈: training images in another order move them"


def _intervals(report: Report, board: Board) -> Iterator[str]:
    """What the intervals of a board leave out, and where they rest on few patients."""
    cells = [(report.title(task), page.interval) for line in board.models for task, page in line.pages.items()]
    known = [(title, one) for title, one in cells if one.low is not None]
    for reason in dict.fromkeys(one.reason for _, one in known if one.reason):
        yield f"Much from {_some(title for title, one in known if one.reason == reason)}: {reason}"
    if unnamed := list(dict.fromkeys(title for title, one in known if one.over == "image")):
        yield f"That intervals of {_some(unnamed)} are long enough: no id tells patients who have several images"
    if any(covers in ("one draw", "one draw, one wording") for _, one in known for covers in one.covers):
        yield "How far other training images would move a number: one draw of them was measured"
    if none := list(dict.fromkeys(title for title, one in cells if one.low is None)):
        yield f"How sure the numbers of {_some(none)} are: some have no interval"


def _controls(report: Report, board: Board) -> Iterator[str]:
    controls = [line for line in board.lines if line.control]
    if not controls:
        yield "That a task needs a look at disease: no negative control was measured in this setting"
    for line in controls:
        if above := [report.title(task) for task in board.tasks if _above(board, line, task)]:
            yield (
                f"That {_some(above)} {'need' if len(above) > 1 else 'needs'} a look at disease: {line.title}, which "
                "must do badly, has an interval above chance"
            )


def _above(board: Board, line: Line, task: str) -> bool:
    """Whether the whole interval of a line on a task lies above what a guess comes to."""
    found = line.interval(task)
    return found is not None and found.low is not None and found.low > board.chance(task)


def sentence(text: str) -> str:
    """A text as a sentence, with its full stop once."""
    return f"{heading(text).rstrip('.')}."
