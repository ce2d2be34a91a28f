"""How costs of the harness grow with an archive: measured at three sizes each, and drawn beside a straight line.

Both axes are logarithmic, so that what grows in proportion runs parallel to the grey lines. CPU seconds, since a shared
machine has no other honest ones.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Points = dict[str, dict[str, float]]  # of each cost, CPU seconds by size


@dataclass(frozen=True, slots=True)
class Cost:
    """What is measured at which sizes; `colour` and `mark` are those of its line."""

    measure: Callable[[int], float]
    sizes: tuple[int, int, int]
    colour: str
    mark: str


def costs() -> Mapping[str, Cost]:
    """By what the plot calls them."""
    from benchmarks.prepare import prepared
    from benchmarks.scale import demanded, opened_hashes, opened_store

    return {
        "data prepare, 8 x 8 pixels (files)": Cost(prepared, (10_000, 100_000, 1_000_000), "#b2182b", "s"),
        "demand table of 100 keys (files)": Cost(demanded, (50_000, 100_000, 200_000), "#2166ac", "o"),
        "opening file hashes (files)": Cost(opened_hashes, (100_000, 1_000_000, 10_000_000), "#1b7837", "^"),
        "opening a store (rows)": Cost(opened_store, (100_000, 1_000_000, 10_000_000), "#762a83", "D"),
    }


def measured(kept: Path | None, smaller: int) -> Points:
    """The seconds at every size, each divided by `smaller`; those that are kept are not measured again."""
    points: Points = json.loads(kept.read_text(encoding="utf-8")) if kept is not None and kept.exists() else {}
    for name, cost in costs().items():
        for size in cost.sizes:
            own = points.setdefault(name, {})
            if str(size // smaller) not in own:
                own[str(size // smaller)] = cost.measure(size // smaller)
                if kept is not None:
                    kept.write_text(json.dumps(points, indent=1) + "\n", encoding="utf-8")
    return points


def slope(points: Mapping[str, float]) -> float:
    """The power of the size by which a cost grows from its second to its last size; 1 is in proportion."""
    (_, _), *middle, (largest, most) = sorted((int(size), seconds) for size, seconds in points.items())
    size, seconds = middle[0]
    return math.log(most / seconds) / math.log(largest / size)


def plot(target: Path, kept: Path | None, smaller: int) -> None:
    """Measure what is not kept, draw it, and say the powers."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "cxrbench", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    points, known = measured(kept, smaller), costs()
    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for name, cost in known.items():
        own = sorted((int(size), seconds) for size, seconds in points[name].items())
        told = f"{name}: power {slope(points[name]):.2f}"
        axes.plot(*zip(*own, strict=True), cost.mark, color=cost.colour, linestyle="-", markersize=5, label=told)
        print(told, flush=True)
    _guides(axes)
    axes.set(xscale="log", yscale="log", xlabel="files or rows", ylabel="CPU seconds")
    axes.legend(loc="upper left", frameon=False, fontsize=8)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Date": None})
    plt.close(figure)


def _guides(axes: Any) -> None:
    """Lines of cost in proportion to size, which keep the limits as they are."""
    axes.set(xscale="log", yscale="log")
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for power in range(math.floor(math.log10(low / right)), math.ceil(math.log10(high / left)) + 1):
        axes.plot((left, right), (left * 10**power, right * 10**power), color="#d9d9d9", linewidth=0.6, zorder=0)
    axes.set(xlim=(left, right), ylim=(low, high * 8))
