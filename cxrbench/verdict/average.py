"""The mean over cells of several tasks: its interval, and whether two models' means differ."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.statistics.counts import Metric, statistic
from cxrbench.evaluate.statistics.freedom import area_shares, freedom
from cxrbench.evaluate.statistics.interval import (
    RANGES,
    RESAMPLES,
    Resampled,
    Values,
    around,
    difference_range,
    few_of_area,
    still,
    without_ends,
)
from cxrbench.evaluate.statistics.paired import Pair, contributions, swap_p
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind, rarest_class, shared_strata, strata
from cxrbench.index import IntArray
from cxrbench.verdict.drawn import Asked, draw_name, swaps
from cxrbench.verdict.drawn import together as drawn_together
from cxrbench.verdict.kinship import namespace
from cxrbench.verdict.predictions import ScoredCell
from cxrbench.verdict.selection import why_not_paired

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A cell and its share of the mean; the shares of a mean sum to 1, those of a difference of two to 0."""

    cell: ScoredCell
    weight: float

    @property
    def task(self) -> str:
        """The task whose images it scores."""
        return self.cell.record.data.task


Mean = Sequence[Weighted]


@dataclass(frozen=True, slots=True)
class Part:
    """What tasks of the same patients add to a mean: to its estimate, and to its value on each resample (B,).

    `shares` (U,) are what each unit adds to the error of an AUROC, by `stratum` (U,); empty for other metrics. `poor`
    are tasks with a class of one unit, for which nothing is drawn; `still` says why no choice of images moves it.
    """

    estimate: float
    values: FloatArray
    over: UnitKind
    units: int
    stratum: IntArray
    shares: FloatArray
    poor: tuple[str, ...]
    still: str


def mean_interval(mean: Mean, metric: Metric, resamples: int = RESAMPLES) -> Interval:
    """The interval of a mean, by the law of a single cell's.

    A patient of several tasks is drawn in all of them at once where they name it alike (see `kinship`); other tasks are
    drawn apart, as if their images were independent. The same for the same records. No interval where a class of a cell
    has one unit; the reason says so.
    """
    return _interval(mean, metric, RANGES[metric], resamples)


def difference_interval(a: Mean, b: Mean, metric: Metric, resamples: int = RESAMPLES) -> Interval:
    """The same of the difference of two means, A minus B, both on the same resamples.

    Raises NotApplicableError with the reasons for means that are not over the same images.
    """
    _require_pair(a, b)
    less = [replace(part, weight=-part.weight) for part in b]
    return _interval([*a, *less], metric, difference_range(metric), resamples)


def _interval(mean: Mean, metric: Metric, bounds: tuple[float, float], resamples: int) -> Interval:
    return _around([mean_parts([own], metric, resamples)[0] for own in together(mean)], metric, bounds)


def mean_of(found: Sequence[Part], metric: Metric) -> Interval:
    """The interval of a mean from all its parts."""
    return _around(found, metric, RANGES[metric])


def _around(found: Sequence[Part], metric: Metric, bounds: tuple[float, float]) -> Interval:
    value, units = sum(part.estimate for part in found), sum(part.units for part in found)
    over: UnitKind = "patient" if all(part.over == "patient" for part in found) else "image"
    if poor := [task for part in found for task in part.poor]:
        return without_ends(value, over, units, f"a class has one test image or patient in {', '.join(poor)}")
    known = _freedom(found) if metric == "macro_auroc" else math.inf
    values = np.sum([part.values for part in found], axis=0)
    same = found[0].still if all(part.still for part in found) else ""
    given = around(value, Resampled(values, over, units, known, same), bounds)
    return replace(given, reason=given.reason or few_of_area(known, over))


def _freedom(found: Sequence[Part]) -> float:
    """Of the whole sum: strata of different draws stay apart."""
    first = np.cumsum([0, *(int(part.stratum.max()) + 1 for part in found[:-1])])
    moved = [np.where(part.stratum < 0, -1, part.stratum + start) for part, start in zip(found, first, strict=True)]
    return freedom(np.concatenate([part.shares for part in found]), np.concatenate(moved))


def mean_p(a: Mean, b: Mean, draws: int = RESAMPLES) -> float:
    """Two-sided p that two means of balanced accuracy are equal: outcomes exchanged unit by unit, as for one cell.

    Raises NotApplicableError with the reasons for means that are not over the same images.
    """
    _require_pair(a, b)
    added = [_contributions(*pair) for pair in zip(together(a), together(b), strict=True)]
    rng = swaps((part.cell.record.id for part in (*a, *b)), "balanced_accuracy")
    return swap_p(np.concatenate(added), rng, draws)


