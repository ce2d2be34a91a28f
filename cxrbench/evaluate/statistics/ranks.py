"""Many models: which places each may have by all pairs of them, and average ranks over tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.estimate import ALPHA, Estimate
from cxrbench.evaluate.statistics.paired import holm_of_given

FloatArray = NDArray[np.float64]
Name = TypeVar("Name")


@dataclass(frozen=True, slots=True)
class Places:
    """The range of places that each model may hold (1 is best), and the pairs that differ, the better model first.

    `compared` is the number of all pairs with a test.
    """

    of: Mapping[str, tuple[int, int]]
    apart: tuple[tuple[str, str], ...]
    compared: int


def places(differences: Mapping[tuple[str, str], Estimate], models: Sequence[str]) -> Places:
    """Places from all pairs at once: together they hold every model's true place in 95 of 100 cases.

    `differences` are of the first minus the second. A pair differs if its p is below 5 % after Holm's correction over
    all pairs that have one; a model's places leave room for all those above and below it. Source: Holm 1979; Klein,
    Wright and Wieczorek 2020; Mogstad, Romano, Shaikh and Wilhelm 2024.
    """
    adjusted = holm_of_given([found.p() for found in differences.values()])
    apart = []
    for ((one, two), found), p in zip(differences.items(), adjusted, strict=True):
        if p is not None and p < ALPHA:
            apart.append((one, two) if found.value > 0 else (two, one))
    above = {model: sum(worse == model for _, worse in apart) for model in models}
    below = {model: sum(better == model for better, _ in apart) for model in models}
    known = {model: (1 + above[model], len(models) - below[model]) for model in models}
    return Places(known, tuple(apart), sum(p is not None for p in adjusted))


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
