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
from cxrbench.evaluate.statistics.counts import Metric, statistic
from cxrbench.evaluate.statistics.interval import interval
from cxrbench.evaluate.statistics.paired import (
    Pair,
    contributions,
    difference,
    holm,
    holm_of_given,
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


def test_the_data_are_counted_in_so_no_p_is_0() -> None:
    assert swap_p(np.ones(200), rng(), 99) == pytest.approx(1 / 100)


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
    assert found.interval.reason == "every resample gives 0: both models judge every image alike"


def rare_pair(more: int) -> Pair:
    """Patients with two images of class 0 each; `more` of them have one of class 1 too, so none is drawn as class 1."""
    unit = np.concatenate([np.repeat(np.arange(40), 2), np.arange(more)])
    labels = np.repeat([0, 1], [80, more])
    return Pair(
        *([ScoredRows(unit, labels, rng(seed).normal(size=(80 + more, 2)) + np.eye(2)[labels])] for seed in (1, 2)),
        "patient",
    )


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_auroc"])
@pytest.mark.parametrize(("more", "reason"), [(1, "class 1 has 1 patient"), (2, "a class was absent from")])
def test_where_an_interval_is_refused_there_is_no_p_either(more: int, reason: str, metric: Metric) -> None:
    found = difference(metric, rare_pair(more), rng(), 2000)
    assert (found.interval.low, found.p, found.resolvable) == (None, None, None)
    assert found.interval.estimate is not None and reason in found.interval.reason
    assert 0 < found.mcnemar.p <= 1  # it asks about units, not classes


def test_a_class_that_hardly_ever_is_absent_leaves_the_test() -> None:
    found = difference("balanced_accuracy", rare_pair(8), rng(), 2000)
    assert found.p is not None and found.interval.low is not None


def test_holm_is_over_the_tests_that_could_be_done() -> None:
    assert holm_of_given([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm_of_given([None]) == [None]


def test_two_models_that_never_look_say_so() -> None:
    labels = np.repeat([0, 1], 30)
    a, b = ([ScoredRows(np.arange(60), labels, np.tile(row, (60, 1)))] for row in ([0.4, 0.6], [0.7, 0.3]))
    found = difference("balanced_accuracy", Pair(a, b, "image"), rng(), 500)
    assert found.interval.reason.endswith("all images have the same scores, and others would change nothing")
    assert found.p == 1


def test_a_difference_without_any_error_has_no_p_from_it() -> None:
    """One model ranks all images rightly, the other gives all the same score: no resample differs from 0.5."""
    labels = np.repeat([0, 1], 30)
    a, b = ([ScoredRows(np.arange(60), labels, scores)] for scores in (np.eye(2)[labels], np.full((60, 2), 0.5)))
    found = difference("macro_auroc", Pair(a, b, "image"), rng(), 500)
    assert (found.interval.estimate, found.interval.low, found.p) == (0.5, None, None)
    assert difference("macro_auroc", Pair(b, b, "image"), rng(), 500).p == 1


def test_differences_of_kappa_reach_as_far_as_they_can() -> None:
    """From 1 to below 0: the difference is above 1."""
    labels = np.repeat([0, 1], 40)
    right, wrong = np.eye(2)[labels], np.eye(2)[np.where(np.arange(80) % 8 == 0, labels, 1 - labels)]
    a, b = ([ScoredRows(np.arange(80), labels, scores)] for scores in (right, wrong))
    found = difference("kappa", Pair(a, b, "image"), rng(), 2000).interval
    assert found.estimate == pytest.approx(1.75)
    assert 1 < found.low < found.estimate < found.high < 2  # type: ignore[operator]


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
