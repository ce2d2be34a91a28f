"""Calibration from worked numbers and beside scikit-learn."""

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.calibration import calibration, probabilities


def drawn(n: int = 3000, classes: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    given = probabilities(2 * rng.normal(size=(n, classes)), "logits")
    return given, np.array([rng.choice(classes, p=row) for row in given])


def test_a_worked_example() -> None:
    given = np.array([[0.9, 0.1], [0.9, 0.1], [0.3, 0.7], [0.4, 0.6]])
    found = calibration(given, np.array([0, 1, 1, 1]), n_bins=5)
    # (0.8, 1]: two rows, confidence 0.9, half right; (0.6, 0.8] and (0.4, 0.6]: one row each, right
    assert found.ece == pytest.approx((2 * 0.4 + 0.3 + 0.4) / 4)
    assert found.brier == pytest.approx((0.02 + 1.62 + 0.18 + 0.32) / 4)
    assert [(b.rows, b.confidence, b.accuracy) for b in found.reliability] == [
        (1, 0.6, 1.0), (1, 0.7, 1.0), (2, 0.9, 0.5)
    ]  # fmt: skip


def test_true_probabilities_are_calibrated_and_boasting_ones_are_not() -> None:
    given, labels = drawn()
    boast = given**4 / (given**4).sum(axis=1, keepdims=True)
    assert calibration(given, labels).ece < 0.03
    assert calibration(given, labels).adaptive_ece < 0.03
    assert calibration(boast, labels).ece > 0.15
    assert calibration(boast, labels).brier > calibration(given, labels).brier


@pytest.mark.parametrize(("strategy", "field"), [("uniform", "reliability"), ("quantile", "adaptive_reliability")])
def test_reliability_curves_agree_with_scikit_learn(strategy: str, field: str) -> None:
    given, labels = drawn()
    found = getattr(calibration(given, labels), field)
    theirs = calibration_curve(given.argmax(axis=1) == labels, given.max(axis=1), n_bins=15, strategy=strategy)
    # their quantile edges are interpolated and put a row on an edge into the upper bin
    tolerance = 1e-12 if strategy == "uniform" else 0.02
    np.testing.assert_allclose([b.accuracy for b in found], theirs[0], atol=tolerance)
    np.testing.assert_allclose([b.confidence for b in found], theirs[1], atol=tolerance)


def test_adaptive_bins_hold_equal_numbers_of_rows() -> None:
    given, labels = drawn(1500)
    assert {b.rows for b in calibration(given, labels).adaptive_reliability} == {100}


def test_equal_confidences_stay_in_one_bin() -> None:
    found = calibration(np.full((40, 2), 0.5), np.repeat([0, 1], 20))
    assert [b.rows for b in found.adaptive_reliability] == [40]
    assert found.ece == found.adaptive_ece == 0


def test_what_is_no_probability_is_refused() -> None:
    for scores in (np.array([[0.5, 0.6]]), np.array([[-0.1, 1.1]])):
        with pytest.raises(DataError, match="no probabilities"):
            probabilities(scores, "probabilities")
