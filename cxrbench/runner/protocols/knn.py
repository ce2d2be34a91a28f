"""k nearest neighbours as a protocol, by DINO's votes."""

from collections.abc import Mapping

import numpy as np

from cxrbench.evaluate.vectors import ROWS, Float64Array, FloatArray, cosine_blocks32, cosines
from cxrbench.runner.few_shot import FewShot, FewShotFold, Scored
from cxrbench.specs.settings import Settings
from cxrbench.types import IntArray

TEMPERATURE = 0.07
UNCLEAR = 4e-6  # cosines in float32 that are farther apart are in their right order


def knn_votes(train: FloatArray, labels: IntArray, test: FloatArray, n_classes: int, k: int) -> Float64Array:
    """Votes (m, C) of the k training rows nearest by cosine, each exp(cosine / 0.07); k is at most the rows there are.

    Of rows that are equally near the first counts. Cosines are float32 products; where these leave open which rows are
    nearest, the image's are worked out anew in float64. Votes are float64. Source: few-shot facts, section 7 (DINO).
    """
    member, found = (labels[:, None] == np.arange(n_classes)).astype(np.float64), np.empty((len(test), n_classes))
    space, last, unclear = np.empty((ROWS, len(labels))), len(labels) - k, np.zeros(len(test), bool)
    for rows, near in cosine_blocks32(test, train):
        votes = np.divide(near, TEMPERATURE, out=space[: len(near)], dtype=np.float64)
        np.exp(votes, out=votes)
        if last > 0:
            nearest = near >= np.partition(near, last, axis=1)[:, last, None] - UNCLEAR
            unclear[rows] = np.count_nonzero(nearest, axis=1) > k
            votes *= nearest
        found[rows] = votes @ member
    if unclear.any():
        found[unclear] = _exact_votes(train, test[unclear], k) @ member
    return found


def _exact_votes(train: FloatArray, test: FloatArray, k: int) -> Float64Array:
    """The vote (m, n) of each training row for each image by cosines in float64, 0 where k others are nearer."""
    places = dict[bytes, int]()
    alike = [places.setdefault(row.tobytes(), place) for place, row in enumerate(train)]
    near = cosines(test, train)[:, alike]  # equal rows have equal cosines, wherever they stand in the product
    nearest = np.argsort(-near, axis=1, kind="stable")[:, :k]
    votes = np.zeros_like(near)
    np.put_along_axis(votes, nearest, np.exp(np.take_along_axis(near, nearest, axis=1) / TEMPERATURE), axis=1)
    return votes


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
