"""What could be others: patients where they are known, else images, each with all its rows in all folds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.metrics import checked
from cxrbench.types import IntArray

FloatArray = NDArray[np.floating[Any]]
UnitKind = Literal["patient", "image"]


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """One fold's test rows: unit (n,) numbers the patient or image of each row, labels (n,), scores (n, C).

    A unit has the same number in every fold. Higher scores are likelier.
    """

    unit: IntArray
    labels: IntArray
    scores: FloatArray

    def __post_init__(self) -> None:
        checked(self.scores, self.labels)
        if self.unit.shape != self.labels.shape or self.unit.min() < 0:
            raise DataError(f"units {self.unit.shape} do not number the {len(self.labels)} rows from 0 on")

    @property
    def predictions(self) -> IntArray:
        """The class of the highest score (n,); the first of equal ones."""
        return self.scores.argmax(axis=1)


def check_same_classes(folds: Sequence[ScoredRows]) -> None:
    """Nothing, or DataError: no folds, or folds with different numbers of classes."""
    if len({fold.scores.shape[1] for fold in folds}) != 1:
        raise DataError("statistics need at least one fold, and the same classes in all of them")


def strata(folds: Sequence[ScoredRows]) -> IntArray:
    """The stratum (U,) of each unit: the class that most of its rows carry, the first of equal ones.

    A stratum of one unit shows no spread; such units join the largest stratum. A unit without a row has stratum -1.
    Raises DataError for folds that do not fit.
    """
    check_same_classes(folds)
    unit, labels = (np.concatenate([getattr(fold, name) for fold in folds]) for name in ("unit", "labels"))
    n_units, n_classes = int(unit.max()) + 1, folds[0].scores.shape[1]
    carried = np.bincount(unit * n_classes + labels, minlength=n_units * n_classes).reshape(n_units, n_classes)
    stratum = np.where(carried.any(axis=1), carried.argmax(axis=1), -1)
    sizes = np.bincount(stratum[stratum >= 0], minlength=n_classes)
    stratum[np.isin(stratum, np.flatnonzero(sizes == 1))] = sizes.argmax()
    return stratum


def shared_strata(parts: Sequence[IntArray], n_units: int) -> IntArray:
    """One stratum (n_units,) for each unit from those (up to n_units,) of several sets of rows, -1 where in none.

    Strata of different parts stay apart; a unit of two parts belongs to the first. One left alone in its stratum joins
    the largest.
    """
    stratum = np.full(n_units, -1, dtype=np.int64)
    first = 0
    for part in parts:
        own = np.full(n_units, -1, dtype=np.int64)
        own[: len(part)] = part
        new = (own >= 0) & (stratum < 0)
        stratum[new] = own[new] + first
        first += int(part.max(initial=-1)) + 1
    sizes = np.bincount(stratum[stratum >= 0])
    stratum[np.isin(stratum, np.flatnonzero(sizes == 1))] = sizes.argmax()
    return stratum


def class_units(folds: Sequence[ScoredRows]) -> IntArray:
    """How many units (C,) carry each class in the fold that has fewest of them."""
    check_same_classes(folds)
    n_classes = folds[0].scores.shape[1]
    pairs = [np.bincount(fold.unit * n_classes + fold.labels) > 0 for fold in folds]
    padded = [np.pad(found, (0, -len(found) % n_classes)).reshape(-1, n_classes) for found in pairs]
    return np.array([found.sum(axis=0) for found in padded]).min(axis=0)
