"""How many units an AUROC's standard error rests on: where these are few, Student's t stands for the normal law."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.statistics.units import ScoredRows
from cxrbench.index import IntArray

FloatArray = NDArray[np.float64]


def area_shares(folds: Sequence[ScoredRows], n_units: int) -> FloatArray:
    """What each unit (U,) adds, to first order, to the error of a cell's macro AUROC; NaN where a class is absent.

    Source: DeLong 1988 (placements), Obuchowski 1997 (their sum over the images of a patient).
    """
    shares = np.zeros(n_units)
    for fold in folds:
        n_classes = fold.scores.shape[1]
        for number in range(n_classes):
            rows = _of_class(fold.scores[:, number].astype(np.float64), fold.labels == number)
            shares += np.bincount(fold.unit, rows, n_units) / (n_classes * len(folds))
    return shares


def _of_class(scores: FloatArray, own: NDArray[np.bool_]) -> FloatArray:
    """The same of each row (n,), for the area of one class against the rest."""
    if own.all() or not own.any():
        return np.full(len(own), np.nan)
    one, rest = np.sort(scores[own]), np.sort(scores[~own])
    below = (np.searchsorted(rest, scores[own], "left") + np.searchsorted(rest, scores[own], "right")) / 2
    above = len(one) - (np.searchsorted(one, scores[~own], "left") + np.searchsorted(one, scores[~own], "right")) / 2
    area = below.mean() / len(rest)
    rows = np.empty(len(own))
    rows[own] = (below / len(rest) - area) / len(one)
    rows[~own] = (above / len(one) - area) / len(rest)
    return rows


def deviation(shares: FloatArray, stratum: IntArray) -> float:
    """The standard error that the spread of shares (U,) within strata (U,) makes up; NaN where a share is."""
    return math.sqrt(sum(variance for variance, _ in _variances(shares, stratum)))


def freedom(shares: FloatArray, stratum: IntArray) -> float:
    """The degrees of freedom of this error; infinite where nothing spreads.

    Source: Satterthwaite 1946, as Brunner and Munzel 2000 use it for two classes.
    """
    found = _variances(shares, stratum)
    whole, parts = sum(variance for variance, _ in found), sum(variance**2 / (size - 1) for variance, size in found)
    return whole**2 / parts if parts > 0 else math.inf


def _variances(shares: FloatArray, stratum: IntArray) -> list[tuple[float, int]]:
    """What each stratum adds to the variance of the sum of all shares, and how many units it has."""
    strata = (shares[stratum == number] for number in np.unique(stratum[stratum >= 0]))
    return [(len(own) * float(own.var(ddof=1)), len(own)) for own in strata]


def quantile(level: float, freedom: float) -> float:
    """How many standard errors reach to either side of a two-sided interval of this level."""
    from scipy.special import stdtrit

    share = (1 + level) / 2
    return statistics.NormalDist().inv_cdf(share) if math.isinf(freedom) else float(stdtrit(freedom, share))


def two_sided_p(errors: float, freedom: float) -> float:
    """The p of an estimate that lies so many standard errors from 0."""
    from scipy.special import stdtr

    lower = statistics.NormalDist().cdf(-abs(errors)) if math.isinf(freedom) else float(stdtr(freedom, -abs(errors)))
    return 2 * lower
