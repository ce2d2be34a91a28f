"""Paired differences and their tests: by hand, beside the libraries' own, and in agreement with their intervals."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_means import cell_of
from made_scores import Probes, judged, pair_under_null, two_normals
from statsmodels.stats import contingency_tables, multitest, power

from cxrbench.analysis.cell import measurement
from cxrbench.analysis.compare import TaskDifference, task_difference
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import ACCURACY, BALANCED_ACCURACY, KAPPA, MACRO_AUROC, Metric, table_of
from cxrbench.evaluate.statistics.estimate import Component, Estimate
from cxrbench.evaluate.statistics.paired import holm, holm_of_given, mcnemar, not_worse, sign_flip_p
from cxrbench.evaluate.statistics.shares import ScoredRows

SINGLE_LABEL = table_of("single-label")

Folds = Sequence[ScoredRows]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def null(seed: int, patients: int = 60, images: int = 1) -> tuple[Folds, Folds]:
    return pair_under_null(patients, images, rng(seed))


def compared(a: Folds, b: Folds, metric: Metric = BALANCED_ACCURACY, *, draws: int = 1) -> TaskDifference:
    one, two = (measurement(cell_of("rsna", folds, draws=min(draws, len(folds))), metric) for folds in (a, b))
    return task_difference((one, two))


def minus(a: Folds, b: Folds, metric: Metric = BALANCED_ACCURACY, *, draws: int = 1) -> Estimate:
    one, two = (measurement(cell_of("rsna", folds, draws=min(draws, len(folds))), metric) for folds in (a, b))
    return one.minus(two)


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_agrees_with_statsmodels(seed: int) -> None:
    a, b = null(seed)
    right = [fold.predictions == fold.labels for fold in (a[0], b[0])]
    table = [[int((one & two).sum()) for two in (right[1], ~right[1])] for one in (right[0], ~right[0])]
    found = mcnemar(a, b)
    assert (found.only_a, found.only_b) == (table[0][1], table[1][0])
    assert found.p == pytest.approx(contingency_tables.mcnemar(table, exact=True).pvalue, rel=1e-12)


def test_mcnemar_counts_a_patient_once() -> None:
    labels, unit = np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])
    a = ScoredRows(unit, labels, np.eye(2)[[0, 0, 0, 1]])  # right on two of patient 0, and on patient 1
    b = ScoredRows(unit, labels, np.eye(2)[[0, 1, 0, 1]])  # right on one of patient 0, and on patient 1
    found = mcnemar([a], [b])
    assert (found.only_a, found.only_b, found.p) == (1, 0, 1.0)


def test_mcnemar_does_not_ask_how_an_image_is_spread_over_folds() -> None:
    """One fold of all images beside the same images in two folds: nothing differs."""
    labels = np.array([0, 0, 1, 1])
    whole = ScoredRows(np.arange(4), labels, np.eye(2)[[0, 1, 1, 1]])
    parts = [ScoredRows(whole.unit[k::2], labels[k::2], whole.scores[k::2]) for k in range(2)]
    found = mcnemar([whole], parts)
    assert (found.only_a, found.only_b) == (0, 0)


def test_mcnemar_is_there_where_no_draws_are_spoken_of() -> None:
    folds = [null(1)[0][0]] * 2
    assert compared(folds, folds).mcnemar is not None
    assert compared(folds, folds, draws=2).mcnemar is None


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


def test_holm_is_over_the_tests_that_could_be_done() -> None:
    assert holm_of_given([0.01, None, 0.04]) == [pytest.approx(0.02), None, pytest.approx(0.04)]
    assert holm_of_given([None]) == [None]


def test_the_error_of_a_difference_is_that_of_image_by_image_differences() -> None:
    """By hand: in each class the spread of (A right) - (B right), over n - 1."""
    (a,), (b,) = null(7, 300)
    right = [(fold.predictions == fold.labels).astype(float) for fold in (a, b)]
    each = [(right[0] - right[1])[a.labels == c] for c in range(3)]
    found = minus([a], [b])
    assert found.value == pytest.approx(np.mean([d.mean() for d in each]))
    assert found.error == pytest.approx(math.sqrt(sum(d.var(ddof=1) / len(d) for d in each)) / 3, rel=1e-9)


def test_the_error_of_a_difference_of_areas_is_delongs() -> None:
    """From the placements of both models' scores, image by image."""
    draw, labels = rng(2), np.repeat([0, 1], [120, 80])
    both = [draw.normal(size=200) + gain * labels for gain in (1.0, 0.6)]
    placed = []
    for s in both:
        above = s[labels == 1][:, None] > s[labels == 0]
        placed.append((above.mean(axis=1), above.mean(axis=0)))
    expected = sum((one - two).var(ddof=1) / len(one) for one, two in zip(*placed, strict=True))
    a, b = ([ScoredRows(np.arange(200), labels, np.stack([-s, s], axis=1))] for s in both)
    found = minus(a, b, MACRO_AUROC)
    assert found.value == pytest.approx(placed[0][0].mean() - placed[1][0].mean())
    assert found.variance == pytest.approx(expected, rel=1e-9)


