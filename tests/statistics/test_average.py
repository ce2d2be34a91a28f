"""The mean over tasks: its interval from independent tasks, and whether two models' means differ."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import scored_fold, written

from cxrbench.bench.predictions import FoldScores
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.statistics.units import shared_strata
from cxrbench.verdict.average import Mean, Weighted, mean_interval, mean_p, why_not_means
from cxrbench.verdict.cell import cell_interval
from cxrbench.verdict.compare import cells_difference
from cxrbench.verdict.predictions import ScoredCell, read_cell

TASKS = ("rsna", "siim", "covid")


def cell(out: Path, model: str, skill: float, task: str, **changes: object) -> ScoredCell:
    seed = TASKS.index(task)
    noise = 10 * len(model) + seed
    folds = [scored_fold(skill, seed, number=k, noise=noise + k) for k in range(2)]
    return read_cell(out, written(out, model, folds, data__task=task, **changes))


def mean_of(cells: list[ScoredCell]) -> Mean:
    return [Weighted(own, 1 / len(cells)) for own in cells]


def test_the_mean_is_that_of_its_cells_and_its_error_that_of_independent_tasks(tmp_path: Path) -> None:
    cells = [cell(tmp_path, "clip_cm", 1.5, task) for task in TASKS]
    alone = [cell_interval(own, "balanced_accuracy") for own in cells]
    found = mean_interval(mean_of(cells), "balanced_accuracy")
    assert found.estimate == pytest.approx(np.mean([i.estimate for i in alone]))  # type: ignore[arg-type]
    expected = np.sqrt(sum(i.error**2 for i in alone if i.error is not None)) / 3
    assert found.error == pytest.approx(expected, rel=0.03)
    assert found.units == 360
    assert found.low < found.estimate < found.high  # type: ignore[operator]


def test_cells_of_one_task_are_drawn_together(tmp_path: Path) -> None:
    """The same cell twice is no more data than once; the same numbers on two tasks are."""
    one = cell(tmp_path, "clip_cm", 1.5, "rsna")
    alone = cell_interval(one, "balanced_accuracy")
    twice = mean_interval([Weighted(one, 0.5), Weighted(one, 0.5)], "balanced_accuracy")
    assert twice.error == pytest.approx(alone.error, rel=0.03)
    assert twice.units == 120


def test_equal_records_give_equal_intervals(tmp_path: Path) -> None:
    cells = [cell(tmp_path, "clip_cm", 1.5, task) for task in TASKS]
    assert mean_interval(mean_of(cells), "macro_auroc", 300) == mean_interval(mean_of(cells), "macro_auroc", 300)


def test_a_mean_of_one_cell_is_tested_as_compare_tests_it(tmp_path: Path) -> None:
    a, b = (cell(tmp_path, m, skill, "rsna") for m, skill in (("clip_cm", 1.5), ("gloria", 0.9)))
    expected = cells_difference(a, b, "balanced_accuracy").p
    assert mean_p([Weighted(a, 1.0)], [Weighted(b, 1.0)]) == pytest.approx(expected, abs=0.01)


def test_models_that_differ_are_told_apart_and_one_model_is_not_from_itself(tmp_path: Path) -> None:
    good, poor = ([cell(tmp_path, m, s, t) for t in TASKS] for m, s in (("clip_cm", 3.0), ("gloria", 0.3)))
    assert mean_p(mean_of(good), mean_of(poor), 500) < 0.01
    assert mean_p(mean_of(good), mean_of(good), 500) == 1.0


def test_swap_test_of_a_mean_by_hand(tmp_path: Path) -> None:
    """Two tasks, each with two images on which the models disagree, all for A: 2 of 2^4 signs are as far from 0."""
    labels = np.array([0, 1] * 4)
    right = np.eye(2)[labels]
    wrong = right.copy()
    wrong[:2] = 1 - wrong[:2]
    ids = tuple(f"image{i}" for i in range(8))
    a, b = (
        [
            read_cell(tmp_path, written(tmp_path, model, [FoldScores(0, ids, labels, scores)], data__task=task))
            for task in ("rsna", "siim")
        ]
        for model, scores in (("clip_cm", right), ("gloria", wrong))
    )
    assert mean_p(mean_of(a), mean_of(b)) == pytest.approx(2 / 2**4, abs=0.01)


def test_means_over_other_images_are_refused(tmp_path: Path) -> None:
    a, b = [cell(tmp_path, "clip_cm", 1.5, "rsna")], [cell(tmp_path, "gloria", 1.5, "siim")]
    assert why_not_means(mean_of(a), mean_of(b)) == ("they are over other cells",)
    other = [cell(tmp_path, "gloria", 1.5, "rsna", data__contents_digest="9" * 64)]
    with pytest.raises(NotApplicableError, match="other bytes"):
        mean_p(mean_of(a), mean_of(other))


def test_a_class_of_one_image_gives_the_mean_no_interval(tmp_path: Path) -> None:
    labels = np.array([0, 0, 0, 1])
    fold = FoldScores(0, ("a", "b", "c", "d"), labels, np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]]))
    poor = read_cell(tmp_path, written(tmp_path, "clip_cm", [fold], data__task="siim"))
    found = mean_interval(mean_of([cell(tmp_path, "clip_cm", 1.5, "rsna"), poor]), "balanced_accuracy")
    assert (found.low, found.high) == (None, None)
    assert "one test image" in found.reason and "siim" in found.reason
    assert found.estimate is not None


@given(st.lists(st.lists(st.integers(-1, 3), min_size=6, max_size=6).filter(lambda x: max(x) >= 0), min_size=1))
def test_shared_strata_hold_every_unit_of_any_part_and_no_other(parts: list[list[int]]) -> None:
    arrays = [np.array(part) for part in parts]
    found = shared_strata(arrays, 6)
    assert ((found >= 0) == (np.array(parts) >= 0).any(axis=0)).all()
    sizes = np.bincount(found[found >= 0])
    drawn = int((found >= 0).sum())
    assert drawn == 1 or (sizes[sizes > 0] > 1).all()
