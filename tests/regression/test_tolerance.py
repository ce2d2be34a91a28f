"""The numerical tolerance: what rows that are barely decided could do to the number, and nothing else."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_results import scores, write_result

from cxrbench.analysis.against_paper import ROUNDING, numerical
from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.records.predictions import read_cell
from cxrbench.records.scores import FoldScores


def close_scores(rng: np.random.Generator) -> FoldScores:
    labels = np.arange(60) % 3
    table = rng.normal(size=(60, 3)).astype(np.float32)
    near = rng.integers(0, 60, 8)
    table[near, 1] = table[near, 0] + rng.normal(0, 2e-4, 8).astype(np.float32)
    return FoldScores(0, tuple(map(str, range(60))), labels, table)


def test_wide_margins_leave_rounding_alone(tmp_path: Path) -> None:
    assert numerical(read_cell(tmp_path, write_result(tmp_path))).width == ROUNDING


def test_one_close_row_is_worth_its_share_of_its_class(tmp_path: Path) -> None:
    folds = scores(rows=400, folds=2)
    folds[1].scores[399] = [0.5, 0.50001]
    found = numerical(read_cell(tmp_path, write_result(tmp_path, folds)))
    assert found.width == pytest.approx(1 / (200 * 2 * 2))
    assert found.source.startswith("numerical: 1 rows")


def test_a_number_can_move_up_or_down_but_not_both_ways_at_once(tmp_path: Path) -> None:
    """A row that is barely right and one that is barely wrong: each can cost or bring as much, together no more."""
    folds = scores(rows=400, folds=2)
    folds[1].scores[399], folds[1].scores[397] = [0.5, 0.50001], [0.50001, 0.5]
    found = numerical(read_cell(tmp_path, write_result(tmp_path, folds)))
    assert found.width == pytest.approx(1 / (200 * 2 * 2))
    assert found.source.startswith("numerical: 2 rows")


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_no_repeat_within_the_closeness_leaves_the_tolerance(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rng = np.random.default_rng(seed)
    fold = close_scores(rng)
    out = tmp_path_factory.mktemp("out")
    record = write_result(out, [fold], data__labels=["a", "b", "c"])
    width = numerical(read_cell(out, record), 1e-4).width
    largest = np.abs(fold.scores).max()
    noise = rng.choice([-1, 1], fold.scores.shape) * 0.999e-4 * largest
    again = fold_metrics(fold.scores.astype(np.float64) + noise, fold.labels).balanced_accuracy
    first = fold_metrics(fold.scores, fold.labels).balanced_accuracy
    assert again is not None and first is not None
    assert abs(again - first) <= width
