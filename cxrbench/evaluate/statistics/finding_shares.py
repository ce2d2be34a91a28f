"""What each patient or image adds to the error of a number over findings, which do not exclude each other."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.findings import BoolArray, Chosen, FindingRows, OneFinding, best_level, counts, levels
from cxrbench.evaluate.retrieval import QueryRows
from cxrbench.evaluate.statistics.estimate import Component, pooled
from cxrbench.evaluate.statistics.shares import FEW, FloatArray, ScoredRows, Shares, area_floor, area_with_rows
from cxrbench.types import IntArray

AnyRows = ScoredRows | FindingRows | QueryRows  # one fold of a single-label, multi-label or retrieval task
RowsT = TypeVar("RowsT", ScoredRows, FindingRows, QueryRows)
OfFinding = Callable[[FindingRows, int], tuple[float, FloatArray]]  # its value, what each row (n,) adds to its error


def of_kind(folds: Sequence[AnyRows], kind: type[RowsT]) -> list[RowsT]:
    """The folds, if they are all of this kind; else none."""
    found = [fold for fold in folds if isinstance(fold, kind)]
    return found if len(found) == len(folds) else []


def finding_units(folds: Sequence[FindingRows]) -> IntArray:
    """How many units (C, 2) show each finding, and do not, in the fold that has fewest of them."""
    _require_alike(folds)
    found = [
        [[_distinct(one.unit[one.holds]), _distinct(one.unit[~one.holds])] for one in _each(fold)] for fold in folds
    ]
    return np.array(found, dtype=np.int64).min(axis=0)


def _each(fold: FindingRows) -> list[OneFinding]:
    return [fold.finding(number) for number in range(fold.labels.shape[1])]


def _distinct(units: IntArray) -> int:
    return len(np.unique(units))


def _require_alike(folds: Sequence[FindingRows]) -> None:
    if len({fold.labels.shape[1] for fold in folds}) != 1:
        raise DataError("statistics need at least one fold, and the same findings in all of them")


def areas_of_findings(folds: Sequence[FindingRows], only: Sequence[int] | None = None) -> Shares:
    """The shares of macro AUROC over the findings that are defined in every fold, of the numbers in `only`.

    A unit's shares of all findings are added, so that findings which go together widen the interval. Source: DeLong
    1988; Obuchowski 1997, for units with several rows; floors as in `shares.areas`.
    """
    return _macro(folds, lambda fold, number: _area(fold.finding(number)), only, floored=True)


def precisions(folds: Sequence[FindingRows]) -> Shares:
    """The shares of macro average precision, by its derivative with respect to the weight of a row."""
    return _macro(folds, lambda fold, number: _precision(fold.finding(number)))


def calls(folds: Sequence[FindingRows], by: Chosen, *, on_test: bool = False) -> Shares:
    """The shares of macro F1 or MCC at thresholds that the rows bring, or, `on_test`, that are best on these rows.

    A threshold counts as fixed: where it is the best of these rows, moving it changes the value only to second order.
    """

    def at(fold: FindingRows, number: int) -> tuple[float, FloatArray]:
        one = fold.finding(number)
        level = best_level(one.score, one.holds, by) if on_test and one.defined else levels(fold, by)[number]
        return _called(one, level, by)

    return _macro(folds, at)


@dataclass(frozen=True, slots=True)
class _Part:
    """A finding by its number: its value in each fold (F,), what each unit adds to that (F, U), by side, its floor."""

    number: int
    values: FloatArray
    alone: FloatArray
    sides: list[Component]
    floors: list[Component]
    shift: float


def _macro(
    folds: Sequence[FindingRows], of: OfFinding, only: Sequence[int] | None = None, *, floored: bool = False
) -> Shares:
    """The mean over findings that have a value in every fold; NaN, with no shares, where none has."""
    _require_alike(folds)
    n_units = 1 + max(int(fold.unit.max()) for fold in folds)
    stratum = np.full(n_units, -1)
    for fold in folds:
        stratum[fold.unit] = 0
    numbers = range(folds[0].labels.shape[1]) if only is None else only
    parts = [part for number in numbers if (part := _part(folds, number, of, n_units, floored=floored)) is not None]
    if not parts:
        nothing = np.full((len(folds), n_units), np.nan)
        return Shares(nothing[:, 0], nothing[0], nothing, stratum, floored=floored)
    n, together = len(parts), _together(parts, folds, n_units)
    alone = sum((part.alone for part in parts), np.zeros((len(folds), n_units))) / n
    return Shares(
        sum((part.values for part in parts), np.zeros(len(folds))) / n,
        alone.mean(axis=0),
        alone,
        stratum,
        tuple(
            Component(floor.variance * together / n**2, floor.freedom / together)
            for part in parts
            for floor in part.floors
        ),
        sum(part.shift for part in parts) / n,
        floored=floored,
        freedom=pooled([side for part in parts for side in part.sides]).freedom / together,
    )


def _together(parts: Sequence[_Part], folds: Sequence[FindingRows], n_units: int) -> float:
    """How many findings count as one: 1 where they spread apart, their number where they are copies of one.

    The variance of the sum of all shares over the sum of their variances. What spreads not at all, since all is right,
    goes together with others as far as the units that show it do.
    """
    each = np.array([_spread_or_shown(part, folds, n_units) for part in parts])
    apart = float((each**2).sum())
    return max(1.0, float((each.sum(axis=0) ** 2).sum()) / apart) if apart else 1.0


def _spread_or_shown(part: _Part, folds: Sequence[FindingRows], n_units: int) -> FloatArray:
    """A finding's shares (U,); without any spread, where it shows, at the size of its floor."""
    shares: FloatArray = part.alone.mean(axis=0)
    if shares.any() or not part.floors:
        return shares
    shown = np.zeros(n_units)
    for one in (fold.finding(part.number) for fold in folds):
        shown[one.unit[one.holds]] = 1.0
    shown -= shown.mean()
    wanted = math.sqrt(sum(floor.variance for floor in part.floors))
    return shown * wanted / math.sqrt(float((shown**2).sum()))


