"""L2 logistic regression solved to its optimum, in the span of the training rows, where few samples make it small.

Objective, as scikit-learn's: C sum_i s_i loss_i + |W|^2 / 2, intercept unpenalised; s are sample weights. Steps:

1. Weighted centring. It moves only the intercept, and makes step 2 diagonal.
2. Rotation to the principal axes of the weighted rows: n or d coordinates, whichever is fewer. The penalty is
   rotation invariant. Each axis is divided by the root of the Hessian's upper bound there (Böhning 1992), so that all
   curvatures lie between 0 and 1 and a gradient's norm says how far the optimum is.
3. Damped Newton steps until the gradient is 1e-12 of the first one: solved densely for one logit, by conjugate
   gradients with the Hessian's diagonal as preconditioner for several.
4. Back to features by the optimality condition W = C sum_i s_i (y_i - p_i) x_i.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import RunError
from cxrbench.types import IntArray

Float64Array = NDArray[np.float64]
FloatArray = NDArray[np.floating[Any]]

PRECISION = 1e-12
MAX_STEPS = 200
MAX_INNER = 1000


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


def _system(centred: Float64Array, weights: Float64Array, curvature: float) -> _System:
    root = np.sqrt(weights)[:, None]
    if len(centred) <= centred.shape[1]:
        variances, axes = np.linalg.eigh(root * (centred @ centred.T) * root.T)
        rows = axes * np.sqrt(np.maximum(variances, 0)) / root
    else:
        weighted = root * centred
        variances, axes = np.linalg.eigh(weighted.T @ weighted)
        rows = centred @ axes
    penalty = 1 / (1 + curvature * np.maximum(variances, 0))
    constant = np.full((len(rows), 1), 1 / np.sqrt(curvature * weights.sum()))
    return _System(np.hstack([rows * np.sqrt(penalty), constant]), np.append(penalty, 0.0)[:, None])


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
        hessian = (system.design * (self._weights * p * (1 - p))).T @ system.design
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

        diagonal = np.square(system.design).T @ (weighted * (1 - p)) + system.penalty
        return _conjugate_gradients(hessian_times, diagonal, -gradient, rtol)


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
