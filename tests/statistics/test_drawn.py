"""All cells of a test set are drawn together, and each has the values that it has alone."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import scored_fold, written
from made_scores import Wards

from cxrbench.evaluate.statistics.counts import METRICS, statistic
from cxrbench.evaluate.statistics.resample import Statistic, replicates
from cxrbench.evaluate.statistics.units import strata
from cxrbench.verdict.drawn import drawn
from cxrbench.verdict.predictions import ScoredCell, read_cell


def cells(out: Path, task: str = "rsna", images: int = 60) -> list[ScoredCell]:
    found = []
    for number, model in enumerate(("clip_cm", "gloria", "medclip")):
        folds = [scored_fold(2 - number / 2, 1, number=k, images=images, noise=7 * number + k) for k in range(2)]
        found.append(read_cell(out, written(out, model, folds, data__task=task)))
    return found


@given(seed=st.integers(0, 10**6), folds=st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_a_statistic_has_the_same_replicates_to_the_bit_whatever_stands_beside_it(seed: int, folds: int) -> None:
    """Patients with images of several classes, so that counts are made of several strata."""
    own = [Wards(60, 3).draw(np.random.default_rng(seed + k))[0] for k in range(folds)]
    stratum = strata(own)
    found = [statistic(metric, own, len(stratum)) for metric in METRICS]
    together = replicates(found, stratum, 50, np.random.default_rng(seed))
    for one, values in zip(found, together, strict=True):
        np.testing.assert_array_equal(values, replicates([one], stratum, 50, np.random.default_rng(seed))[0])


def test_counts_are_those_of_the_weights(tmp_path: Path) -> None:
    """Whether a matrix is multiplied densely, stratum by stratum, or as it is: a count is the sum of the weights."""
    own = Wards(80, 4).draw(np.random.default_rng(2))[0]
    stratum = strata([own])
    seen: dict[str, list[np.ndarray]] = {"weights": [], "counts": []}

    def keeping(name: str, one: Statistic) -> Statistic:
        def of(counts: np.ndarray) -> np.ndarray:
            seen[name].append(counts)
            return np.zeros(counts.shape[1])

        return Statistic(one.matrix, of)

    from scipy import sparse

    units = Statistic(sparse.csr_array(sparse.identity(len(stratum), dtype=np.int64, format="csr")), np.sum)
    shown = statistic("macro_f1", [own], len(stratum))
    replicates([keeping("weights", units), keeping("counts", shown)], stratum, 40, np.random.default_rng(3))
    weights, counts = (np.concatenate(parts, axis=1) for parts in seen.values())
    np.testing.assert_allclose(counts, shown.matrix @ weights.astype(np.float64), rtol=1e-6)
    for number in np.unique(stratum):
        members = weights[stratum == number]
        assert members.sum(axis=0) == pytest.approx(np.full(40, len(members)), rel=1e-5)


def test_cells_of_a_test_set_share_their_resamples_and_other_test_sets_do_not(tmp_path: Path) -> None:
    own, other = cells(tmp_path), cells(tmp_path, "siim")
    found = drawn([*own, *other], "balanced_accuracy", 400)
    for cell, values in zip([*own, *other], found, strict=True):
        (alone,) = drawn([cell], "balanced_accuracy", 400)
        assert values.estimate == alone.estimate
        np.testing.assert_array_equal(values.drawn, alone.drawn)
    same = np.corrcoef([values.drawn for values in found])
    assert same[0, 1] > 0.3
    assert abs(same[0, 3]) < 0.2


def test_equal_rows_of_another_task_are_other_images(tmp_path: Path) -> None:
    one, two = cells(tmp_path)[0], cells(tmp_path, "siim")[0]
    a, b = drawn([one, two], "balanced_accuracy", 100)
    assert a.estimate == b.estimate
    assert not np.array_equal(a.drawn, b.drawn)


def test_draws_that_are_kept_and_draws_made_anew_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = cells(tmp_path)
    kept = [drawn([cell], "accuracy", 150)[0].drawn for cell in own]
    monkeypatch.setattr("cxrbench.verdict.drawn.MOST_KEPT", 0)
    for cell, values in zip(own, kept, strict=True):
        np.testing.assert_array_equal(drawn([cell], "accuracy", 150)[0].drawn, values)
