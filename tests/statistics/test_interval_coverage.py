"""Simulations with known truth: how often intervals hold it, how often tests cry wolf, how often boards are right.

Few simulations and wide limits here; `python -m benchmarks.coverage` goes through all laws of docs/statistics.md.
"""

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from made_means import cell_of, mean_of
from made_scores import Law, Probes, Wards, judged, many_normals, pair_under_null, recalls, two_normals
from scipy.special import ndtri

from cxrbench.analysis.cell import cell_interval, measurement
from cxrbench.analysis.means import mean_interval
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC, Metric
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.evaluate.statistics.paired import not_worse, places
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.records.predictions import ScoredCell

BALANCED: Metric = BALANCED_ACCURACY
AREA: Metric = MACRO_AUROC


def rngs(times: int, seed: int = 11) -> list[np.random.Generator]:
    return [np.random.default_rng([seed, number]) for number in range(times)]


def holds(found: Interval, truth: float) -> bool:
    return found.low is not None and found.high is not None and found.low <= truth <= found.high


def coverage(metric: Metric, law: Law, times: int) -> float:
    found = [cell_interval(cell_of("rsna", law.draw(rng)), metric) for rng in rngs(times)]
    return float(np.mean([holds(one, law.truth) for one in found]))


def drawn_coverage(law: Probes, metric: Metric, times: int, *, these_draws: bool = False) -> float:
    cells = [cell_of("rsna", law.draw(rng)[0][0]) for rng in rngs(times)]
    found = [cell_interval(cell, metric, these_draws=these_draws) for cell in cells]
    return float(np.mean([holds(one, law.truth(metric)) for one in found]))


QUICK: dict[str, tuple[Metric, Callable[[], Law]]] = {
    "two dozen classes": (BALANCED, lambda: recalls((15,) * 19, np.linspace(0.1, 0.9, 19).tolist())),
    "a class of five": (BALANCED, lambda: recalls((200, 5), (0.8, 0.8))),
    "nearly all right": (BALANCED, lambda: recalls((15, 15), (0.945, 0.945))),
    "areas of few": (AREA, lambda: two_normals(15, 285, 0.8)),
    "areas of a long tail": (AREA, lambda: many_normals((300, 100, 50, 20, 10, 5, 3, 2), 0.8)),
}


@pytest.mark.parametrize("name", sorted(QUICK))
def test_an_interval_of_other_images_holds_the_truth(name: str) -> None:
    metric, made = QUICK[name]
    assert coverage(metric, made(), 400) >= 0.92


def test_an_interval_of_other_draws_holds_the_truth_and_the_narrow_one_does_not() -> None:
    law = Probes((300, 300), 4)
    assert 0.90 <= drawn_coverage(law, BALANCED, 400) <= 0.98
    assert drawn_coverage(law, BALANCED, 400, these_draws=True) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("metric", [BALANCED, AREA])
@pytest.mark.parametrize("shots", [1, 16])
def test_other_draws_are_covered_in_95_of_100_cases(shots: int, metric: Metric) -> None:
    assert 0.92 <= drawn_coverage(Probes((400, 400), shots), metric, 1000) <= 0.975


@pytest.mark.slow
def test_folds_that_draw_test_images_anew_err_to_the_long_side() -> None:
    assert 0.93 <= drawn_coverage(Probes((40,) * 5, 4, gain=2.0, pool=200), BALANCED, 1500) <= 0.99


@pytest.mark.slow
@pytest.mark.parametrize("metric", [BALANCED, AREA])
def test_patients_with_several_images_are_the_units(metric: Metric) -> None:
    law = Wards(150, 2).law(metric)
    assert 0.93 <= coverage(metric, law, 1000) <= 0.98


def test_images_of_a_patient_taken_as_independent_would_claim_too_much() -> None:
    law = Wards(100, 2, effect=2.0).law(BALANCED)
    held = {"patient": 0, "image": 0}
    for rng in rngs(300):
        (fold,) = law.draw(rng)
        alone = ScoredRows(np.arange(len(fold.labels)), fold.labels, fold.scores)
        for kind, rows in (("patient", fold), ("image", alone)):
            held[kind] += holds(cell_interval(cell_of("rsna", [rows]), BALANCED), law.truth)
    assert held["image"] < 0.9 * 300 < held["patient"]


def shared(tasks: Sequence[str], rng: np.random.Generator, *, named: bool = True) -> list[ScoredCell]:
    """Cells of two tasks that show the same patients, each image in one of them."""
    (whole,) = Wards(150, 2).draw(rng)
    task = rng.integers(0, len(tasks), len(whole.labels))
    cells = []
    for place, name in enumerate(tasks):
        rows = task == place
        names = {int(unit): f"{unit:08}" for unit in whole.unit} if named else None
        folds = [ScoredRows(whole.unit[rows], whole.labels[rows], whole.scores[rows])]
        cells.append(cell_of(name, folds, names))
    return cells


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tasks", "low", "high"), [(("rsna", "nih_lt"), 0.93, 0.98), (("chexpert5x200", "mimic5x200"), 0.85, 0.93)]
)
def test_a_mean_over_tasks_of_the_same_patients_holds_the_truth_where_they_are_named_alike(
    tasks: tuple[str, str], low: float, high: float
) -> None:
    """Where they are not, as of two collections, it is too short: every patient is in both tasks here."""
    truth = Wards(150, 2).law(BALANCED).truth
    found = [mean_interval(mean_of(shared(tasks, rng), BALANCED)) for rng in rngs(1000)]
    assert low <= np.mean([holds(one, truth) for one in found]) <= high


