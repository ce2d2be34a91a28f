"""Intervals beside independent formulas, and how they behave where there is little to know."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_means import cell_of
from made_scores import Wards, judged, recalls, two_normals
from scipy.integrate import quad
from scipy.special import roots_genlaguerre, stdtrit
from scipy.stats import multivariate_normal, norm, t
from statsmodels.stats.proportion import proportion_confint

from cxrbench.analysis.cell import Measurement, cell_interval, covered, measurement
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import (
    ACCURACY,
    BALANCED_ACCURACY,
    KAPPA,
    MACRO_AUROC,
    MACRO_F1,
    TABLE,
    Metric,
    table_of,
)
from cxrbench.evaluate.metrics import SUMMARISED, fold_metrics
from cxrbench.evaluate.statistics.estimate import Component, Estimate, over_draws
from cxrbench.evaluate.statistics.interval import (
    Interval,
    covers_words,
    estimate,
    fold_spread,
    relation,
    sparse,
)
from cxrbench.evaluate.statistics.shares import ScoredRows, strata, within

SINGLE_LABEL = table_of("single-label")

ROOT = Path(__file__).parents[2]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def one_fold(seed: int, n: int, classes: int, decimals: int = 1) -> ScoredRows:
    """Scores with many ties, every class met at least twice."""
    draw = rng(seed)
    labels = np.concatenate([np.repeat(np.arange(classes), 2), draw.integers(0, classes, n)])
    scores = draw.normal(size=(len(labels), classes)) + np.eye(classes)[labels]
    return ScoredRows(np.arange(len(labels)), labels, scores.round(decimals))


def of(metric: Metric, *folds: ScoredRows) -> Estimate:
    """The estimate that speaks of these draws."""
    return estimate(metric.shares(folds), metric.bounds, "these draws")


def some_right(sizes: tuple[int, ...], right: tuple[int, ...]) -> ScoredRows:
    """So many of each class are right."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    hit = np.concatenate([np.arange(n) < own for n, own in zip(sizes, right, strict=True)])
    return judged(labels, hit, len(sizes))


def interval(*folds: ScoredRows, metric: Metric = BALANCED_ACCURACY, draws: int = 0) -> Interval:
    return cell_interval(cell_of("rsna", folds, draws=draws), metric)


@given(seed=st.integers(0, 10**6), n=st.integers(0, 40), classes=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_values_are_the_metrics_of_the_record(seed: int, n: int, classes: int) -> None:
    folds = [one_fold(seed + k, n, classes) for k in range(2)]
    told = [fold_metrics(fold.scores, fold.labels) for fold in folds]
    for metric in (TABLE[name] for name in SUMMARISED):
        expected = [getattr(values, metric.name) for values in told]
        assert metric.shares(folds).values == pytest.approx(expected, abs=1e-12)
        assert [metric.of(fold) for fold in folds] == expected


def test_the_error_of_balanced_accuracy_is_the_textbooks() -> None:
    """By hand: sqrt(0.7 x 0.3 / 39 + 0.65 x 0.35 / 199) / 2."""
    found = of(BALANCED_ACCURACY, some_right((40, 200), (28, 130)))
    assert (found.value, found.centre) == (pytest.approx(0.675), found.value)
    assert found.error == pytest.approx(math.sqrt(0.7 * 0.3 / 39 + 0.65 * 0.35 / 199) / 2, rel=1e-12)


def test_degrees_of_freedom_are_satterthwaites() -> None:
    parts = 0.7 * 0.3 / 39 / 4, 0.65 * 0.35 / 199 / 4
    found = of(BALANCED_ACCURACY, some_right((40, 200), (28, 130)))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 39 + parts[1] ** 2 / 199)
    assert found.reach(0.025) == pytest.approx(found.error * stdtrit(freedom, 0.975))


Part = tuple[float, int]  # a standard error with its degrees of freedom


def behrens_fisher(far: float, units: Part, draws: Part) -> float:
    """The probability that both parts together exceed `far`, integrated over Student's t of the smaller."""
    (other, few), (error, freedom) = sorted((units, draws))
    found, _ = quad(lambda x: t.pdf(x, few) * t.sf((far - other * x) / error, freedom), -np.inf, np.inf, limit=500)
    return float(found)


