"""Many models over many tasks: average ranks, and which of them the tasks tell apart."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError

FloatArray = NDArray[np.float64]

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class RankTest:
    """Average ranks (M,), 1 is best; Friedman's statistic and p; Nemenyi's p (M, M) and its critical difference."""

    ranks: FloatArray
    friedman: float
    p: float
    nemenyi: FloatArray
    critical_difference: float


def ranked(values: FloatArray) -> FloatArray:
    """Ranks along the last axis, 1 for the highest value, ties shared."""
    from scipy.stats import rankdata

    return rankdata(-values, axis=-1)


def rank_test(values: FloatArray) -> RankTest:
    """Friedman and Nemenyi over values (T, M) of M models on T tasks, higher is better.

    Raises DataError below three models or two tasks, for values that are not finite, and where no task tells any
    models apart. Source: Demsar 2006; SciPy and scikit-posthocs.
    """
    from scikit_posthocs import posthoc_nemenyi_friedman
    from scipy.stats import friedmanchisquare, studentized_range

    tasks, models = values.shape
    if models < 3 or tasks < 2 or not np.isfinite(values).all():
        raise DataError(f"ranks need three models and two tasks with a number each; there are {models} and {tasks}")
    if (values == values[:, :1]).all():
        raise DataError("all models have the same numbers on every task: there is nothing to rank")
    found = friedmanchisquare(*values.T)
    spacing = np.sqrt(models * (models + 1) / (6 * tasks))
    return RankTest(
        ranks=ranked(values).mean(axis=0),
        friedman=float(found.statistic),
        p=float(found.pvalue),
        nemenyi=posthoc_nemenyi_friedman(values).to_numpy(),
        critical_difference=float(studentized_range.ppf(1 - ALPHA, models, np.inf) / np.sqrt(2) * spacing),
    )


def rank_intervals(replicates: FloatArray, level: float = 0.95) -> FloatArray:
    """Percentile intervals (M, 2) of the average ranks from resampled values (T, M, B); the tasks stay as they are.

    Resamples in which a number is undefined are left out.
    """
    whole = replicates[:, :, ~np.isnan(replicates).any(axis=(0, 1))]
    average = ranked(whole.transpose(0, 2, 1)).mean(axis=0)  # (B, M)
    return np.quantile(average, [(1 - level) / 2, (1 + level) / 2], axis=0).T
