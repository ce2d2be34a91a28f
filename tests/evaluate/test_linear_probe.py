"""The probe: the released fits, the optimum, and what it may not depend on."""

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
import sklearn
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench.errors import DataError
from cxrbench.evaluate.logistic_regression import exact, fit, probe_scores
from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.reports.detail import official_rounding


def converged_scores(experiment, run: str, fold: int):
    facts, x = experiment.facts["folds"][fold], experiment.probe_features(run)
    train = facts["train"][run.rsplit("K", 1)[1]]
    probe = fit(x[train], experiment.labels[train], experiment.n_classes)
    return probe_scores(probe, x[facts["test"]])


def computable(experiment):
    return [run for run in experiment.facts["converged"] if experiment.probe_features(run) is not None]


def test_converged_scores_are_the_recorded_optimum(experiment):
    for run in computable(experiment):
        for f in range(len(experiment.facts["folds"])):
            recorded = experiment.arrays.get(f"converged/lp/{run}/f{f}/scores")
            if recorded is not None:
                got = converged_scores(experiment, run, f)
                assert np.abs(got - recorded).max() <= 1e-4 * np.ptp(recorded), (run, f)


def test_converged_accuracy_is_the_recorded_one_after_official_rounding(experiment):
    for run in computable(experiment):
        folds = [
            fold_metrics(converged_scores(experiment, run, f), experiment.labels[fold["test"]])
            for f, fold in enumerate(experiment.facts["folds"])
        ]
        report = official_rounding(folds)
        assert [fold["aca"] for fold in report.folds] == experiment.facts["converged"][run]["aca"], run
        assert report.average["aca_avg"] == experiment.facts["converged"][run]["aca_avg"], run


def literal_scores(experiment, run: str, fold: int):
    facts, x = experiment.facts["folds"][fold], experiment.probe_features(run.removeprefix("lp/"))
    train = facts["fit_order"][run.rsplit("K", 1)[1]]
    probe = fit(x[train], experiment.labels[train], experiment.n_classes, solver="scikit-learn")
    return probe_scores(probe, x[facts["test"]])


def test_scikit_learn_on_the_recorded_row_order_gives_the_released_scores(experiment):
    """Within what another processor's arithmetic makes of a fit that stops early; see the next test."""
    if not sklearn.__version__.startswith("1.9."):
        pytest.skip("recorded with scikit-learn 1.9; other versions stop elsewhere")
    for run, _ in experiment.probe_runs():
        if experiment.probe_features(run.removeprefix("lp/")) is not None:
            for f in range(len(experiment.facts["folds"])):
                recorded = experiment.arrays[f"{run}/f{f}/scores"]
                assert np.abs(literal_scores(experiment, run, f) - recorded).max() <= 2e-2, (run, f)


STRICT = "OPENBLAS_CORETYPE"  # the recorded runs used this kernel of OpenBLAS on one thread


def test_scikit_learn_is_exact_on_raw_features_where_arithmetic_is_the_recorded_one(experiment):
    if os.environ.get(STRICT) != "Haswell" or not sklearn.__version__.startswith("1.9."):
        pytest.skip("runs in the child process of the next test")
    for run, _ in experiment.probe_runs():
        if "/raw/" in run and experiment.probe_features(run.removeprefix("lp/")) is not None:
            for f in range(len(experiment.facts["folds"])):
                recorded = experiment.arrays[f"{run}/f{f}/scores"]
                assert np.abs(literal_scores(experiment, run, f) - recorded).max() <= 1e-5, (run, f)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the recorded arithmetic is OpenBLAS's Haswell kernel")
def test_scikit_learn_is_exact_in_the_recorded_arithmetic():
    if os.environ.get(STRICT) == "Haswell":
        pytest.skip("this is the child process")
    threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "where_arithmetic_is"],
        env=os.environ | threads | {STRICT: "Haswell"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def problem(seed: int, n_classes: int, n: int, d: int):
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, n - n_classes)])
    x = rng.standard_normal((n, d)) * rng.gamma(1, 1, d) + rng.standard_normal((n_classes, d))[labels] + 3
    return x.astype(np.float32), labels


def gradient(x, labels, n_classes, best, strength: float = 0.316) -> float:
    """Largest entry of the objective's gradient at a solution, in features."""
    counts = np.bincount(labels)
    weights = strength * (len(labels) / (n_classes * counts))[labels]
    logits = x.astype(np.float64) @ best.coef.T + best.intercept
    if n_classes == 2:
        residuals = weights[:, None] * (1 / (1 + np.exp(-logits)) - labels[:, None])
    else:
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        residuals = weights[:, None] * (p / p.sum(axis=1, keepdims=True) - np.eye(n_classes)[labels])
    return max(np.abs(residuals.T @ x + best.coef).max(), np.abs(residuals.sum(axis=0)).max())


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), n_classes=st.integers(2, 6), n=st.integers(8, 60), d=st.sampled_from([3, 20, 200]))
def test_the_gradient_vanishes_for_few_rows_and_for_many(seed, n_classes, n, d):
    x, labels = problem(seed, n_classes, n, d)
    assert gradient(x, labels, n_classes, exact(x, labels, n_classes)) < 1e-8


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), n_classes=st.integers(2, 5), repeats=st.booleans())
def test_row_order_changes_no_bit(seed, n_classes, repeats):
    x, labels = problem(seed, n_classes, 40, 64)
    rows = np.arange(40) % 25 if repeats else np.arange(40)
    rows = np.concatenate([np.arange(n_classes), rows])
    mixed = np.random.default_rng(seed).permutation(rows)
    one, other = fit(x[rows], labels[rows], n_classes), fit(x[mixed], labels[mixed], n_classes)
    assert one.coef.tobytes() == other.coef.tobytes()
    assert one.intercept.tobytes() == other.intercept.tobytes()


