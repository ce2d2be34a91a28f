"""How far a cell's number would move with other test images and other draws, and how far it moves over its folds."""

import math
import statistics
from collections.abc import Mapping, Sequence

from cxrbench.evaluate.statistics.estimate import Estimate, over_draws
from cxrbench.evaluate.statistics.shares import FEW, Metric, Shares
from cxrbench.evaluate.statistics.uncertainty import Covers, FoldRelation, FoldSpread, Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind
from cxrbench.types import IntArray

DRAWN: frozenset[Covers] = frozenset({"draws", "prompt draws"})  # whose folds say what drawing anew changes

BOUNDS: dict[Metric, tuple[float, float]] = {
    "balanced_accuracy": (0, 1),
    "accuracy": (0, 1),
    "macro_auroc": (0, 1),
    "macro_f1": (0, 1),
    "kappa": (-1, 1),
}


def wider(one: Covers, two: Covers) -> Covers:
    """What the difference of two numbers speaks of: draws as soon as one does, or else what either is bound to."""
    return next((own for own in (one, two) if own in DRAWN), two if one == "images" else one)


def estimate(found: Shares, bounds: tuple[float, float], covers: Covers) -> Estimate:
    """A number with its variance over units and, where `covers` names draws, over these."""
    draws = over_draws(found.values.tolist()) if covers in DRAWN else ()
    twice = found.twice if draws else 0.0
    return Estimate(found.value, found.value + found.shift, found.spread, draws, bounds, twice)


def difference_bounds(metric: Metric) -> tuple[float, float]:
    """Between what the difference of two values of a metric lies."""
    low, high = BOUNDS[metric]
    return low - high, high - low


def interval(found: Estimate, over: UnitKind, units: int, covers: tuple[Covers, ...], caution: str = "") -> Interval:
    """The interval of an estimate, with what to beware of; without one, why there is none comes first."""
    if math.isnan(found.value):
        return Interval(None, None, None, None, over, units, covers, _told("not defined in every fold", caution))
    ends = found.ends()
    if ends is None:
        fixed = not found.units and not found.draws and caution  # which says why, then
        return Interval(
            found.value, None, None, None, over, units, covers, fixed or _told(f"no {over} moves it", caution)
        )
    return Interval(found.value, *ends, found.error, over, units, covers, caution)


def _told(*reasons: str) -> str:
    return "; ".join(filter(None, reasons))


def still(folds: Sequence[ScoredRows]) -> str:
    """Why no choice of images moves a number: all images of a fold have the same scores; empty where they differ."""
    same = all((fold.scores == fold.scores[0]).all() for fold in folds)
    return "all images have the same scores, and others would change nothing" if same else ""


def sparse(units: Mapping[str, int], over: UnitKind) -> str:
    """A warning that names the classes with few units in a fold, the fewest first; empty where none has."""
    few = sorted((n, label) for label, n in units.items() if n < FEW)
    told = ", ".join(f"{label} {n}" for n, label in few)
    return f"few test {over}s: {told}. Their scores are hardly known" if few else ""


def fold_spread(values: Sequence[float | None], images: Sequence[IntArray]) -> FoldSpread:
    """Spread of a number over folds whose test images are numbered alike; None as soon as one fold has no number."""
    present = [value for value in values if value is not None]
    std = statistics.pstdev(present) if len(present) == len(values) else None
    return FoldSpread(std, len(values), relation(images))


def relation(images: Sequence[IntArray]) -> FoldRelation:
    """How the test sets (image numbers, one array a fold) of a cell's folds relate."""
    sets = [frozenset(fold.tolist()) for fold in images]
    if len(sets) == 1:
        return "one fold"
    if len(set(sets)) == 1:
        return "one test set"
    return "separate test sets" if len(frozenset().union(*sets)) == sum(map(len, sets)) else "overlapping test sets"
