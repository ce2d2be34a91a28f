"""How often the interval of a mean over tasks holds the truth: of tasks apart, and of tasks that share patients."""

import numpy as np
import pytest
from made_means import INDEPENDENT, MeanLaw, shared
from made_scores import Wards

from cxrbench.evaluate.statistics.counts import Metric
from cxrbench.verdict.average import mean_interval

pytestmark = pytest.mark.slow

SIMULATIONS = 1000
RESAMPLES = 399  # enough, see test_interval_coverage
ONE_COLLECTION, TWO = ("rsna", "nih_lt"), ("chexpert5x200", "mimic5x200")


def coverage(law: MeanLaw) -> float:
    rng, held = np.random.default_rng(21), 0
    for number in range(SIMULATIONS):
        found = mean_interval(law.draw(rng, number), law.metric, RESAMPLES)
        assert found.low is not None and found.high is not None
        held += found.low <= law.truth <= found.high
    print(f"{held / SIMULATIONS:.3f}")
    return held / SIMULATIONS


@pytest.mark.parametrize("name", sorted(INDEPENDENT))
def test_a_mean_of_independent_tasks_holds_the_truth_in_95_of_100_cases(name: str) -> None:
    assert 0.93 <= coverage(INDEPENDENT[name]()) <= 0.97


@pytest.mark.parametrize("metric", ["balanced_accuracy", "macro_auroc"])
def test_tasks_that_name_their_patients_alike_hold_it_too(metric: Metric) -> None:
    assert 0.93 <= coverage(shared(metric, Wards(150, 2), ONE_COLLECTION)) <= 0.97


def test_shared_patients_that_no_name_tells_cost_some_of_it() -> None:
    """What the note beside such a mean warns of; here every patient is in both tasks, which no real pair is."""
    assert 0.89 <= coverage(shared("macro_auroc", Wards(150, 2), TWO)) < 0.93