@pytest.mark.parametrize("n_classes", [2, 4])
def test_converged_agrees_with_scikit_learn_at_a_tight_tolerance(n_classes):
    from sklearn.linear_model import LogisticRegression

    x, labels = problem(0, n_classes, 50, 100)
    model = LogisticRegression(C=0.316, tol=1e-10, max_iter=100_000, class_weight="balanced")
    model.fit(x.astype(np.float64), labels)
    best = exact(x, labels, n_classes)
    assert best.coef.shape == model.coef_.shape
    np.testing.assert_allclose(best.coef, model.coef_, atol=1e-4)
    np.testing.assert_allclose(x @ best.coef.T + best.intercept, x @ model.coef_.T + model.intercept_, atol=1e-4)


def test_equal_features_leave_equal_probabilities():
    probe = fit(np.ones((6, 4), dtype=np.float32), np.array([0, 0, 1, 1, 2, 2]), 3)
    np.testing.assert_allclose(probe_scores(probe, np.ones((2, 4), dtype=np.float32)), 1 / 3, rtol=1e-6)


def test_separable_large_features_still_converge():
    x = np.zeros((8, 50), dtype=np.float32)
    x[:4, 0], x[4:, 0] = 1e3, -1e3
    labels = np.repeat([0, 1], 4)
    probe = fit(x, labels, 2)
    assert (probe_scores(probe, x).argmax(axis=1) == labels).all()


def test_a_probe_says_how_it_was_made():
    x, labels = problem(0, 3, 20, 10)
    literal, converged = fit(x, labels, 3, solver="scikit-learn"), fit(x, labels, 3)
    assert literal.solver == "scikit-learn"
    assert literal.version.startswith(f"{sklearn.__version__} on ")
    assert (converged.solver, converged.version) == ("converged", "newton-1")
    assert literal.iterations > 0
    assert converged.iterations > 0
    assert probe_scores(literal, x).dtype == np.float32
    assert probe_scores(converged, x).dtype == np.float64


@pytest.mark.parametrize("n_classes", [2, 3])
def test_scores_are_probabilities(n_classes):
    x, labels = problem(2, n_classes, 20, 10)
    p = probe_scores(fit(x, labels, n_classes), 50 * x)
    assert p.shape == (20, n_classes)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert p.min() >= 0


@pytest.mark.parametrize("solver", ["converged", "scikit-learn"])
def test_a_class_without_a_row_is_refused(solver):
    with pytest.raises(DataError, match="class 1 has no training row"):
        fit(np.ones((4, 3), dtype=np.float32), np.array([0, 0, 2, 2]), 3, solver=solver)


def test_features_that_are_not_finite_are_refused():
    x = np.ones((4, 3), dtype=np.float32)
    x[2, 1] = np.nan
    with pytest.raises(DataError, match="1 training rows"):
        fit(x, np.array([0, 0, 1, 1]), 2)


@pytest.mark.parametrize("classes", [2, 5])
def test_rows_weighted_by_blocks_give_the_same_optimum(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.choice(classes, 900, p=np.arange(classes, 0, -1) / sum(range(classes + 1)))
    features = (rng.normal(size=(900, 24)) + np.eye(classes, 24)[labels]).astype(np.float32)
    whole = exact(features, labels, classes)
    monkeypatch.setattr("cxrbench.evaluate.logistic_regression.BLOCK", 128)
    parts = exact(features, labels, classes)
    assert max(whole.gradient, parts.gradient) <= 1e-12
    assert np.abs(parts.coef - whole.coef).max() <= 1e-9 * np.abs(whole.coef).max()


@pytest.mark.slow
@pytest.mark.parametrize("several", [False, True], ids=["19 classes", "a finding"])
def test_a_whole_training_part_converges(several: bool) -> None:
    rng = np.random.default_rng(3)
    n, classes = 20_000, 2 if several else 19
    shares = 1 / np.arange(1, classes + 1) ** 1.5
    labels = rng.choice(classes, n, p=shares / shares.sum())
    labels[:classes] = np.arange(classes)
    spread = rng.normal(size=(n, 512)) * 8 / np.sqrt(np.arange(1, 513))
    features = (spread + 0.3 * rng.normal(size=(classes, 512))[labels]).astype(np.float32)
    assert exact(features, labels, classes).gradient <= 1e-12
