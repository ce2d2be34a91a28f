"""The mean over tasks: its interval from independent tasks, and whether two models' means differ."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import scored_fold, written

from cxrbench.analysis.cell import cell_interval, measurement
from cxrbench.analysis.means import Mean, Weighted, mean_difference, mean_interval, why_not_means
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC, MACRO_F1, Metric, table_of
from cxrbench.evaluate.statistics.shares import shared_strata
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.scores import FoldScores

SINGLE_LABEL = table_of("single-label")

TASKS = ("rsna", "siim", "covid")
BALANCED: Metric = BALANCED_ACCURACY


def cell(out: Path, model: str, skill: float, task: str, **changes: object) -> ScoredCell:
    seed = TASKS.index(task)
    noise = 10 * len(model) + seed
    folds = [scored_fold(skill, seed, number=k, noise=noise + k) for k in range(2)]
    return read_cell(out, written(out, model, folds, data__task=task, **changes))


def mean_of(cells: list[ScoredCell], metric: Metric = BALANCED, *, these_draws: bool = False) -> Mean:
    return [Weighted(measurement(own, metric, these_draws=these_draws), 1 / len(cells)) for own in cells]


@pytest.mark.parametrize("these_draws", [True, False])
@pytest.mark.parametrize("metric", SINGLE_LABEL.values(), ids=SINGLE_LABEL)
def test_the_mean_is_that_of_its_cells_and_its_error_that_of_independent_tasks(
    metric: Metric, these_draws: bool, tmp_path: Path
) -> None:
    cells = [cell(tmp_path, "clip_cm", 1.5, task) for task in TASKS]
    alone = [cell_interval(own, metric, these_draws=these_draws) for own in cells]
    found = mean_interval(mean_of(cells, metric, these_draws=these_draws))
    assert found.estimate == pytest.approx(np.mean([i.estimate for i in alone]))  # type: ignore[arg-type]
    estimates = [measurement(own, metric, these_draws=these_draws).estimate for own in cells]
    units, draws = (sum(part.variance for e in estimates for part in getattr(e, of)) for of in ("units", "draws"))
    expected = np.sqrt(units + max(0.0, draws - sum(e.twice for e in estimates))) / 3
    assert found.error == pytest.approx(expected, rel=1e-9)
    assert found.error <= np.sqrt(sum(i.error**2 for i in alone if i.error is not None)) / 3 * (1 + 1e-9)
    assert found.units == 360
    assert found.low < found.estimate < found.high  # type: ignore[operator]
    assert found.words == alone[0].words


def test_cells_of_one_task_share_their_images(tmp_path: Path) -> None:
    """The same cell twice is no more data than once, of these draws; the same numbers on two tasks are."""
    one = cell(tmp_path, "clip_cm", 1.5, "rsna")
    alone = cell_interval(one, BALANCED, these_draws=True)
    twice = mean_interval(mean_of([one, one], these_draws=True))
    assert twice.error == pytest.approx(alone.error, rel=0.02)


def test_equal_records_give_equal_intervals_in_any_order(tmp_path: Path) -> None:
    cells = [cell(tmp_path, "clip_cm", 1.5, task) for task in TASKS]
    one, two = mean_interval(mean_of(cells, MACRO_AUROC)), mean_interval(mean_of(cells, MACRO_AUROC))
    assert one == two
    turned = mean_interval(mean_of(cells[::-1], MACRO_AUROC))
    assert (turned.low, turned.high, turned.error) == pytest.approx((one.low, one.high, one.error))


@pytest.mark.parametrize("metric", SINGLE_LABEL.values(), ids=SINGLE_LABEL)
def test_a_mean_of_one_cell_is_that_cell(metric: Metric, tmp_path: Path) -> None:
    a, b = (cell(tmp_path, m, skill, "rsna") for m, skill in (("clip_cm", 1.5), ("gloria", 0.9)))
    alone, found = cell_interval(a, metric), mean_interval(mean_of([a], metric))
    assert (found.estimate, found.low, found.high) == pytest.approx((alone.estimate, alone.low, alone.high))
    paired = measurement(a, metric).minus(measurement(b, metric))
    difference = mean_difference(mean_of([a], metric), mean_of([b], metric))
    assert (difference.value, difference.p()) == pytest.approx((paired.value, paired.p()))
    assert difference.ends() == pytest.approx(paired.ends())


def test_models_that_differ_are_told_apart_and_one_model_is_not_from_itself(tmp_path: Path) -> None:
    good, poor = ([cell(tmp_path, m, s, t) for t in TASKS] for m, s in (("clip_cm", 3.0), ("gloria", 0.3)))
    found = mean_difference(mean_of(good, these_draws=True), mean_of(poor, these_draws=True))
    assert found.p() < 0.001  # type: ignore[operator]
    same = mean_difference(mean_of(good, MACRO_F1), mean_of(good, MACRO_F1))
    assert (same.value, same.p(), same.ends()) == (0, None, None)


def test_a_difference_of_means_turns_its_sign_and_p_goes_with_the_interval(tmp_path: Path) -> None:
    for skill in (1.2, 1.35, 1.5, 1.8):
        a, b = ([cell(tmp_path, m, s, t) for t in TASKS] for m, s in (("clip_cm", skill), ("gloria", 1.0)))
        there, back = (mean_difference(mean_of(x), mean_of(y)) for x, y in ((a, b), (b, a)))
        assert there.p() == pytest.approx(back.p())
        ends = there.ends()
        assert ends is not None and ends == pytest.approx(tuple(-end for end in reversed(back.ends() or ())))
        assert (there.p() < 0.05) == (not ends[0] <= 0 <= ends[1])  # type: ignore[operator]


def test_means_over_other_images_are_refused(tmp_path: Path) -> None:
    a, b = [cell(tmp_path, "clip_cm", 1.5, "rsna")], [cell(tmp_path, "gloria", 1.5, "siim")]
    assert why_not_means(mean_of(a), mean_of(b)) == ("they are over other cells",)
    other = [cell(tmp_path, "gloria", 1.5, "rsna", data__contents_digest="9" * 64)]
    with pytest.raises(NotApplicableError, match="other bytes"):
        mean_difference(mean_of(a), mean_of(other))


def test_a_class_of_one_image_is_named_beside_the_mean_with_its_task(tmp_path: Path) -> None:
    labels = np.array([0, 0, 0, 1])
    fold = FoldScores(0, ("a", "b", "c", "d"), labels, np.array([[0.9, 0.1], [0.2, 0.8], [0.9, 0.1], [0.1, 0.9]]))
    poor = read_cell(tmp_path, written(tmp_path, "clip_cm", [fold], data__task="siim"))
    rich = cell(tmp_path, "clip_cm", 1.5, "rsna")
    found, alone = (mean_interval(mean_of(own, these_draws=True)) for own in ([rich, poor], [rich]))
    assert found.reason.startswith("siim: few test images: Pneumonia 1, Normal 3")
    assert found.low is not None and found.high is not None and alone.low is not None and alone.high is not None
    assert found.high - found.low > 2 * (alone.high - alone.low)


@given(st.lists(st.lists(st.integers(-1, 3), min_size=6, max_size=6).filter(lambda x: max(x) >= 0), min_size=1))
def test_shared_strata_hold_every_unit_of_any_part_and_no_other(parts: list[list[int]]) -> None:
    arrays = [np.array(part) for part in parts]
    found = shared_strata(arrays, 6)
    assert ((found >= 0) == (np.array(parts) >= 0).any(axis=0)).all()
    sizes = np.bincount(found[found >= 0])
    drawn = int((found >= 0).sum())
    assert drawn == 1 or (sizes[sizes > 0] > 1).all()
