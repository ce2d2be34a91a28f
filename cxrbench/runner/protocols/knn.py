"""k nearest neighbours as a protocol, by DINO's votes."""

from collections.abc import Mapping

import numpy as np

from cxrbench.evaluate.vectors import Float64Array, FloatArray, cosine_blocks
from cxrbench.runner.few_shot import FewShot, FewShotFold, Scored
from cxrbench.specs.settings import Settings
from cxrbench.types import IntArray

TEMPERATURE = 0.07


def knn_votes(train: FloatArray, labels: IntArray, test: FloatArray, n_classes: int, k: int) -> Float64Array:
    """Votes (m, C) of the k training rows nearest by cosine, each exp(cosine / 0.07); k is at most the rows there are.

    Of rows that are equally near the first counts. Source: few-shot facts, section 7 (DINO).
    """
    member, found = (labels[:, None] == np.arange(n_classes)).astype(np.float64), np.empty((len(test), n_classes))
    for rows, near in cosine_blocks(test, train):
        votes = np.exp(near / TEMPERATURE)
        if k < len(labels):
            votes *= _nearest(near, k)
        found[rows] = votes @ member
    return found


def _nearest(near: Float64Array, k: int) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """Which k rows are nearest to each image, by cosines (m, n)."""
    last = near.shape[1] - k
    limit = np.partition(near, last, axis=1)[:, last, None]
    found = near >= limit
    for image in np.flatnonzero(found.sum(axis=1) > k):
        equal = np.flatnonzero(near[image] == limit[image])
        found[image, equal[k - (near[image] > limit[image]).sum() :]] = False
    return found


class _Knn(FewShot):
    """DINO's weighted k nearest neighbours; any number of images is scored, where DINO's loop needs a hundred."""

    kinds = ("single-label",)
    source = "DINO, Caron et al., ICCV 2021"
    k: int

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """Neighbours and temperature."""
        return {"k": self.k, "temperature": TEMPERATURE}

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Votes (m, C); a class without a training image has none."""
        return Scored(knn_votes(fold.train, fold.labels, fold.test, len(fold.classes), self.k))


class Knn10(_Knn):
    """The ten nearest vote."""

    name, k = "knn-10", 10


class Knn20(_Knn):
    """The twenty nearest vote."""

    name, k = "knn-20", 20


class Knn100(_Knn):
    """The hundred nearest vote."""

    name, k = "knn-100", 100


class Knn200(_Knn):
    """The two hundred nearest vote."""

    name, k = "knn-200", 200