def _part(folds: Sequence[FindingRows], number: int, of: OfFinding, n_units: int, *, floored: bool) -> _Part | None:
    """What a finding adds; None where a fold has no value of it."""
    ones, found = [fold.finding(number) for fold in folds], [of(fold, number) for fold in folds]
    if any(np.isnan(value) for value, _ in found):
        return None
    values, rows = np.array([value for value, _ in found]), [own for _, own in found]
    alone = np.array([_by_unit(one, own, n_units) for one, own in zip(ones, rows, strict=True)])
    sides = _sides(alone.mean(axis=0), ones)
    if not floored:
        return _Part(number, values, alone, sides, [], 0.0)
    floors, shift = _floor(float(values.mean()), rows, alone, ones, sum(side.variance for side in sides))
    return _Part(number, values, alone, sides, floors, shift)


def _by_unit(one: OneFinding, rows: FloatArray, n_units: int) -> FloatArray:
    """What each unit (U,) adds; each side a little more than its rows tell, as its own mean was taken off."""
    total = np.zeros(n_units)
    for side in (one.holds, ~one.holds):
        units = _distinct(one.unit[side])
        total += np.sqrt(units / max(1, units - 1)) * np.bincount(one.unit[side], rows[side], n_units)
    return total


def _sides(shares: FloatArray, ones: Sequence[OneFinding]) -> list[Component]:
    """What the units that show a finding, and those that do not, add to its variance: how well is it known?"""
    shows, there = np.zeros(len(shares), dtype=bool), np.zeros(len(shares), dtype=bool)
    for one in ones:
        shows[one.unit[one.holds]] = True
        there[one.unit] = True
    sides = (shows, there & ~shows)
    return [Component(float((shares[side] ** 2).sum()), max(1, int(side.sum()) - 1)) for side in sides if side.any()]


