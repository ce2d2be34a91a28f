"""Intervals rest on the metrics of the records, and on resamples that are what they are said to be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.errors import DataError
from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.evaluate.statistics.counts import METRICS, Metric, statistic
from cxrbench.evaluate.statistics.interval import Resampled, around, fold_spread, interval, relation
from cxrbench.evaluate.statistics.resample import replicates
from cxrbench.evaluate.statistics.units import ScoredRows, strata


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def one_fold(seed: int, n: int, classes: int, decimals: int = 1) -> ScoredRows:
    """Scores with many ties, every class met at least twice."""
    draw = rng(seed)
    labels = np.concatenate([np.repeat(np.arange(classes), 2), draw.integers(0, classes, n)])
    scores = draw.normal(size=(len(labels), classes)) + np.eye(classes)[labels]
    return ScoredRows(np.arange(len(labels)), labels, scores.round(decimals))


@given(seed=st.integers(0, 10**6), n=st.integers(0, 40), classes=st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_estimates_are_the_metrics_of_the_record(seed: int, n: int, classes: int) -> None:
    folds = [one_fold(seed + k, n, classes) for k in range(2)]
    told = [fold_metrics(fold.scores, fold.labels) for fold in folds]
    for metric in METRICS:
        expected = np.mean([getattr(values, metric) for values in told])
        assert statistic(metric, folds, n + 2 * classes).estimate == pytest.approx(expected, abs=1e-12)


@given(seed=st.integers(0, 10**6), metric=st.sampled_from(METRICS))
@settings(max_examples=40, deadline=None)
def test_weights_are_repeated_rows(seed: int, metric: Metric) -> None:
    """A unit of weight 2 counts as if its rows stood there twice, in every metric, ties included."""
    fold = one_fold(seed, 20, 3)
    times = rng(seed).integers(1, 4, len(fold.labels))
    rows = np.repeat(np.arange(len(times)), times)
    found = statistic(metric, [fold], len(times))
    value = found.of(found.matrix.astype(float) @ times[:, None])[0]
    expected = getattr(fold_metrics(fold.scores[rows], fold.labels[rows]), metric)
    assert value == pytest.approx(expected, abs=1e-12)


def test_every_resample_keeps_the_weight_of_every_class() -> None:
    """Two images of one class, all wrong, and 200 of the other, all right: no resample may give another accuracy."""
    labels = np.repeat([0, 1], [2, 200])
    fold = ScoredRows(np.arange(202), labels, np.eye(2)[np.ones(202, dtype=int)])
    found = replicates([statistic("accuracy", [fold], 202)], strata([fold]), 200, rng())[0]
    assert found == pytest.approx(np.full(200, 200 / 202), abs=1e-6)


@pytest.mark.parametrize("metric", METRICS)
def test_replicates_agree_with_a_plain_bootstrap(metric: Metric) -> None:
    fold = one_fold(3, 150, 3)
    stratum, draw = strata([fold]), rng(1)
    found = replicates([statistic(metric, [fold], len(stratum))], stratum, 4000, rng(2))[0]
    plain = []
    for _ in range(800):
        chosen = [draw.choice(np.flatnonzero(stratum == c), (stratum == c).sum() - 1) for c in range(3)]
        rows = np.concatenate(chosen)
        plain.append(getattr(fold_metrics(fold.scores[rows], fold.labels[rows]), metric))
    assert found.mean() == pytest.approx(np.mean(plain), abs=0.005)
    assert found.std() == pytest.approx(np.std(plain), rel=0.1)


def test_standard_error_of_balanced_accuracy_is_the_textbook_one() -> None:
    labels = np.repeat([0, 1], [40, 200])
    right = np.concatenate([np.arange(40) < 28, np.arange(200) < 180])
    fold = ScoredRows(np.arange(240), labels, np.eye(2)[np.where(right, labels, 1 - labels)])
    found = interval("balanced_accuracy", [fold], "image", rng(), 20_000)
    assert found.estimate == pytest.approx(0.8)
    assert found.error == pytest.approx(np.sqrt(0.7 * 0.3 / 39 + 0.9 * 0.1 / 199) / 2, rel=0.02)
    assert found.units == 240
    # by hand: logit(0.8) -+ 1.96 x 0.0382 / 0.16, and back
    assert (found.low, found.high) == pytest.approx((0.7147, 0.8647), abs=0.002)


def test_standard_error_of_auroc_agrees_with_delong() -> None:
    """DeLong's variance from placements, an independent way to the same number."""
    draw = rng(4)
    one, rest = draw.normal(1, 1, 80), draw.normal(0, 1, 120)
    above = (one[:, None] > rest) + 0.5 * (one[:, None] == rest)
    expected = np.sqrt(above.mean(axis=1).var(ddof=1) / 80 + above.mean(axis=0).var(ddof=1) / 120)
    scores = np.concatenate([rest, one])
    fold = ScoredRows(np.arange(200), np.repeat([0, 1], [120, 80]), np.stack([-scores, scores], axis=1))
    found = interval("macro_auroc", [fold], "image", rng(), 10_000)
    assert found.estimate == pytest.approx(above.mean())
    assert found.error == pytest.approx(expected, rel=0.03)


