"""Two models on the same test units: the difference, whether it is one, and what this test set could show."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.counts import Metric, statistic
from cxrbench.evaluate.statistics.freedom import area_shares, freedom, two_sided_p
from cxrbench.evaluate.statistics.interval import (
    LEVEL,
    RESAMPLES,
    ROUNDING,
    Resampled,
    Values,
    around,
    difference_range,
    still,
    too_few,
    too_rare,
    without_ends,
)
from cxrbench.evaluate.statistics.resample import replicates
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind, strata
from cxrbench.index import IntArray

FloatArray = NDArray[np.float64]

POWER = 0.80
_LINEAR: tuple[Metric, ...] = ("balanced_accuracy", "accuracy")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models' folds over the same units; their folds need not be as many, their units and rows must be the same."""

    a: Sequence[ScoredRows]
    b: Sequence[ScoredRows]
    over: UnitKind


@dataclass(frozen=True, slots=True)
class McNemar:
    """Units on which only one model is right, and the exact two-sided p that both are as often right.

    With several rows a unit (folds, or images of a patient) it is the one that is right on more of them.
    """

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True, slots=True)
class Difference:
    """A minus B: the paired interval, and the p of no difference.

    `test` is `swap` (the models' outcomes exchanged unit by unit) where the metric is a sum over units, else
    `bootstrap`; `p` is None where a class has too few units for an interval, and so for a test. `resolvable` is the
    smallest true difference that would be found with 80 % power at 5 %, two-sided, between models that disagree
    as these do; None where no resample differs.
    """

    interval: Interval
    p: float | None
    test: Literal["swap", "bootstrap"]
    mcnemar: McNemar
    resolvable: float | None


def difference(metric: Metric, pair: Pair, rng: np.random.Generator, resamples: int = RESAMPLES) -> Difference:
    """The paired difference of a metric's means over folds. Raises DataError for models that score other rows."""
    stratum = _shared_strata(pair)
    both = [statistic(metric, folds, len(stratum)) for folds in (pair.a, pair.b)]
    poor = bool(too_few(pair.a, pair.over) or too_few(pair.b, pair.over))
    values = np.empty((2, 0)) if poor else replicates(both, stratum, resamples, rng)
    a, b = (Values(one.estimate, own) for one, own in zip(both, values, strict=True))
    return difference_of(metric, pair, (a, b), rng, resamples)


