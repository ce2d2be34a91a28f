"""The paper's linear probe: L2 logistic regression with balanced classes on frozen features."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, FewRowsError
from cxrbench.evaluate import solver as newton
from cxrbench.types import IntArray

FloatArray = NDArray[np.floating[Any]]
Solver = Literal["converged", "scikit-learn"]

STRENGTH = 0.316  # inverse of the penalty's weight; source: protocol facts, section 5
CONVERGED_VERSION = "newton-1"


@dataclass(frozen=True, slots=True)
class Probe:
    """A fitted probe: float32 as the released code applies it for `scikit-learn`, float64 for `converged`.

    float32 probabilities tie where the optimum does not: three of the protocol's 425 recorded accuracies depend on it.
    """

    coef: FloatArray  # (C, d), or (1, d) for two classes
    intercept: FloatArray  # (C,) or (1,)
    iterations: int
    solver: Solver
    version: str  # of scikit-learn with its BLAS, or of this package's own method


def fit(
    features: FloatArray, labels: IntArray, n_classes: int, C: float = STRENGTH, solver: Solver = "converged"
) -> Probe:
    """A probe on features (n, d) with class indices (n,); classes weigh n / (n_classes x rows of the class).

    `converged` is the optimum in float64. Rows are put into a canonical order first (by label, then by their bytes), so
    the result is the same bit for bit whatever order they come in, on one machine and number of threads.
    `scikit-learn` is the released call on the rows as they come, in float32, with all that its version brings along.
    Raises DataError for a class without a row (the released code would shift score columns in silence), or features
    that are not finite.
    """
    _check(features, labels, n_classes)
    if solver == "scikit-learn":
        return _scikit_learn(features, labels, C)
    best = exact(features, labels, n_classes, C)
    return Probe(best.coef, best.intercept, best.iterations, solver, CONVERGED_VERSION)


def exact(features: FloatArray, labels: IntArray, n_classes: int, C: float = STRENGTH) -> newton.Optimum:
    """What `fit` solves with `converged`, with the gradient that is left; every class has a row."""
    features, labels = _canonical(features, labels)
    weights = (len(labels) / (n_classes * np.bincount(labels, minlength=n_classes)))[labels]
    return newton.optimum(features, labels, n_classes, weights, C)


def probe_scores(probe: Probe, features: FloatArray) -> FloatArray:
    """Class probabilities (N, C) for features (N, d), in the probe's own precision.

    Softmax, or sigmoid and its complement for two classes.
    """
    logits = features.astype(probe.coef.dtype) @ probe.coef.T + probe.intercept
    if logits.shape[1] == 1:
        small = np.exp(-np.abs(logits))
        positive = np.where(logits >= 0, 1, small) / (1 + small)
        return np.hstack([1 - positive, positive])
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def _check(features: FloatArray, labels: IntArray, n_classes: int) -> None:
    if features.ndim != 2 or labels.shape != (len(features),):
        raise DataError(f"features {features.shape} and labels {labels.shape} do not fit: (n, d) and (n,) are needed")
    counts = np.bincount(labels, minlength=n_classes)
    if n_classes < 2 or len(counts) > n_classes:
        raise DataError(f"labels up to {len(counts) - 1} do not fit {n_classes} classes; two or more are needed")
    if not counts.all():
        missing = np.flatnonzero(counts == 0).tolist()
        raise FewRowsError(missing, "has no training row, so no probe can score it. Check that all images are there.")
    if not np.isfinite(features).all():
        raise DataError(
            f"{int((~np.isfinite(features)).any(axis=1).sum())} training rows hold features that are not finite"
        )


def _canonical(features: FloatArray, labels: IntArray) -> tuple[FloatArray, IntArray]:
    """Rows by label, equal labels by their bytes; rows that tie are equal, so nothing depends on where they stood."""
    rows = np.ascontiguousarray(features)
    by_bytes = np.argsort(rows.view(np.dtype((np.void, rows.strides[0]))).ravel(), kind="stable")
    order = by_bytes[np.argsort(labels[by_bytes], kind="stable")]
    return rows[order], labels[order]


def solver_version(solver: Solver) -> str | None:
    """What decides the last digits of a fit beside its input: the library and its kernels for the literal solver.

    None for the converged one: its optimum is the same whatever computes it, to far below what any table shows.
    """
    if solver == "converged":
        return None
    import sklearn

    return f"{sklearn.__version__} on {_kernels()}"


def _scikit_learn(features: FloatArray, labels: IntArray, C: float) -> Probe:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, max_iter=1000, class_weight="balanced").fit(features.astype(np.float32), labels)
    return Probe(
        model.coef_.astype(np.float32),
        model.intercept_.astype(np.float32),
        int(model.n_iter_.max()),
        "scikit-learn",
        solver_version("scikit-learn") or "",
    )


def _kernels() -> str:
    """BLAS kernels and their threads in this process: they decide the last digits of an unconverged fit."""
    from threadpoolctl import threadpool_info

    blas = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    told = {f"{pool['internal_api']} {pool.get('architecture', '')} {pool['num_threads']} threads" for pool in blas}
    return ", ".join(sorted(told)) or "no known BLAS"
