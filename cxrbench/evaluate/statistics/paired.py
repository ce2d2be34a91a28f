"""Two or more models on the same test units: which differences are there, and what this test set could show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.estimate import ALPHA, Estimate
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.store import digest

FloatArray = NDArray[np.float64]
Name = TypeVar("Name")
PERMUTATIONS = 10_000  # drawn where there are more than so many


@dataclass(frozen=True, slots=True)
class McNemar:
    """Units on which only one model is right, and the exact two-sided p that both are as often right.

    With several rows a unit (folds, or images of a patient) it is the one that is right on more of them. It speaks of
    these draws alone.
    """

    only_a: int
    only_b: int
    p: float


def mcnemar(a: Sequence[ScoredRows], b: Sequence[ScoredRows]) -> McNemar:
    """McNemar's exact test on units; with one row a unit it is the textbook one."""
    from scipy.stats import binomtest

    more = np.sign((_share_right(a) - _share_right(b)).round(12))
    only_a, only_b = int((more > 0).sum()), int((more < 0).sum())
    p = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return McNemar(only_a, only_b, p)


def _share_right(folds: Sequence[ScoredRows]) -> FloatArray:
    """Share of right rows (U,) of each unit, all folds together; 0 for a unit without a row."""
    unit = np.concatenate([fold.unit for fold in folds])
    right = np.concatenate([fold.predictions == fold.labels for fold in folds])
    return np.bincount(unit, right) / np.maximum(np.bincount(unit), 1)


def seeded(*words: str) -> np.random.Generator:
    """The generator that the words name, so that equal records give equal permutations."""
    return np.random.default_rng(int(digest.of_json(words), 16))


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
        n_resamples=PERMUTATIONS - 1,
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


def not_worse(differences: Mapping[tuple[Name, Name], Estimate], names: Sequence[Name]) -> frozenset[Name]:
    """Those that are not shown to be worse than another one: the best is among them in 95 of 100 cases.

    `differences` are of the first minus the second, for each pair that can be compared, in one order. One is left out
    when another is better at 5 % one-sided, divided by the number of others that it was held against: for the true
    best, whichever it is, all of these tests have a true null. Source: Bonferroni's inequality, as in Hsu 1984.
    """
    against: dict[Name, list[float]] = {name: [] for name in names}
    for (one, two), found in differences.items():
        for name, other in ((one, found.scaled(-1)), (two, found)):
            if (p := other.above_p()) is not None:
                against[name].append(p)
    return frozenset(name for name, ps in against.items() if not ps or min(ps) * len(ps) >= ALPHA)


@dataclass(frozen=True, slots=True)
class ModelPlaces:
    """The range of places that each model may hold (1 is best), and the pairs that differ, the better model first.

    `compared` is the number of all pairs with a test.
    """

    of: Mapping[str, tuple[int, int]]
    apart: tuple[tuple[str, str], ...]
    compared: int


def places(differences: Mapping[tuple[str, str], Estimate], models: Sequence[str]) -> ModelPlaces:
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
    return ModelPlaces(known, tuple(apart), sum(p is not None for p in adjusted))


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
    models apart. Source: Demsar 2006; SciPy.
    """
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
        nemenyi=_nemenyi(values, spacing),
        critical_difference=float(studentized_range.ppf(1 - ALPHA, models, np.inf) / np.sqrt(2) * spacing),
    )


def _nemenyi(values: FloatArray, spacing: float) -> FloatArray:
    """Nemenyi's p (M, M), 1 on the diagonal; `spacing` is the standard error of a difference of average ranks."""
    from scipy.stats import rankdata, studentized_range

    ranks = rankdata(values, axis=1).mean(axis=0)
    apart = np.abs(ranks[:, None] - ranks) / spacing
    found: FloatArray = studentized_range.sf(apart * np.sqrt(2), len(ranks), np.inf)
    np.fill_diagonal(found, 1)
    return found