def difference_of(
    metric: Metric, pair: Pair, both: tuple[Values, Values], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Difference:
    """The same from both models' values on the same resamples; the generator and `resamples` are those of the test."""
    found, p = tested(metric, pair, both, rng, resamples)
    test: Literal["swap", "bootstrap"] = "swap" if metric in _LINEAR else "bootstrap"
    return Difference(found, p, test, mcnemar(pair), resolvable(found.error))


def tested(
    metric: Metric, pair: Pair, both: tuple[Values, Values], rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[Interval, float | None]:
    """The interval of a difference and its p alone."""
    stratum = _shared_strata(pair)
    estimate, units = both[0].estimate - both[1].estimate, int((stratum >= 0).sum())
    linear, p = metric in _LINEAR, None
    if reason := too_few(pair.a, pair.over) or too_few(pair.b, pair.over):
        found = without_ends(estimate, pair.over, units, reason)
    else:
        values = both[0].drawn - both[1].drawn
        known = freedom(_area_shares(pair, len(stratum)), stratum) if metric == "macro_auroc" else math.inf
        given = Resampled(values, pair.over, units, known, _still(metric, pair))
        found = around(estimate, given, difference_range(metric))
        if not too_rare(values):
            p = swap_p(contributions(metric, pair), rng, resamples) if linear else bootstrap_p(estimate, values, known)
    return found, p


def _shared_strata(pair: Pair) -> IntArray:
    stratum = strata(pair.a)
    if not np.array_equal(stratum, strata(pair.b)):
        raise DataError("the two models score other units, or units of other classes: they cannot be paired")
    return stratum


def _still(metric: Metric, pair: Pair) -> str:
    """Why no choice of images moves a difference; empty where one could."""
    if len(pair.a) == len(pair.b) and all(
        np.array_equal(a.scores, b.scores) or (metric != "macro_auroc" and np.array_equal(a.predictions, b.predictions))
        for a, b in zip(pair.a, pair.b, strict=True)
    ):
        return "both models judge every image alike"
    return why if (why := still(metric, pair.a)) and still(metric, pair.b) else ""


def _area_shares(pair: Pair, n_units: int) -> FloatArray:
    return area_shares(pair.a, n_units) - area_shares(pair.b, n_units)


def contributions(metric: Metric, pair: Pair) -> FloatArray:
    """What each unit (U,) adds to the difference of (balanced) accuracies; their sum is the difference."""
    return _contributions(metric, pair.a) - _contributions(metric, pair.b)


def _contributions(metric: Metric, folds: Sequence[ScoredRows]) -> FloatArray:
    total = np.zeros(len(strata(folds)))
    for fold in folds:
        n_classes = fold.scores.shape[1]
        counts = np.bincount(fold.labels, minlength=n_classes)
        worth = 1 / (n_classes * counts[fold.labels]) if metric == "balanced_accuracy" else 1 / len(fold.labels)
        total += np.bincount(fold.unit, (fold.predictions == fold.labels) * worth, len(total)) / len(folds)
    return total


def swap_p(contributions: FloatArray, rng: np.random.Generator, draws: int = RESAMPLES) -> float:
    """Two-sided p that the sum of contributions is as far from 0 when each unit's sign is drawn, the data counted in.

    Units of equal size are drawn together, which changes no distribution.
    """
    sizes, counts = np.unique(np.abs(contributions[contributions != 0]).round(15), return_counts=True)
    signs = 2 * rng.binomial(counts, 0.5, (draws, len(counts))) - counts
    drawn, found = np.abs(signs @ sizes), abs(contributions.sum())
    return float((1 + (drawn >= found - 1e-12).sum()) / (1 + draws))


def bootstrap_p(estimate: float, values: FloatArray, freedom: float = math.inf) -> float | None:
    """Two-sided p that the difference is 0, from the standard deviation of its replicates.

    Where these are all equal it is 1 for no difference, and None for one, whose error is not known then.
    """
    error = float(np.nanstd(values))
    if error < ROUNDING:
        return 1.0 if abs(estimate) < ROUNDING else None
    return two_sided_p(estimate / error, freedom)


def mcnemar(pair: Pair) -> McNemar:
    """McNemar's exact test on units; with one row a unit it is the textbook one."""
    from scipy.stats import binomtest

    more = np.sign((_share_right(pair.a) - _share_right(pair.b)).round(12))
    only_a, only_b = int((more > 0).sum()), int((more < 0).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def _share_right(folds: Sequence[ScoredRows]) -> FloatArray:
    """Share of right rows (U,) of each unit, all folds together; 0 for a unit without a row."""
    unit = np.concatenate([fold.unit for fold in folds])
    right = np.concatenate([fold.predictions == fold.labels for fold in folds])
    return np.bincount(unit, right) / np.maximum(np.bincount(unit), 1)


def resolvable(error: float | None) -> float | None:
    """The smallest true difference found with 80 % power at 5 %, two-sided, given the difference's standard error."""
    if not error:
        return None
    normal = statistics.NormalDist()
    return (normal.inv_cdf((1 + LEVEL) / 2) + normal.inv_cdf(POWER)) * error


def sign_flip_p(differences: Sequence[float], rng: np.random.Generator) -> float:
    """Two-sided p that the mean of the differences, one a task, is as far from 0 under drawn signs.

    All 2^T signs up to thirteen tasks: with T tasks p is never below 2 / 2^T. Source: SciPy's paired permutation test.
    """
    from scipy.stats import permutation_test

    values = np.asarray(differences, dtype=np.float64)
    done = permutation_test(
        (values, np.zeros_like(values)),
        lambda a, b, axis: (a - b).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=RESAMPLES - 1,
        rng=rng,
    )
    return float(done.pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p values in the order given."""
    # Not by statsmodels, which collects all garbage of the process each time.
    order = np.argsort(ps)
    adjusted = np.empty(len(ps))
    adjusted[order] = np.maximum.accumulate(np.asarray(ps, dtype=np.float64)[order] * np.arange(len(ps), 0, -1))
    return np.minimum(adjusted, 1).tolist()


def holm_of_given(ps: Sequence[float | None]) -> list[float | None]:
    """Holm's adjusted p values over the tests that could be done; None stays None."""
    adjusted = iter(holm([p for p in ps if p is not None]))
    return [None if p is None else next(adjusted) for p in ps]
