"""Places by hand; ranks over tasks beside the textbook and the libraries."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scikit_posthocs import posthoc_nemenyi_friedman
from scipy.stats import friedmanchisquare

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.estimate import Component, Estimate
from cxrbench.evaluate.statistics.paired import ModelPlaces, places, rank_test, ranked

VALUES = np.random.default_rng(0).normal(size=(7, 5)) + np.arange(5) * 0.8


def placed(errors_apart: list[float]) -> ModelPlaces:
    """Models whose numbers stand at these multiples of the error of any difference, the first highest."""
    names = [f"m{k}" for k in range(len(errors_apart))]
    found = {
        (f"m{a}", f"m{b}"): Estimate(
            0.01 * (errors_apart[b] - errors_apart[a]), 0.0, (Component(1e-4, math.inf),), bounds=(-1, 1)
        )
        for a, b in itertools.combinations(range(len(names)), 2)
    }
    return places(found, names)


def test_places_by_hand() -> None:
    """Three pairs: differences of 2.1 and 1.9 errors are no findings after Holm, one of 4 is."""
    found = placed([0, 2.1, 4])
    assert found.of == {"m0": (1, 2), "m1": (1, 3), "m2": (2, 3)}
    assert (found.apart, found.compared) == ((("m0", "m2"),), 3)


def test_models_far_apart_have_a_place_of_their_own_and_equal_ones_every_place() -> None:
    assert placed([0, 6, 12]).of == {"m0": (1, 1), "m1": (2, 2), "m2": (3, 3)}
    assert placed([0, 0, 0]).of == dict.fromkeys(("m0", "m1", "m2"), (1, 3))


def test_a_pair_without_a_test_is_not_told_apart() -> None:
    found = places({("a", "b"): Estimate(0.3, 0.3, ())}, ["a", "b"])
    assert found == ModelPlaces({"a": (1, 2), "b": (1, 2)}, (), 0)


@given(st.lists(st.floats(0, 20), min_size=2, max_size=7))
def test_the_order_of_the_numbers_lies_within_the_places(apart: list[float]) -> None:
    found = placed(apart)
    for number, own in enumerate(apart):
        low, high = found.of[f"m{number}"]
        assert 1 <= low <= 1 + sum(other < own for other in apart) <= high <= len(apart)


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


@pytest.mark.parametrize("values", [VALUES[:, :2], VALUES[:1], np.full((7, 3), np.nan), np.ones((7, 3))])
def test_too_little_to_rank_is_refused(values: np.ndarray) -> None:
    with pytest.raises(DataError):
        rank_test(values)
