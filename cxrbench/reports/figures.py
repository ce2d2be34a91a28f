"""Figures as SVG, PNG or PDF: few-shot curves, reliability, and accuracy over frequency."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np

from cxrbench.analysis.cell import Calibrated
from cxrbench.analysis.few_shot_curves import Curve, FewShotCurves, Method
from cxrbench.analysis.frequency import FrequencyView
from cxrbench.analysis.leaderboard import Leaderboard
from cxrbench.errors import SpecError
from cxrbench.evaluate.statistics.interval import covering, speaking, without_patients
from cxrbench.evaluate.statistics.paired import ALPHA
from cxrbench.records.row_order import REORDERED, UNSETTLED
from cxrbench.store.atomic import write_atomically
from cxrbench.system.extras import from_extra
from cxrbench.types import Shots

_FORMATS = {".svg", ".png", ".pdf"}
_WIDTH, _HEIGHT, _LINE = 8.0, 1.4, 0.18  # inches: page, axis with title, one model
_SALT = "cxrbench"  # makes the ids inside an SVG depend on nothing but the drawing


def checked_path(path: Path) -> Path:
    """The path; raises SpecError for an ending that is not SVG, PNG or PDF, MissingExtraError where nothing draws."""
    if path.suffix.lower() not in _FORMATS:
        raise SpecError(f"{path}: a figure ends in {', '.join(sorted(_FORMATS))}")
    with from_extra("figures", f"{path}"):
        import matplotlib  # noqa: F401, before anything is computed
    return path


def write_diagram(board: Leaderboard, path: Path) -> None:
    """Average ranks on a line, bars joining what Nemenyi's test at 5 % does not tell apart.

    The bytes depend on the board alone. Raises SpecError for an ending that is not SVG, PNG or PDF. Source: Demsar
    2006, drawn by scikit-posthocs.
    """
    from pandas import DataFrame

    checked_path(path)
    with from_extra("figures", f"{path}"):
        from matplotlib.figure import Figure
        from scikit_posthocs import critical_difference_diagram
    ranks = dict(zip(board.models, board.ranks.ranks.tolist(), strict=True))
    apart = DataFrame(board.ranks.nemenyi, index=list(board.models), columns=list(board.models))
    figure = Figure(figsize=(_WIDTH, _HEIGHT + _LINE * len(ranks)), layout="constrained")
    axes = figure.subplots()
    drawn = critical_difference_diagram(
        ranks,
        apart,
        alpha=ALPHA,
        ax=axes,
        label_fmt_left="{label} ({rank:.2f})",
        label_fmt_right="({rank:.2f}) {label}",
    )
    _order_bars([bar for bars in drawn["crossbars"] for bar in bars])
    made = "PHANTOM, no result: " if board.synthetic else ""
    rule = f"bars join models less than {board.ranks.critical_difference:.2f} apart (Nemenyi, {ALPHA:.0%})"
    axes.set_title(f"{made}average rank over {len(board.tasks)} tasks, {board.setting}\n{rule}", fontsize="medium")
    write_figure(figure, path)


def write_figure(figure: Any, path: Path) -> None:
    """Write a figure; the bytes depend on the drawing alone. Raises SpecError for an ending that is none of ours."""
    with from_extra("figures", f"{path}"):
        import matplotlib as mpl
    form = checked_path(path).suffix.lower().removeprefix(".")
    out = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": _SALT, "svg.fonttype": "none"}):
        figure.savefig(out, format=form, dpi=200, metadata=_undated(form))
    write_atomically(path, out.getvalue())


def _order_bars(bars: Sequence[Any]) -> None:
    """Bars from left to right, each a line of two points: as drawn, their order follows Python's hash seed."""
    heights = sorted((float(np.max(bar.get_ydata())) for bar in bars), reverse=True)
    spans = sorted((float(np.min(bar.get_xdata())), float(np.max(bar.get_xdata()))) for bar in bars)
    for bar, span, height in zip(bars, spans, heights, strict=True):
        bar.set_data(span, (height, height))


def _undated(form: str) -> dict[str, None]:
    return {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}[form]