def ghosh_kim(far: float, units: Part, draws: Part) -> float:
    """The same by their prior, integrated over both unknown variances."""
    nodes = [roots_genlaguerre(60, freedom / 2 - 1) for _, freedom in (units, draws)]  # half a chi-squared
    one, two = (error**2 * freedom / 2 / x for (error, freedom), (x, _) in zip((units, draws), nodes, strict=True))
    weight = np.outer(nodes[0][1], nodes[1][1]) * np.add.outer(1 / one, 1 / two)
    return float((weight * norm.sf(far / np.sqrt(np.add.outer(one, two)))).sum() / weight.sum())


@pytest.mark.parametrize(("units", "draws"), [(0.014, 0.017), (0.017, 0.001), (0.001, 0.017)])
@pytest.mark.parametrize("freedom", [8, 40])
def test_units_and_draws_go_by_their_own_t(units: float, draws: float, freedom: int) -> None:
    """By numerical integration: one prior at 5 %, another in the far tails that Holm asks for, both between."""
    found = Estimate(0.1, 0.1, (Component(units**2, freedom),), (Component(draws**2, 4),), (-1, 1))

    tails = 0.2, 0.025, 0.006, 0.001, 0.0001
    reaches = [found.reach(tail) for tail in tails]
    assert [found.beyond(far) for far in reaches] == pytest.approx(tails)

    def expected(law: Callable[[float, Part, Part], float], far: float) -> float:
        return max(law(far, (units, freedom), (draws, 4)), float(t.sf(far / units, freedom)))

    for far in (0.0, reaches[0], reaches[1]):
        assert found.beyond(far) == pytest.approx(expected(ghosh_kim, far), rel=2e-3)
    for far in reaches[3:]:
        assert found.beyond(far) == pytest.approx(expected(behrens_fisher, far), rel=1e-4)
    assert 0.999 * expected(ghosh_kim, reaches[2]) <= 0.006 <= 1.001 * expected(behrens_fisher, reaches[2])
    assert found.reach(0.025) >= Estimate(0.1, 0.1, found.units, bounds=(-1, 1)).reach(0.025)
    assert found.fixed().reach(0.025) == 0


@pytest.mark.parametrize("freedom", [math.inf, 14.0])
def test_the_level_is_held_whatever_draws_weigh(freedom: float) -> None:
    """Of a number with a true value of 0, five draws: at 5 %, and at 0.25 % no more than 1.6 times as often."""
    draw, times = rng(3), 4000
    for ratio in (0.1, 0.5, 1.0, 3.0, 30.0):
        values = draw.normal(size=times) * math.sqrt(1 + ratio)
        units = np.ones(times) if math.isinf(freedom) else draw.chisquare(freedom, times) / freedom
        spread = ratio * draw.chisquare(4, times) / 4
        wide = 1e6  # bounds so far away that the ends are those of t
        ps = [
            Estimate(value, value, (Component(u, freedom),), (Component(d, 4),), (-wide, wide)).p() or 1.0
            for value, u, d in zip(values, units, spread, strict=True)
        ]
        assert 0.03 < np.mean(np.array(ps) < 0.05) < 0.06
        assert np.mean(np.array(ps) < 0.0025) < 0.006


def test_the_interval_is_wilsons() -> None:
    """Accuracy of independent images, of which the spread is that of n - 1 trials; the normal law."""
    found = replace(of(ACCURACY, some_right((200, 200), (170, 150))), units=(Component(0.8 * 0.2 / 400, math.inf),))
    assert found.ends() == pytest.approx(proportion_confint(320, 400, method="wilson"), abs=1e-9)


def test_few_degrees_of_freedom_make_it_longer_as_students_t_does() -> None:
    few, many = (Estimate(0.0, 0.0, (Component(1e-6, df),), bounds=(-1, 1)) for df in (3, math.inf))
    (low, high), (_, wide) = many.ends() or (0, 0), few.ends() or (0, 0)
    assert low == -high
    assert wide / high == pytest.approx(stdtrit(3, 0.975) / stdtrit(1e9, 0.975), rel=1e-4)


