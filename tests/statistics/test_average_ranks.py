"""Ranks beside the textbook and the libraries."""

import numpy as np
import pytest
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy.stats import friedmanchisquare

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.ranks import rank_intervals, rank_test, ranked

VALUES = np.random.default_rng(0).normal(size=(7, 5)) + np.arange(5) * 0.8


def test_the_highest_value_has_rank_one_and_ties_share() -> None:
    assert ranked(np.array([[0.9, 0.7, 0.9, 0.1]])).tolist() == [[1.5, 3, 1.5, 4]]


def test_friedman_and_nemenyi_are_the_libraries_own() -> None:
    found = rank_test(VALUES)
    theirs = friedmanchisquare(*VALUES.T)
    assert (found.friedman, found.p) == (theirs.statistic, theirs.pvalue)
    np.testing.assert_array_equal(found.nemenyi, posthoc_nemenyi_friedman(VALUES).to_numpy())
    np.testing.assert_allclose(found.ranks, ranked(VALUES).mean(axis=0))


def test_critical_difference_is_demsars() -> None:
    """Demsar 2006, table 5: q is 2.728 for five classifiers at 5 %; models just so far apart have p 0.05."""
    found = rank_test(VALUES)
    assert found.critical_difference == pytest.approx(2.728 * np.sqrt(5 * 6 / (6 * 7)), abs=1e-3)
    apart = np.abs(found.ranks[:, None] - found.ranks)
    np.testing.assert_array_equal(found.nemenyi < 0.05, apart > found.critical_difference)


def test_rank_intervals_hold_equal_models_and_part_unequal_ones() -> None:
    draws = np.random.default_rng(1).normal(0, 0.01, (7, 3, 500)) + np.array([0.9, 0.9, 0.5])[:, None]
    draws[0, 0, 3] = np.nan
    spans = rank_intervals(draws)
    assert spans[2].tolist() == [3, 3]
    assert spans[0][0] < 1.5 < spans[0][1]


@pytest.mark.parametrize("values", [VALUES[:, :2], VALUES[:1], np.full((7, 3), np.nan), np.ones((7, 3))])
def test_too_little_to_rank_is_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError):
        rank_test(values)


@pytest.mark.parametrize(("worse", "ends"), [(4, [1.0, 2.0]), (2, [1.0, 1.0])])
def test_rank_intervals_are_the_percentiles_of_whole_resamples(worse: int, ends: list[float]) -> None:
    """The first of two models is worse in so many of 100 resamples; one more has no number of it and does not count."""
    first = np.where(np.arange(100) < worse, -1.0, 1.0)
    drawn = np.stack([np.append(first, np.nan), np.append(np.zeros(100), 5.0)])[None]
    found = rank_intervals(drawn).tolist()
    assert found == [ends, [3 - ends[1], 3 - ends[0]]]