# Okabe and Ito's colours without yellow; in grey, markers and dashes tell curves apart.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "*")
_DASHES = ("-", "--", "-.", ":")
_ACROSS, _PANEL = 4, (3.1, 2.7)  # panels a line; inches each
_MADE = "PHANTOM, no result: "
_SHIFT = 0.05  # of the axis' doublings, between curves: so that their intervals do not cover each other
_SPREAD = 0.5  # doublings between the first and the last of many curves, at most


def _styles(n: int) -> list[dict[str, Any]]:
    """A style for each of n models: colour, marker and dashes all differ between the first of them."""
    colours, markers, dashes = cycle(_COLOURS), cycle(_MARKERS), cycle(_DASHES)
    return [{"color": next(colours), "marker": next(markers), "linestyle": next(dashes)} for _ in range(n)]


def _panels(n: int) -> tuple[Any, list[Any]]:
    """A figure of n panels, their axes in reading order."""
    with from_extra("figures", "a figure"):
        from matplotlib.figure import Figure
    across = min(n, _ACROSS)
    down = ceil(n / across)
    size = (max(_PANEL[0] * across, 5.0), _PANEL[1] * down + 1.0)
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(down, across, squeeze=False).flat)
    for spare in axes[n:]:
        spare.set_axis_off()
    return figure, axes[:n]


_CONTROL = {"color": "0.55", "linestyle": ":"}  # of negative controls: grey, so that no model is taken for one
_TOGETHER = 6  # curves of several protocols in a panel; of more, each model has panels of its own
_CHARS, _ROW = 13, 0.2  # characters of a title an inch, and inches of a line of it or of the legend
_LEAST_ROWS = 4  # of a legend of two kinds
_Styles = dict[tuple[str, Method], dict[str, Any]]  # by model and method


def _has_own_panels(found: FewShotCurves) -> bool:
    """Whether each model has panels of its own, in which protocols differ in colour."""
    everybody = len(found.models) + len(found.controls)
    return len(found.methods) > 1 and (everybody == 1 or everybody * len(found.methods) > _TOGETHER)


def _curve_styles(found: FewShotCurves) -> _Styles:
    """A style for each model and method.

    Of one method, models differ in colour, marker and dashes, and negative controls are dotted and grey. Of several,
    colour tells models apart (controls are grey), marker and dashes methods; in panels of one model methods differ in
    all three. Raises SpecError for more methods than there are markers.
    """
    if len(found.methods) > len(_MARKERS):
        raise SpecError(
            f"{len(found.methods)} protocols and prompt sets cannot be told apart in one figure, {len(_MARKERS)} can; "
            "choose with --protocol and --prompts"
        )
    models, methods = _styles(len(found.models)), _styles(len(found.methods))
    markers = cycle(_MARKERS)
    models += [{**_CONTROL, "marker": next(markers)} for _ in found.controls]
    told = dict[tuple[str, Method], dict[str, Any]]()
    for name, own in zip((*found.models, *found.controls), models, strict=True):
        for method, style in zip(found.methods, methods, strict=True):
            alone = own if len(found.methods) == 1 else {**style, "color": own["color"]}
            told[name, method] = style if _has_own_panels(found) else alone
    return told


def write_few_shot(found: FewShotCurves, paths: Sequence[Path]) -> None:
    """Figure 3: a panel for each task and the average, its metric over shots with 95 % intervals, protocols beside.

    A line joins the numbers K that were measured; shares of the training part and all of it stand apart on the right,
    and what is given no training image is a level from the left. Negative controls are grey. Hollow marks beside the
    curves are the paper's. More than six curves of several protocols are drawn model by model, a task on one scale. The
    bytes depend on the data alone. Raises SpecError for more protocols than can be told apart.
    """
    names: list[str | None] = list(dict.fromkeys(curve.task for curve in found.curves))
    styles, across = _curve_styles(found), _across(found)
    everybody = (*found.models, *found.controls)
    blocks = [(model,) for model in everybody] if _has_own_panels(found) else [everybody]
    figure, panels = _blocks(len(blocks), len(names))
    for block, row in zip(blocks, panels, strict=True):
        for task, axes in zip(names, row, strict=True):
            _panel(axes, found, [c for c in found.curves if c.task == task and c.model in block], (styles, across))
            axes.set_title(_panel_title(found, task, block), fontsize="medium")
    for column in zip(*panels, strict=True):
        ends = [axes.get_ylim() for axes in column]
        for axes in column:
            axes.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
    lines = (_few_shot_title(found), f"bars: 95 % intervals, {_covering(found)}")
    title = "\n".join(fill(line, int(_CHARS * figure.get_figwidth())) for line in lines)
    figure.suptitle(title, fontsize=10)
    rows = _legend(figure, found, styles) + title.count("\n") + 1
    figure.set_figheight(figure.get_figheight() + max(1.0, _ROW * (rows + 1)))
    for path in paths:
        write_figure(figure, path)


