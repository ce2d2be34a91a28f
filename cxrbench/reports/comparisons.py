"""Comparisons and boards as text: for the terminal, Markdown and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import numpy as np

from cxrbench.analysis.compare import WEIGHTS, Comparison, TaskDifference
from cxrbench.analysis.leaderboard import Leaderboard
from cxrbench.evaluate.metric_table import Metric, NumberFormat
from cxrbench.evaluate.statistics.estimate import ALPHA
from cxrbench.evaluate.statistics.interval import Interval, covering
from cxrbench.records.row_order import REORDERED, UNSETTLED

Format = Literal["terminal", "markdown", "json"]

PERCENT = NumberFormat()
MADE = "PHANTOM, synthetic images or weights, no result: "


@dataclass(frozen=True, slots=True)
class ComparisonText:
    """One setting as it is shown: what it is about, a table, and lines below it."""

    title: str
    setting: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    lines: Sequence[str]


def render(found: Sequence[Comparison | Leaderboard], form: Format) -> str:
    """All settings as text, ending in a line feed; JSON holds the unrounded numbers of the same."""
    if form == "json":
        return json.dumps([plain(part) for part in found], indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    texts = [_text(shown(part), form) for part in found]
    if len(found) > 1:
        texts.append(several(len(found)))
    return "\n\n".join(texts) + "\n"


def several(settings: int) -> str:
    """What to know of so many settings that are shown together."""
    return f"note: p are corrected within a setting, not over the {settings} settings shown"


def shown(found: Comparison | Leaderboard) -> ComparisonText:
    """A comparison or a board in words."""
    return _comparison(found) if isinstance(found, Comparison) else _leaderboard(found)


def _text(told: ComparisonText, form: Literal["terminal", "markdown"]) -> str:
    mark, between = ("## ", "\n\n") if form == "markdown" else ("", "\n")
    title = f"{mark}{told.title}{between}{told.setting}"
    return "\n\n".join([title, grid(told.rows, told.head, form), "\n".join(told.lines)])


def plain(value: Any) -> Any:
    """Dataclasses, mappings, sets, tuples and arrays as what JSON holds; a metric is its name."""
    if isinstance(value, Metric):
        return value.name
    if is_dataclass(value):
        told = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        if isinstance(value, Interval):
            told["covers"] = value.words
        return {**told, "verdict": value.verdict} if isinstance(value, TaskDifference) else told
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value


def _comparison(found: Comparison) -> ComparisonText:
    narrow = any(task.mcnemar is not None for task in found.tasks)
    head = ["task", "units", f"A: {found.a}", f"B: {found.b}", "A - B", "p, Holm", "can show", _better(found)]
    rows = [_task_row(found, task, narrow=narrow) for task in found.tasks]
    if narrow:
        head.insert(6, "McNemar")
    if len(rows) > 1:
        mean = interval_text(found.mean, found.metric.shown, sign=True)
        rows.append(
            [f"mean of these {len(rows)} tasks", "", "", "", mean, p_text(found.mean_p), *[""] * (len(head) - 6)]
        )
    title = f"{found.a} and {found.b}: {_head(found.metric)}"
    return ComparisonText(_title(found, title), _setting(found), head, rows, _reading(found))


def _better(found: Comparison) -> str:
    """The head of the column of verdicts, which says under what they hold."""
    covers = {one for task in found.tasks for one in task.difference.covers}
    narrow = {
        "these draws": "better, these training images only",
        "one draw": "better, these training images only",
        "these prompts": "better, these prompts only",
        "one wording": "better, these prompts only",
        "these draws and prompts": "better, these training images and prompts only",
        "one draw, one wording": "better, these training images and prompts only",
        "draws, one wording": "better, these prompts only",
        "one draw, prompt draws": "better, these training images only",
    }
    told = dict.fromkeys(narrow[one] for one in narrow if one in covers)
    return ", ".join(told) if told and covers <= narrow.keys() else "better"


def _task_row(found: Comparison, task: TaskDifference, *, narrow: bool) -> list[str]:
    difference, shown = task.difference, found.metric.shown
    smallest = "–" if task.resolvable is None else number_text(task.resolvable, shown)
    row = [
        task.task,
        f"{difference.units} {difference.over}s",
        _unsettled(interval_text(task.a.interval, shown), told=task.a.row_order),
        _unsettled(interval_text(task.b.interval, shown), told=task.b.row_order),
        interval_text(difference, shown, sign=True),
        p_text(task.p_holm),
        smallest,
        {"a": found.a, "b": found.b, "undecided": "–"}[task.verdict],
    ]
    if narrow:
        row.insert(6, "–" if task.mcnemar is None else p_text(task.mcnemar.p))
    return row


def _reading(found: Comparison) -> list[str]:
    tested = sum(task.p_holm is not None for task in found.tasks)
    lines = [
        f"note: brackets are 95 % intervals: {_brackets(found)}",
        f"note: p of no difference, from the same law as the interval of A - B; Holm over {tested} tasks, which the "
        "interval does not know of: better goes by p",
        "note: can show: the smallest true difference found with 80 % power after that correction; smaller ones are "
        "often missed, and it bounds nothing",
    ]
    if any(task.mcnemar is not None for task in found.tasks):
        lines.append("note: McNemar's test is on accuracy, exact, uncorrected, and of these draws alone")
    if found.sign_flip is not None:
        lines.append(f"note: the mean and its p (one test, not corrected) speak of these tasks; {_others(found)}")
    lines += [f"note: {WEIGHTS}", *_spreads(found), *_paired_orders(found)]
    lines += [f"note: {note}" for note in found.notes]
    reasons = dict.fromkeys(
        (t.task, i.reason) for t in found.tasks for i in (t.a.interval, t.b.interval, t.difference) if i.reason
    )
    return [*lines, *(f"note: {task}: {reason}" for task, reason in reasons), *_refused(found.refused)]


def _unsettled(text: str, *, told: object) -> str:
    """A number, marked where anything is told of what another order of the training images changes."""
    return f"{text} {UNSETTLED}" if told else text


def _paired_orders(found: Comparison) -> list[str]:
    """Which side hangs on the order of the training images, and what of the comparison does not know of it."""
    sides = [(task.task, side) for task in found.tasks for side in ((found.a, task.a), (found.b, task.b))]
    told = [f"note: {model}, {task}: {one.row_order}" for task, (model, one) in sides if one.row_order]
    blind = "; A - B, its interval and its p are of the first order alone"
    return [f"note: {REORDERED}{blind}", *told] if told else []


def _board_orders(found: Leaderboard) -> list[str]:
    told = [f"note: {model}, {task}: {note}" for task, row in found.row_order.items() for model, note in row.items()]
    return [f"note: {REORDERED}; intervals, places and tests are of the first order alone", *told] if told else []


def _brackets(found: Comparison) -> str:
    """What the intervals of A, B and their difference speak of; each by itself where they differ."""
    sides = {
        f"A, {found.a}": [(task.task, task.a.interval) for task in found.tasks],
        f"B, {found.b}": [(task.task, task.b.interval) for task in found.tasks],
        "A - B": [(task.task, task.difference) for task in found.tasks],
    }
    told = {name: covering(side) for name, side in sides.items()}
    if len(set(told.values())) == 1:
        return next(iter(told.values()))
    return "; ".join(f"{name}: {words}" for name, words in told.items())


def _others(found: Comparison) -> str:
    """Whether the order would hold on other tasks, as far as so few can tell."""
    assert found.sign_flip is not None  # the caller's choice
    least = 2 / 2 ** len(found.tasks)
    if least >= ALPHA:
        return (
            f"of other tasks these {len(found.tasks)} are too few to tell (flipped signs give no p below {least:.3f})"
        )
    return f"on other tasks: p {p_text(found.sign_flip)} by flipped signs, as if tasks were drawn at random"


def _spreads(found: Comparison) -> list[str]:
    """The spread over folds, in words that keep it from being read as an error bar."""
    told = []
    for task in found.tasks:
        a, b = task.a.spread, task.b.spread
        if max(a.folds, b.folds) > 1:
            stds = " and ".join("–" if s.std is None else number_text(s.std, found.metric.shown) for s in (a, b))
            told.append(f"{task.task} {stds} ({a.folds} and {b.folds} folds, {a.relation})")
    return [f"note: std over folds, no standard error: {'; '.join(told)}"] if told else []


def _leaderboard(found: Leaderboard) -> ComparisonText:
    head = ["model", "place", f"mean of these {len(found.tasks)} tasks", *found.tasks]
    rows = [_board_row(found, number) for number in range(len(found.models))]
    for control in found.controls:
        numbers = zip(found.tasks, control.values, strict=True)
        told = ("–" if one is None else _board_number(found, task, control.model, one) for task, one in numbers)
        rows.append([f"control: {control.model}", "–", "–", *told])
    title = f"{len(found.models)} models: {_head(found.metric)}"
    return ComparisonText(_title(found, title), _setting(found), head, rows, _board_reading(found))


def _board_row(found: Leaderboard, number: int) -> list[str]:
    model = found.models[number]
    changed = any(model in row for row in found.row_order.values())
    mean = _unsettled(interval_text(found.means[number], found.metric.shown), told=changed)
    numbers = [
        _marked(_board_number(found, task, model, row[number]), model in best)
        for task, row, best in zip(found.tasks, found.values, found.best, strict=True)
    ]
    return [model, place_text(found.places.of[model]), _marked(mean, model in found.best_mean), *numbers]


def _board_number(found: Leaderboard, task: str, model: str, value: Interval) -> str:
    return _unsettled(interval_text(value, found.metric.shown), told=found.row_order.get(task, {}).get(model))


def _head(metric: Metric) -> str:
    """What is compared, and in what."""
    return f"{metric.title} in percent" if metric.shown.percent else metric.title


def place_text(place: tuple[int, int]) -> str:
    """From which to which place, such as `1-3`, or one of them."""
    return f"{place[0]}" if place[0] == place[1] else f"{place[0]}–{place[1]}"


def _marked(text: str, may_be_best: bool) -> str:
    return f"{text} ~" if may_be_best else text


def _board_reading(found: Leaderboard) -> list[str]:
    ranks, apart = found.ranks, len(found.places.apart)
    told = [(task, one) for task, row in zip(found.tasks, found.values, strict=True) for one in row]
    told += [(t, one) for row in found.controls for t, one in zip(found.tasks, row.values, strict=True) if one]
    reasons = dict.fromkeys(f"{task}: {one.reason}" for task, one in told if one.reason)
    return [
        f"note: brackets are 95 % intervals: {covering(told)}",
        "note: ~ not ruled out as the best of its column: none is shown to be better; the best is among these "
        "with 95 % confidence, each column by itself",
        "note: place: where a model may stand by its mean over these tasks, with 95 % confidence for all at once (all "
        "pairs, Holm); within a range no order is shown",
        f"note: told apart at 5 %: {apart} of {found.places.compared} pairs of models by their mean, "
        f"{found.told_apart} of {found.compared} pairs task by task (Holm over all of them)",
        f"note: would the order hold on other tasks? Friedman over {len(found.tasks)} tasks: {ranks.friedman:.2f}, "
        f"p {p_text(ranks.p)}; Nemenyi: average ranks differ at 5 % when {ranks.critical_difference:.2f} apart",
        f"note: {WEIGHTS}",
        *_controls(found),
        *_board_orders(found),
        *(f"note: {note}" for note in (*found.notes, *reasons)),
        *_refused(found.refused),
    ]


def _controls(found: Leaderboard) -> list[str]:
    names = ", ".join(control.model for control in found.controls)
    return [f"note: negative controls stand apart, with no place and in no test: {names}"] if names else []


def _refused(refused: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"not compared: {task}: {'; '.join(reasons)}" for task, reasons in refused.items()]


def _title(found: Comparison | Leaderboard, title: str) -> str:
    return f"{MADE if found.synthetic else ''}{title}"


def _setting(found: Comparison | Leaderboard) -> str:
    return f"{found.setting}, variant {found.variant}"


def grid(rows: Sequence[Sequence[str]], head: Sequence[str], form: Format) -> str:
    """Rows under a head, as a terminal or Markdown shows them."""
    from tabulate import tabulate

    style = "github" if form == "markdown" else "simple"
    return tabulate(rows, head, tablefmt=style, disable_numparse=True, stralign="left")


def interval_text(value: Interval, shown: NumberFormat = PERCENT, *, sign: bool = False) -> str:
    """An estimate with its interval in brackets, in percent unless shown otherwise; a dash without one."""
    if value.estimate is None:
        return "–"
    told = number_text(value.estimate, shown, sign=sign)
    if value.low is None or value.high is None:
        return told
    return f"{told} [{number_text(value.low, shown, sign=sign)}, {number_text(value.high, shown, sign=sign)}]"


def percent(value: float, *, sign: bool = False) -> str:
    """A share as percent with two decimals."""
    return number_text(value, PERCENT, sign=sign)


def number_text(value: float, shown: NumberFormat, *, sign: bool = False) -> str:
    """A value as its metric is shown."""
    return f"{100 * value if shown.percent else value:{'+' if sign else ''}.{shown.decimals}f}"


def p_text(value: float | None) -> str:
    """A p value with three decimals, a dash without one."""
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
