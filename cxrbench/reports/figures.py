"""Figures as SVG, PNG or PDF: few-shot curves, reliability, and accuracy over frequency."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from cxrbench.analysis.cell import Calibrated
from cxrbench.analysis.few_shot_curves import Curve, FewShotCurves
from cxrbench.analysis.frequency import FrequencyView
from cxrbench.analysis.leaderboard import Leaderboard
from cxrbench.errors import SpecError
from cxrbench.evaluate.statistics.interval import covering
from cxrbench.evaluate.statistics.paired import ALPHA
from cxrbench.store.atomic import write_atomically
from cxrbench.types import Shots

_FORMATS = {".svg", ".png", ".pdf"}
_WIDTH, _HEIGHT, _LINE = 8.0, 1.4, 0.18  # inches: page, axis with title, one model
_SALT = "cxrbench"  # makes the ids inside an SVG depend on nothing but the drawing


def checked_path(path: Path) -> Path:
    """The path; raises SpecError for an ending that is not SVG, PNG or PDF."""
    if path.suffix.lower() not in _FORMATS:
        raise SpecError(f"{path}: a figure ends in {', '.join(sorted(_FORMATS))}")
    return path


def write_diagram(board: Leaderboard, path: Path) -> None:
    """Average ranks on a line, bars joining what Nemenyi's test at 5 % does not tell apart.

    The bytes depend on the board alone. Raises SpecError for an ending that is not SVG, PNG or PDF. Source: Demsar
    2006, drawn by scikit-posthocs.
    """
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from scikit_posthocs import critical_difference_diagram

    checked_path(path)
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
_SHIFT = 0.05  # of the axis' doublings, between models: so that their intervals do not cover each other


def _styles(n: int) -> list[dict[str, Any]]:
    """A style for each of n models: colour, marker and dashes all differ between the first of them."""
    colours, markers, dashes = cycle(_COLOURS), cycle(_MARKERS), cycle(_DASHES)
    return [{"color": next(colours), "marker": next(markers), "linestyle": next(dashes)} for _ in range(n)]


def _panels(n: int) -> tuple[Any, list[Any]]:
    """A figure of n panels, their axes in reading order."""
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


def _curve_styles(found: FewShotCurves) -> dict[str, dict[str, Any]]:
    """A style for each model, and dotted grey with a marker of its own for each negative control."""
    models = dict(zip(found.models, _styles(len(found.models)), strict=True))
    markers = cycle(_MARKERS)
    return models | {name: {**_CONTROL, "marker": next(markers)} for name in found.controls}


def write_few_shot(found: FewShotCurves, paths: Sequence[Path]) -> None:
    """Figure 3: a panel for each task and the average, balanced accuracy in percent over shots with 95 % intervals.

    A line joins the numbers K that were measured; shares of the training part and all of it stand apart on the right.
    Negative controls are dotted and grey. Hollow marks beside the curves
    are the paper's. The bytes depend on the data alone.
    """
    names: list[str | None] = list(dict.fromkeys(curve.task for curve in found.curves))
    styles = _curve_styles(found)
    figure, panels = _panels(len(names))
    for task, axes in zip(names, panels, strict=True):
        curves, across = [curve for curve in found.curves if curve.task == task], _across(found.shots)
        for place, curve in enumerate(curves):
            scale = 100 if found.metric.shown.percent else 1
            _draw(axes, curve, styles[curve.model], _Scales(across, place - (len(curves) - 1) / 2, scale))
        axes.set_title(task or f"average of {len(found.tasks)} tasks", fontsize="medium")
        _shot_axis(axes, found, across)
    made = _MADE if found.synthetic else ""
    known = [(c.task, p.interval) for c in found.curves for p in c.points if c.task]
    probes = "linear probes" if found.protocol == "linear-probe" else found.protocol
    how = probes if found.group == "all" else f"{probes}, group {found.group}"
    figure.suptitle(f"{made}{how}, variant {found.variant}\nbars: 95 % intervals, {covering(known)}", fontsize=10)
    _legend(figure, found, styles)
    for path in paths:
        write_figure(figure, path)


def _across(shots: Sequence[Shots]) -> dict[Shots, float]:
    """Where each number of shots stands: K at K, and the others to the right at even steps of a logarithmic axis."""
    numbers = [k for k in shots if isinstance(k, int)]
    last = max(numbers, default=0.25)
    shares = [share for share in shots if isinstance(share, str)]
    return {k: float(k) for k in numbers} | {share: last * 4.0 ** (n + 1) for n, share in enumerate(shares)}


def _shot_axis(axes: Any, found: FewShotCurves, across: Mapping[Shots, float]) -> None:
    metric, places = found.metric, list(across.values())
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(k) for k in across])
    axes.minorticks_off()
    axes.set_xlim(places[0] / 1.5, places[-1] * 1.5)
    named = [isinstance(k, int) for k in across]
    if any(named) and not all(named):
        axes.axvline(2 * across[max(k for k in across if isinstance(k, int))], color="0.8", linewidth=0.6)
    told = ["images per class, K"] * any(named) + ["of the training part"] * (not all(named))
    axes.set_xlabel(" | ".join(told))
    axes.set_ylabel(f"{metric.title}, %" if metric.shown.percent else metric.title)
    axes.grid(axis="y", color="0.9", linewidth=0.6)
    axes.set_axisbelow(True)


@dataclass(frozen=True, slots=True)
class _Scales:
    """Where shots stand on an axis, by how many steps a curve is set aside, and what its values are multiplied by."""

    across: Mapping[Shots, float]
    place: float
    factor: int

    def x(self, shots: Shots) -> float:
        """The place of a point of the curve."""
        return float(self.across[shots] * 2 ** (_SHIFT * self.place))


def _draw(axes: Any, curve: Curve, style: dict[str, Any], scales: _Scales) -> None:
    """One curve through its numbers K, and its other points by themselves.

    A number that is not defined in every fold is none of them.
    """
    scale, there = scales.factor, [point for point in curve.points if point.interval.estimate is not None]
    joined = [point for point in there if isinstance(point.shots, int)]
    alone = [[point] for point in there if isinstance(point.shots, str)]
    for points in [joined, *alone]:
        values = [scale * (point.interval.estimate or 0.0) for point in points]
        axes.plot([scales.x(point.shots) for point in points], values, markersize=4, linewidth=1.2, **style)
    known = [(scales.x(point.shots), point.interval) for point in there]
    ends = [(x, scale * i.low, scale * i.high) for x, i in known if i.low is not None and i.high is not None]
    if ends:
        axes.vlines(*zip(*ends, strict=True), color=style["color"], linewidth=0.8)
    for point in curve.points:
        for number in sorted({printed.value for printed in point.printed}):
            own = {"marker": style["marker"], "color": style["color"], "mfc": "white", "markersize": 6}
            axes.plot(scales.x(point.shots), float(number), **own)


def _legend(figure: Any, found: FewShotCurves, styles: dict[str, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    seen = {model: [c.task for c in found.curves if c.model == model and c.seen] for model in found.models}
    lines = [Line2D([], [], markersize=4, linewidth=1.2, **style) for style in styles.values()]
    labels = [model + (f" († {', '.join(map(str, seen[model]))})" if seen[model] else "") for model in found.models]
    labels += [f"control: {name}" for name in found.controls]
    if any(point.printed for curve in found.curves for point in curve.points):
        lines.append(Line2D([], [], marker="o", color="0.3", mfc="white", markersize=6, linestyle="none"))
        labels.append("printed in the paper")
    title = "† pre-trained on the task's collection" if any(seen.values()) else None
    figure.legend(lines, labels, loc="outside lower center", ncols=min(3, len(labels)), fontsize="small", title=title)


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
