"""How far a cell's number would move with other test images, and how far it moves over its folds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.statistics.counts import Metric, statistic
from cxrbench.evaluate.statistics.freedom import area_shares, freedom, quantile
from cxrbench.evaluate.statistics.resample import replicates
from cxrbench.evaluate.statistics.uncertainty import FoldRelation, FoldSpread, Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind, rarest_class, strata
from cxrbench.index import IntArray

LEVEL = 0.95
RESAMPLES = 10_000
MOST_UNDEFINED = 0.05  # share of resamples in which a class may be absent before the rest says too little

FEW = 5  # wrong or right units, below which their spread is itself poorly known
FEW_OF_AREA = 40  # degrees of freedom of an AUROC's standard error; below them simulations miss 93 % (docs/statistics)

RANGES: dict[Metric, tuple[float, float]] = {
    "balanced_accuracy": (0, 1),
    "accuracy": (0, 1),
    "macro_auroc": (0, 1),
    "macro_f1": (0, 1),
    "kappa": (-1, 1),
}


@dataclass(frozen=True, slots=True)
class Resampled:
    """Values (B,) on resamples of `units` units, NaN where undefined, and the degrees of freedom of their deviation."""

    values: NDArray[np.float64]
    over: UnitKind
    units: int
    freedom: float = math.inf


def interval(
    metric: Metric,
    folds: Sequence[ScoredRows],
    over: UnitKind,
    rng: np.random.Generator,
    resamples: int = RESAMPLES,
) -> Interval:
    """The interval of the metric's mean over folds; a unit drawn is drawn with its rows in all folds.

    Units are drawn within classes (see `strata`). Raises DataError for folds that do not fit together.
    """
    stratum = strata(folds)
    units = int((stratum >= 0).sum())
    found = statistic(metric, folds, len(stratum))
    rare, fewest = rarest_class(folds)
    if fewest < 2:
        estimate = None if np.isnan(found.estimate) else found.estimate
        reason = f"class {rare} has {fewest} {over}s in a fold: nothing to draw from"
        return Interval(estimate, None, None, None, over, units, 0, reason)
    values = replicates([found], stratum, resamples, rng)[0]
    known = freedom(area_shares(folds, len(stratum)), stratum) if metric == "macro_auroc" else math.inf
    given = around(found.estimate, Resampled(values, over, units, known), RANGES[metric])
    return replace(given, reason=given.reason or _few(folds, over, known))


def _few(folds: Sequence[ScoredRows], over: UnitKind, freedom: float) -> str:
    """A warning where hardly any unit decides the spread, which is then itself poorly known.

    Of an AUROC these are the units behind its standard error (finite `freedom`), else those that are wrong, or right.
    """
    if math.isfinite(freedom):
        few = f"its error rests on about {freedom:.0f} {over}s: the interval is likely too short"
        return few if freedom < FEW_OF_AREA else ""
    unit, right = (np.concatenate(p) for p in zip(*((f.unit, f.predictions == f.labels) for f in folds), strict=True))
    for what, chosen in (("wrong", ~right), ("right", right)):
        number = len(np.unique(unit[chosen]))
        if number < FEW:
            return f"only {number} {over}s are {what}: the interval is likely too short"
    return ""


def around(estimate: float, drawn: Resampled, bounds: tuple[float, float]) -> Interval:
    """The interval from resamples: on the logit scale between the bounds, with their standard deviation.

    Normal, or Student's t where the deviation has finite degrees of freedom. Chosen by coverage over percentile and BCa
    intervals, which miss near the bounds and with few units (docs/statistics has the figures). An estimate on a bound,
    or resamples that are all equal, give no interval.
    """
    defined = drawn.values[~np.isnan(drawn.values)]
    lost = 1 - len(defined) / len(drawn.values)
    low, high = bounds
    without = Interval(estimate, None, None, None, drawn.over, drawn.units, len(drawn.values))
    if np.isnan(estimate):
        return replace(without, estimate=None, reason="a fold has no such number")
    if lost > MOST_UNDEFINED:
        return replace(without, reason=f"a class was absent from {lost:.0%} of the resamples")
    error = float(defined.std())
    if not low < estimate < high or error == 0:
        return replace(
            without, reason=f"every resample gives {estimate:g}: more {drawn.over}s are needed to see an error"
        )
    share = (estimate - low) / (high - low)
    reach = quantile(LEVEL, drawn.freedom) * error / ((high - low) * share * (1 - share))
    centre = np.log(share / (1 - share))
    ends = low + (high - low) / (1 + np.exp(-(centre + np.array([-reach, reach]))))
    return replace(without, low=float(ends[0]), high=float(ends[1]), error=error)


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
