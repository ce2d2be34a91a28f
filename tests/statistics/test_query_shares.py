"""Intervals of retrieval metrics: a mean over queries whose patients are drawn anew."""

import numpy as np
import pytest

from benchmarks.retrieval_coverage import QueryLaw, simulated
from cxrbench.evaluate.metric_table import RECALL_AT_1
from cxrbench.evaluate.retrieval import OF_OWN, QueryRows
from cxrbench.evaluate.statistics.interval import estimate
from cxrbench.evaluate.statistics.shares import means


def test_shares_of_one_query_a_unit_give_the_textbook_variance() -> None:
    worth = np.array([1.0, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0])
    found = means([(np.arange(12), worth)])
    assert found.value == pytest.approx(worth.mean()) and found.units == 12
    assert sum(part.variance for part in found.over_units(1.0)) == pytest.approx(worth.var(ddof=1) / 12)


def test_queries_of_a_patient_that_agree_count_as_one() -> None:
    worth = np.array([1.0, 0, 0, 1, 1, 0, 1, 1, 0, 1, 1, 0])
    once = means([(np.arange(12), worth)])
    twice = means([(np.repeat(np.arange(12), 3), np.repeat(worth, 3))])
    assert estimate(twice, (0, 1), "images").error == pytest.approx(estimate(once, (0, 1), "images").error)


def test_a_model_against_itself_differs_by_nothing_and_all_right_has_an_error() -> None:
    ranks = np.column_stack([np.ones(30), np.full(30, 0.1)])
    found = RECALL_AT_1.shares([QueryRows(np.arange(30), OF_OWN, ranks)])
    assert found.value == 1 and estimate(found, (0, 1), "images").error > 0.01
    assert estimate(found.minus(found), (-1, 1), "images").value == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    "law", [QueryLaw(0.05, 150, 6.0), QueryLaw(0.5, 150, 6.0), QueryLaw(0.3, 80)], ids=["rare", "half", "single"]
)
def test_intervals_cover_where_patients_have_several_queries(law: QueryLaw) -> None:
    held, _, naive, level = simulated(law, 800)
    assert 0.925 <= held <= 0.985 and level <= 0.075
    assert law.queries == 1 or naive < 0.85