def test_draws_of_a_pair_are_differences_fold_by_fold() -> None:
    """Both models gain 0.1 from one draw to the next: their difference does not move."""
    labels = np.repeat([0, 1], 50)

    def folds(first: int) -> Folds:
        return [judged(labels, np.arange(100) % 50 < first + 5 * k, 2) for k in range(3)]

    a, b = folds(30), folds(25)
    assert minus(a, b, draws=3).variance == pytest.approx(minus(a, b).variance)
    turned = minus(a, b[::-1], draws=3)
    assert turned.twice > 0
    assert turned.variance == pytest.approx(minus(a, b[::-1]).variance + 0.2**2 / 3 - turned.twice)


@given(
    value=st.floats(-0.9, 0.9),
    variance=st.floats(1e-9, 0.2),
    freedom=st.one_of(st.floats(1, 500), st.just(math.inf)),
    drawn=st.sampled_from([0.0, 0.5, 1.0]),
    reach=st.sampled_from([1.0, 2.0]),
)
@settings(max_examples=300)
def test_p_is_below_5_percent_exactly_where_the_interval_leaves_0_out(
    value: float, variance: float, freedom: float, drawn: float, reach: float
) -> None:
    draws = (Component(drawn * variance, 4),) if drawn else ()
    found = Estimate(value, value, (Component(variance, freedom),), draws, (-reach, reach))
    ends, p = found.ends(), found.p()
    assert ends is not None and p is not None
    if abs(p - 0.05) > 1e-6:
        assert (p < 0.05) == (not ends[0] <= 0 <= ends[1])


@given(seed=st.integers(0, 10**6), metric=st.sampled_from(list(SINGLE_LABEL.values())), draws=st.sampled_from([1, 3]))
@settings(max_examples=25, deadline=None)
def test_p_agrees_with_the_interval_of_simulated_models_and_the_order_of_two_turns_the_sign(
    seed: int, metric: Metric, draws: int
) -> None:
    law = Probes((12, 30, 5), 3, folds=draws, gain=1.0)
    (a, _), (b, _) = law.draw(rng(seed), (1.0, 2.0))
    one, two = compared(a, b, metric, draws=draws), compared(b, a, metric, draws=draws)
    assert one.difference.low is not None and one.difference.high is not None and one.p is not None
    if abs(one.p - 0.05) > 1e-6:
        assert (one.p < 0.05) == (not one.difference.low <= 0 <= one.difference.high)
    assert one.difference.estimate == pytest.approx(-(two.difference.estimate or 0), abs=1e-12)
    assert (one.difference.low, one.difference.high) == pytest.approx(
        (-(two.difference.high or 0), -(two.difference.low or 0)), abs=1e-12
    )
    assert (one.p, one.resolvable) == (pytest.approx(two.p), pytest.approx(two.resolvable))


def test_the_smallest_difference_that_can_be_shown_is_statsmodels() -> None:
    """80 % power at 5 %; with a correction over ten tests at 0.5 %."""
    found = Estimate(0.0, 0.0, (Component(0.02**2, math.inf),), bounds=(-1, 1))
    for tests in (1, 10):
        smallest = found.resolvable(tests)
        assert smallest is not None
        theirs = power.normal_power(smallest / 0.02, nobs=1, alpha=0.05 / tests, alternative="two-sided")
        assert theirs == pytest.approx(0.80, abs=1e-3)
    assert Estimate(0.0, 0.0, ()).resolvable() is None


@pytest.mark.parametrize("metric", SINGLE_LABEL.values(), ids=SINGLE_LABEL)
def test_a_model_does_not_differ_from_itself(metric: Metric) -> None:
    a, _ = null(5)
    found = compared(a, a, metric)
    assert (found.difference.estimate, found.difference.low, found.p, found.resolvable) == (0, None, 1, None)
    assert found.difference.reason == "both models judge every image alike"
    assert found.verdict == "undecided"


def test_predictions_alike_from_other_scores_differ_in_their_areas_alone() -> None:
    (a,), _ = null(5)
    b = ScoredRows(a.unit, a.labels, a.scores + 1.5 * np.eye(3)[a.predictions])
    assert compared([a], [b], KAPPA).p == 1
    assert compared([a], [b], MACRO_AUROC).difference.low is not None


def test_two_models_that_are_always_right_and_always_wrong_are_told_apart() -> None:
    labels = np.repeat([0, 1], 30)
    a, b = ([judged(labels, np.full(60, right), 2)] for right in (True, False))
    found = compared(a, b)
    assert found.difference.estimate == 1
    assert found.difference.low is not None and 0.8 < found.difference.low < 1
    assert found.p is not None and found.p < 1e-6


def test_one_image_of_a_class_leaves_the_question_open() -> None:
    labels = np.repeat([0, 1], [40, 1])
    a, b = ([judged(labels, np.append(np.arange(40) < 30, right), 2)] for right in (True, False))
    found = compared(a, b)
    assert found.difference.estimate == 0.5
    assert found.p is not None and found.p > 0.05