def test_folds_of_one_test_set_do_not_shrink_the_interval() -> None:
    """Five equal folds are one: a unit is drawn in all of them at once."""
    fold = one_fold(8, 200, 2)
    one, five = (interval("balanced_accuracy", [fold] * k, "image", rng(9), 8000) for k in (1, 5))
    assert (five.low, five.high) == pytest.approx((one.low, one.high), rel=1e-6)
    assert five.error == pytest.approx(one.error, rel=1e-6)


def test_an_interval_depends_on_its_generator_alone() -> None:
    fold = one_fold(8, 200, 3)
    assert interval("kappa", [fold], "image", rng(1)) == interval("kappa", [fold], "image", rng(1))
    assert interval("kappa", [fold], "image", rng(1)) != interval("kappa", [fold], "image", rng(2))


def test_what_cannot_have_an_interval_says_why() -> None:
    perfect = ScoredRows(np.arange(40), np.repeat([0, 1], 20), np.eye(2)[np.repeat([0, 1], 20)])
    found = interval("balanced_accuracy", [perfect], "image", rng())
    assert (found.estimate, found.low, found.high) == (1.0, None, None)
    assert "more images are needed" in found.reason
    lonely = ScoredRows(np.arange(21), np.repeat([0, 1], [20, 1]), np.eye(2)[np.repeat([0, 1], [20, 1])])
    assert "class 1 has 1 patient in a fold" in interval("accuracy", [lonely], "patient", rng()).reason
    absent = ScoredRows(np.arange(20), np.zeros(20, dtype=int), np.eye(2)[np.zeros(20, dtype=int)])
    found = interval("balanced_accuracy", [absent], "image", rng())
    assert (found.estimate, found.low) == (None, None)


def test_scores_that_know_nothing_of_the_image_need_no_more_images() -> None:
    """As of the control `class_prior`: more images would give the same number again."""
    labels = np.repeat([0, 1], [30, 50])
    constant = ScoredRows(np.arange(80), labels, np.tile([0.4, 0.6], (80, 1)))
    for metric in METRICS:
        found = interval(metric, [constant, constant], "image", rng())
        assert found.low is None and "more images" not in found.reason
        assert "all images have the same scores, and others would change nothing" in found.reason
    one_class = ScoredRows(np.arange(80), labels, np.stack([np.zeros(80), rng().random(80) + 0.1], axis=1))
    assert "all images are given the same class" in interval("kappa", [one_class], "image", rng()).reason
    assert interval("macro_auroc", [one_class], "image", rng()).low is not None
    ranked = ScoredRows(np.arange(80), labels, np.stack([np.zeros(80), labels + 0.5], axis=1))  # but none is wrong yet
    assert "more images are needed" in interval("macro_auroc", [ranked], "image", rng()).reason
    alike = ScoredRows(np.arange(80), labels, np.eye(2)[1 - labels])  # every image wrong, each in its own way
    assert "more images are needed" in interval("balanced_accuracy", [alike], "image", rng()).reason


def test_the_rounding_of_sums_is_no_error() -> None:
    values = 0.625 + 1e-9 * rng().normal(size=500)
    assert around(0.625, Resampled(values, "image", 80), (0, 1)).low is None
    assert around(0.625, Resampled(0.625 + 1e-4 * rng().normal(size=500), "image", 80), (0, 1)).low is not None


def test_an_interval_from_a_handful_of_errors_warns() -> None:
    labels = np.repeat([0, 1], 50)
    fold = ScoredRows(np.arange(100), labels, np.eye(2)[np.where(np.arange(100) < 3, 1 - labels, labels)])
    found = interval("accuracy", [fold], "image", rng())
    assert found.low is not None
    assert found.reason == "only 3 images are wrong: the interval is likely too short"


def test_a_patient_is_drawn_in_the_class_of_most_images() -> None:
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
        interval("accuracy", [one_fold(1, 9, 2), one_fold(1, 9, 3)], "image", rng())
