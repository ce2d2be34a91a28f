"""Paired tests beside the libraries' own, on the same inputs."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_scores import pair_under_null
from scipy.stats import permutation_test
from statsmodels.stats import contingency_tables, multitest, power

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.counts import statistic
from cxrbench.evaluate.statistics.interval import interval
from cxrbench.evaluate.statistics.paired import (
    Pair,
    contributions,
    difference,
    holm,
    mcnemar,
    resolvable,
    sign_flip_p,
    swap_p,
)
from cxrbench.evaluate.statistics.units import ScoredRows


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def pair(seed: int, patients: int = 60, images: int = 1) -> Pair:
    return Pair(*pair_under_null(patients, images, rng(seed)), "patient")


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_agrees_with_statsmodels(seed: int) -> None:
    both = pair(seed)
    right = [fold.predictions == fold.labels for fold in (both.a[0], both.b[0])]
    table = [[int((one & two).sum()) for two in (right[1], ~right[1])] for one in (right[0], ~right[0])]
    found = mcnemar(both)
    assert (found.only_a, found.only_b) == (table[0][1], table[1][0])
    assert found.p == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue, rel=1e-12)


def test_mcnemar_counts_a_patient_once() -> None:
    labels, unit = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    a = ScoredRows(unit, labels, np.eye(2)[[0, 0, 0, 1]])  # right on two of patient 0, and on patient 1
    b = ScoredRows(unit, labels, np.eye(2)[[0, 1, 0, 1]])  # right on one of patient 0, and on patient 1
    found = mcnemar(Pair([a], [b], "patient"))
    assert (found.only_a, found.only_b, found.p) == (1, 0, 1.0)


def test_mcnemar_does_not_ask_how_an_image_is_spread_over_folds() -> None:
    """One fold of all images beside the same images in two folds: nothing differs."""
    labels = np.array([0, 0, 1, 1])
    whole = ScoredRows(np.arange(4), labels, np.eye(2)[[0, 1, 1, 1]])
    parts = [ScoredRows(whole.unit[k::2], labels[k::2], whole.scores[k::2]) for k in range(2)]
    found = mcnemar(Pair([whole], parts, "image"))
    assert (found.only_a, found.only_b) == (0, 0)


@pytest.mark.parametrize("metric", ["balanced_accuracy", "accuracy"])
def test_contributions_sum_to_the_difference(metric: str) -> None:
    both = pair(3, 40, 3)
    values = [statistic(metric, folds, 40).estimate for folds in (both.a, both.b)]  # type: ignore[arg-type]
    assert contributions(metric, both).sum() == pytest.approx(values[0] - values[1])  # type: ignore[arg-type]


@given(values=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 1.0, 2.0, 3.0]), min_size=1, max_size=9))
@settings(max_examples=20, deadline=None)
def test_swap_p_agrees_with_all_signs(values: list[float]) -> None:
    signs = np.array(list(itertools.product([-1, 1], repeat=len(values))))
    exact = (np.abs(signs @ values) >= abs(sum(values)) - 1e-9).mean()
    assert swap_p(np.array(values), rng(), 20_000) == pytest.approx(exact, abs=0.015)


def test_swap_p_agrees_with_scipy() -> None:
    found = contributions("balanced_accuracy", pair(4))
    both = found, np.zeros_like(found)
    theirs = permutation_test(
        both, lambda a, b: (a - b).sum(), permutation_type="samples", n_resamples=9999, rng=rng(1)
    )
    assert swap_p(found, rng(2)) == pytest.approx(theirs.pvalue, abs=0.02)


def test_sign_flips_over_tasks_are_all_enumerated() -> None:
    differences = [0.03, 0.01, 0.02, -0.005, 0.04, 0.02, 0.01]
    signs = np.array(list(itertools.product([-1, 1], repeat=7)))
    exact = (np.abs(signs @ differences) >= sum(differences) - 1e-12).mean()
    assert sign_flip_p(differences, rng()) == pytest.approx(exact)
    assert sign_flip_p([0.1] * 7, rng()) == pytest.approx(2 / 2**7)


def test_holm_is_statsmodels_and_the_worked_example() -> None:
    ps = [0.01, 0.04, 0.03, 0.005]
    assert holm(ps) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(ps) == pytest.approx(multitest.multipletests(ps, method="holm")[1])
    assert holm([]) == []


def test_the_resolvable_difference_has_the_power_that_statsmodels_gives() -> None:
    smallest = resolvable(0.02)
    assert smallest is not None
    theirs = power.normal_power(smallest / 0.02, nobs=1, alpha=0.05, alternative="two-sided")
    assert theirs == pytest.approx(0.80, abs=1e-3)
    assert resolvable(None) is None
    assert resolvable(0.0) is None


def test_equal_models_differ_by_nothing() -> None:
    a = pair(5).a
    found = difference("balanced_accuracy", Pair(a, a, "image"), rng(), 500)
    assert (found.interval.estimate, found.p, found.mcnemar.p, found.resolvable) == (0, 1, 1, None)
    assert "every resample gives 0" in found.interval.reason


def test_a_difference_turns_its_sign_with_the_order() -> None:
    both = pair(6)
    one, two = (difference("macro_auroc", p, rng(1), 2000) for p in (both, Pair(both.b, both.a, "patient")))
    assert one.interval.estimate == pytest.approx(-two.interval.estimate)  # type: ignore[operator]
    assert one.interval.low == pytest.approx(-two.interval.high)  # type: ignore[operator]
    assert (one.p, one.test) == (pytest.approx(two.p), "bootstrap")


def test_pairing_narrows_the_interval() -> None:
    """Two models that miss the same images differ by less than their own intervals suggest."""
    both = pair(7, 200)
    found = difference("balanced_accuracy", both, rng(), 4000).interval
    alone = [interval("balanced_accuracy", folds, "patient", rng(), 4000) for folds in (both.a, both.b)]
    assert found.error < 0.9 * np.hypot(*(one.error for one in alone))  # type: ignore[operator]


def test_models_of_other_units_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be paired"):
        difference("accuracy", Pair(pair(1).a, pair(1, 50).b, "image"), rng())