def test_a_difference_without_any_error_has_no_p() -> None:
    """One model ranks all images rightly, the other gives all the same score: no placement spreads."""
    labels = np.repeat([0, 1], 30)
    a, b = ([ScoredRows(np.arange(60), labels, scores)] for scores in (np.eye(2)[labels], np.full((60, 2), 0.5)))
    found = compared(a, b, MACRO_AUROC)
    assert (found.difference.estimate, found.difference.low, found.p) == (0.5, None, None)
    assert found.difference.reason
    assert compared(b, b, MACRO_AUROC).p == 1


def test_differences_of_kappa_reach_as_far_as_they_can() -> None:
    """From 1 to below 0: the difference is above 1."""
    labels = np.repeat([0, 1], 40)
    right, wrong = np.eye(2)[labels], np.eye(2)[np.where(np.arange(80) % 8 == 0, labels, 1 - labels)]
    a, b = ([ScoredRows(np.arange(80), labels, scores)] for scores in (right, wrong))
    found = compared(a, b, KAPPA).difference
    assert found.estimate == pytest.approx(1.75)
    assert 1 < found.low < found.estimate < found.high < 2  # type: ignore[operator]


def test_pairing_narrows_the_interval() -> None:
    """Two models that miss the same images differ by less than their own intervals suggest."""
    a, b = null(7, 200)
    found = compared(a, b)
    assert found.difference.error < 0.9 * np.hypot(found.a.interval.error, found.b.interval.error)  # type: ignore[operator]


def test_models_of_other_units_are_refused() -> None:
    with pytest.raises(DataError, match="cannot be paired"):
        compared(null(1)[0], null(1, 50)[1])


def test_folds_that_cannot_be_paired_are_refused_and_one_number_stands_against_each() -> None:
    fold = two_normals(60, 60, 0.8).draw(rng(1))[0]
    others = [ScoredRows(fold.unit, fold.labels, fold.scores + k * rng(k).normal(size=(120, 2))) for k in (1, 2, 3)]
    with pytest.raises(DataError, match="one model has 2 folds, the other 3"):
        minus([fold] * 2, others)
    found, alone = minus([fold], others, draws=3), measurement(cell_of("rsna", others), BALANCED_ACCURACY).estimate
    assert found.value == pytest.approx(measurement(cell_of("rsna", [fold]), ACCURACY).estimate.value - alone.value)
    ((ours,), (theirs,)) = found.draws, alone.draws
    assert (ours.variance, ours.freedom) == (pytest.approx(theirs.variance), 2)


def difference(value: float, error: float = 0.02) -> Estimate:
    return Estimate(value, value, (Component(error**2, math.inf),), bounds=(-1, 1))


def test_who_may_be_best_by_hand() -> None:
    """a is far above c. b is 1.9 errors below a: one-sided 2.9 %, more than 5 % over two others."""
    found = {("a", "b"): difference(0.038), ("a", "c"): difference(0.2), ("b", "c"): difference(0.162)}
    assert not_worse(found, ["a", "b", "c"]) == {"a", "b"}
    assert not_worse({("a", "b"): difference(0.038)}, ["a", "b"]) == {"a"}
    assert not_worse({("a", "b"): Estimate(0.0, 0.0, ())}, ["a", "b"]) == {"a", "b"}
    assert not_worse({}, ["a"]) == {"a"}


@given(st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=6, unique=True))
def test_the_highest_may_always_be_the_best_and_no_order_matters(values: list[float]) -> None:
    names = [f"m{k}" for k in range(len(values))]
    found = {(a, b): difference(values[int(a[1:])] - values[int(b[1:])]) for a, b in itertools.combinations(names, 2)}
    kept = not_worse(found, names)
    assert names[int(np.argmax(values))] in kept
    turned = {(b, a): one.scaled(-1) for (a, b), one in reversed(found.items())}
    assert not_worse(turned, names[::-1]) == kept


def test_a_rare_class_makes_no_difference_of_areas() -> None:
    """Two equally good models and one or two images of a class: what is shown at 5 % is at most that, far tails too."""
    for rare in (1, 2):
        labels, found = np.repeat([0, 1], [200, rare]), []
        for number in range(200):
            draw = np.random.default_rng([rare, number])
            shared = draw.normal(size=len(labels))
            scores = [labels + shared + draw.normal(size=len(labels)) for _ in range(2)]
            a, b = ([ScoredRows(np.arange(len(labels)), labels, np.stack([-s, s], axis=1))] for s in scores)
            found.append(minus(a, b, MACRO_AUROC).p() or 0.0)
        assert np.mean(np.array(found) < 0.05) <= 0.08
        assert np.mean(np.array(found) < 0.001) <= 0.01


def test_equal_recalls_give_equal_numbers_whichever_images_are_wrong() -> None:
    labels = np.repeat([0, 1], [300, 57])
    numbers = set()
    for number in range(20):
        wrong = np.concatenate([rng(number).permutation(300)[:75], 300 + rng(number).permutation(57)[:14]])
        right = ~np.isin(np.arange(357), wrong)
        numbers.add(BALANCED_ACCURACY.shares([judged(labels, right, 2)]).value)
    assert len(numbers) == 1
