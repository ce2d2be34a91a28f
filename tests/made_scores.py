"""Predictions drawn from known laws, so that the true value of a metric is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.evaluate.statistics.units import ScoredRows

Draw = Callable[[np.random.Generator], list[ScoredRows]]


@dataclass(frozen=True)
class Law:
    """A way of drawing a cell's folds, and the true mean over folds of its metric."""

    draw: Draw
    truth: float


def recalls(per_class: int, chances: NDArray[np.float64]) -> Law:
    """One fold of independent images, class c right with its chance: balanced accuracy is their mean."""
    labels = np.repeat(np.arange(len(chances)), per_class)

    def draw(rng: np.random.Generator) -> list[ScoredRows]:
        right = rng.random(len(labels)) < chances[labels]
        elsewhere = (labels + rng.integers(1, len(chances), len(labels))) % len(chances)
        scores = np.eye(len(chances))[np.where(right, labels, elsewhere)]
        return [ScoredRows(np.arange(len(labels)), labels, scores)]

    return Law(draw, float(chances.mean()))


def two_normals(positive: int, negative: int, area: float) -> Law:
    """One fold of independent images of two classes whose scores are normal: the area is known exactly."""
    labels = np.repeat([0, 1], [negative, positive])

    def draw(rng: np.random.Generator) -> list[ScoredRows]:
        scores = rng.normal(size=len(labels)) + labels * norm.ppf(area) * np.sqrt(2)
        return [ScoredRows(np.arange(len(labels)), labels, np.stack([-scores, scores], axis=1))]

    return Law(draw, area)


@dataclass(frozen=True)
class Wards:
    """Patients with several images of mixed classes; each has an effect of its own on every class's score."""

    patients: int
    classes: int
    gain: float = 1.5  # of the true class
    effect: float = 1.0  # standard deviation of a patient's effect; of an image's noise it is 1
    folds: int = 1
    share: float = 1.0  # of the images that each fold tests

    def draw(self, rng: np.random.Generator) -> list[ScoredRows]:
        """Folds over the same images, or drawn parts of them, with noise of their own."""
        patient = np.repeat(np.arange(self.patients), 1 + rng.poisson(3, self.patients))
        mostly = rng.integers(0, self.classes, self.patients)[patient]
        other = rng.integers(0, self.classes, len(patient))
        labels = np.where(rng.random(len(patient)) < 0.7, mostly, other)
        image = rng.normal(size=(len(patient), self.classes))
        image += self.effect * rng.normal(size=(self.patients, self.classes))[patient]
        image[np.arange(len(patient)), labels] += self.gain
        return [self._fold(rng, patient, labels, image) for _ in range(self.folds)]

    def _fold(
        self,
        rng: np.random.Generator,
        patient: NDArray[np.int64],
        labels: NDArray[np.int64],
        image: NDArray[np.float64],
    ) -> ScoredRows:
        rows = np.sort(rng.permutation(len(labels))[: round(self.share * len(labels))])
        noise = 0.7 * rng.normal(size=(len(rows), self.classes)) if self.folds > 1 else 0
        return ScoredRows(patient[rows], labels[rows], image[rows] + noise)

    def law(self, metric: str, patients: int = 60_000) -> Law:
        """The truth from so many patients, one fold of all their images; its own error is below 0.002."""
        many = Wards(patients, self.classes, self.gain, self.effect, self.folds).draw(np.random.default_rng(7))[0]
        return Law(self.draw, getattr(fold_metrics(many.scores, many.labels), metric))


def pair_under_null(patients: int, images: int, rng: np.random.Generator) -> tuple[list[ScoredRows], list[ScoredRows]]:
    """Two models of equal worth on the same three-class images, alike in what they see and in what they miss."""
    patient = np.repeat(np.arange(patients), images)
    labels = rng.integers(0, 3, len(patient))
    seen = rng.normal(size=(len(patient), 3)) + 1.2 * np.eye(3)[labels]

    def model() -> list[ScoredRows]:
        habit = 0.8 * rng.normal(size=(patients, 3))[patient]
        return [ScoredRows(patient, labels, seen + habit + 0.5 * rng.normal(size=seen.shape))]

    return model(), model()
