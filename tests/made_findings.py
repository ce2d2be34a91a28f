"""Scores of findings by a law whose areas are known: labels go together, patients have several images, draws vary."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from cxrbench.evaluate.findings import FindingRows, chosen_thresholds
from cxrbench.types import UNKNOWN

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FindingLaw:
    """So many patients with `images` each, findings of these `shares`, and models of a strength.

    A finding shows where a normal variable, which findings and images of a patient share in part (`together`, `alike`),
    is above its threshold. A score is normal with variance 1, its mean `strength` higher where the finding shows; what
    is left of it is shared by the findings of an image and the images of a patient, and in part drawn anew with each
    fold (`anew`), as is the strength itself (`moved`, a standard deviation).
    """

    shares: tuple[float, ...]
    patients: int
    strength: float = 1.2
    images: int = 1
    alike: float = 0.5
    together: float = 0.4
    folds: int = 5
    moved: float = 0.15
    anew: float = 0.3
    unknown: float = 0.0

    @property
    def unit(self) -> NDArray[np.int64]:
        """The patient of each image (n,)."""
        return np.repeat(np.arange(self.patients), self.images)

    def truth(self, more: float = 0.0) -> float:
        """Macro AUROC on all images, over draws, of a model that is stronger by so much."""
        return float(ndtr((self.strength + more) / np.sqrt(2) / np.sqrt(1 + self.moved**2 / 2)))

    def stronger(self, points: float) -> float:
        """By how much a model is stronger whose area is larger by so much."""
        return float(ndtri(self.truth() + points) * np.sqrt(2) * np.sqrt(1 + self.moved**2 / 2)) - self.strength

    def draw(self, rng: np.random.Generator, more: Sequence[float] = (0.0,)) -> list[list[FindingRows]]:
        """The folds of models that are stronger by so much, all on the same images; their noise is alike by half."""
        labels, seen = self._labels(rng), self._noise(rng)
        return [self._of_model(rng, labels, seen, own) for own in more]

    def _of_model(
        self, rng: np.random.Generator, labels: NDArray[np.int64], seen: FloatArray, more: float
    ) -> list[FindingRows]:
        own, folds = (seen + self._noise(rng)) / np.sqrt(2), []
        for _ in range(self.folds):
            noise = own if self.folds == 1 else np.sqrt(1 - self.anew) * own + np.sqrt(self.anew) * self._noise(rng)
            moved = self.moved * rng.normal(size=len(self.shares)) if self.folds > 1 or self.moved else 0.0
            scores = (self.strength + more + moved) * (labels == 1) + noise
            valid = rng.random(len(labels)) < 0.5
            folds.append(FindingRows(self.unit, labels, scores, chosen_thresholds(scores[valid], labels[valid])))
        return folds

    def _labels(self, rng: np.random.Generator) -> NDArray[np.int64]:
        labels = (self._noise(rng) < ndtri(np.array(self.shares))).astype(np.int64)
        return np.where(rng.random(labels.shape) < self.unknown, UNKNOWN, labels)

    def _noise(self, rng: np.random.Generator) -> FloatArray:
        """Normal of variance 1 (n, C), in part shared by the findings of an image and the images of a patient."""
        n, findings = self.patients * self.images, len(self.shares)
        both = [rng.normal(size=(size, findings)) for size in (self.patients, n)]
        shared = [rng.normal(size=(size, 1)) for size in (self.patients, n)]
        of_patient, of_image = (
            np.sqrt(self.together) * one + np.sqrt(1 - self.together) * each
            for one, each in zip(shared, both, strict=True)
        )
        if self.images == 1:
            return of_image
        return np.sqrt(self.alike) * of_patient[self.unit] + np.sqrt(1 - self.alike) * of_image
