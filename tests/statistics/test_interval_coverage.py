"""Simulations with known truth: how often the intervals hold it, how often the tests cry wolf.

Four laws that every change is held to; `coverage_table.py` goes through all of those in docs/statistics.md.
"""

import numpy as np
import pytest
from made_laws import HELD
from made_scores import Wards, pair_under_null

from cxrbench.evaluate.statistics.counts import Metric
from cxrbench.evaluate.statistics.interval import interval
from cxrbench.evaluate.statistics.paired import Difference, Pair, difference
from cxrbench.evaluate.statistics.units import ScoredRows

pytestmark = pytest.mark.slow

SIMULATIONS = 1000
# So few cost no more than 0.001 of coverage: a standard deviation from 399 draws is off by 3.5 %, as often up as down.
RESAMPLES = 399


@pytest.mark.parametrize("name", sorted(HELD))
def test_an_interval_holds_the_truth_in_95_of_100_cases(name: str) -> None:
    metric, made = HELD[name]
    law = made()
    rng = np.random.default_rng(11)
    held = 0
    for _ in range(SIMULATIONS):
        found = interval(metric, law.draw(rng), "patient", rng, RESAMPLES)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= law.truth <= found.high
    print(f"{name}: {held / SIMULATIONS:.3f}")
    assert 0.93 <= held / SIMULATIONS <= 0.97


def test_images_of_a_patient_taken_as_independent_would_claim_too_much() -> None:
    """The cluster matters: the same data drawn image by image miss the truth."""
    law = Wards(100, 2, effect=2.0).law("balanced_accuracy")
    rng = np.random.default_rng(12)
    held = {"patient": 0, "image": 0}
    for _ in range(300):
        (fold,) = law.draw(rng)
        alone = type(fold)(np.arange(len(fold.labels)), fold.labels, fold.scores)
        for kind, rows in (("patient", fold), ("image", alone)):
            found = interval("balanced_accuracy", [rows], kind, rng, RESAMPLES)  # type: ignore[arg-type]
            held[kind] += found.low <= law.truth <= found.high  # type: ignore[operator]
    assert held["image"] < 0.9 * 300 < held["patient"]


def differences(metric: Metric, patients: int, images: int) -> list[Difference]:
    rng = np.random.default_rng(13)
    pairs = (Pair(*pair_under_null(patients, images, rng), "patient") for _ in range(SIMULATIONS))
    return [difference(metric, pair, rng, RESAMPLES) for pair in pairs]


@pytest.mark.parametrize(("patients", "images"), [(240, 1), (80, 4)])
def test_paired_tests_keep_their_level_when_nothing_differs(patients: int, images: int) -> None:
    found = differences("balanced_accuracy", patients, images)
    excluded = np.mean([d.interval.low > 0 or d.interval.high < 0 for d in found])  # type: ignore[operator]
    swapped, exact = np.mean([d.p < 0.05 for d in found]), np.mean([d.mcnemar.p < 0.05 for d in found])
    print(f"{patients} x {images}: interval {excluded:.3f}, swap {swapped:.3f}, McNemar {exact:.3f}")
    assert 0.03 <= excluded <= 0.07
    assert 0.03 <= swapped <= 0.065  # 0.05 and two standard errors
    assert exact <= 0.065  # exact on a discrete law: at most its level


def test_bootstrap_p_of_auroc_keeps_its_level() -> None:
    rate = np.mean([d.p < 0.05 for d in differences("macro_auroc", 150, 2)])
    print(f"AUROC: {rate:.3f}")
    assert 0.03 <= rate <= 0.07


def test_the_resolvable_difference_is_found_in_80_of_100_cases() -> None:
    """Two models that differ on a fifth of the images by as much as the first test set says it can resolve."""
    rng = np.random.default_rng(14)
    labels = np.repeat([0, 1], 300)

    def pair(edge: float) -> Pair:
        both, differ = rng.random(600) < 0.75, rng.random(600) < 0.2
        a_wins = rng.random(600) < (1 + edge / 0.2) / 2
        right = np.where(differ, a_wins, both), np.where(differ, ~a_wins, both)
        one, two = ([ScoredRows(np.arange(600), labels, np.eye(2)[np.where(r, labels, 1 - labels)])] for r in right)
        return Pair(one, two, "image")

    null = [difference("balanced_accuracy", pair(0), rng, RESAMPLES).resolvable for _ in range(50)]
    edge = float(np.mean([value for value in null if value is not None]))
    found = np.mean([difference("balanced_accuracy", pair(edge), rng, RESAMPLES).p < 0.05 for _ in range(SIMULATIONS)])
    print(f"resolvable {edge:.4f}, found {found:.3f}")
    assert 0.76 <= found <= 0.84