def _floor(
    area: float, rows: Sequence[FloatArray], added: FloatArray, ones: Sequence[OneFinding], found: float
) -> tuple[list[Component], float]:
    """What a finding with few units adds beyond its spread, and how far its area is moved."""
    units = [min(_distinct(one.unit[side]) for one, side in zip(ones, sides, strict=True)) for sides in _both(ones)]
    if min(units) < FEW:  # whose units do not show how far their rows agree: each counts as one row
        counted, single = units, float(np.mean((added**2).sum(axis=1)))
    else:
        counted = [min(int(side.sum()) for side in sides) for sides in _both(ones)]
        single = float(np.mean([_of_rows(own, one) for own, one in zip(rows, ones, strict=True)]))
    floor, centre = area_floor(area, *counted)
    floor *= found / single if single else 1.0  # rows of a unit agree as far as they do
    return ([Component(floor - found, min(units) + 1)], centre - area) if floor > found else ([], 0.0)


def _both(ones: Sequence[OneFinding]) -> tuple[list[BoolArray], list[BoolArray]]:
    return [one.holds for one in ones], [~one.holds for one in ones]


def _of_rows(rows: FloatArray, one: OneFinding) -> float:
    """The variance if each row (n,) were a unit of its own."""
    sides = (one.holds, ~one.holds)
    return sum(float((rows[side] ** 2).sum()) * side.sum() / max(1, side.sum() - 1) for side in sides)


def _area(one: OneFinding) -> tuple[float, FloatArray]:
    return area_with_rows(one.score, one.holds)


def _precision(one: OneFinding) -> tuple[float, FloatArray]:
    """Average precision and what each row (n,) adds to its error; NaN where it is not defined."""
    if not one.defined:
        return np.nan, np.full(len(one.holds), np.nan)
    distinct, place = np.unique(-one.score, return_inverse=True)  # the highest score first
    right = np.bincount(place, one.holds, len(distinct))
    every = np.bincount(place, minlength=len(distinct))
    above, flagged = np.cumsum(right), np.cumsum(every)
    precision, positives = above / flagged, right.sum()
    value = float((right * precision).sum() / positives)
    # A row that is called from its own score on lifts or lowers the precision of all positives at or below it.
    lifted = _from_here(right * (flagged - above) / flagged**2)[place] / positives
    lowered = _from_here(right * above / flagged**2)[place] / positives
    rows: FloatArray = np.where(one.holds, (precision[place] - value) / positives + lifted, -lowered)
    return value, rows


def _from_here(values: NDArray[np.float64]) -> FloatArray:
    """The sum of each value and all after it."""
    total: FloatArray = np.cumsum(values[::-1])[::-1]
    return total


def _called(one: OneFinding, level: float | None, by: Chosen) -> tuple[float, FloatArray]:
    """F1 or MCC at a threshold, and what each row (n,) adds to its error; NaN where it is not defined."""
    if level is None or not one.defined:
        return np.nan, np.full(len(one.holds), np.nan)
    flagged = one.score >= level
    tp, fp, fn, tn = (float(n) for n in counts(flagged, one.holds))
    value, slopes = (_slopes_of_f1 if by == "f1" else _slopes_of_mcc)(tp, fp, fn, tn)
    kind = np.where(one.holds, np.where(flagged, 0, 2), np.where(flagged, 1, 3))
    return value, np.array(slopes)[kind]


def _slopes_of_f1(tp: float, fp: float, fn: float, _: float) -> tuple[float, tuple[float, ...]]:
    """F1 and its derivatives with respect to TP, FP, FN and TN."""
    both = 2 * tp + fp + fn
    value = 2 * tp / both
    return value, ((2 - 2 * value) / both, -value / both, -value / both, 0.0)


def _slopes_of_mcc(tp: float, fp: float, fn: float, tn: float) -> tuple[float, tuple[float, ...]]:
    """MCC and its derivatives with respect to TP, FP, FN and TN."""
    called, shown, unshown, uncalled = tp + fp, tp + fn, tn + fp, tn + fn
    below = math.sqrt(called * shown * unshown * uncalled)
    if not below:
        return 0.0, (0.0,) * 4
    value = (tp * tn - fp * fn) / below
    half = value / 2
    return value, (
        tn / below - half * (1 / called + 1 / shown),
        -fn / below - half * (1 / called + 1 / unshown),
        -fp / below - half * (1 / shown + 1 / uncalled),
        tp / below - half * (1 / unshown + 1 / uncalled),
    )
