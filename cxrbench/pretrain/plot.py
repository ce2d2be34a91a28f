"""A run as curves: loss, temperature, learning rate."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from cxrbench.errors import SpecError
from cxrbench.pretrain.log import LogRow, read_rows, writing
from cxrbench.pretrain.state import read_head
from cxrbench.system.extras import from_extra

Format = Literal["svg", "png", "pdf"]


def plot(folder: Path, out: Path | None = None) -> Path:
    """Draw the rows of a run into `out` (SVG, PNG or PDF by its name; curves.svg in the run's folder by default).

    Raises SpecError for another kind of file, or a run without rows.
    """
    path = folder / "curves.svg" if out is None else out
    if path.suffix.removeprefix(".").lower() not in get_args(Format):
        raise SpecError(f"{path}: name a file that ends in {', '.join('.' + kind for kind in get_args(Format))}")
    head = read_head(folder)
    rows = read_rows(folder, None if head is None else head.logged)
    if not rows:
        raise SpecError(f"{folder}: no step is logged yet")
    _draw(rows, path, folder.resolve().name)
    return path


def _draw(rows: Sequence[LogRow], path: Path, title: str) -> None:
    with from_extra("figures", "the curves of a run"):
        from matplotlib.figure import Figure  # not pyplot: no display, no state beyond this figure

    figure = Figure(figsize=(7, 8), layout="constrained")
    loss, scale, rate = figure.subplots(3, 1, sharex=True)
    steps = [row for row in rows if row.kind == "step"]
    held = [row for row in rows if row.kind == "validation"]
    loss.plot(*_points(steps, "loss"), color="0.6", linewidth=0.8, label="training, each step")
    loss.plot(*_points(held, "loss"), color="C3", marker="o", label="validation, each epoch")
    loss.set(ylabel="loss", title=title)
    for name, label in (("scale", "exp(logit_scale)"), ("scale_label", "exp(logit_scale_head2)")):
        if any(getattr(row, name) is not None for row in steps):
            scale.plot(*_points(steps, name), label=label)
    scale.set(ylabel="scale (1 / temperature)")
    rate.plot(*_points(steps, "rate"), color="C2")
    rate.set(ylabel="learning rate", xlabel="step")
    loss.legend()
    scale.legend()
    with writing(path, "Make room."):
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Date": None} if path.suffix.lower() == ".svg" else None)


def _points(rows: Sequence[LogRow], name: str) -> tuple[list[int], list[float]]:
    known = [row for row in rows if getattr(row, name) is not None]
    return [row.step for row in known], [float(getattr(row, name)) for row in known]
