"""What each unit adds to the error of any number: how the number changes as the unit is left out."""

from collections.abc import Callable, Sequence

import numpy as np

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.shares import FloatArray, ScoredRows, Shares, strata
from cxrbench.types import IntArray

Value = Callable[[ScoredRows], float]  # of one fold; NaN where the number is not defined


def left_out(folds: Sequence[ScoredRows], value: Value, *, of_predictions: bool) -> Shares:
    """The shares of a number, each unit of each fold left out in turn: it has no floors for sparse classes.

    `of_predictions`: the number depends on the predicted classes alone, so that units which are told alike change it
    alike, and only one of them is left out. A unit without which the number is not defined, the only one of its class,
    is counted twice instead. Raises DataError for folds that do not fit together, and for a number that is defined
    neither way. Source: Efron and Stein 1981.
    """
    stratum = strata(folds)
    values: FloatArray = np.array([value(fold) for fold in folds])
    alone = np.zeros((len(folds), len(stratum)))
    for place, (fold, whole) in enumerate(zip(folds, values, strict=True)):
        units, rows = _rows_of_units(fold)
        alone[place, units] = _changes(fold, rows, value, whole, of_predictions=of_predictions)
    return Shares(values, alone.mean(axis=0), alone, stratum)


def _rows_of_units(fold: ScoredRows) -> tuple[IntArray, list[IntArray]]:
    """The units of a fold, and the rows of each."""
    order = np.argsort(fold.unit, kind="stable")
    units, first = np.unique(fold.unit[order], return_index=True)
    return units, np.split(order, first[1:])


def _changes(
    fold: ScoredRows, units: Sequence[IntArray], value: Value, whole: float, *, of_predictions: bool
) -> list[float]:
    """The share of each unit, given by its rows; NaN where the number itself is not defined."""
    if np.isnan(whole):
        return [np.nan] * len(units)
    told = fold.labels * fold.scores.shape[1] + fold.predictions
    known, found = dict[tuple[int, ...], float](), list[float]()
    for rows in units:
        same = tuple(sorted(told[rows].tolist())) if of_predictions else (int(rows[0]),)
        if same not in known:
            known[same] = _change(fold, rows, value, whole, len(units))
        found.append(known[same])
    return found


def _change(fold: ScoredRows, rows: IntArray, value: Value, whole: float, units: int) -> float:
    kept = np.delete(np.arange(len(fold.labels)), rows)
    without = value(fold.at(kept)) if len(kept) else np.nan
    if not np.isnan(without):
        return (whole - without) * (units - 1) / units
    twice = value(fold.at(np.concatenate([np.arange(len(fold.labels)), rows])))
    if np.isnan(twice):
        raise DataError("the number is defined neither without one test unit nor with it twice: it has no interval")
    return (twice - whole) * (units + 1) / units
