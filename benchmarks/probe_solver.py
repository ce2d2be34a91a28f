"""CPU time of scikit-learn's logistic regression over the `converged` solver's, at equal quality.

Both arms minimise the same objective in float64 on one thread: scikit-learn with tol = 1e-9, `converged` to its own
1e-12. Each arm runs in child processes of its own, in turns; a ratio is taken per round, and the verdict rests on the
median. Where the ratios' spread (interquartile range over median) exceeds 20 %, or `converged` ends with the larger
gradient, there is no verdict. Run `python benchmarks/probe_solver.py`.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arm = Literal["scikit-learn", "converged"]
FloatArray = NDArray[np.floating]

SIZES = ((2, 16), (5, 16), (19, 16))  # classes, shots
WIDTH = 2048
C = 0.316
TARGET, MAX_SPREAD, ROUNDS = 30.0, 0.20, 7
ONE_THREAD = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One problem size, or one fit of each: CPU ms of both arms (medians), ratios over rounds, largest gradient."""

    classes: str
    rows: int
    sklearn_ms: float
    converged_ms: float
    ratios: tuple[float, ...]
    sklearn_gradient: float
    converged_gradient: float

    @property
    def ratio(self) -> float:
        """The middle ratio."""
        return float(np.median(self.ratios))

    @property
    def spread(self) -> float:
        """Interquartile range over median."""
        low, high = np.percentile(self.ratios, [25, 75])
        return float(high - low) / self.ratio

    @property
    def verdict(self) -> str:
        if self.spread > MAX_SPREAD:
            return "none: spread too large"
        if self.converged_gradient > self.sklearn_gradient:
            return "none: quality not equal"
        return "met" if self.ratio >= TARGET else "missed"


def features(classes: int, shots: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Made-up pooled features: non-negative, forty shared directions with a class signal, and noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(classes), shots)
    directions = rng.standard_normal((40, WIDTH)) / np.sqrt(40)
    signal = 0.7 * rng.standard_normal((classes, 40))
    latent = rng.standard_normal((len(labels), 40)) + signal[labels]
    noise = 0.25 * rng.standard_normal((len(labels), WIDTH))
    return np.maximum(0, 0.3 + 0.4 * latent @ directions + noise).astype(np.float32), labels


def solve(arm: Arm, x: NDArray[np.float32], y: NDArray[np.int64], classes: int) -> tuple[FloatArray, FloatArray]:
    """Coefficients and intercepts in float64 of one fit."""
    if arm == "converged":
        from cxrbench.evaluate.logistic_regression import exact

        best = exact(x, y, classes, C)
        return best.coef, best.intercept
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=C, tol=1e-9, max_iter=1_000_000, class_weight="balanced")
    model.fit(x.astype(np.float64), y)
    return model.coef_, model.intercept_


def largest_gradient(x: FloatArray, y: NDArray[np.int64], coef: FloatArray, intercept: FloatArray) -> float:
    """Largest entry of the objective's gradient at a solution (classes have equal counts, so weights are 1)."""
    logits = x.astype(np.float64) @ coef.T + intercept
    if logits.shape[1] == 1:
        residuals = 1 / (1 + np.exp(-logits)) - y[:, None]
    else:
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        residuals = p / p.sum(axis=1, keepdims=True) - np.eye(logits.shape[1])[y]
    return float(max(np.abs(C * residuals.T @ x + coef).max(), np.abs(C * residuals.sum(axis=0)).max()))


def cpu_ms(call: Callable[[], object], seconds: float = 0.25) -> float:
    """CPU milliseconds of one call: repeated for `seconds` of CPU time, after one call to warm up."""
    call()
    calls, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        call()
        calls += 1
    return 1000 * spent / calls


def child(arm: Arm) -> list[tuple[float, float]]:
    """Milliseconds and largest gradient of one arm for every size."""
    out = []
    for classes, shots in SIZES:
        x, y = features(classes, shots)
        coef, intercept = solve(arm, x, y, classes)
        out.append((cpu_ms(lambda: solve(arm, x, y, classes)), largest_gradient(x, y, coef, intercept)))  # noqa: B023
    return out


def compare(rounds: int = ROUNDS) -> list[Comparison]:
    """Both arms in turns, the order swapped every round."""
    runs: dict[Arm, list[list[tuple[float, float]]]] = {"scikit-learn": [], "converged": []}
    order: tuple[Arm, Arm] = ("scikit-learn", "converged")
    for r in range(rounds):
        for arm in order if r % 2 == 0 else order[::-1]:
            done = subprocess.run(
                [sys.executable, __file__, "--child", arm],
                env=os.environ | ONE_THREAD,
                check=True,
                capture_output=True,
                text=True,
            )
            runs[arm].append(json.loads(done.stdout))
    theirs, ours = np.array(runs["scikit-learn"]), np.array(runs["converged"])
    sizes = [(str(classes), classes * shots, theirs[:, i], ours[:, i]) for i, (classes, shots) in enumerate(SIZES)]
    return [_comparison(*size) for size in [*sizes, ("all", sum(n for _, n, *_ in sizes), _all(theirs), _all(ours))]]


def _all(runs: FloatArray) -> FloatArray:
    """(rounds, sizes, 2) to (rounds, 2): one fit of every size, and the worst gradient."""
    return np.stack([runs[:, :, 0].sum(axis=1), runs[:, :, 1].max(axis=1)], axis=1)


def _comparison(classes: str, rows: int, theirs: FloatArray, ours: FloatArray) -> Comparison:
    ratios = tuple(float(ratio) for ratio in theirs[:, 0] / ours[:, 0])
    (their_ms, their_gradient), (our_ms, our_gradient) = np.median(theirs, axis=0), np.median(ours, axis=0)
    return Comparison(classes, rows, their_ms, our_ms, ratios, their_gradient, our_gradient)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when a size missed the target."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments[:1] == ["--child"]:
        print(json.dumps(child(arguments[1])))  # type: ignore[arg-type]
        return 0
    print(f"linear probe, d = {WIDTH}, CPU ms on one thread, target ratio >= {TARGET:g}")
    print("classes rows  scikit-learn  converged  ratio  spread  gradient (scikit-learn / converged)  verdict")
    rows = compare()
    for r in rows:
        print(
            f"{r.classes:>7} {r.rows:4d} {r.sklearn_ms:13.2f} {r.converged_ms:10.2f} {r.ratio:6.1f} {r.spread:6.0%}"
            f"  {r.sklearn_gradient:14.1e} / {r.converged_gradient:.1e}              {r.verdict}"
        )
    return int(any(r.verdict == "missed" for r in rows))


if __name__ == "__main__":
    sys.exit(main())