def _blocks(blocks: int, n: int) -> tuple[Any, list[list[Any]]]:
    """A figure of so many blocks of n panels, and the axes of each in reading order; no room for title and legend."""
    with from_extra("figures", "a figure"):
        from matplotlib.figure import Figure

    across = min(n, _ACROSS)
    down = ceil(n / across)
    figure = Figure(figsize=(max(_PANEL[0] * across, 5.0), _PANEL[1] * down * blocks), layout="constrained")
    axes = figure.subplots(down * blocks, across, squeeze=False).reshape(blocks, down * across)
    for spare in axes[:, n:].flat:
        spare.set_axis_off()
    return figure, [list(row[:n]) for row in axes]


def _panel(axes: Any, found: FewShotCurves, curves: Sequence[Curve], how: tuple[_Styles, dict[Any, float]]) -> None:
    """The curves of one task with their axes; `how`: their styles, and where shots stand."""
    (styles, across), scale = how, 100 if found.metric.shown.percent else 1
    for place, curve in enumerate(curves):
        aside = min(_SHIFT, _SPREAD / max(len(curves) - 1, 1)) * (place - (len(curves) - 1) / 2)
        _draw(axes, curve, styles[curve.model, curve.method], _Scales(across, aside, scale))
    _shot_axis(axes, found, across)


def _panel_title(found: FewShotCurves, task: str | None, block: Sequence[str]) -> str:
    told = task or f"average of {len(found.tasks)} tasks"
    if not _has_own_panels(found):
        return told
    (model,) = block
    seen = any(curve.seen for curve in found.curves if (curve.model, curve.task) == (model, task))
    name = f"control: {model}" if model in found.controls else model
    alone = len(found.models) + len(found.controls) == 1
    return (told if alone else f"{name}: {told}") + " †" * seen


def _few_shot_title(found: FewShotCurves) -> str:
    how = "few-shot protocols"
    if len(found.methods) == 1:
        (method,) = found.methods
        how = "linear probes" if method.protocol == "linear-probe" else str(method)
    alone = found.models[0] if len(found.methods) > 1 and len(found.models) == 1 else ""
    group = "" if found.group == "all" else f"group {found.group}"
    told = ", ".join(filter(None, [alone, how, group, f"variant {found.variant}"]))
    return f"{_MADE if found.synthetic else ''}{told}"


def _covering(found: FewShotCurves) -> str:
    """What the intervals speak of: of methods by themselves where there are several and that differs."""
    known = [(c, p.interval) for c in found.curves for p in c.points if c.task]
    by_task = [(str(curve.task), one) for curve, one in known]
    if len(found.methods) == 1:
        return covering(by_task)
    by_method = speaking([(str(curve.method), one) for curve, one in known])
    return "; ".join(filter(None, (by_method, without_patients(by_task))))


def _across(found: FewShotCurves) -> dict[Shots | None, float]:
    """Where each number of shots stands on a logarithmic axis, from left to right.

    K stands at K, shares of the training part to the right of it at even steps, no training image (None) to the left.
    """
    numbers = [k for k in found.shots if isinstance(k, int)]
    last = max(numbers, default=0.25)
    shares = [share for share in found.shots if isinstance(share, str)]
    places: dict[Shots | None, float] = {k: float(k) for k in numbers}
    places |= {share: last * 4.0 ** (n + 1) for n, share in enumerate(shares)}
    untrained = any(point.shots is None for curve in found.curves for point in curve.points)
    left: dict[Shots | None, float] = {None: min(places.values()) / 2} if untrained else {}
    return left | places


