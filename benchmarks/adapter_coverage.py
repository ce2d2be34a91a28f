"""Coverage of the intervals of protocols that learn from K images, on features whose law is known.

`python -m benchmarks.adapter_coverage [--times N]` prints the table of docs/statistics.md: nearest neighbours and
SS-Text+ are fitted to drawn features themselves, fold by fold, and the interval of their balanced accuracy is held
against its value over all draws of training images and all test images. The class vectors of SS-Text+ are one wording,
the same in every simulation: what other words would do is in no interval, and `other words` counts how often it holds
the value of an equally good wording that it never saw.
"""

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

import numpy as np
from made_means import cell_of
from numpy.typing import NDArray

from benchmarks.coverage import holds, seeded, share, these_draws
from cxrbench.analysis.cell import measurement
from cxrbench.evaluate.cosine_head import cosine_logits
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.runner.protocols.knn import knn_votes
from cxrbench.runner.protocols.ss_text import ss_text_plus_weights

Array = NDArray[np.float64]
Scores = Callable[["Law", Array, NDArray[np.int64], Array], Array]
TRUE_DRAWS = 1500  # over which the truth is a mean, each judged on so many images of a class:
TRUE_IMAGES = 300


@dataclass(frozen=True)
class Law:
    """Unit features around class means; `train` images of each class and `test` ones, `folds` draws of the former.

    `pool`: training images are drawn from so many of each class, the same in every simulation; 0: from all there are.
    """

    train: tuple[int, ...]
    test: int
    scores: Scores
    folds: int = 5
    gain: float = 0.9
    scale: float = 100.0
    pool: int = 0
    words: int = 0
    dims: int = 32

    @cached_property
    def means(self) -> Array:
        return _unit(np.random.default_rng(1).normal(size=(len(self.train), self.dims)))

    @cached_property
    def texts(self) -> Array:
        """Class vectors (C, d) that point at their classes roughly, by a wording of its own."""
        rng = np.random.default_rng([2, self.words])
        return _unit(self.means + 0.9 * _unit(rng.normal(size=self.means.shape)))

    @cached_property
    def _pooled(self) -> Array:
        rng = np.random.default_rng(3)
        return np.stack([self._images(rng, c, self.pool) for c in range(len(self.train))])

    def _images(self, rng: np.random.Generator, c: int, n: int) -> Array:
        return _unit(self.gain * self.means[c] + rng.normal(size=(n, self.dims)) / np.sqrt(self.dims) * 2)

    def drawn(self, rng: np.random.Generator) -> tuple[Array, NDArray[np.int64]]:
        """One training set."""
        if self.pool:
            parts = [self._pooled[c][rng.choice(self.pool, n, replace=False)] for c, n in enumerate(self.train)]
        else:
            parts = [self._images(rng, c, n) for c, n in enumerate(self.train)]
        return np.concatenate(parts), np.repeat(np.arange(len(self.train)), self.train)

    def tested(self, rng: np.random.Generator, n: int) -> tuple[Array, NDArray[np.int64]]:
        """Test images, n of each class."""
        parts = [self._images(rng, c, n) for c in range(len(self.train))]
        return np.concatenate(parts), np.repeat(np.arange(len(self.train)), n)

    def folds_of(self, rng: np.random.Generator) -> list[ScoredRows]:
        """One simulation: every draw scored on the same test images."""
        images, labels = self.tested(rng, self.test)
        fits = (self.drawn(rng) for _ in range(self.folds))
        return [ScoredRows(np.arange(len(labels)), labels, self.scores(self, *fit, images)) for fit in fits]

    def truth(self) -> float:
        """Balanced accuracy over all draws and all images."""
        rng, found = np.random.default_rng(4), []
        for _ in range(TRUE_DRAWS):
            fit, (images, labels) = self.drawn(rng), self.tested(rng, TRUE_IMAGES)
            found.append((self.scores(self, *fit, images).argmax(axis=1) == labels).mean())  # equal classes
        return fmean(found)


def _unit(vectors: Array) -> Array:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def neighbours(law: Law, train: Array, labels: NDArray[np.int64], images: Array) -> Array:
    """kNN-20."""
    return knn_votes(train.astype(np.float32), labels, images.astype(np.float32), len(law.train), 20)


def with_texts(law: Law, train: Array, labels: NDArray[np.int64], images: Array) -> Array:
    """SS-Text+."""
    weights = ss_text_plus_weights(train, labels, law.texts, law.scale)
    return cosine_logits(images, weights, law.scale)


SKEWED = (8, 3, 2, 2, 1), (0, 2, 1, 1, 0)
LAWS: Mapping[str, Law] = {
    **{f"kNN-20, 5 x 100, K = {k}": Law((k,) * 5, 100, neighbours) for k in (1, 4, 16)},
    "kNN-20, 2 x 500, K = 4": Law((4, 4), 500, neighbours),
    "kNN-20, 5 x 100, K = 4 out of 60 of a class": Law((4,) * 5, 100, neighbours, pool=60),
    **{f"SS-Text+, 5 x 100, K = {k}": Law((k,) * 5, 100, with_texts) for k in (1, 4, 16)},
    "SS-Text+, 5 x 100, K = 4, scale 14.3": Law((4,) * 5, 100, with_texts, scale=14.3),
    "SS-Text+, 2 x 500, K = 4": Law((4, 4), 500, with_texts),
    "SS-Text+, 5 x 100, 20 draws of 8, 3, 2, 2, 1": Law(SKEWED[0], 100, with_texts, folds=20),
    "SS-Text+, 5 x 100, 20 draws that lack two classes": Law(SKEWED[1], 100, with_texts, folds=20),
    "SS-Text+, 5 x 100, K = 4 out of 60 of a class": Law((4,) * 5, 100, with_texts, pool=60),
}


def intervals(times: int) -> Iterator[Sequence[str]]:
    """Coverage of balanced accuracy where training draws vary."""
    yield (
        "law",
        "balanced accuracy",
        "these draws alone",
        "**ours, of other draws**",
        "other words",
        "mean width, points",
    )
    for name, law in LAWS.items():
        truth, found = law.truth(), []
        worded = law.scores is with_texts
        others = [replace(law, words=words).truth() for words in range(1, 6)] if worded else []
        for number, rng in enumerate(seeded(name, times)):
            told = measurement(cell_of("covid", law.folds_of(rng)), BALANCED_ACCURACY)
            ours, narrow = told.interval, these_draws(told).interval
            width = (ours.high or np.nan) - (ours.low or 0.0)
            other = holds(ours, others[number % len(others)]) if worded else False
            found.append((holds(narrow, truth), holds(ours, truth), other, width))
        *held, width = zip(*found, strict=True)
        told = [share(column) for column in held]
        yield name, f"{100 * truth:.1f}", *(told if worded else [*told[:2], "-"]), f"{100 * np.nanmean(width):.1f}"


def main() -> None:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--times", type=int, default=2000)
    rows = intervals(options.parse_args().times)
    head = next(rows)
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


if __name__ == "__main__":
    main()
