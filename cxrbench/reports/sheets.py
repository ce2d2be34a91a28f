"""Subgroups, prompts, calibration and frequencies as text: for the terminal, Markdown and JSON."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cxrbench.analysis.cell import Calibrated
from cxrbench.analysis.frequency import FrequencyView
from cxrbench.analysis.prompts import PromptSpread, Spread
from cxrbench.analysis.subgroups import RULE, Gap, Subgroup, Subgroups
from cxrbench.evaluate.statistics.interval import covering
from cxrbench.reports.comparisons import MADE, grid, interval_text, p_text, percent, plain
from cxrbench.specs.paper import MISSING

Format = Literal["terminal", "markdown", "json"]


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of text with its title, and lines below it."""

    title: str
    head: tuple[str, ...]
    rows: Sequence[Sequence[str]]
    notes: tuple[str, ...] = field(default=())


def render(data: Any, sheets: Callable[[], Sequence[Sheet]], form: Format) -> str:
    """Sheets as text ending in a line feed; JSON holds the unrounded `data` instead."""
    if form == "json":
        return json.dumps(plain(data), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return "\n\n".join(_sheet(sheet, form) for sheet in sheets()) + "\n"


def _sheet(sheet: Sheet, form: Literal["terminal", "markdown"]) -> str:
    mark = "## " if form == "markdown" else ""
    parts = [mark + sheet.title, grid(sheet.rows, sheet.head, form), "\n".join(f"note: {n}" for n in sheet.notes)]
    return "\n\n".join(part for part in parts if part)


def subgroup_sheet(name: str, found: Subgroups, *, synthetic: bool) -> Sheet:
    """Groups of one cell, each with its counts, and their differences from the largest."""
    units = f"{found.over}s"
    rows = [_group_row(group, units, found.gaps) for group in found.groups]
    unknown = f"{found.unknown} of {found.images} test images are in no group: their {found.by} is not known"
    told = [("", one) for one in (group.interval for group in found.groups) if one is not None]
    covers = [f"brackets are 95 % intervals: {covering(told)}"] if told else []
    beware = [f"{g.name}: {g.interval.reason}" for g in found.groups if g.interval is not None and g.interval.reason]
    notes = (
        RULE,
        *covers,
        "differences are uncorrected for their number",
        *([unknown] if found.unknown else []),
        *beware,
    )
    head = (
        found.by,
        "images",
        "patients" if found.over == "patient" else "units",
        "classes",
        found.number,
        "difference",
    )
    return Sheet(f"{MADE if synthetic else ''}{name}, by {found.by}: {found.number} in percent", head, rows, notes)


def _group_row(group: Subgroup, units: str, gaps: Sequence[Gap]) -> list[str]:
    total = len(group.classes) + len(group.left_out)
    number = interval_text(group.interval) if group.interval is not None else f"too small: {group.reason}"
    gap = next((gap for gap in gaps if gap.name == group.name), None)
    told = MISSING
    if gap is not None:
        shown = gap.reason if gap.interval is None else interval_text(gap.interval, sign=True)
        told = f"{shown} from {gap.reference}" + f", over {len(gap.classes)} classes" * (len(gap.classes) < total)
    return [group.name, str(group.images), f"{group.units} {units}", _classes(group, total), number, told]


def _classes(group: Subgroup, total: int) -> str:
    if not group.left_out:
        return f"all {total}"
    absent = ", ".join(f"{label} ({number})" for label, number in group.left_out.items())
    return f"{len(group.classes)} of {total}, without {absent}"


def prompt_sheets(found: Sequence[PromptSpread], *, synthetic: bool) -> list[Sheet]:
    """Spread over prompt sets, then over the single prompts of each."""
    mark = MADE if synthetic else ""
    sets = [
        [p.model, _task(p.task, p.group), *_spread(p.over_sets), p.sets[0].prompts, p.sets[-1].prompts] for p in found
    ]
    singles = [
        [
            p.model,
            _task(p.task, p.group),
            one.prompts,
            MISSING if one.value is None else percent(one.value),
            MISSING if one.interval is None else _brackets(interval_text(one.interval)),
            *_spread(one.singles),
        ]
        for p in found
        for one in p.sets
    ]
    numbers = ("n", "mean", "std", "least", "greatest")
    undefined = sum(one.singles.undefined for p in found for one in p.sets if one.singles is not None)
    known = [(_task(p.task, p.group), one.interval) for p in found for one in p.sets if one.interval is not None]
    notes = ["std is over the wordings measured (ddof 0), no standard error"]
    notes += [f"brackets are 95 % intervals: {covering(known)}"] if known else []
    notes += [f"{undefined} single prompts have no number: a class has no image in a fold"] if undefined else []
    if any(one.singles is None for p in found for one in p.sets):
        notes.append("a dash under single prompts: the set has one prompt per class, or the record is older than them")
    return [
        Sheet(
            f"{mark}balanced accuracy over prompt sets, in percent",
            ("model", "task", *numbers, "best", "worst"),
            sets,
        ),
        Sheet(
            f"{mark}each prompt set with all its prompts, and over single prompts per class, in percent",
            ("model", "task", "prompts", "all prompts", "95 % interval", *(f"single: {n}" for n in numbers)),
            singles,
            tuple(notes),
        ),
    ]


def _task(task: str, group: str) -> str:
    return task if group == "all" else f"{task} ({group})"


def _brackets(text: str) -> str:
    return text.partition(" ")[2] or MISSING


def _spread(spread: Spread | None) -> list[str]:
    if spread is None:
        return ["0", *[MISSING] * 4]
    numbers = (spread.mean, spread.std, spread.low, spread.high)
    shown = [percent(number) for number in numbers]
    return [str(spread.n), shown[0], shown[1] if spread.n > 1 else MISSING, *shown[2:]]


def calibration_sheets(found: Calibrated, *, synthetic: bool) -> list[Sheet]:
    """Errors of every cell, then the reliability values behind its curve."""
    mark = MADE if synthetic else ""
    rows = [
        [c.name, str(len(c.folds)), str(c.pooled.rows), f"{c.ece:.4f}", f"{c.adaptive_ece:.4f}", f"{c.brier:.4f}"]
        for c in found.cells
    ]
    notes = [
        "ECE over 15 bins of equal width, adaptive over 15 of equal numbers of rows, Brier summed over classes (0 to "
        "2); of a multi-label task over images and findings together, Brier 0 to 1; all 0 at best, means over folds",
        *(f"not judged: {reason}" for reason in found.refused.values()),
    ]
    head = ("cell", "folds", "rows", "ECE", "adaptive ECE", "Brier")
    sheets = [Sheet(f"{mark}calibration", head, rows, tuple(notes))]
    for cell in found.cells:
        bins = [
            [f"{b.low:.3f}–{b.high:.3f}", str(b.rows), f"{b.confidence:.4f}", f"{b.accuracy:.4f}"]
            for b in cell.pooled.reliability
        ]
        named = f"{mark}{cell.name}: reliability, rows of all folds together"
        sheets.append(Sheet(named, ("confidence", "rows", "mean confidence", "accuracy"), bins))
    return sheets


def frequency_sheet(found: FrequencyView, *, synthetic: bool) -> Sheet:
    """Classes by falling share in pre-training, with their recall and the rank correlation."""
    rows = [[point.label, percent(point.share), percent(point.recall)] for point in found.points]
    if found.rho is None or found.p is None:
        told = f"no rank correlation: {found.reason}"
    else:
        told = (
            f"Spearman's rank correlation {found.rho:+.2f}, p {p_text(found.p)} (permutations of {len(rows)} classes)"
        )
    absent = ", ".join(found.unmatched)
    notes = [told, *([f"not known to the corpus, or without a test image: {absent}"] if absent else [])]
    name = f"{found.model}, {_task(found.task, found.group)}, zero-shot, {found.prompts}"
    title = f"{MADE if synthetic else ''}{name}: recall beside frequency in pre-training, in percent"
    return Sheet(title, ("class", "share of images", "recall"), rows, tuple(notes))