def _shot_axis(axes: Any, found: FewShotCurves, across: Mapping[Shots | None, float]) -> None:
    metric, places = found.metric, list(across.values())
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, ["0" if k is None else str(k) for k in across])
    axes.minorticks_off()
    axes.set_xlim(places[0] / 1.5, places[-1] * 1.5)
    numbers = [k for k in found.shots if isinstance(k, int)]
    shares = len(numbers) < len(found.shots)
    if numbers and shares:
        axes.axvline(2 * across[max(numbers)], color="0.8", linewidth=0.6)
    told = ["images per class, K"] * bool(numbers) + ["of the training part"] * shares
    axes.set_xlabel(" | ".join(told))
    axes.set_ylabel(f"{metric.title}, %" if metric.shown.percent else metric.title)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


@dataclass(frozen=True, slots=True)
class _Scales:
    """Where shots stand on an axis, how many doublings a curve is set aside, and what its values are multiplied by."""

    across: Mapping[Shots | None, float]
    aside: float
    factor: int

    def x(self, shots: Shots | None) -> float:
        """The place of a point of the curve."""
        return float(self.across[shots] * 2**self.aside)


def _draw(axes: Any, curve: Curve, style: dict[str, Any], scales: _Scales) -> None:
    """One curve through its numbers K, its other points by themselves, and a level where it has no shots.

    A number that is not defined in every fold is none of them.
    """
    scale, there = scales.factor, [point for point in curve.points if point.interval.estimate is not None]
    joined = [point for point in there if isinstance(point.shots, int)]
    alone = [[point] for point in there if not isinstance(point.shots, int)]
    for points in [joined, *alone]:
        values = [scale * (point.interval.estimate or 0.0) for point in points]
        axes.plot([scales.x(point.shots) for point in points], values, markersize=4, linewidth=1.2, **style)
    for point in there:
        if point.shots is None:
            level = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 0.8, "alpha": 0.6}
            axes.axhline(scale * (point.interval.estimate or 0.0), **level)
    known = [(scales.x(point.shots), point.interval) for point in there]
    ends = [(x, scale * i.low, scale * i.high) for x, i in known if i.low is not None and i.high is not None]
    if ends:
        axes.vlines(*zip(*ends, strict=True), color=style["color"], linewidth=0.8)
    for point in curve.points:
        for number in sorted({printed.value for printed in point.printed}):
            own = {"marker": style["marker"], "color": style["color"], "mfc": "white", "markersize": 6}
            axes.plot(scales.x(point.shots), float(number), **own)


_Entry = tuple[dict[str, Any], str]  # of a legend: the style of its line, and its words


def _legend(figure: Any, found: FewShotCurves, styles: _Styles) -> int:
    """Who is which line, and how many rows that takes; models and methods in columns of their own."""
    with from_extra("figures", "a figure"):
        from matplotlib.lines import Line2D

    columns = _legend_columns(found, styles)
    entries = [entry for column in columns for entry in column]
    lines = [Line2D([], [], **{"markersize": 4, "linewidth": 1.2, **style}) for style, _ in entries]
    labels = [label for _, label in entries]
    across = len(columns) if len(columns) > 1 else min(3, len(labels))
    told = ["† pre-trained on the task's collection"] * any(curve.seen for curve in found.curves)
    told += [REORDERED] * any(curve.unsettled for curve in found.curves)
    title = "\n".join(fill(line, int(_CHARS * figure.get_figwidth())) for line in told)
    small = {"fontsize": "small", "title": title or None, "title_fontsize": "small"}
    figure.legend(lines, labels, loc="outside lower center", ncols=across, **small)
    return ceil(len(labels) / across) + (title.count("\n") + 1 if title else 0)


