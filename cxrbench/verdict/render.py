"""Comparisons and boards as text: for the terminal, Markdown and JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal

import numpy as np

from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.verdict.compare import Comparison, TaskDifference
from cxrbench.verdict.leaderboard import Leaderboard

Format = Literal["terminal", "markdown", "json"]

MADE = "PHANTOM, made images or weights, no result: "


def render(found: Sequence[Comparison | Leaderboard], form: Format) -> str:
    """All settings as text, ending in a line feed; JSON holds the unrounded numbers of the same."""
    if form == "json":
        return json.dumps([plain(part) for part in found], indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    texts = [_comparison(p, form) if isinstance(p, Comparison) else _leaderboard(p, form) for p in found]
    if len(found) > 1:
        texts.append(f"note: p are corrected within a setting, not over the {len(found)} settings shown")
    return "\n\n".join(texts) + "\n"


def plain(value: Any) -> Any:
    """Dataclasses, mappings, tuples and arrays as what JSON holds."""
    if is_dataclass(value):
        told = {f.name: plain(getattr(value, f.name)) for f in fields(value)}
        derived = {"verdict": value.verdict} if isinstance(value, TaskDifference) else {}
        return {**told, **derived, **({"untold": value.untold} if isinstance(value, Leaderboard) else {})}
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, np.ndarray):
        return value.tolist()
    return [plain(entry) for entry in value] if isinstance(value, tuple) else value


def _comparison(found: Comparison, form: Format) -> str:
    head = [
        "task",
        "units",
        f"A: {found.a}",
        f"B: {found.b}",
        "A - B",
        "p, Holm",
        "McNemar, Holm",
        "can show",
        "better",
    ]
    rows = [_task_row(found, task) for task in found.tasks]
    mean, flips = found.mean, "–" if found.sign_flip is None else p_text(found.sign_flip)
    if len(rows) > 1:
        rows.append(["mean", f"{len(found.tasks)} tasks", "", "", interval_text(mean, sign=True), flips, "", "", ""])
    title = f"{found.a} and {found.b}: {_named(found.metric)} in percent"
    return "\n\n".join([_title(found, title, form), grid(rows, head, form), "\n".join(_reading(found))])


def _task_row(found: Comparison, task: TaskDifference) -> list[str]:
    difference = task.difference
    smallest = "–" if difference.resolvable is None else percent(difference.resolvable)
    over = difference.interval.over
    return [
        task.task,
        f"{difference.interval.units} {over}s",
        interval_text(task.a.interval),
        interval_text(task.b.interval),
        interval_text(difference.interval, sign=True),
        p_text(task.p_holm),
        p_text(task.mcnemar_holm),
        smallest,
        {"a": found.a, "b": found.b, "undecided": "–"}[task.verdict],
    ]


def _reading(found: Comparison) -> list[str]:
    test = {
        "swap": "outcomes exchanged unit by unit",
        "bootstrap": "the bootstrap's standard error",
    }[found.tasks[0].difference.test]
    tested = sum(task.p_holm is not None for task in found.tasks)
    lines = [
        "note: brackets are 95 % intervals over test units, training rows as drawn; both models on the same resamples",
        f"note: p by {test}, Holm over {tested} tasks; in the row of means by flipped signs of the tasks",
        "note: McNemar's test is on accuracy, exact; can show: the smallest difference found with 80 % power at 5 %, "
        "uncorrected",
        *_spreads(found),
        *(f"note: {note}" for note in found.notes),
        *_refused(found.refused),
    ]
    reasons = dict.fromkeys(
        (t.task, i.reason) for t in found.tasks for i in (t.a.interval, t.b.interval, t.difference.interval) if i.reason
    )
    return [*lines, *(f"note: {task}: {reason}" for task, reason in reasons)]


def _spreads(found: Comparison) -> list[str]:
    """The spread over folds, in words that keep it from being read as an error bar."""
    told = []
    for task in found.tasks:
        a, b = task.a.spread, task.b.spread
        if max(a.folds, b.folds) > 1:
            stds = " and ".join("–" if s.std is None else percent(s.std) for s in (a, b))
            told.append(f"{task.task} {stds} ({a.folds} and {b.folds} folds, {a.relation})")
    return [f"note: std over folds, no standard error: {'; '.join(told)}"] if told else []


def _leaderboard(found: Leaderboard, form: Format) -> str:
    head = ["model", "average rank", *found.tasks]
    rows = [
        [
            model,
            f"{found.ranks.ranks[place]:.2f} [{low:.2f}, {high:.2f}]",
            *(interval_text(row[place]) for row in found.values),
        ]
        for place, (model, (low, high)) in enumerate(zip(found.models, found.rank_intervals, strict=True))
    ]
    for control in found.controls:
        numbers = ("–" if value is None else interval_text(value) for value in control.values)
        rows.append([f"control: {control.model}", "–", *numbers])
    title = f"{len(found.models)} models: {_named(found.metric)} in percent"
    return "\n\n".join([_title(found, title, form), grid(rows, head, form), "\n".join(_board_reading(found))])


def _board_reading(found: Leaderboard) -> list[str]:
    ranks, pairs = found.ranks, found.neighbours
    untold = sum(not pair.told_apart for pair in pairs)
    reasons = {f"{t}: {i.reason}" for t, row in zip(found.tasks, found.values, strict=True) for i in row if i.reason}
    return [
        "note: brackets are 95 % intervals over test units, training rows as drawn; those of ranks keep the tasks",
        f"note: Friedman over {len(found.tasks)} tasks: {ranks.friedman:.2f}, p {p_text(ranks.p)}; Nemenyi: average "
        f"ranks differ at 5 % when {ranks.critical_difference:.2f} apart",
        f"note: {untold} of {len(pairs)} neighbouring pairs ({found.untold:.0%}) cannot be told apart on their task "
        "(paired, Holm over all of them)",
        *_controls(found),
        *(f"note: {note}" for note in (*found.notes, *sorted(reasons))),
        *_refused(found.refused),
    ]


def _controls(found: Leaderboard) -> list[str]:
    names = ", ".join(control.model for control in found.controls)
    return [f"note: negative controls stand apart, with no rank and in no test: {names}"] if names else []


def _refused(refused: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"not compared: {task}: {'; '.join(reasons)}" for task, reasons in refused.items()]


def _title(found: Comparison | Leaderboard, title: str, form: Format) -> str:
    mark = "## " if form == "markdown" else ""
    lines = [f"{mark}{MADE if found.synthetic else ''}{title}", f"{found.setting}, variant {found.variant}"]
    return ("\n\n" if form == "markdown" else "\n").join(lines)


def grid(rows: Sequence[Sequence[str]], head: Sequence[str], form: Format) -> str:
    """Rows under a head, as a terminal or Markdown shows them."""
    from tabulate import tabulate

    style = "github" if form == "markdown" else "simple"
    return tabulate(rows, head, tablefmt=style, disable_numparse=True, stralign="left")


def _named(metric: str) -> str:
    return metric.replace("_", " ").replace("auroc", "AUROC").replace("f1", "F1")


def interval_text(value: Interval, *, sign: bool = False) -> str:
    """An estimate in percent with its interval in brackets, a dash without one."""
    if value.estimate is None:
        return "–"
    shown = percent(value.estimate, sign=sign)
    if value.low is None or value.high is None:
        return shown
    return f"{shown} [{percent(value.low, sign=sign)}, {percent(value.high, sign=sign)}]"


def percent(value: float, *, sign: bool = False) -> str:
    """A share as percent with two decimals."""
    return f"{100 * value:+.2f}" if sign else f"{100 * value:.2f}"


def p_text(value: float | None) -> str:
    """A p value with three decimals, a dash without one."""
    if value is None:
        return "–"
    return "<0.001" if value < 0.001 else f"{value:.3f}"