@pytest.mark.parametrize("ties", [0, 1])
def test_the_error_of_auroc_is_delongs(ties: int) -> None:
    """From all pairs of images, of every class against the rest."""
    draw = rng(4)
    labels = draw.integers(0, 3, 150)
    scores = (draw.normal(size=(150, 3)) + np.eye(3)[labels]).round(1 if ties else 8)
    share, areas = np.zeros(150), []
    for c in range(3):
        own = labels == c
        above = (scores[own, c][:, None] > scores[~own, c]) + 0.5 * (scores[own, c][:, None] == scores[~own, c])
        areas.append(above.mean())
        share[own] += (above.mean(axis=1) - above.mean()) / own.sum() / 3
        share[~own] += (above.mean(axis=0) - above.mean()) / (~own).sum() / 3
    expected = sum(share[labels == c].var(ddof=1) * (labels == c).sum() for c in range(3))
    found = MACRO_AUROC.shares([ScoredRows(np.arange(150), labels, scores)])
    assert found.value == pytest.approx(np.mean(areas), abs=1e-12)
    assert sum(part.variance for part in within(found.each, found.stratum)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("metric", SINGLE_LABEL.values(), ids=SINGLE_LABEL)
def test_shares_are_what_leaving_a_unit_out_changes(metric: Metric) -> None:
    """Patients with images of several classes: the variance is the jackknife's to a few percent."""
    (fold,) = Wards(150, 3).draw(rng(3))
    own = metric.shares([fold])
    without = []
    for unit in range(150):
        rows = fold.unit != unit
        without.append(metric.of(ScoredRows(fold.unit[rows], fold.labels[rows], fold.scores[rows])))
    jackknife = -(np.array(without) - np.mean(without)) * 149 / 150
    assert np.corrcoef(jackknife, own.each)[0, 1] > 0.99
    spread = sum(jackknife[own.stratum == k].var(ddof=1) * (own.stratum == k).sum() for k in range(3))
    assert sum(part.variance for part in within(own.each, own.stratum)) == pytest.approx(spread, rel=0.06)


def test_the_error_over_patients_is_a_bootstraps() -> None:
    """Patients drawn within the class of most of their images, each with all its images in all folds."""
    folds = Wards(200, 3, folds=3, share=0.5).draw(rng(3))
    stratum, draw, values = strata(folds), rng(5), []
    places = [[np.flatnonzero(fold.unit == u) for u in range(len(stratum))] for fold in folds]
    members = [np.flatnonzero(stratum == k) for k in range(3)]
    for _ in range(1500):
        chosen = np.concatenate([draw.choice(own, len(own)) for own in members])
        rows = [np.concatenate([of_fold[u] for u in chosen]) for of_fold in places]
        drawn = zip(folds, rows, strict=True)
        values.append(np.mean([fold_metrics(f.scores[r], f.labels[r]).balanced_accuracy for f, r in drawn]))
    assert of(BALANCED_ACCURACY, *folds).error == pytest.approx(np.std(values), rel=0.07)


def test_a_sparse_class_has_the_floor_of_agresti_and_caffo() -> None:
    """Two images, both right: one right and one wrong are put to them, p = 3/4 of four, p (1 - p) / (n + 3)."""
    found = of(BALANCED_ACCURACY, some_right((200, 2), (160, 2)))
    dense, rare = 0.8 * 0.2 / 199 / 4, 0.75 * 0.25 / 5 / 4
    assert found.variance == pytest.approx(dense + rare, rel=1e-9)
    assert found.value == pytest.approx(0.9)
    assert found.centre == pytest.approx((0.8 + 0.75) / 2)


def test_a_sparse_area_has_the_floor_of_hanley_and_mcneil_for_normal_scores() -> None:
    """All right: one image more on either side, at chance. That two of a side stand right is a bivariate normal's."""
    a = (4 * 5 * 1.0 + (4 + 5 + 1) / 2) / (5 * 6)
    both = multivariate_normal([0, 0], [[1, 0.5], [0.5, 1]]).cdf([norm.ppf(a)] * 2)
    expected = (a * (1 - a) + (4 + 5) * (both - a**2)) / (5 * 6)
    found = of(MACRO_AUROC, some_right((4, 5), (4, 5)))
    assert (found.value, found.centre) == (1.0, pytest.approx(a))
    assert found.variance == pytest.approx(2 * expected / 4, rel=1e-6)


def test_images_of_a_patient_widen_an_area_only_as_far_as_they_agree() -> None:
    """Each image twice is no more than once; two images of a patient that have nothing in common are two patients."""
    (fold,) = two_normals(60, 60, 0.8).draw(rng(1))
    twice = ScoredRows(fold.unit.repeat(2), fold.labels.repeat(2), fold.scores.repeat(2, axis=0))
    assert of(MACRO_AUROC, twice).error == pytest.approx(of(MACRO_AUROC, fold).error, rel=0.03)
    paired = ScoredRows(fold.unit // 2, fold.labels, fold.scores)
    assert of(MACRO_AUROC, paired).error == pytest.approx(of(MACRO_AUROC, fold).error, rel=0.1)


def test_the_floor_of_a_difference_puts_half_a_unit_to_either_model() -> None:
    """Both models are right on all four images of a class; of 200 others each knows some that the other does not."""
    labels = np.repeat([0, 1], [200, 4])
    a, b = (
        judged(labels, (np.arange(204) >= low) & ((np.arange(204) < high) | (labels == 1)), 2)
        for low, high in ((0, 150), (30, 170))
    )
    found = estimate(BALANCED_ACCURACY.shares([a]).minus(BALANCED_ACCURACY.shares([b])), (-1, 1), "images")
    dense, rare = (0.25 - 0.05**2) / 199 / 4, 6 / 7 * 1 / 6**2 / 4
    assert found.variance == pytest.approx(dense + rare, rel=1e-9)
    assert (found.value, found.centre) == (pytest.approx(0.025), pytest.approx(0.025))


def test_all_right_leaves_a_lower_bound() -> None:
    for metric in (BALANCED_ACCURACY, MACRO_AUROC):
        few, many = (interval(some_right((n, n), (n, n)), metric=metric, draws=1) for n in (15, 1000))
        assert few.estimate == 1.0
        assert few.high == pytest.approx(1.0)
        assert few.low is not None and many.low is not None
        assert 0.8 < few.low < 0.95 < many.low < 1


def test_one_image_of_a_class_has_an_interval_and_a_warning() -> None:
    labels = np.repeat([0, 1], [20, 1])
    found = interval(ScoredRows(np.arange(21), labels, rng(2).normal(size=(21, 2)) + np.eye(2)[labels]), draws=1)
    assert found.low is not None and found.high is not None and found.high - found.low > 0.4
    assert found.reason.startswith("few test images: class 1 1.")


def test_the_warning_names_the_rarest_classes_first() -> None:
    told = "few test images: d 2, b 9. Their scores are hardly known"
    assert sparse({"a": 12, "b": 9, "c": 300, "d": 2}, "image") == told
    assert sparse({"a": 12, "b": 10}, "image") == ""


def test_a_class_that_is_absent_leaves_no_number() -> None:
    absent = ScoredRows(np.arange(20), np.zeros(20, dtype=int), np.eye(2)[np.zeros(20, dtype=int)])
    for metric in (BALANCED_ACCURACY, MACRO_AUROC, MACRO_F1):
        found = interval(absent, metric=metric)
        assert (found.estimate, found.low, found.error) == (None, None, None)
        assert found.reason


def test_scores_that_know_nothing_of_the_image_have_no_interval() -> None:
    labels = np.repeat([0, 1], [30, 50])
    constant = ScoredRows(np.arange(80), labels, np.tile([0.4, 0.6], (80, 1)))
    for metric in SINGLE_LABEL.values():
        found = interval(constant, constant, metric=metric)
        assert (found.low, found.high) == (None, None)
        assert "all images have the same scores, and others would change nothing" in found.reason


def test_draws_add_their_variance_over_their_number() -> None:
    """By hand: the spread of 0.80, 0.84, 0.88 is 0.0016, and of their mean a third."""
    (part,) = over_draws([0.80, 0.84, 0.88])
    assert (part.variance, part.freedom) == (pytest.approx(0.0016 / 3), 2)
    assert over_draws([0.8]) == over_draws([0.8, math.nan]) == ()
    folds = [some_right((50, 50), (k, 40)) for k in (35, 40, 45)]
    narrow, wide = (cell_interval(cell_of("rsna", folds), BALANCED_ACCURACY, these_draws=t) for t in (True, False))
    assert narrow.error is not None and wide.error is not None
    twice = BALANCED_ACCURACY.shares(folds).twice
    assert wide.error**2 - narrow.error**2 == pytest.approx(0.05**2 / 3 - twice)


@pytest.mark.parametrize("metric", SINGLE_LABEL.values(), ids=SINGLE_LABEL)
def test_what_units_add_to_one_draw_alone_is_counted_once(metric: Metric) -> None:
    """With the same images in all folds, what is left of the units is the mean covariance of two folds' shares."""
    draw = rng(5)
    labels = np.repeat([0, 1, 2], 60)
    common = draw.normal(size=(180, 3)) + np.eye(3)[labels]
    folds = [ScoredRows(np.arange(180), labels, common + draw.normal(size=(180, 3))) for _ in range(3)]
    found = metric.shares(folds)
    centred = [
        own[labels == k] - own[labels == k].mean() for own in (metric.shares([f]).each for f in folds) for k in range(3)
    ]
    by_fold = [np.concatenate(centred[3 * f : 3 * f + 3]) * math.sqrt(60 / 59) for f in range(3)]
    shared = np.mean([by_fold[f] @ by_fold[g] for f in range(3) for g in range(3) if f != g])
    units = sum(part.variance for part in within(found.each, found.stratum))
    assert units - found.twice == pytest.approx(shared, rel=1e-9)
    assert 0.1 < found.twice / units < 0.9


@pytest.mark.parametrize("metric", SINGLE_LABEL.values(), ids=SINGLE_LABEL)
def test_with_other_images_in_each_fold_units_are_in_the_spread_of_draws(metric: Metric) -> None:
    folds = [ScoredRows(np.arange(180) + 180 * k, f.labels, f.scores) for k in range(3) for f in [one_fold(k, 174, 3)]]
    found = metric.shares(folds)
    assert found.twice == pytest.approx(sum(part.variance for part in within(found.each, found.stratum)), rel=0.05)
    assert metric.shares(folds[:1]).twice == 0


def test_folds_that_are_alike_count_as_one() -> None:
    fold = one_fold(8, 200, 2)
    for metric in SINGLE_LABEL.values():
        one, five = interval(fold, metric=metric), interval(*[fold] * 5, metric=metric, draws=1)
        assert (five.low, five.high) == pytest.approx((one.low, one.high), rel=1e-9)


@given(seed=st.integers(0, 10**6), metric=st.sampled_from(list(SINGLE_LABEL.values())))
@settings(max_examples=25, deadline=None)
def test_no_order_matters(seed: int, metric: Metric) -> None:
    """Of folds, of images, and of the numbers that units have."""
    folds = Wards(30, 3, folds=2).draw(rng(seed))
    draw = rng(seed + 1)
    number = draw.permutation(30)
    orders = [draw.permutation(len(fold.labels)) for fold in folds]
    turned = [
        ScoredRows(number[f.unit[o]], f.labels[o], f.scores[o]) for f, o in zip(folds[::-1], orders[::-1], strict=True)
    ]
    one, two = of(metric, *folds), of(metric, *turned)
    assert (one.value, one.variance, one.reach(0.01)) == pytest.approx(
        (two.value, two.variance, two.reach(0.01)), rel=1e-9
    )


@given(
    value=st.floats(0, 1),
    parts=st.lists(st.tuples(st.floats(1e-8, 0.05), st.integers(1, 400)), min_size=1, max_size=4),
    draws=st.lists(st.tuples(st.floats(1e-8, 0.05), st.integers(1, 4)), max_size=2),
    metric=st.sampled_from(list(SINGLE_LABEL.values())),
)
def test_an_interval_lies_in_its_bounds_and_around_its_number(
    value: float, parts: list[tuple[float, int]], draws: list[tuple[float, int]], metric: Metric
) -> None:
    low, high = metric.bounds
    number = low + value * (high - low)
    centre = min(high - 1e-3, max(low + 1e-3, number))
    units, drawn = (tuple(Component(v, f) for v, f in own) for own in (parts, draws))
    ends = Estimate(number, centre, units, drawn, (low, high)).ends()
    assert ends is not None
    assert low <= ends[0] <= number + 1e-12 and number - 1e-12 <= ends[1] <= high


def test_more_images_and_a_lower_level_make_it_shorter() -> None:
    few, many = of(KAPPA, one_fold(1, 60, 3)), of(KAPPA, one_fold(1, 6000, 3))
    assert many.error < few.error / 5
    (low, high), (lower, higher) = few.ends(0.8) or (0, 0), few.ends() or (0, 0)
    assert lower < low < high < higher


@pytest.mark.parametrize(
    ("kind", "folds", "draws", "these", "words"),
    [
        ("probe", 2, 2, False, "other test images and training images"),
        ("probe", 2, 2, True, "other test images, these training images only"),
        ("probe", 2, 1, False, "other test images, these training images only"),
        ("zero-shot", 2, 2, False, "other test images and prompts"),
        ("zero-shot", 2, 2, True, "other test images, these prompts only"),
        ("zero-shot", 2, 1, False, "other test images, these prompts only"),
    ],
)
def test_what_an_interval_covers_follows_from_the_record(
    kind: str, folds: int, draws: int, these: bool, words: str
) -> None:
    cell = cell_of("rsna", [one_fold(1, 40, 2)] * folds, kind=kind, draws=draws)  # type: ignore[arg-type]
    assert cell_interval(cell, ACCURACY, these_draws=these).words == words
    assert covers_words((covered(cell.record, these_draws=these),), "patient") == words.replace(
        "test images", "test patients"
    )


@pytest.mark.parametrize(
    ("shots", "share", "covers"),
    [
        (4, "mgca", "draws"),
        ("1%", "hash-rank-v1", "draws"),
        ("1%", "mgca", "one draw"),  # one list: its folds differ by the part that it is taken from
        ("all", "hash-rank-v1", "one draw"),
    ],
)
def test_training_parts_that_nobody_drew_are_no_draws(shots: int | str, share: str, covers: str) -> None:
    record = cell_of("rsna", [one_fold(1, 40, 2)] * 2).record
    how = {"protocol": record.protocol.model_copy(update={"shots": shots})}
    told = record.model_copy(update={**how, "settings": record.settings.model_copy(update={"share": share})})
    assert covered(told) == covers


def test_what_a_mean_covers_is_told_of_each_kind() -> None:
    assert covers_words(("draws", "images"), "image") == "other test images and training images or other test images"


def test_a_patient_is_of_the_class_of_most_images() -> None:
    unit = np.array([0, 0, 0, 1, 2, 2, 3, 4, 6])
    labels = np.array([1, 1, 0, 0, 0, 0, 1, 2, 1])
    fold = ScoredRows(unit, labels, np.eye(3)[labels])
    assert strata([fold]).tolist() == [1, 0, 0, 1, 1, -1, 1]  # 4 alone in class 2 joins the largest; 5 has no row


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ([[0, 1]], "one fold"),
        ([[0, 1], [1, 0]], "one test set"),
        ([[0, 1], [2, 3]], "separate test sets"),
        ([[0, 1], [1, 2]], "overlapping test sets"),
    ],
)
def test_folds_are_named_for_how_they_overlap(images: list[list[int]], expected: str) -> None:
    assert relation([np.array(fold) for fold in images]) == expected


