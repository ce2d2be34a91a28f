"""The paper's linear probe: L2 logistic regression with balanced classes on frozen features."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, FewRowsError, RunError
from cxrbench.types import UNKNOWN, IntArray

Float64Array = NDArray[np.float64]
FloatArray = NDArray[np.floating[Any]]
PRECISION = 1e-12
ROUNDING = 1e-10  # a gradient that falls no further: of one row against hundreds, weights are far apart
MAX_STEPS = 200
MAX_INNER = 1000
_NO_ROW = "has no training row, so no probe can score it. Check that all images are there, or ask for more by --shots."
BLOCK = 8192  # rows that are weighted at once, so that no second array of all rows is made


@dataclass(frozen=True, slots=True)
class Optimum:
    """Coefficients (C, d) and intercepts (C,) in float64; one row and one intercept for two classes."""

    coef: Float64Array
    intercept: Float64Array
    iterations: int  # Newton steps
    gradient: float  # norm at the end over norm at the start, in the scaled coordinates


def optimum(features: FloatArray, labels: IntArray, n_classes: int, weights: Float64Array, C: float) -> Optimum:
    """The minimum for features (n, d), labels (n,) and sample weights (n,); every class has a row.

    Two classes share one logit, as in scikit-learn. Raises RunError if the gradient does not vanish, which finite
    features of sane magnitude do not bring about.
    """
    weights = C * weights
    truth = np.eye(n_classes)[labels]
    loss: _Loss = _OneLogit(truth[:, 1:], weights) if n_classes == 2 else _Softmax(truth, weights)
    centred = features.astype(np.float64)
    mean = weights @ centred / weights.sum()
    centred -= mean
    system = _system(centred, weights, loss.curvature)
    values, steps, gradient = _minimum(loss, system)
    coef = -loss.residuals(loss.probabilities(system.design @ values)).T @ centred
    intercept = system.design[0, -1] * values[-1] - coef @ mean
    if n_classes > 2:
        intercept -= intercept.mean()  # a common shift changes no probability; scikit-learn's sum to zero, too
    return Optimum(coef, intercept, steps, gradient)


@dataclass(frozen=True, slots=True)
class _System:
    """The problem in scaled principal coordinates."""

    design: Float64Array  # (n, r + 1), the last column constant: the intercept's
    penalty: Float64Array  # (r + 1, 1), zero for the intercept


def _blocks(n: int) -> list[slice]:
    """All rows, by parts of at most BLOCK."""
    return [slice(at, at + BLOCK) for at in range(0, n, BLOCK)]


def _system(centred: Float64Array, weights: Float64Array, curvature: float) -> _System:
    root = np.sqrt(weights)[:, None]
    if len(centred) <= centred.shape[1]:
        variances, axes = np.linalg.eigh(root * (centred @ centred.T) * root.T)
        rows = axes * np.sqrt(np.maximum(variances, 0)) / root
    else:
        gram = np.zeros((centred.shape[1], centred.shape[1]))
        for part in _blocks(len(centred)):
            weighted = root[part] * centred[part]
            gram += weighted.T @ weighted
        variances, axes = np.linalg.eigh(gram)
        rows = centred @ axes
    penalty = 1 / (1 + curvature * np.maximum(variances, 0))
    rows *= np.sqrt(penalty)
    constant = np.full((len(rows), 1), 1 / np.sqrt(curvature * weights.sum()))
    return _System(np.hstack([rows, constant]), np.append(penalty, 0.0)[:, None])


class _Loss(ABC):
    """A convex loss of logits (n, k), and its derivatives from probabilities (n, k); sample weights are inside."""

    curvature: float  # upper bound of the second derivative at unit weight
    width: int  # k

    def __init__(self, truth: Float64Array, weights: Float64Array) -> None:
        self._truth, self._weights = truth, weights[:, None]
        self.width = truth.shape[1]

    @abstractmethod
    def value(self, logits: Float64Array) -> float:
        """The weighted sum over rows."""

    @abstractmethod
    def probabilities(self, logits: Float64Array) -> Float64Array:
        """Of the second class (n, 1), or of every class (n, k)."""

    def residuals(self, p: Float64Array) -> Float64Array:
        """The gradient with respect to the logits (n, k)."""
        return self._weights * (p - self._truth)

    @abstractmethod
    def step(self, p: Float64Array, system: "_System", gradient: Float64Array, rtol: float) -> Float64Array:
        """The solution of Hessian @ step = -gradient, to `rtol` of the gradient's norm or better."""


class _OneLogit(_Loss):
    curvature = 0.25

    def value(self, logits: Float64Array) -> float:
        return float((self._weights * (np.logaddexp(0, logits) - self._truth * logits)).sum())

    def probabilities(self, logits: Float64Array) -> Float64Array:
        p: Float64Array = 0.5 + 0.5 * np.tanh(0.5 * logits)
        return p

    def step(self, p: Float64Array, system: "_System", gradient: Float64Array, rtol: float) -> Float64Array:
        bend, wide = self._weights * p * (1 - p), system.design.shape[1]
        hessian = np.zeros((wide, wide))
        for rows in _blocks(len(bend)):
            hessian += (system.design[rows] * bend[rows]).T @ system.design[rows]
        hessian.flat[:: len(hessian) + 1] += system.penalty[:, 0]
        return np.asarray(np.linalg.solve(hessian, -gradient), dtype=np.float64)


