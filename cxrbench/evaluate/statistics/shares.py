"""What each patient or image adds to the error of a number: to first order, every metric is a sum of such shares."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.metrics import checked
from cxrbench.evaluate.statistics.estimate import Component
from cxrbench.types import IntArray

ScoreArray = NDArray[np.floating[Any]]
UnitKind = Literal["patient", "image", "text"]


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """One fold's test rows: unit (n,) numbers the patient or image of each row, labels (n,), scores (n, C).

    A unit has the same number in every fold. Higher scores are likelier.
    """

    unit: IntArray
    labels: IntArray
    scores: ScoreArray

    def __post_init__(self) -> None:
        checked(self.scores, self.labels)
        if self.unit.shape != self.labels.shape or self.unit.min() < 0:
            raise DataError(f"units {self.unit.shape} do not number the {len(self.labels)} rows from 0 on")
        for name in ("unit", "labels", "scores"):  # a metric that writes into them would spoil those after it
            held = getattr(self, name).view()
            held.setflags(write=False)
            object.__setattr__(self, name, held)

    def at(self, rows: IntArray | NDArray[np.bool_]) -> "ScoredRows":
        """Some of the rows."""
        return ScoredRows(self.unit[rows], self.labels[rows], self.scores[rows])

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


FloatArray = NDArray[np.float64]
FEW = 10  # units of a class, below which what it adds to a number is hardly known
Worth = Callable[[ScoredRows], FloatArray]  # of a fold: what a right row of each class (C,) adds to its number


@dataclass(frozen=True, slots=True)
class Shares:
    """A number's value in each fold (F,), the shares (U,) of units in strata (U,), and what sparse classes add.

    Values are NaN in a fold where the number is not defined. `alone` are the shares (F, U) of each fold's value.
    `shift` is how far the number moves with one right and one wrong unit more in the classes that have a floor.
    `counted` is there for numbers that are weighted counts of right rows: the floors of their differences come from it.
    `floored` says that sparse classes were looked at, and got a floor where they need one. `freedom` is that of the
    spread where strata do not tell it.
    """

    values: FloatArray
    each: FloatArray
    alone: FloatArray
    stratum: IntArray
    floors: tuple[Component, ...] = ()
    shift: float = 0.0
    counted: "Counted | None" = None
    floored: bool = False
    freedom: float | None = None

    @property
    def value(self) -> float:
        """The mean over folds, NaN where one of them has no value."""
        return float(self.values.mean())

    @property
    def units(self) -> int:
        """How many units have a row."""
        return int((self.stratum >= 0).sum())

    @property
    def spread(self) -> tuple[Component, ...]:
        """The parts of the variance over units."""
        return (*self.over_units(1.0), *self.floors)

    def over_units(self, weight: float) -> tuple[Component, ...]:
        """The same of the number times a weight, without floors."""
        found = within(weight * self.each, self.stratum)
        return found if self.freedom is None else tuple(Component(one.variance, self.freedom) for one in found)

    @property
    def twice(self) -> float:
        """The variance that both the spread over units and that over folds hold: what units add to one fold alone.

        Nothing for one fold; all that units add where no unit is in two folds.
        """
        if len(self.alone) < 2:
            return 0.0
        mean = variance(self.alone.mean(axis=0), self.stratum)
        one = sum(variance(fold, self.stratum) for fold in self.alone) / len(self.alone)
        return max(0.0, one - mean) / (len(self.alone) - 1)

    def minus(self, other: "Shares") -> "Shares":
        """The same of the difference from another model's number over the same units, classes and rows.

        Raises DataError where these are others. Of two numbers that are no counts, both bring their floors of classes
        with fewer than `FEW` units.
        """
        if not np.array_equal(self.stratum, other.stratum):
            raise DataError("the two models score other units, or units of other classes: they cannot be paired")
        values, alone = _paired(self.values, other.values), self.alone - other.alone
        if self.counted is None or other.counted is None:
            floors = (floor for floor in (*self.floors, *other.floors) if floor.freedom <= FEW)
            known = None if self.freedom is None or other.freedom is None else min(self.freedom, other.freedom)
            return Shares(values, self.each - other.each, alone, self.stratum, tuple(floors), freedom=known)
        right = self.counted.right - other.counted.right
        return _of_counts(Counted(right, self.counted.rows), values, alone, self.stratum, symmetric=True)


def _paired(one: FloatArray, two: FloatArray) -> FloatArray:
    """Differences fold by fold; a single number stands against each of the others."""
    if len(one) != len(two) and min(len(one), len(two)) > 1:
        raise DataError(f"one model has {len(one)} folds, the other {len(two)}: their draws cannot be paired")
    return one - two


def within(shares: FloatArray, stratum: IntArray) -> tuple[Component, ...]:
    """What each stratum (U,) adds to the variance of the sum of all shares (U,); units of stratum -1 have none."""
    own = stratum >= 0
    number, share = stratum[own], shares[own]
    sizes = np.bincount(number)
    means = np.bincount(number, share) / np.maximum(sizes, 1)
    squares = np.bincount(number, (share - means[number]) ** 2)
    known = sizes > 1
    variances = squares[known] * sizes[known] / (sizes[known] - 1)
    return tuple(Component(float(v), int(n) - 1) for v, n in zip(variances, sizes[known], strict=True))


def variance(shares: FloatArray, stratum: IntArray) -> float:
    """The variance of the sum of all shares (U,)."""
    return sum(part.variance for part in within(shares, stratum))


def hits(folds: Sequence[ScoredRows], worth: Worth) -> Shares:
    """The shares of a number that is a weighted count of right rows, such as a mean of recalls.

    Raises DataError for folds that do not fit together.
    """
    stratum, n_classes = strata(folds), folds[0].scores.shape[1]
    size = len(stratum) * n_classes
    right, rows, values, alone = np.zeros(size), np.zeros(size), [], []
    for fold in folds:
        each = worth(fold)
        place, own = fold.unit * n_classes + fold.labels, each[fold.labels] / len(folds)
        hit = fold.predictions == fold.labels
        rows += np.bincount(place, own, size)
        right += np.bincount(place[hit], own[hit], size)
        found = np.bincount(fold.labels[hit], minlength=n_classes)  # by class, so that equal recalls give equal numbers
        values.append(float(each @ found) if np.isfinite(each).all() else np.nan)
        recall = found / np.maximum(np.bincount(fold.labels, minlength=n_classes), 1)
        alone.append(np.bincount(fold.unit, (hit - recall[fold.labels]) * each[fold.labels], len(stratum)))
    counted = Counted(right.reshape(-1, n_classes), rows.reshape(-1, n_classes))
    return _of_counts(counted, np.array(values), np.array(alone), stratum, symmetric=False)


def means(folds: Sequence[tuple[IntArray, FloatArray]]) -> Shares:
    """The shares of a mean over rows, from the units (n,) and the worth (n,), 0 to 1, of each row of each fold.

    All units are of one stratum. Sparse worths have the floor of a share of right rows.
    """
    n_units = 1 + max(int(unit.max()) for unit, _ in folds)
    right, rows, values, alone = np.zeros((n_units, 1)), np.zeros((n_units, 1)), [], []
    for unit, worth in folds:
        n = len(worth)
        right[:, 0] += np.bincount(unit, worth, n_units) / (n * len(folds))
        rows[:, 0] += np.bincount(unit, minlength=n_units) / (n * len(folds))
        values.append(float(worth.mean()))
        alone.append(np.bincount(unit, worth - values[-1], n_units) / n)
    stratum = np.where(rows[:, 0] > 0, 0, -1)
    return _of_counts(Counted(right, rows), np.array(values), np.array(alone), stratum, symmetric=False)


def balanced(fold: ScoredRows) -> FloatArray:
    """The worth of a right row in balanced accuracy; infinite for a class without a row."""
    n_classes = fold.scores.shape[1]
    with np.errstate(divide="ignore"):
        return 1 / (n_classes * np.bincount(fold.labels, minlength=n_classes))


def alike(fold: ScoredRows) -> FloatArray:
    """The worth of a right row in accuracy, whatever its class."""
    return np.full(fold.scores.shape[1], 1 / len(fold.labels))


@dataclass(frozen=True, slots=True)
class Counted:
    """What the right rows, and all rows, of each unit in each class are worth (U, C), summed over folds."""

    right: FloatArray
    rows: FloatArray


def _of_counts(
    counted: Counted, values: FloatArray, alone: FloatArray, stratum: IntArray, *, symmetric: bool
) -> Shares:
    """Shares with each class centred at its own mean; `symmetric` for a difference."""
    met = counted.rows.any(axis=0)
    right, rows = counted.right[:, met], counted.rows[:, met]
    total, units = rows.sum(axis=0), (rows > 0).sum(axis=0)
    mean = right.sum(axis=0) / total
    each = right - mean * rows
    own = (each**2).sum(axis=0) * units / np.maximum(units - 1, 1) * (units > 1)
    floor, centre = _floor(right / total, rows / total, units, symmetric=symmetric)
    extra = np.maximum(total**2 * floor - own, 0)
    floors = tuple(Component(float(v), int(n) + 1) for v, n in zip(extra, units, strict=True) if v > 0)
    shift = float((total * (centre - mean))[extra > 0].sum())
    return Shares(values, each.sum(axis=1), alone, stratum, floors, shift, counted, floored=True)


def _floor(right: FloatArray, rows: FloatArray, units: IntArray, *, symmetric: bool) -> tuple[FloatArray, FloatArray]:
    """The variance of each class's mean with one right and one wrong unit more, and this mean (C,).

    Of a difference (`symmetric`) these are half a unit for either model and one for none. Source: Agresti and Caffo
    2000; Agresti and Min 2005.
    """
    more, mean = units + 2, right.sum(axis=0)
    centre = units * mean / more if symmetric else (units * mean + 1) / more
    old = (units / more) ** 2 * ((right - centre * rows) ** 2).sum(axis=0)
    new = (1 + 2 * centre**2 if symmetric else (1 - centre) ** 2 + centre**2) / more**2
    return more / (more + 1) * (old + new), centre


def areas(folds: Sequence[ScoredRows]) -> Shares:
    """The shares of macro AUROC, one class against the rest. Raises DataError for folds that do not fit together.

    Source: DeLong 1988, Obuchowski 1997; floors: Hanley and McNeil 1982, for normal scores.
    """
    stratum = strata(folds)
    n_units, n_classes = len(stratum), folds[0].scores.shape[1]
    alone, values = np.zeros((len(folds), n_units)), np.zeros(len(folds))
    floors, shift = list[Component](), 0.0
    for number in range(n_classes):
        own = [fold.labels == number for fold in folds]
        areas, rows = zip(
            *(area_with_rows(f.scores[:, number], o) for f, o in zip(folds, own, strict=True)), strict=True
        )
        added: FloatArray = np.array([np.bincount(f.unit, row, n_units) for f, row in zip(folds, rows, strict=True)])
        area = float(np.mean(areas))
        values += np.array(areas) / n_classes
        alone += added / n_classes
        found = variance(added.mean(axis=0), stratum)
        one, rest = (min(_met(f.unit[side(o)]) for f, o in zip(folds, own, strict=True)) for side in _SIDES)
        if min(one, rest) < FEW:  # whose units do not show how far their rows agree: each counts as one row
            counts, single = (one, rest), [variance(row, stratum) for row in added]
        else:
            counts = (min(int(o.sum()) for o in own), min(int((~o).sum()) for o in own))
            single = [variance(row, fold.labels) for fold, row in zip(folds, rows, strict=True)]
        floor, centre = area_floor(area, *counts)
        floor *= found / float(np.mean(single)) if any(single) else 1.0  # rows of a unit agree as far as they do
        if floor > found:
            floors.append(Component((floor - found) / n_classes**2, min(one, rest) + 1))
            shift += (centre - area) / n_classes
    return Shares(values, alone.mean(axis=0), alone, stratum, tuple(floors), shift, floored=True)


_SIDES: tuple[Callable[[NDArray[np.bool_]], NDArray[np.bool_]], ...] = (lambda own: own, np.logical_not)


def _met(units: IntArray) -> int:
    return int(np.count_nonzero(np.bincount(units)))


def area_floor(area: float, one: int, rest: int) -> tuple[float, float]:
    """The variance of an area with one unit more on either side, at chance, and that area; of normal scores.

    The law of exponential scores, which Hanley and McNeil put here, is half as large again for a rare class.
    """
    from scipy.special import ndtri, owens_t

    centre = (one * rest * area + (one + rest + 1) / 2) / ((one + 1) * (rest + 1))
    both = centre - 2 * float(owens_t(ndtri(centre), 1 / math.sqrt(3)))  # that two of one side stand right of one
    shared = both - centre**2
    return (centre * (1 - centre) + (one + rest) * shared) / ((one + 1) * (rest + 1)), centre


def area_with_rows(raw: NDArray[Any], own: NDArray[np.bool_]) -> tuple[float, FloatArray]:
    """The area of one class against the rest, and what each row (n,) adds to its error; NaN where either is absent."""
    if own.all() or not own.any():
        return np.nan, np.full(len(own), np.nan)
    scores = raw.astype(np.float64)
    one, rest = np.sort(scores[own]), np.sort(scores[~own])
    below = (np.searchsorted(rest, scores[own], "left") + np.searchsorted(rest, scores[own], "right")) / 2
    above = len(one) - (np.searchsorted(one, scores[~own], "left") + np.searchsorted(one, scores[~own], "right")) / 2
    area = below.mean() / len(rest)
    rows = np.empty(len(own))
    rows[own] = (below / len(rest) - area) / len(one)
    rows[~own] = (above / len(one) - area) / len(rest)
    return float(area), rows


Gradient = Callable[[IntArray, IntArray, IntArray, IntArray, IntArray], tuple[float, FloatArray]]


def agreement(folds: Sequence[ScoredRows], of: Gradient) -> Shares:
    """The shares of a number of the confusion matrix, by its gradient. Raises DataError for folds that do not fit.

    `of` gives the value and what each row (n,) adds to it, from labels and predictions (n,) and, by class (C,), the
    right rows, the rows and the predictions; NaN where there is no value.
    """
    stratum = strata(folds)
    alone, values = [], []
    for fold in folds:
        n_classes, found = fold.scores.shape[1], fold.predictions
        truths, predicted = (np.bincount(labels, minlength=n_classes) for labels in (fold.labels, found))
        right = np.bincount(fold.labels[found == fold.labels], minlength=n_classes)
        value, rows = of(fold.labels, found, right, truths, predicted)
        values.append(value)
        alone.append(np.bincount(fold.unit, rows, len(stratum)))
    return Shares(np.array(values), np.mean(alone, axis=0), np.array(alone), stratum)


def gradient_of_f1(
    labels: IntArray, found: IntArray, right: IntArray, truths: IntArray, predicted: IntArray
) -> tuple[float, FloatArray]:
    """Macro F1 and what each row (n,) adds to it; NaN where a class has no row."""
    if not truths.all():
        return np.nan, np.full(len(labels), np.nan)
    both = truths + predicted
    up, down = 2 / both, -2 * right / both**2
    rows = (labels == found) * up[labels] + down[labels] + down[found]
    return float((2 * right / both).mean()), rows / len(truths)


def gradient_of_kappa(
    labels: IntArray, found: IntArray, right: IntArray, truths: IntArray, predicted: IntArray
) -> tuple[float, FloatArray]:
    """Cohen's kappa and what each row (n,) adds to it; NaN where chance alone agrees fully."""
    n = len(labels)
    agreed, chance = right.sum() / n, (truths * predicted).sum() / n**2
    if chance == 1:
        return np.nan, np.full(n, np.nan)
    by_chance = (predicted[labels] + truths[found]) / n**2 - 2 * chance / n
    rows = ((labels == found) - agreed) / n / (1 - chance) - by_chance * (1 - agreed) / (1 - chance) ** 2
    return float((agreed - chance) / (1 - chance)), rows
