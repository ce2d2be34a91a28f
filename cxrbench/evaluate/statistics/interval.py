"""How far a cell's number would move with other test images, and how far it moves over its folds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.metrics import one_vs_rest_auroc
from cxrbench.evaluate.statistics.counts import Metric, statistic
from cxrbench.evaluate.statistics.freedom import area_shares, deviation, freedom, quantile
from cxrbench.evaluate.statistics.resample import replicates
from cxrbench.evaluate.statistics.uncertainty import FoldRelation, FoldSpread, Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind, rarest_class, strata
from cxrbench.index import IntArray

LEVEL = 0.95
RESAMPLES = 10_000
MOST_UNDEFINED = 0.05  # share of resamples in which a class may be absent before the rest says too little
ROUNDING = 1e-6  # an error below is that of arithmetic: one wrong image of a million gives as much

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
    """Values (B,) on resamples of `units` units, NaN where undefined, and the degrees of freedom of their deviation.

    `still` says why no resample differs, where that lies in the scores and not in the number of units.
    """

    values: NDArray[np.float64]
    over: UnitKind
    units: int
    freedom: float = math.inf
    still: str = ""


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
    found = statistic(metric, folds, len(stratum))
    values = np.empty(0) if too_few(folds, over) else replicates([found], stratum, resamples, rng)[0]
    return interval_of(metric, folds, over, Values(found.estimate, values))


@dataclass(frozen=True, slots=True)
class Values:
    """A metric as it is, NaN where undefined, and on resamples (B,); none were drawn where `too_few` says why."""

    estimate: float
    drawn: NDArray[np.float64]


def interval_of(metric: Metric, folds: Sequence[ScoredRows], over: UnitKind, values: Values) -> Interval:
    """The interval of the metric's mean over folds from its values on resamples of all units."""
    stratum = strata(folds)
    units = int((stratum >= 0).sum())
    if reason := too_few(folds, over):
        return without_ends(values.estimate, over, units, reason)
    known = freedom(area_shares(folds, len(stratum)), stratum) if metric == "macro_auroc" else math.inf
    given = Resampled(values.drawn, over, units, known, still(metric, folds))
    found = around(values.estimate, given, RANGES[metric])
    return replace(found, reason=found.reason or _few(folds, over, known))


def area_interval(folds: Sequence[ScoredRows], over: UnitKind, known: float | None = None) -> Interval:
    """The interval of macro AUROC by the same law without a resample: its error is that of DeLong's placements.

    The two errors agree to a few percent, and this one takes a hundredth of the time. Source: see `area_shares`. A
    `known` number, its mean over folds, is not computed again.
    """
    stratum = strata(folds)
    units = int((stratum >= 0).sum())
    if (estimate := known) is None:
        estimate = float(np.mean([one_vs_rest_auroc(fold.scores, fold.labels).mean() for fold in folds]))
    plain = without_ends(estimate, over, units, too_few(folds, over))
    if plain.reason:
        return plain
    shares = area_shares(folds, len(stratum))
    degrees = freedom(shares, stratum)
    found = _with_ends(plain, _Law(deviation(shares, stratum), degrees, still("macro_auroc", folds)), (0, 1))
    return replace(found, reason=found.reason or few_of_area(degrees, over))


def too_few(folds: Sequence[ScoredRows], over: UnitKind) -> str:
    """Why nothing can be drawn: a class has one unit, or none; empty where it can."""
    rare, fewest = rarest_class(folds)
    return (
        f"class {rare} has {fewest} {over}{'s' * (fewest != 1)} in a fold: nothing to draw from" if fewest < 2 else ""
    )


def without_ends(estimate: float, over: UnitKind, units: int, reason: str) -> Interval:
    """A number, None for NaN, around which nothing was drawn, and why."""
    return Interval(None if np.isnan(estimate) else estimate, None, None, None, over, units, 0, reason)


def still(metric: Metric, folds: Sequence[ScoredRows]) -> str:
    """Why no choice of images moves a number: all of a fold have the same scores, or class; empty where they differ."""
    if all((fold.scores == fold.scores[0]).all() for fold in folds):
        return "all images have the same scores, and others would change nothing"
    if metric != "macro_auroc" and all((fold.predictions == fold.predictions[0]).all() for fold in folds):
        return "all images are given the same class, and others would change nothing"
    return ""


def _few(folds: Sequence[ScoredRows], over: UnitKind, freedom: float) -> str:
    """A warning where hardly any unit decides the spread, which is then itself poorly known.

    Of an AUROC these are the units behind its standard error (finite `freedom`), else those that are wrong, or right.
    """
    if math.isfinite(freedom):
        return few_of_area(freedom, over)
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
    without = Interval(estimate, None, None, None, drawn.over, drawn.units, len(drawn.values))
    if np.isnan(estimate):
        return replace(without, estimate=None, reason="a fold has no such number")
    if reason := too_rare(drawn.values):
        return replace(without, reason=reason)
    return _with_ends(without, _Law(float(defined.std()), drawn.freedom, drawn.still), bounds)


@dataclass(frozen=True, slots=True)
class _Law:
    """A standard error with its degrees of freedom, and why it may be 0."""

    error: float
    freedom: float
    still: str


def _with_ends(plain: Interval, law: _Law, bounds: tuple[float, float]) -> Interval:
    estimate, (low, high) = plain.estimate, bounds
    assert estimate is not None
    if not low < estimate < high or law.error < ROUNDING:
        why = law.still or f"more {plain.over}s are needed to see an error"
        return replace(plain, reason=f"every resample gives {estimate:g}: {why}")
    share = (estimate - low) / (high - low)
    reach = quantile(LEVEL, law.freedom) * law.error / ((high - low) * share * (1 - share))
    centre = np.log(share / (1 - share))
    ends = low + (high - low) / (1 + np.exp(-(centre + np.array([-reach, reach]))))
    return replace(plain, low=float(ends[0]), high=float(ends[1]), error=law.error)


def few_of_area(freedom: float, over: UnitKind) -> str:
    """The same of an AUROC's degrees of freedom."""
    few = f"its error rests on about {freedom:.0f} {over}s: the interval is likely too short"
    return few if freedom < FEW_OF_AREA else ""


def too_rare(values: NDArray[np.float64]) -> str:
    """Why resamples (B,) say too little: a class is absent from too many, which have no value; empty where they do."""
    lost = float(np.isnan(values).mean())
    return f"a class was absent from {lost:.0%} of the resamples" if lost > MOST_UNDEFINED else ""


def difference_range(metric: Metric) -> tuple[float, float]:
    """Between what the difference of two values of a metric lies."""
    low, high = RANGES[metric]
    return low - high, high - low


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
