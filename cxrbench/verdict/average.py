"""The mean over cells of several tasks: its interval, and whether two models' means differ."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.statistics.counts import Metric, statistic
from cxrbench.evaluate.statistics.interval import RANGES, RESAMPLES, Resampled, around
from cxrbench.evaluate.statistics.paired import Pair, contributions, swap_p
from cxrbench.evaluate.statistics.resample import replicates
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind, rarest_class, strata
from cxrbench.index import IntArray
from cxrbench.verdict.cell import seeded
from cxrbench.verdict.predictions import ScoredCell
from cxrbench.verdict.selection import why_not_paired

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A cell and its share of the mean; the shares of a mean sum to 1."""

    cell: ScoredCell
    weight: float

    @property
    def task(self) -> str:
        """The task whose images it scores."""
        return self.cell.record.data.task


Mean = Sequence[Weighted]


@dataclass(frozen=True, slots=True)
class _Drawn:
    """What one task adds to a mean: to its estimate, and to its value on each resample (B,)."""

    estimate: float
    values: FloatArray
    over: UnitKind
    units: int


def mean_interval(mean: Mean, metric: Metric, resamples: int = RESAMPLES) -> Interval:
    """The interval of a mean: cells of one task are drawn together, tasks apart, as if their images were independent.

    The same for the same records. No interval where a class of a cell has one unit; the reason says so.
    """
    rng, poor = seeded("mean", metric, *(part.cell.record.id for part in mean)), _too_rare(mean)
    found = [_drawn(parts, metric, 0 if poor else resamples, rng) for parts in _by_task(mean)]
    value, units = sum(task.estimate for task in found), sum(task.units for task in found)
    over: UnitKind = "patient" if all(task.over == "patient" for task in found) else "image"
    if poor:
        return Interval(None if np.isnan(value) else value, None, None, None, over, units, 0, poor)
    return around(value, Resampled(np.sum([task.values for task in found], axis=0), over, units), RANGES[metric])


def mean_p(a: Mean, b: Mean, draws: int = RESAMPLES) -> float:
    """Two-sided p that two means of balanced accuracy are equal: outcomes exchanged unit by unit, as for one cell.

    Raises NotApplicableError with the reasons for means that are not over the same images.
    """
    reasons = why_not_means(a, b)
    if reasons:
        raise NotApplicableError(f"these means cannot be compared: {'; '.join(reasons)}")
    added = [_contributions(*pair) for pair in zip(_by_task(a), _by_task(b), strict=True)]
    return swap_p(np.concatenate(added), seeded("swap", *(part.cell.record.id for part in (*a, *b))), draws)


def why_not_means(a: Mean, b: Mean) -> tuple[str, ...]:
    """Reasons against comparing two means, none where they are over the same images cell by cell."""
    if [(p.task, p.weight) for p in a] != [(p.task, p.weight) for p in b]:
        return ("they are over other cells",)
    pairs = list(zip(a, b, strict=True))
    mark = len(pairs) > 1
    return tuple(
        f"{one.task}: {reason}" if mark else reason
        for one, two in pairs
        for reason in why_not_paired(one.cell, two.cell)
    )


def _by_task(mean: Mean) -> list[list[Weighted]]:
    tasks: dict[str, list[Weighted]] = {}
    for part in mean:
        tasks.setdefault(part.task, []).append(part)
    return list(tasks.values())


def _too_rare(mean: Mean) -> str:
    poor = [part.task for part in mean if rarest_class(part.cell.folds)[1] < 2]
    return f"a class has one test image or patient in {', '.join(dict.fromkeys(poor))}" if poor else ""


def _drawn(parts: Mean, metric: Metric, resamples: int, rng: np.random.Generator) -> _Drawn:
    """The cells of one task on the same resamples; none are drawn where `resamples` is 0."""
    over: UnitKind = "patient" if all(part.cell.over == "patient" for part in parts) else "image"
    folds, n_units = _renumbered([part.cell for part in parts], over)
    stratum = shared_strata([strata(f) for f in folds], n_units)
    found = [statistic(metric, f, n_units) for f in folds]
    weights = np.array([part.weight for part in parts])
    values = weights @ replicates(found, stratum, resamples, rng) if resamples else np.empty(0)
    return _Drawn(float(weights @ [s.estimate for s in found]), values, over, int((stratum >= 0).sum()))


def _contributions(a: Mean, b: Mean) -> FloatArray:
    """What each unit of a task adds to the difference of two means."""
    total: dict[str, float] = {}
    for one, two in zip(a, b, strict=True):
        added = one.weight * contributions("balanced_accuracy", Pair(one.cell.folds, two.cell.folds, one.cell.over))
        for unit, value in zip(one.cell.units, added, strict=True):
            total[unit] = total.get(unit, 0.0) + value
    return np.array(list(total.values()))


def _renumbered(cells: Sequence[ScoredCell], over: UnitKind) -> tuple[list[tuple[ScoredRows, ...]], int]:
    """The folds of each cell with units numbered alike in all of them, and how many units there are."""
    names = [cell.units if over == "patient" else cell.images for cell in cells]
    number = {name: place for place, name in enumerate(sorted(set().union(*names)))}
    folds = []
    for cell, own in zip(cells, names, strict=True):
        new = np.array([number[name] for name in own])
        units = [fold.unit for fold in cell.folds] if over == "patient" else cell.image
        folds.append(tuple(ScoredRows(new[u], f.labels, f.scores) for u, f in zip(units, cell.folds, strict=True)))
    return folds, len(number)


def shared_strata(parts: Sequence[IntArray], n_units: int) -> IntArray:
    """One stratum (n_units,) for each unit from those (up to n_units,) of several sets of rows, -1 where in none.

    Strata of different parts stay apart; a unit of two parts is drawn with the first. One left alone in its stratum
    joins the largest.
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