def test_a_mean_over_tasks_apart_holds_the_truth() -> None:
    laws = {"siim": Probes((200, 200), 4), "vindr": Probes((50,) * 3, 4), "covid": Probes((100,) * 4, 4)}
    truth = float(np.mean([law.truth(BALANCED) for law in laws.values()]))
    held = [
        holds(
            mean_interval(mean_of([cell_of(task, law.draw(rng)[0][0]) for task, law in laws.items()], BALANCED)), truth
        )
        for rng in rngs(300)
    ]
    assert 0.91 <= np.mean(held) <= 0.99


def level(pairs: Sequence[tuple[list[ScoredRows], list[ScoredRows]]], metric: Metric = BALANCED) -> float:
    ps = [measurement(cell_of("rsna", a), metric).minus(measurement(cell_of("rsna", b), metric)).p() for a, b in pairs]
    return float(np.mean([p is not None and p < 0.05 for p in ps]))


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "images"), [(240, 1), (80, 4)])
@pytest.mark.parametrize("metric", [BALANCED, AREA])
def test_equal_models_are_told_apart_in_5_of_100_cases(metric: Metric, patients: int, images: int) -> None:
    assert 0.025 <= level([pair_under_null(patients, images, rng) for rng in rngs(1000)], metric) <= 0.075


def test_equal_encoders_are_not_told_apart_by_their_draws() -> None:
    law = Probes((300, 300), 1)
    both = [law.draw(rng, (1.5, 1.5)) for rng in rngs(400)]
    assert 0.02 <= level([(a, b) for (a, _), (b, _) in both]) <= 0.09


def test_traded_recalls_keep_the_level_and_the_power() -> None:
    """One model is better at the one class, the other at the other: the test sees that inside the classes."""
    labels = np.repeat([0, 1], 150)

    def pair(rng: np.random.Generator, edge: float) -> tuple[list[ScoredRows], list[ScoredRows]]:
        chances = np.array([0.9, 0.7]), np.array([0.7, 0.9]) + edge
        one, two = ([judged(labels, rng.random(300) < own[labels], 2)] for own in chances)
        return one, two

    assert 0.02 <= level([pair(rng, 0.0) for rng in rngs(500)]) <= 0.08
    assert level([pair(rng, 0.09) for rng in rngs(300)]) > 0.75


@pytest.mark.slow
def test_the_difference_that_can_be_shown_is_found_in_80_of_100_cases() -> None:
    """Two models that differ on a fifth of the images by as much as the first test sets say they can resolve."""
    labels = np.repeat([0, 1], 300)

    def pair(rng: np.random.Generator, edge: float) -> tuple[list[ScoredRows], list[ScoredRows]]:
        both, differ = rng.random(600) < 0.75, rng.random(600) < 0.2
        a_wins = rng.random(600) < (1 + edge / 0.2) / 2
        one, two = ([judged(labels, np.where(differ, r, both), 2)] for r in (a_wins, ~a_wins))
        return one, two

    cells = [[measurement(cell_of("rsna", rows), BALANCED) for rows in pair(rng, 0)] for rng in rngs(50)]
    edge = float(np.mean([a.minus(b).resolvable() for a, b in cells]))  # type: ignore[arg-type]
    assert 0.76 <= level([pair(rng, edge) for rng in rngs(1000)]) <= 0.84


def board(rng: np.random.Generator, worth: Sequence[float]) -> tuple[dict[str, tuple[int, int]], frozenset[str]]:
    labels = np.repeat([0, 1], 400)
    hard = rng.normal(size=800)
    found = {}
    for number, chance in enumerate(worth):
        right = np.sqrt(0.5) * (hard + rng.normal(size=800)) < ndtri(chance)
        found[f"m{number}"] = measurement(cell_of("rsna", [judged(labels, right, 2)]), BALANCED)
    pairs = {(a, b): found[a].minus(found[b]) for a, b in itertools.combinations(found, 2)}
    return dict(places(pairs, list(found)).of), not_worse(pairs, list(found))


@pytest.mark.parametrize("gap", [0.0, 0.01, 0.03])
def test_places_hold_the_true_ones_and_bold_the_true_best(gap: float) -> None:
    worth = [0.9 - gap * k for k in range(5)]
    boards = [board(rng, worth) for rng in rngs(200)]
    true = [(1, 5) if not gap else (k + 1, k + 1) for k in range(5)]
    held = [all(of[f"m{k}"][0] <= a and b <= of[f"m{k}"][1] for k, (a, b) in enumerate(true)) for of, _ in boards]
    assert np.mean(held) >= 0.92
    assert np.mean(["m0" in bold for _, bold in boards]) >= 0.92
