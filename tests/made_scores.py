"""Predictions drawn from known laws, so that the true value of a metric is known."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC, Metric
from cxrbench.evaluate.metrics import fold_metrics, one_vs_rest_auroc
from cxrbench.evaluate.statistics.shares import ScoredRows

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator], list[ScoredRows]]


@dataclass(frozen=True)
class Law:
    """A way of drawing a cell's folds, and the true mean over folds of its metric."""

    draw: Draw
    truth: float


def recalls(sizes: Sequence[int], chances: Sequence[float]) -> Law:
    """One fold of independent images, class c right with its chance: balanced accuracy is their mean."""
    labels, likely = np.repeat(np.arange(len(sizes)), sizes), np.asarray(chances)

    def draw(rng: np.random.Generator) -> list[ScoredRows]:
        return [judged(labels, rng.random(len(labels)) < likely[labels], len(sizes))]

    return Law(draw, float(likely.mean()))


def judged(labels: NDArray[np.int64], right: NDArray[np.bool_], classes: int) -> ScoredRows:
    """A fold whose images are given their own class where they are right, else the next."""
    return ScoredRows(np.arange(len(labels)), labels, np.eye(classes)[np.where(right, labels, (labels + 1) % classes)])


def two_normals(positive: int, negative: int, area: float) -> Law:
    """One fold of independent images of two classes whose scores are normal: the area is known exactly."""
    labels = np.repeat([0, 1], [negative, positive])

    def draw(rng: np.random.Generator) -> list[ScoredRows]:
        scores = rng.normal(size=len(labels)) + labels * norm.ppf(area) * np.sqrt(2)
        return [ScoredRows(np.arange(len(labels)), labels, np.stack([-scores, scores], axis=1))]

    return Law(draw, area)


def many_normals(sizes: Sequence[int], area: float) -> Law:
    """One fold of independent images of many classes, the score of its own class higher: each has this area."""
    labels = np.repeat(np.arange(len(sizes)), sizes)
    gain = norm.ppf(area) * np.sqrt(2) * np.eye(len(sizes))[labels]

    def draw(rng: np.random.Generator) -> list[ScoredRows]:
        return [ScoredRows(np.arange(len(labels)), labels, rng.normal(size=gain.shape) + gain)]

    return Law(draw, area)