def _require_pair(a: Mean, b: Mean) -> None:
    if reasons := why_not_means(a, b):
        raise NotApplicableError(f"these means cannot be compared: {'; '.join(reasons)}")


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


def kinds(mean: Mean) -> dict[str, UnitKind]:
    """What is drawn of each task: patients where those of all its cells are known."""
    found: dict[str, UnitKind] = {}
    for part in mean:
        found[part.task] = "image" if found.get(part.task) == "image" else part.cell.over
    return found


def together(mean: Mean) -> list[list[Weighted]]:
    """The cells of one task, and of tasks that name a patient alike, as they are drawn."""
    over, found = kinds(mean), dict[str, list[Weighted]]()
    for part in mean:
        found.setdefault(namespace(part.task, over[part.task]), []).append(part)
    return list(found.values())


def mean_parts(means: Sequence[Mean], metric: Metric, resamples: int = RESAMPLES) -> list[Part]:
    """What the cells of each mean add to it; those of one mean are of the same patients, as `together` puts them.

    Means over the same units are drawn together, each with the same values as alone.
    """
    joint = [_joint(mean) for mean in means]
    counted = [[statistic(metric, folds, len(own.stratum)) for folds in own.folds] for own in joint]
    asked = [Asked(own.name, own.stratum, found) for own, found in zip(joint, counted, strict=True)]
    drawn = zip(joint, counted, drawn_together(asked, resamples), strict=True)
    return [own.part(metric, [one.estimate for one in found], values) for own, found, values in drawn]


def part_of(alone: Weighted, metric: Metric, known: Values) -> Part:
    """The same of a cell whose patients no other task of the mean shows, from its values on its own resamples."""
    own = _joint([alone])
    return own.part(metric, [known.estimate], known.drawn[np.newaxis])


@dataclass(frozen=True, slots=True)
class _Joint:
    """Cells of the same patients with their units numbered alike; `name` is that of their resamples, if any."""

    name: str
    folds: Sequence[Sequence[ScoredRows]]
    weights: FloatArray
    over: UnitKind
    stratum: IntArray
    poor: tuple[str, ...]

    def part(self, metric: Metric, estimates: Sequence[float], values: FloatArray) -> Part:
        """What they add to a mean, from the metric of each (S,), as it is and on resamples (S, B)."""
        n_units = len(self.stratum)
        area = metric == "macro_auroc" and not self.poor
        shares = self.weights @ [area_shares(folds, n_units) for folds in self.folds] if area else np.empty(0)
        same = [still(metric, folds) for folds in self.folds]
        units = int((self.stratum >= 0).sum())
        return Part(
            float(self.weights @ estimates),
            self.weights @ values,
            self.over,
            units,
            self.stratum,
            shares,
            self.poor,
            same[0] if all(same) else "",
        )


def _joint(mean: Mean) -> _Joint:
    """A unit of several cells is drawn in its stratum of that with the rarest class, which needs its strata most."""
    over: UnitKind = "patient" if all(part.cell.over == "patient" for part in mean) else "image"
    mean = sorted(mean, key=lambda part: rarest_class(part.cell.folds)[1])
    poor = dict.fromkeys(part.task for part in mean if rarest_class(part.cell.folds)[1] < 2)
    folds, units = _renumbered([part.cell for part in mean], over)
    stratum = shared_strata([strata(own) for own in folds], len(units))
    name = "" if poor else draw_name(namespace(mean[0].task, over), units, stratum)
    return _Joint(name, folds, np.array([part.weight for part in mean]), over, stratum, tuple(poor))


def _contributions(a: Mean, b: Mean) -> FloatArray:
    """What each unit of a task adds to the difference of two means."""
    total: dict[str, float] = {}
    for one, two in zip(a, b, strict=True):
        added = one.weight * contributions("balanced_accuracy", Pair(one.cell.folds, two.cell.folds, one.cell.over))
        for unit, value in zip(one.cell.units, added, strict=True):
            total[unit] = total.get(unit, 0.0) + value
    return np.array(list(total.values()))


def _renumbered(cells: Sequence[ScoredCell], over: UnitKind) -> tuple[list[tuple[ScoredRows, ...]], list[str]]:
    """The folds of each cell with units numbered alike in all of them, and the names of these units."""
    names = [cell.units if over == "patient" else cell.images for cell in cells]
    units = sorted(set().union(*names))
    number = {name: place for place, name in enumerate(units)}
    folds = []
    for cell, own in zip(cells, names, strict=True):
        new = np.array([number[name] for name in own])
        unit = [fold.unit for fold in cell.folds] if over == "patient" else cell.image
        folds.append(tuple(ScoredRows(new[u], f.labels, f.scores) for u, f in zip(unit, cell.folds, strict=True)))
    return folds, units
