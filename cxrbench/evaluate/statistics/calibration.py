"""Whether probabilities can be taken at their word."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.findings import checked as checked_findings
from cxrbench.evaluate.metrics import checked
from cxrbench.types import UNKNOWN, IntArray

FloatArray = NDArray[np.floating[Any]]
ScoreKind = Literal["probabilities", "logits"]

N_BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Rows whose highest probability lies in a bin: from (exclusive) and to (inclusive), and how many are right."""

    low: float
    high: float
    rows: int
    confidence: float  # mean highest probability
    accuracy: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """Expected calibration errors and Brier score, all 0 at best; reliability curves without their empty bins.

    `ece` is over 15 bins of equal width, `adaptive_ece` over 15 of equal numbers of rows, both of the predicted class;
    `brier` is the squared distance of the probabilities from the truth, summed over classes (0 to 2).
    """

    ece: float
    adaptive_ece: float
    brier: float
    rows: int
    reliability: tuple[ReliabilityBin, ...]
    adaptive_reliability: tuple[ReliabilityBin, ...]


def probabilities(scores: FloatArray, kind: ScoreKind) -> NDArray[np.float64]:
    """Class probabilities (N, C) float64: logits through softmax, probabilities as they are.

    Raises DataError for probabilities that are not: outside 0..1, or rows that do not sum to 1 within 1e-4.
    """
    exact = scores.astype(np.float64)
    if kind == "logits":
        from scipy.special import softmax

        return softmax(exact, axis=1)
    if exact.min() < 0 or exact.max() > 1 or np.abs(exact.sum(axis=1) - 1).max() > 1e-4:
        raise DataError("these scores are no probabilities: rows must lie in 0..1 and sum to 1")
    return exact


def calibration(probabilities: FloatArray, labels: IntArray, n_bins: int = N_BINS) -> Calibration:
    """Calibration of probabilities (N, C) against labels (N,). Raises DataError as `fold_metrics` does.

    Source: Naeini 2015 and Guo 2017 (equal width), Nixon 2019 (equal mass), Brier 1950.
    """
    checked(probabilities, labels)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    even = _bins(confidence, right, np.linspace(0, 1, n_bins + 1))
    mass = _bins(confidence, right, _equal_mass(confidence, n_bins))
    truth = np.eye(probabilities.shape[1])[labels]
    return Calibration(
        ece=_gap(even),
        adaptive_ece=_gap(mass),
        brier=float(((probabilities - truth) ** 2).sum(axis=1).mean()),
        rows=len(labels),
        reliability=even,
        adaptive_reliability=mass,
    )


def calibration_of_findings(probabilities: FloatArray, labels: IntArray, n_bins: int = N_BINS) -> Calibration:
    """Calibration of each finding's own probability, all known cells of (N, C) together; labels are 1, 0 and UNKNOWN.

    Bins are over the probability that a finding is there, and `accuracy` is how often it is; `brier` is the mean of
    (p - truth)^2 over cells (0 to 1). Raises DataError as `finding_metrics` does.
    """
    checked_findings(probabilities, labels)
    known = labels != UNKNOWN
    told, truth = probabilities[known].astype(np.float64), labels[known] == 1
    even = _bins(told, truth, np.linspace(0, 1, n_bins + 1))
    mass = _bins(told, truth, _equal_mass(told, n_bins))
    return Calibration(_gap(even), _gap(mass), float(((told - truth) ** 2).mean()), len(told), even, mass)


def probabilities_of_findings(scores: FloatArray, kind: ScoreKind) -> NDArray[np.float64]:
    """The probability of each finding (N, C) float64: logits through the logistic function, probabilities as they are.

    Raises DataError for probabilities outside 0..1.
    """
    from scipy.special import expit

    exact: NDArray[np.float64] = expit(scores.astype(np.float64)) if kind == "logits" else scores.astype(np.float64)
    if exact.min() < 0 or exact.max() > 1:
        raise DataError("these scores are no probabilities: they must lie in 0..1")
    return exact


def _equal_mass(confidence: FloatArray, n_bins: int) -> FloatArray:
    """Edges between which equally many rows lie, as far as ties let them; the first lies below all of them."""
    edges = np.quantile(confidence, np.linspace(0, 1, n_bins + 1), method="inverted_cdf")
    return np.unique(np.concatenate([[0.0], edges[1:]]))


def _bins(confidence: FloatArray, right: NDArray[np.bool_], edges: FloatArray) -> tuple[ReliabilityBin, ...]:
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, len(edges) - 2)
    found = []
    for number in np.unique(place):
        inside = place == number
        means = float(confidence[inside].mean()), float(right[inside].mean())
        found.append(ReliabilityBin(float(edges[number]), float(edges[number + 1]), int(inside.sum()), *means))
    return tuple(found)


def _gap(bins: tuple[ReliabilityBin, ...]) -> float:
    rows = sum(b.rows for b in bins)
    return sum(b.rows * abs(b.confidence - b.accuracy) for b in bins) / rows