def _legend_columns(found: FewShotCurves, styles: _Styles) -> list[list[_Entry]]:
    """Columns of equal length, or a single one that may be broken anywhere."""
    printed: list[_Entry] = []
    if any(point.printed for curve in found.curves for point in curve.points):
        hollow = {"marker": "o", "color": "0.3", "mfc": "white", "markersize": 6, "linestyle": "none"}
        printed.append((hollow, "printed in the paper"))
    everybody, whole = (*found.models, *found.controls), len(found.methods) == 1
    if _has_own_panels(found):
        return [[*((styles[everybody[0], method], _method_label(found, method)) for method in found.methods), *printed]]
    plain = {} if whole else {"marker": "", "linestyle": "-"}
    own = [{**styles[name, found.methods[0]], **plain} for name in everybody]
    first = [*zip(own, [_model_label(found, name) for name in everybody], strict=True), *printed]
    if whole:
        return [first]
    dark = [{**styles[everybody[0], method], "color": "0.2"} for method in found.methods]
    methods = list(zip(dark, [_method_label(found, method) for method in found.methods], strict=True))
    rows = max(len(first), min(len(methods), _LEAST_ROWS))
    chunks = [methods[place : place + rows] for place in range(0, len(methods), rows)]
    empty: _Entry = ({"linestyle": "none"}, " ")
    return [column + [empty] * (rows - len(column)) for column in (first, *chunks)]


def _model_label(found: FewShotCurves, model: str) -> str:
    own = [curve for curve in found.curves if curve.model == model]
    seen = ", ".join(dict.fromkeys(str(curve.task) for curve in own if curve.seen))
    told = f"control: {model}" if model in found.controls else model
    changed = len(found.methods) == 1 and any(curve.unsettled for curve in own)
    return told + f" († {seen})" * bool(seen) + f" {UNSETTLED}" * changed


def _method_label(found: FewShotCurves, method: Method) -> str:
    """The method, with the models that ≈ holds for where these are not all."""
    own = [curve for curve in found.curves if curve.method == method]
    changed = list(dict.fromkeys(curve.model for curve in own if curve.unsettled))
    every = {curve.model for curve in own} == set(changed)
    return str(method) + (f" {UNSETTLED}" + ("" if every else f" ({', '.join(changed)})") if changed else "")


def write_reliability(found: Calibrated, path: Path, *, synthetic: bool) -> None:
    """A panel for each cell: accuracy over confidence in bins of equal width, and how many rows each bin has."""
    figure, panels = _panels(len(found.cells))
    for cell, axes in zip(found.cells, panels, strict=True):
        bins = cell.pooled.reliability
        axes.plot([0, 1], [0, 1], color="0.6", linewidth=0.8, linestyle="--")
        most = max(b.rows for b in bins)
        widths, heights = [b.high - b.low for b in bins], [0.25 * b.rows / most for b in bins]
        axes.bar([b.low for b in bins], heights, widths, align="edge", color="0.85", edgecolor="0.7", linewidth=0.4)
        axes.plot(
            [b.confidence for b in bins], [b.accuracy for b in bins], **_styles(2)[1], markersize=4, linewidth=1.2
        )
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="confidence", ylabel="accuracy")
        axes.set_title(cell.name.replace(", ", ",\n", 1) + f"\nECE {cell.ece:.3f}", fontsize="small")
    made = _MADE if synthetic else ""
    figure.suptitle(f"{made}reliability; bars: share of rows, the fullest bin a quarter", fontsize=10)
    write_figure(figure, path)


def write_frequency(views: Sequence[FrequencyView], path: Path, *, synthetic: bool) -> None:
    """A panel for each cell: recall of each class in percent over its share of the pre-training images, named."""
    figure, panels = _panels(len(views))
    for view, axes in zip(views, panels, strict=True):
        for point in view.points:
            axes.plot(100 * point.share, 100 * point.recall, "o", color=_COLOURS[1], markersize=4)
            place = (100 * point.share, 100 * point.recall)
            axes.annotate(point.label, place, xytext=(3, 3), textcoords="offset points", fontsize=6)
        told = "no rank correlation" if view.rho is None else f"Spearman {view.rho:+.2f}"
        axes.set_title(f"{view.model}, {view.task}, {view.prompts}\n{told}", fontsize="small")
        axes.set_xscale("symlog", linthresh=1)
        axes.set(xlabel="share of pre-training images, %", ylabel="recall, %", ylim=(0, 105))
    figure.suptitle(f"{_MADE if synthetic else ''}zero-shot recall over frequency in pre-training", fontsize=10)
    write_figure(figure, path)
