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
from cxrbench.evaluate.statistics.interval import LEVEL, RESAMPLES, Resampled, around
from cxrbench.evaluate.statistics.resample import replicates
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind, strata

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
    `bootstrap`. `replicates` are the differences on the resamples. `resolvable` is the smallest true difference that
    would be found with 80 % power at 5 %, two-sided, between models that disagree as these do; None where no resample
    differs.
    """

    interval: Interval
    p: float
    test: Literal["swap", "bootstrap"]
    mcnemar: McNemar
    resolvable: float | None
    replicates: FloatArray


def difference(metric: Metric, pair: Pair, rng: np.random.Generator, resamples: int = RESAMPLES) -> Difference:
    """The paired difference of a metric's means over folds. Raises DataError for models that score other rows."""
    stratum = strata(pair.a)
    if not np.array_equal(stratum, strata(pair.b)):
        raise DataError("the two models score other units, or units of other classes: they cannot be paired")
    both = [statistic(metric, folds, len(stratum)) for folds in (pair.a, pair.b)]
    estimate = both[0].estimate - both[1].estimate
    drawn = replicates(both, stratum, resamples, rng)
    values = drawn[0] - drawn[1]
    known = freedom(_area_shares(pair, len(stratum)), stratum) if metric == "macro_auroc" else math.inf
    found = around(estimate, Resampled(values, pair.over, int((stratum >= 0).sum()), known), (-1, 1))
    linear = metric in _LINEAR
    p = swap_p(contributions(metric, pair), rng, resamples) if linear else bootstrap_p(estimate, values, known)
    return Difference(found, p, "swap" if linear else "bootstrap", mcnemar(pair), resolvable(found.error), values)


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


def bootstrap_p(estimate: float, values: FloatArray, freedom: float = math.inf) -> float:
    """Two-sided p that the difference is 0, from the standard deviation of its replicates; 1 where none differs."""
    defined = values[~np.isnan(values)]
    error = float(defined.std()) if len(defined) else 0.0
    return two_sided_p(estimate / error, freedom) if error else 1.0


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
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(ps, method="holm")[1]] if ps else []
