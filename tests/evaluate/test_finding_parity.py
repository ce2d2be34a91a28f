"""Numbers of findings are those that the papers' own evaluation code gives on made scores (MULTILABEL facts)."""

from pathlib import Path

import numpy as np
import pytest

from cxrbench.evaluate.findings import (
    best_f1,
    best_level,
    chosen_thresholds,
    counts,
    f1,
    finding_metrics,
    mcc,
)
from cxrbench.evaluate.metrics import area

GOLDEN = dict(np.load(Path(__file__).parents[1] / "fixtures" / "protocols" / "multilabel.npz"))
LABELS, SCORES = GOLDEN["labels"].astype(np.int64), GOLDEN["scores"]
HOLDS = LABELS == 1
FOUND = finding_metrics(SCORES, LABELS, chosen_thresholds(SCORES[:100], LABELS[:100]))


@pytest.mark.parametrize("name", ["chexzero/auc", "carzero/auc_per_class", "benchx/class_auroc"])
def test_areas_of_findings(name: str) -> None:
    np.testing.assert_allclose(FOUND.auroc, GOLDEN[name], rtol=0, atol=1e-14)


def test_their_mean() -> None:
    expected = [float(GOLDEN["carzero/auc_macro_micro_weighted"][0]), float(GOLDEN["benchx/multilabel_auroc"])]
    assert FOUND.macro_auroc == pytest.approx(GOLDEN["kad/auc_and_mean"][-1], abs=1e-14)
    assert [FOUND.macro_auroc] * 2 == pytest.approx(expected, abs=1e-14)
    assert FOUND.macro_auroc == pytest.approx(float(GOLDEN["cxr_clip/AUROC(Avg)"]), abs=1e-14)


def test_areas_of_all_cells_together_and_weighted_by_positives() -> None:
    micro = area(SCORES.ravel(), HOLDS.ravel())
    weighted = np.average(np.array(FOUND.auroc, float), weights=HOLDS.sum(axis=0))
    np.testing.assert_allclose([micro, weighted], GOLDEN["carzero/auc_macro_micro_weighted"][1:], rtol=0, atol=1e-14)


def test_areas_of_chexzeros_resamples() -> None:
    draws = [np.random.RandomState(i).randint(0, 200, 200) for i in range(5)]
    found = [[area(s[rows], h[rows]) for s, h in zip(SCORES.T, HOLDS.T, strict=True)] for rows in draws]
    np.testing.assert_allclose(found, GOLDEN["chexzero/bootstrap_first5"], rtol=0, atol=1e-14)


def test_thresholds_are_chosen_on_the_validation_part_as_chexzero_does() -> None:
    first, second = slice(0, 100), slice(100, 200)
    levels = chosen_thresholds(SCORES[first], LABELS[first])
    np.testing.assert_array_equal(levels["mcc"], GOLDEN["chexzero/mcc_thresholds_from_first_half"])
    found = finding_metrics(SCORES[second], LABELS[second], levels)
    np.testing.assert_allclose(found.mcc, GOLDEN["chexzero/mcc_second_half"], rtol=0, atol=1e-14)


def test_mcc_at_its_best_on_the_test_part_as_kad_prints_it() -> None:
    """Their first best threshold in the order of images is one of ours with the same value."""
    found = [float(mcc(*_at(number, "mcc"))) for number in range(14)]
    np.testing.assert_allclose([*found, np.mean(found)], GOLDEN["kad/mcc_and_mean"], rtol=0, atol=1e-14)


def test_f1_and_accuracy_at_kads_thresholds() -> None:
    for number, level in enumerate(GOLDEN["kad/thresholds"]):
        tp, fp, fn, tn = counts(SCORES[:, number] >= level, HOLDS[:, number])
        assert float(f1(tp, fp, fn, tn)) == pytest.approx(GOLDEN["kad/f1_and_mean"][number], abs=1e-14)
        assert (tp + tn) / 200 == pytest.approx(GOLDEN["kad/acc_and_mean"][number], abs=1e-14)


def test_f1_at_its_best_on_the_test_part_as_medklip_mavl_and_benchx_print_it() -> None:
    assert FOUND.f1_best_on_test == pytest.approx(float(GOLDEN["medklip_mavl_benchx/mean_best_f1"]), abs=1e-14)


def test_their_accuracy_is_of_scores_above_that_threshold() -> None:
    right = []
    for number in range(14):
        level = best_level(SCORES[:, number], HOLDS[:, number])
        right.append(((SCORES[:, number] > level) == HOLDS[:, number]).mean())
        tp, fp, fn, tn = _at(number, "f1")
        assert float(f1(tp, fp, fn, tn)) == best_f1(SCORES[:, number], HOLDS[:, number])
    assert np.mean(right) == pytest.approx(float(GOLDEN["medklip_mavl_benchx/mean_acc_above_threshold"]), abs=1e-14)


def test_f1_and_accuracy_at_one_half_as_cxr_clip_prints_them() -> None:
    found = [counts(s > 0.5, h) for s, h in zip(SCORES.T, HOLDS.T, strict=True)]
    assert np.mean([f1(*one) for one in found]) == pytest.approx(float(GOLDEN["cxr_clip/F1(Avg)"]), abs=1e-14)
    accuracy = np.mean([(tp + tn) / 200 for tp, _, _, tn in found])
    assert accuracy == pytest.approx(float(GOLDEN["cxr_clip/Accuracy(Avg)"]), abs=1e-14)


def _at(number: int, by: str) -> tuple[int, int, int, int]:
    scores, holds = SCORES[:, number], HOLDS[:, number]
    return counts(scores >= best_level(scores, holds, by), holds)  # type: ignore[arg-type,return-value]