class _Softmax(_Loss):
    curvature = 0.5

    def value(self, logits: Float64Array) -> float:
        top = logits.max(axis=1, keepdims=True)
        partition = np.log(np.exp(logits - top).sum(axis=1, keepdims=True)) + top
        return float((self._weights * (partition - (self._truth * logits).sum(axis=1, keepdims=True))).sum())

    def probabilities(self, logits: Float64Array) -> Float64Array:
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        return p

    def step(self, p: Float64Array, system: "_System", gradient: Float64Array, rtol: float) -> Float64Array:
        weighted = self._weights * p

        def hessian_times(v: Float64Array) -> Float64Array:
            rows = system.design @ v
            rows -= np.einsum("ij,ij->i", p, rows)[:, None]
            rows *= weighted
            product: Float64Array = system.design.T @ rows
            product += system.penalty * v
            return product

        return _conjugate_gradients(hessian_times, self._diagonal(p, system), -gradient, rtol)

    def _diagonal(self, p: Float64Array, system: "_System") -> Float64Array:
        bend = self._weights * p * (1 - p)
        found = np.zeros((system.design.shape[1], self.width))
        for rows in _blocks(len(bend)):
            found += np.square(system.design[rows]).T @ bend[rows]
        return found + system.penalty


@dataclass(frozen=True, slots=True)
class _Point:
    values: Float64Array  # (r + 1, k)
    logits: Float64Array  # (n, k), the design times the values
    objective: float


def _minimum(loss: _Loss, system: _System) -> tuple[Float64Array, int, float]:
    """Damped Newton from zero: the minimiser (r + 1, k), the steps taken, and the final relative gradient."""
    logits = np.zeros((len(system.design), loss.width))
    point = _Point(np.zeros((system.design.shape[1], loss.width)), logits, loss.value(logits))
    first = 0.0
    for steps in range(MAX_STEPS):
        p = loss.probabilities(point.logits)
        gradient = system.design.T @ loss.residuals(p) + system.penalty * point.values
        size = float(np.linalg.norm(gradient))
        first = first or max(size, 1.0)
        if size <= PRECISION * first:
            return point.values, steps, size / first
        rtol = max(min(0.1, (size / first) ** 0.5), 0.3 * PRECISION * first / size, 1e-7)
        step = loss.step(p, system, gradient, rtol)
        point = _descent(loss, system, point, step, float((gradient * step).sum()))
    if size <= ROUNDING * first:
        return point.values, MAX_STEPS, size / first
    raise RunError(f"the linear probe did not converge in {MAX_STEPS} steps: gradient {size:.1e}. Check the features.")


def _descent(loss: _Loss, system: _System, point: _Point, step: Float64Array, slope: float) -> _Point:
    """The step, halved until the objective falls by a fair part of what its slope promises, up to rounding."""
    along, length = system.design @ step, 1.0
    while length > 1e-10:
        values, logits = point.values + length * step, point.logits + length * along
        objective = loss.value(logits) + 0.5 * float((system.penalty * values * values).sum())
        if objective <= point.objective + 1e-4 * length * slope + 1e-13 * abs(point.objective):
            return _Point(values, logits, objective)
        length /= 2
    raise RunError(
        f"the linear probe's objective does not fall along its step (slope {slope:.1e}). Check the features."
    )


def _conjugate_gradients(
    times: Callable[[Float64Array], Float64Array], diagonal: Float64Array, target: Float64Array, rtol: float
) -> Float64Array:
    """x with |A x - target| <= rtol |target|, `times(v)` = A v, preconditioned with A's diagonal."""
    x = np.zeros_like(target)
    rest = target.copy()
    search = rest / diagonal
    energy = float((rest * search).sum())
    stop = rtol * np.linalg.norm(target)
    for _ in range(MAX_INNER):
        if np.linalg.norm(rest) <= stop:
            break
        product = times(search)
        length = energy / float((search * product).sum())
        x += length * search
        rest -= length * product
        scaled = rest / diagonal
        energy, before = float((rest * scaled).sum()), energy
        search *= energy / before
        search += scaled
    return x


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


def exact(features: FloatArray, labels: IntArray, n_classes: int, C: float = STRENGTH) -> Optimum:
    """What `fit` solves with `converged`, with the gradient that is left; every class has a row."""
    features, labels = _canonical(features, labels)
    weights = (len(labels) / (n_classes * np.bincount(labels, minlength=n_classes)))[labels]
    return optimum(features, labels, n_classes, weights, C)


@dataclass(frozen=True, slots=True)
class FindingScores:
    """Probabilities (m, C) float64 of each finding by itself, and the most steps that a fit took."""

    probabilities: Float64Array
    iterations: int
    version: str = CONVERGED_VERSION


def scores_of_findings(features: FloatArray, labels: IntArray, test: FloatArray, C: float = STRENGTH) -> FindingScores:
    """A probe for each finding against the rest, on features (n, d) and labels (n, C) of 1, 0 and UNKNOWN.

    Each is what `fit` solves with `converged` for two classes, on the rows in which its finding is known; scored are
    the test features (m, d). Raises FewRowsError for findings that no training row shows, DataError for one that all
    show, or features that are not finite.
    """
    if labels.ndim != 2 or len(labels) != len(features):
        raise DataError(f"features {features.shape} and labels {labels.shape} do not fit: (n, d) and (n, C) are needed")
    if missing := np.flatnonzero(~(labels == 1).any(axis=0)).tolist():
        raise FewRowsError(missing, _NO_ROW)
    if always := np.flatnonzero(~(labels == 0).any(axis=0)).tolist():
        raise DataError(f"no training row is known not to show finding {always[0]}, so no probe can learn it")
    found, steps = [], 0
    for own in labels.T:
        known = own != UNKNOWN
        probe = fit(features[known], own[known], 2, C)
        found.append(probe_scores(probe, test)[:, 1])
        steps = max(steps, probe.iterations)
    return FindingScores(np.stack(found, axis=1).astype(np.float64), steps)


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
        raise FewRowsError(missing, _NO_ROW)
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
