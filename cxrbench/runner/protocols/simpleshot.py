"""The nearest class mean as a protocol: SimpleShot with each of its three normalisations."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from cxrbench.errors import FewRowsError
from cxrbench.evaluate.vectors import Float64Array, FloatArray, products, sums_by_class, unit
from cxrbench.runner.few_shot import FewShot, FewShotFold, Scored
from cxrbench.specs.settings import Settings
from cxrbench.types import IntArray

Normalisation = Literal["none", "unit", "centred unit"]


def mean_distances(
    train: FloatArray, labels: IntArray, test: FloatArray, n_classes: int, how: Normalisation, centre: FloatArray
) -> Float64Array:
    """Euclidean distances (m, C) of images to class means, which are not brought to unit length again.

    `none` (UN) takes features as they come, `unit` (L2N) at unit length, `centred unit` (CL2N) minus the `centre` (d,)
    first. Raises FewRowsError for a class without a training row. Source: few-shot facts, section 7 (SimpleShot).
    """
    counts = np.bincount(labels, minlength=n_classes)
    if lost := np.flatnonzero(counts == 0).tolist():
        raise FewRowsError(lost, "has no training image, so there is no mean to be near")
    shift = centre.astype(np.float64) if how == "centred unit" else np.zeros(train.shape[1])
    rows = train.astype(np.float64) - shift
    means = sums_by_class(rows if how == "none" else unit(rows), labels, n_classes) / counts[:, None]
    with_means, size = products(test, np.vstack([means, shift]))
    across = with_means[:, :-1] - means @ shift  # (x - shift) . mean
    square = size**2 - 2 * with_means[:, -1] + shift @ shift
    if how != "none":
        across /= np.sqrt(np.where(square > 0, square, 1.0))[:, None]
        square = np.sign(square)
    found = square[:, None] - 2 * across + np.einsum("ij,ij->i", means, means)
    return np.sqrt(np.maximum(found, 0.0))


class _SimpleShot(FewShot):
    """The class whose mean is nearest; scores are distances with their sign turned."""

    kinds = ("single-label",)
    source = "SimpleShot, Wang et al., 2019"
    how: Normalisation

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """The normalisation; the authors' centre is of base classes, which there are none of here."""
        centre = {"centre": "mean of the drawn training features"} if self.how == "centred unit" else {}
        return {"normalisation": self.how, **centre}

    def score_fold(self, fold: FewShotFold, settings: Settings) -> Scored:
        """Distances (m, C), negative."""
        centre = fold.train.mean(axis=0, dtype=np.float64)
        found = mean_distances(fold.train, fold.labels, fold.test, len(fold.classes), self.how, centre)
        return Scored(-found)


class SimpleShotUN(_SimpleShot):
    """Features as they come."""

    name, how = "simpleshot-un", "none"


class SimpleShotL2N(_SimpleShot):
    """Features at unit length."""

    name, how = "simpleshot-l2n", "unit"


class SimpleShotCL2N(_SimpleShot):
    """Features minus the mean of the drawn training features, at unit length."""

    name, how = "simpleshot-cl2n", "centred unit"
