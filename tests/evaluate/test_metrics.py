"""Metrics: hand-worked numbers, scikit-learn's where it has them, and every printed figure of the released code."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.errors import DataError
from cxrbench.evaluate.metrics import fold_metrics, generalised, harmonic_mean
from cxrbench.reports.detail import official_rounding


def as_stored(value):
    """A rendered value with six significant digits, as the recorded files hold it."""
    if isinstance(value, list):
        return [as_stored(v) for v in value]
    return None if value is None else float(f"{value:.6g}")


def test_every_printed_metric_follows_from_the_scores(experiment):
    for run, printed in [*experiment.zero_shot_runs(), *experiment.probe_runs()]:
        folds = [
            fold_metrics(experiment.arrays[f"{run}/f{f}/scores"], experiment.labels[fold["test"]])
            for f, fold in enumerate(experiment.facts["folds"])
        ]
        report = official_rounding(folds[: len(printed["folds"])])
        for got, recorded in [*zip(report.folds, printed["folds"], strict=True), (report.average, printed["average"])]:
            assert {name: as_stored(value) for name, value in got.items()} == recorded, run


def test_equal_results_are_recorded_once_and_found(experiment):
    for group in ("zero_shot", "linear_probe"):
        known = {
            run.split("/", 1)[1].rsplit("/K", 1)[0]
            for run, _ in [*experiment.zero_shot_runs(), *experiment.probe_runs()]
        }
        for by_kind in experiment.facts[group].values():
            for runs in by_kind.values():
                for run in runs.values() if group == "linear_probe" else [runs]:
                    assert "same_as" not in run or run["same_as"] in known


LABELS = np.array([0, 0, 0, 1, 1, 2])
SCORES = np.array(
    [[0.8, 0.1, 0.1], [0.2, 0.5, 0.3], [0.6, 0.3, 0.1], [0.1, 0.7, 0.2], [0.4, 0.3, 0.3], [0.1, 0.2, 0.7]]
)


def test_hand_worked_fold():
    m = fold_metrics(SCORES, LABELS)
    assert m.confusion == ((2, 1, 0), (1, 1, 0), (0, 0, 1))
    assert m.recall == pytest.approx((2 / 3, 1 / 2, 1))
    assert m.specificity == pytest.approx((2 / 3, 3 / 4, 1))
    assert m.f1 == pytest.approx((2 / 3, 1 / 2, 1))
    assert m.balanced_accuracy == pytest.approx(13 / 18)
    assert m.accuracy == pytest.approx(4 / 6)
    assert m.auroc == pytest.approx((8 / 9, 6.5 / 8, 1))
    assert m.macro_auroc == pytest.approx((8 / 9 + 6.5 / 8 + 1) / 3)
    assert m.kappa == pytest.approx((4 / 6 - 14 / 36) / (1 - 14 / 36))
    assert m.quadratic_kappa == pytest.approx(1 - 2 / (40 / 6))
    assert not m.reasons


@settings(deadline=None)  # the first example imports scikit-learn
@given(
    rows=st.lists(st.tuples(st.integers(0, 2), *[st.integers(0, 5)] * 3), min_size=6, max_size=60).filter(
        lambda r: len({label for label, *_ in r}) == 3
    )
)
def test_metrics_agree_with_scikit_learn(rows):
    from sklearn import metrics as sk

    labels, scores = np.array([r[0] for r in rows]), np.array([r[1:] for r in rows], dtype=np.float32)
    m, predicted = fold_metrics(scores, labels), scores.argmax(axis=1)
    assert m.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
    assert m.macro_f1 == pytest.approx(
        sk.f1_score(labels, predicted, average="macro", labels=[0, 1, 2], zero_division=0)
    )
    assert list(m.auroc) == [sk.roc_auc_score(labels == c, scores[:, c]) for c in range(3)]
    assert m.kappa == pytest.approx(sk.cohen_kappa_score(labels, predicted))
    assert m.quadratic_kappa == pytest.approx(
        sk.cohen_kappa_score(labels, predicted, weights="quadratic", labels=[0, 1, 2])
    )


@given(values=st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=50))
def test_auroc_is_the_share_of_won_pairs(values):
    labels, scores = np.array([int(p) for _, p in values]), np.array([s for s, _ in values], dtype=np.float32)
    auroc = fold_metrics(np.stack([-scores, scores], axis=1), labels).auroc
    pos, neg = scores[labels == 1], scores[labels == 0]
    if not len(pos) or not len(neg):
        assert auroc == (None, None)
        return
    pairs = pos[:, None] - neg
    assert auroc == pytest.approx([((pairs > 0) + 0.5 * (pairs == 0)).mean()] * 2)


def test_an_absent_class_gives_none_and_a_reason():
    m = fold_metrics(SCORES[:5], LABELS[:5])
    assert m.recall[2] is None
    assert m.auroc[2] is None
    assert m.balanced_accuracy is m.macro_auroc is m.macro_f1 is None
    assert m.accuracy == pytest.approx(3 / 5)
    assert m.reasons["balanced_accuracy"] == "no test row of class 2"
    assert set(m.reasons) >= {"recall", "auroc", "macro_auroc", "macro_f1"}
    report = official_rounding([m, fold_metrics(SCORES, LABELS)])
    assert report.average["aca_avg"] is None
    assert report.average["sensitivity_class_avg"][2] is None
    assert report.average["sensitivity_class_avg"][0] == pytest.approx(0.667)


def test_one_class_alone_has_no_kappa():
    m = fold_metrics(np.array([[1.0, 0.0], [2.0, 0.0]]), np.array([0, 0]))
    assert m.kappa is None
    assert "chance" in m.reasons["kappa"]
    assert m.specificity == (None, 1.0)


def test_rounding_is_per_fold_then_over_folds():
    thirds = fold_metrics(np.eye(2)[[0, 0, 1, 1, 1, 0]], np.array([0, 0, 0, 1, 1, 1]))
    whole = fold_metrics(np.eye(2)[[0, 1]], np.array([0, 1]))
    report = official_rounding([thirds, whole])
    assert [f["aca"] for f in report.folds] == [0.667, 1.0]
    assert report.average["aca_avg"] == 0.8335
    assert report.average["aca_std"] == 0.1665
    assert report.folds[0]["cm_norm"][0] == pytest.approx([2 / 3, 1 / 3], abs=1e-12)


@pytest.mark.parametrize(("hits", "rounded"), [(245, 0.612), (255, 0.638), (393, 0.982), (315, 0.788), (377, 0.942)])
def test_halves_are_rounded_as_the_released_code_does(hits: int, rounded: float) -> None:
    """NumPy's rounding: of the value times a thousand, halves to even; Python's `round` has the other neighbour.

    The recorded figures hold 70 such values (two and four classes of COVID), all on this side.
    """
    labels = np.repeat([0, 1], 400)
    predicted = np.concatenate([np.arange(400) >= hits, np.ones(400, bool)]).astype(int)
    found = official_rounding([fold_metrics(np.eye(2)[predicted], labels)]).folds[0]["sensitivity_class"]
    assert found == [rounded, 1.0]
    assert round(hits / 400, 3) != rounded


def test_rounding_needs_folds_of_the_same_classes():
    two, three = fold_metrics(np.eye(2), np.arange(2)), fold_metrics(np.eye(3), np.arange(3))
    for folds in ([], [two, three]):
        with pytest.raises(DataError, match="fold"):
            official_rounding(folds)


def test_generalised_scores_predict_over_all_classes():
    got = generalised(SCORES, LABELS, [2])
    assert got.base == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert got.new == 1.0
    assert got.harmonic_mean == pytest.approx(2 * got.base / (got.base + 1))
    assert generalised(SCORES, LABELS, []).new is None
    assert generalised(SCORES[:5], LABELS[:5], [2]).harmonic_mean is None


def test_harmonic_mean():
    assert harmonic_mean(0.5, 1.0) == pytest.approx(2 / 3)
    assert harmonic_mean(0.0, 0.0) == 0.0
    assert harmonic_mean(None, 0.5) is None


@pytest.mark.parametrize(
    ("scores", "labels", "complaint"),
    [
        (np.ones((3, 2)), np.zeros(2, int), "do not fit"),
        (np.ones((3, 1)), np.zeros(3, int), "do not fit"),
        (np.ones((0, 2)), np.zeros(0, int), "no rows"),
        (np.ones((2, 2)), np.array([0, 2]), "labels run from 0 to 2"),
        (np.array([[0.0, 1.0], [np.nan, 0.0]]), np.array([0, 1]), "1 rows have scores that are not finite"),
    ],
)
def test_what_cannot_be_judged_is_refused(scores, labels, complaint):
    with pytest.raises(DataError, match=complaint):
        fold_metrics(scores, labels)
