"""The critical-difference diagram of a board."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxrbench.analysis.leaderboard import Leaderboard
from cxrbench.errors import SpecError
from cxrbench.evaluate.statistics.ranks import ALPHA
from cxrbench.store.atomic import write_atomically

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