@dataclass(frozen=True)
class Probes:
    """Probes of normal features by the nearest mean: each fold is fitted to `shots` drawn images of each class.

    Class means lie at `gain` on axes of their own, features have deviation 1 around them. `sizes` counts the test
    patients of each class, with `images` each whose features are correlated by `alike`. With a `pool` each fold tests
    other images, `sizes` of the pool's of each class, and is fitted to some of the rest. Of two encoders of the same
    images `common` of the variance is the same.
    """

    sizes: tuple[int, ...]
    shots: float
    dims: int = 16
    gain: float = 1.5
    folds: int = 5
    pool: int = 0
    images: int = 1
    alike: float = 0.0
    common: float = 0.5

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of all images."""
        counts = [self.pool] * len(self.sizes) if self.pool else [n * self.images for n in self.sizes]
        return np.repeat(np.arange(len(self.sizes)), counts)

    def means(self, gain: float) -> Array:
        """Of the classes (C, D)."""
        return gain * np.eye(len(self.sizes), self.dims)

    def draw(self, rng: np.random.Generator, gains: Sequence[float] = ()) -> list[tuple[list[ScoredRows], Array]]:
        """For each gain an encoder's folds over the same images, and its probes (F, C, D); one as the law says."""
        labels = self.labels
        alone, gains = len(gains) < 2, gains or (self.gain,)
        shape = (self.folds, len(self.sizes), self.dims)
        images, fits = self._noise(rng, len(labels)), rng.normal(size=shape)
        parts = [self._parts(rng) for _ in range(self.folds)] if self.pool else []
        found = []
        for gain in gains:
            own, fitted = images, fits
            if not alone:
                own = self._mixed(images, self._noise(rng, len(labels)))
                fitted = self._mixed(fits, rng.normal(size=shape))
            features = self.means(gain)[labels] + own
            probes = self.means(gain) + fitted / np.sqrt(self.shots)
            if self.pool:
                probes = np.stack([features[train].mean(axis=1) for train, _ in parts])
            rows = [test for _, test in parts] or [np.arange(len(labels))] * self.folds
            unit = np.arange(len(labels)) // self.images
            folds = [
                ScoredRows(unit[test], labels[test], scores(features[test], probe))
                for test, probe in zip(rows, probes, strict=True)
            ]
            found.append((folds, probes))
        return found

    def _mixed(self, shared: Array, own: Array) -> Array:
        return np.sqrt(self.common) * shared + np.sqrt(1 - self.common) * own

    def _noise(self, rng: np.random.Generator, rows: int) -> Array:
        alone = rng.normal(size=(rows, self.dims))
        if not self.alike:
            return alone
        patient = rng.normal(size=(rows // self.images, self.dims)).repeat(self.images, axis=0)
        return np.sqrt(self.alike) * patient + np.sqrt(1 - self.alike) * alone

    def _parts(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The training rows (C, K) and test rows (n,) of a fold drawn from the pool."""
        order = [rng.permutation(self.pool) + c * self.pool for c in range(len(self.sizes))]
        test = np.concatenate([own[:n] for own, n in zip(order, self.sizes, strict=True)])
        train = np.stack([own[n : n + int(self.shots)] for own, n in zip(order, self.sizes, strict=True)])
        return train, test

    def worth(self, metric: Metric, probes: Array, rng: np.random.Generator, rows: int = 0, gain: float = 0) -> Array:
        """What a metric of each probe (F, C, D) is on other images: of two classes exactly, else on so many rows."""
        means = self.means(gain or self.gain)
        if len(self.sizes) == 2 and metric in (BALANCED_ACCURACY, MACRO_AUROC):
            return _exact(metric, probes, means)
        times = max(1, round(rows / sum(self.sizes)))
        labels = np.repeat(np.arange(len(self.sizes)), [n * times for n in self.sizes])
        if metric is BALANCED_ACCURACY:
            labels = np.repeat(np.arange(len(self.sizes)), max(1, round(rows / len(self.sizes))))
        features = means[labels] + rng.normal(size=(len(labels), self.dims))
        return np.array([_worth(metric, scores(features, probe), labels) for probe in probes])

    @lru_cache  # noqa: B019 (laws are few)
    def truth(self, metric: Metric, gain: float = 0) -> float:
        """The mean over draws of the probe and of the images; exact to some thousandths of its interval's width."""
        rng, gain = np.random.default_rng(5), gain or self.gain
        many, rows = (200_000, 0) if len(self.sizes) == 2 else (2_000, 1_000)
        if metric not in (BALANCED_ACCURACY, MACRO_AUROC):
            many, rows = 300, 20_000  # what is no mean over images is not the same on few
        found = []
        for _ in range(many if rows else 1):
            probes = rng.normal(size=(1 if rows else many, len(self.sizes), self.dims)) / np.sqrt(self.shots)
            found.append(self.worth(metric, probes + self.means(gain), rng, rows, gain).mean())
        return float(np.mean(found))


def _worth(metric: Metric, given: Array, labels: NDArray[np.int64]) -> float:
    if metric is BALANCED_ACCURACY:
        right = given.argmax(axis=1) == labels
        return float((np.bincount(labels, right) / np.bincount(labels)).mean())
    if metric is MACRO_AUROC:
        return float(one_vs_rest_auroc(given, labels).mean())
    return float(getattr(fold_metrics(given, labels), metric.name))


def scores(features: Array, probe: Array) -> Array:
    """Log-probabilities (N, C), or of two classes log-odds, of features (N, D) by means (C, D) of normal laws."""
    raw = features @ probe.T - (probe**2).sum(axis=1) / 2
    if len(probe) == 2:
        return raw - raw[:, ::-1]  # which orders images and classes alike
    return np.asarray(raw - np.logaddexp.reduce(raw, axis=1, keepdims=True))


def _exact(metric: Metric, probes: Array, means: Array) -> Array:
    way = probes[:, 1] - probes[:, 0]
    length = np.sqrt((way**2).sum(axis=1))
    if metric is MACRO_AUROC:
        return np.asarray(norm.cdf(way @ (means[1] - means[0]) / (np.sqrt(2) * length)))
    middle = ((probes[:, 1] ** 2).sum(axis=1) - (probes[:, 0] ** 2).sum(axis=1)) / 2
    high, low = (way @ means[1] - middle) / length, (way @ means[0] - middle) / length
    return np.asarray((norm.cdf(high) + norm.cdf(-low)) / 2)


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
        image: Array,
    ) -> ScoredRows:
        rows = np.sort(rng.permutation(len(labels))[: round(self.share * len(labels))])
        noise = 0.7 * rng.normal(size=(len(rows), self.classes)) if self.folds > 1 else 0
        return ScoredRows(patient[rows], labels[rows], image[rows] + noise)

    def law(self, metric: Metric, patients: int = 60_000) -> Law:
        """The truth from so many patients, one fold of all their images; its own error is below 0.002."""
        many = Wards(patients, self.classes, self.gain, self.effect, self.folds).draw(np.random.default_rng(7))[0]
        return Law(self.draw, getattr(fold_metrics(many.scores, many.labels), metric.name))


def pair_under_null(patients: int, images: int, rng: np.random.Generator) -> tuple[list[ScoredRows], list[ScoredRows]]:
    """Two models of equal worth on the same three-class images, alike in what they see and in what they miss."""
    patient = np.repeat(np.arange(patients), images)
    labels = rng.integers(0, 3, len(patient))
    seen = rng.normal(size=(len(patient), 3)) + 1.2 * np.eye(3)[labels]

    def model() -> list[ScoredRows]:
        habit = 0.8 * rng.normal(size=(patients, 3))[patient]
        return [ScoredRows(patient, labels, seen + habit + 0.5 * rng.normal(size=seen.shape))]

    return model(), model()
