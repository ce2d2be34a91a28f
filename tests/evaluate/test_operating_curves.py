"""Curves have the areas that the metrics give, alone, in their mean, and as they are drawn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.findings import average_precision
from cxrbench.evaluate.metrics import area
from cxrbench.evaluate.operating_curves import Curve, drawn, mean_curve, precision_recall, roc

Rows = tuple[NDArray[np.float64], NDArray[np.bool_]]


@st.composite
def rows(draw: st.DrawFn) -> Rows:
    """Scores with ties, and at least one row of each kind."""
    holds = [True, False, *draw(st.lists(st.booleans(), max_size=40))]
    scores = draw(st.lists(st.integers(-6, 6), min_size=len(holds), max_size=len(holds)))
    return np.array(scores) / 4, np.array(holds)


@given(rows())
def test_areas_are_the_metrics(one: Rows) -> None:
    assert roc(*one).area == pytest.approx(area(*one), abs=1e-12)
    assert precision_recall(*one).area == pytest.approx(average_precision(*one), abs=1e-12)


@given(rows())
def test_curves_run_from_end_to_end(one: Rows) -> None:
    found = roc(*one)
    assert (found.x[0], found.y[0], found.x[-1], found.y[-1]) == (0, 0, 1, 1)
    assert (np.diff(found.x) >= 0).all() and (np.diff(found.y) >= 0).all()
    steps = precision_recall(*one)
    assert (steps.x[0], steps.x[-1], steps.y[-1]) == (0, 1, pytest.approx(steps.y[-2]))
    assert (np.diff(steps.x) >= 0).all() and steps.y.min() > 0 and steps.y.max() <= 1


@settings(max_examples=30)
@given(st.lists(rows(), min_size=1, max_size=5), st.booleans())
def test_a_mean_curve_is_the_mean_at_every_x(many: list[Rows], precise: bool) -> None:
    curves = [(precision_recall if precise else roc)(*one) for one in many]
    weights = np.arange(1, len(curves) + 1) / sum(range(1, len(curves) + 1))
    found = mean_curve(curves, weights.tolist())
    assert found.area == pytest.approx(sum(w * c.area for w, c in zip(weights, curves, strict=True)), abs=1e-12)
    knots = np.unique(np.concatenate([one.x for one in curves]))
    between = (knots[1:] + knots[:-1]) / 2
    expected = sum(w * np.interp(between, c.x, c.y) for w, c in zip(weights, curves, strict=True))
    np.testing.assert_allclose(np.interp(between, found.x, found.y), expected, atol=1e-12)


@settings(max_examples=30)
@given(rows(), st.booleans())
def test_what_is_drawn_is_within_two_steps_of_the_curve(one: Rows, precise: bool) -> None:
    curve = (precision_recall if precise else roc)(*one)
    corners = np.array(drawn(curve, 200))
    ends = np.array([[curve.x[0], curve.y[0]], [curve.x[-1], curve.y[-1]]]) * 200
    assert np.abs(corners[[0, -1]] - ends).max() <= 0.6 and len(corners) > 1
    for point in np.stack([curve.x, curve.y], axis=1) * 200:
        along = np.diff(corners, axis=0)
        share = np.clip(((point - corners[:-1]) * along).sum(1) / (along**2).sum(1), 0, 1)
        assert np.hypot(*(corners[:-1] + share[:, None] * along - point).T).min() <= 2


def test_a_curve_of_many_rows_is_drawn_with_few_points() -> None:
    rng = np.random.default_rng(0)
    holds = rng.random(20_000) < 0.3
    scores = rng.normal(size=20_000) + holds
    assert len(drawn(roc(scores, holds), 200)) < 40
    assert len(drawn(precision_recall(scores, holds), 200)) < 60


@pytest.mark.parametrize("holds", [True, False])
@pytest.mark.parametrize("make", [roc, precision_recall])
def test_one_side_alone_has_no_curve(make: object, holds: bool) -> None:
    with pytest.raises(DataError, match=r"of 3 rows \d are positive: a curve needs both kinds"):
        make(np.zeros(3), np.full(3, holds))  # type: ignore[operator]


def test_a_curve_of_one_point_a_side_is_the_step_between_them() -> None:
    curve = Curve(np.array([0.0, 0.0, 1.0]), np.array([0.0, 1.0, 1.0]))
    assert drawn(curve, 10) == [(0, 0), (0, 10), (10, 10)]
    assert curve.area == 1.0
