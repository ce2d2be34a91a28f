"""Tasks that one other task trains share its draws: their mean moves with them as one."""

import numpy as np
import pytest
from made_means import cell_of, mean_of

from cxrbench.analysis.means import mean_difference, mean_estimate
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.records.predictions import ScoredCell
from cxrbench.records.record import TrainedOn

FOLDS = 5


def cell(task: str, seed: int, source: str | None) -> ScoredCell:
    """A task of 80 images whose scores go up and down with the fold, fitted to another task's images or its own."""
    rng = np.random.default_rng(seed)
    labels = np.arange(80) % 2
    noise = rng.normal(size=(80, 2))
    folds = []
    for number in range(FOLDS):
        skill = 0.4 + 0.5 * number
        folds.append(
            ScoredRows(np.arange(80), labels, np.eye(2)[labels] * skill + noise + rng.normal(size=(80, 2)) / 4)
        )
    found = cell_of(task, folds)
    if source is None:
        return found
    facts = {"split": "s", "part": "train", "partition_digest": "d", "reference": "unknown", "labels": ("a", "b")}
    more = {"concepts": ("a", "b"), "rows_per_label": {}, "apart": "collections", "recipe": "r", "synthetic": False}
    other = TrainedOn.model_validate({"task": source, **facts, **more})
    data = found.record.data.model_copy(update={"trained_on": other})
    return ScoredCell(
        found.record.model_copy(update={"data": data}),
        found.folds,
        found.over,
        found.units,
        found.images,
        found.image,
    )


def drawn(source: tuple[str | None, str | None]) -> float:
    mean = mean_of([cell("siim", 1, source[0]), cell("covid", 2, source[1])], BALANCED_ACCURACY)
    return sum(part.variance for part in mean_estimate(mean).draws)


def test_draws_of_one_source_go_together_fold_by_fold() -> None:
    values = [
        c.shares.values
        for c in (w.measured for w in mean_of([cell("siim", 1, "x"), cell("covid", 2, "x")], BALANCED_ACCURACY))
    ]
    together = np.var((values[0] + values[1]) / 2, ddof=1) / FOLDS
    apart = sum(np.var(one / 2, ddof=1) / FOLDS for one in values)
    assert drawn(("x", "x")) == pytest.approx(together)
    assert drawn((None, None)) == pytest.approx(apart) == drawn(("x", "y"))
    assert together > 1.5 * apart  # the folds of both go up together


def test_a_difference_of_two_models_has_the_same_draws() -> None:
    a = mean_of([cell("siim", 1, "x"), cell("covid", 2, "x")], BALANCED_ACCURACY)
    b = mean_of([cell("siim", 3, "x"), cell("covid", 4, "x")], BALANCED_ACCURACY)
    values = [one.measured.shares.values - two.measured.shares.values for one, two in zip(a, b, strict=True)]
    found = mean_difference(a, b)
    assert sum(part.variance for part in found.draws) == pytest.approx(np.var(np.mean(values, axis=0), ddof=1) / FOLDS)
