"""Leaving units out one at a time, beside the exact shares of metrics that have some."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_scores import Wards, judged

from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, KAPPA, MACRO_AUROC, MACRO_F1, Metric, table_of
from cxrbench.evaluate.statistics.jackknife import left_out
from cxrbench.evaluate.statistics.shares import ScoredRows, Shares, variance

SINGLE_LABEL = table_of("single-label")


def drawn(seed: int, sizes: list[int], images: int, skill: float, folds: int = 1) -> list[ScoredRows]:
    """Folds of the same patients, each with so many images of any class."""
    draw = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(sizes)), sizes)
    unit = draw.permutation(len(labels)) // images
    return [
        ScoredRows(unit, labels, draw.normal(size=(len(labels), len(sizes))) + skill * np.eye(len(sizes))[labels])
        for _ in range(folds)
    ]


def jackknife(metric: Metric, folds: list[ScoredRows]) -> Shares:
    return left_out(folds, metric.of, of_predictions=metric.reads == "predictions")


def spread(found: Shares) -> float:
    return variance(found.each, found.stratum)


@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(30, 150), min_size=2, max_size=5),
    images=st.integers(1, 3),
    skill=st.floats(0.3, 2.0),
    folds=st.integers(1, 3),
    metric=st.sampled_from([MACRO_F1, KAPPA]),
)
@settings(max_examples=60, deadline=None)
def test_the_variance_is_that_of_the_gradient_within_five_percent(
    seed: int, sizes: list[int], images: int, skill: float, folds: int, metric: Metric
) -> None:
    made = drawn(seed, sizes, images, skill, folds)
    found, exact = jackknife(metric, made), metric.shares(made)
    assert found.values == pytest.approx(exact.values, abs=1e-12)
    assert np.array_equal(found.stratum, exact.stratum)
    assert spread(found) == pytest.approx(spread(exact), rel=0.05)
    assert found.twice == pytest.approx(exact.twice, rel=0.1, abs=0.03 * spread(exact))


@pytest.mark.parametrize("metric", SINGLE_LABEL.values(), ids=SINGLE_LABEL)
def test_it_is_close_to_the_shares_of_every_metric_that_has_some(metric: Metric) -> None:
    folds = Wards(150, 3, folds=2, share=0.5).draw(np.random.default_rng(3))
    found, exact = jackknife(metric, folds), metric.shares(folds)
    assert np.corrcoef(found.each, exact.each)[0, 1] > 0.99
    assert spread(found) == pytest.approx(variance(exact.each, exact.stratum), rel=0.06)


@pytest.mark.parametrize("images", [1, 2])
def test_a_metric_of_predictions_is_asked_once_for_units_that_are_told_alike(images: int) -> None:
    (fold,), asked = drawn(1, [60, 60, 60], images, 1.0), list[int]()

    def value(rows: ScoredRows) -> float:
        asked.append(len(rows.labels))
        return MACRO_F1.of(rows)

    quick = left_out([fold], value, of_predictions=True)
    assert len(asked) <= 1 + (9 if images == 1 else 45)
    assert quick.each == pytest.approx(left_out([fold], value, of_predictions=False).each, rel=1e-12)


def test_the_only_unit_of_a_class_is_counted_twice_where_nothing_is_defined_without_it() -> None:
    """By hand: a lone right image counted twice leaves its recall at 1, so it adds nothing."""
    labels = np.repeat([0, 1], [40, 1])
    fold = judged(labels, np.arange(41) % 4 != 0, 2)
    found = jackknife(BALANCED_ACCURACY, [fold])
    assert found.each[40] == 0 and np.isfinite(found.each).all() and spread(found) > 0


def test_a_number_that_is_not_defined_has_no_shares_and_no_value() -> None:
    fold = ScoredRows(np.arange(20), np.zeros(20, dtype=np.int64), np.eye(2)[np.arange(20) % 2])
    found = jackknife(MACRO_AUROC, [fold])
    assert np.isnan(found.value) and np.isnan(found.each).all()


def test_a_number_that_no_other_rows_define_is_refused() -> None:
    (fold,) = drawn(1, [20, 20], 1, 1.0)
    odd = Metric("odd", "odd", value=lambda scores, labels: 0.5 if len(labels) == 40 else None)
    with pytest.raises(DataError, match=r"metric 'odd': .*neither without one test unit nor with it twice"):
        odd.shares([fold])