def test_spread_over_folds_is_the_deviation_of_a_whole_population() -> None:
    spread = fold_spread([0.8, 0.9], [np.array([0, 1]), np.array([1, 2])])
    assert (spread.std, spread.folds) == (pytest.approx(0.05), 2)
    assert fold_spread([0.8, None], [np.array([0]), np.array([1])]).std is None


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(DataError, match="number the 3 rows"):
        ScoredRows(np.arange(2), np.array([0, 1, 0]), np.eye(2)[[0, 1, 0]])
    with pytest.raises(DataError, match="same classes"):
        ACCURACY.shares([one_fold(1, 9, 2), one_fold(1, 9, 3)])


def test_laws_of_the_tests_have_the_truth_they_state() -> None:
    """Simulated with many images, so that what is held against them can be believed."""
    many = recalls((40_000, 40_000), (0.8, 0.6)).draw(rng(1))
    assert of(BALANCED_ACCURACY, *many).value == pytest.approx(0.7, abs=0.006)
    area = two_normals(5_000, 5_000, 0.9).draw(rng(1))
    assert of(MACRO_AUROC, *area).value == pytest.approx(0.9, abs=0.01)


def test_the_worked_example_is_what_the_page_says() -> None:
    labels, place = np.repeat([0, 1], 1000), np.arange(2000) % 1000

    def told(rights: tuple[int, ...], shift: int) -> Measurement:
        folds = [judged(labels, (place + shift) % 1000 < right, 2) for right in rights]
        return measurement(cell_of("rsna", folds), BALANCED_ACCURACY)

    b, a = told((830, 835, 825, 835, 845), 0), told((845, 852, 838, 845, 860), 20)
    page = " ".join((ROOT / "docs" / "statistics.md").read_text().split())
    for found in (b.estimate, a.estimate, a.minus(b)):
        low, high = (f"{100 * end:.1f}" for end in found.ends() or ())
        assert f"{low} to {high}" in page
    for figure in (b.estimate.error, b.estimate.reach(0.025), math.sqrt(b.estimate.twice)):
        assert f"{100 * figure:.3f}" in page
    pair = a.minus(b)
    assert f"p = {pair.p():.4f}" in page
    assert (
        f"from {100 * (pair.resolvable() or 0):.1f} points, or from {100 * (pair.resolvable(7) or 0):.1f} among" in page
    )
