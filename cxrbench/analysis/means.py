"""The mean over cells of several tasks: its interval, and the difference of two models' means."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrbench.analysis.cell import Measurement, cautions
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.statistics.estimate import Component, Estimate, over_draws, total
from cxrbench.evaluate.statistics.interval import DRAWN, Covers, Interval, interval, wider
from cxrbench.evaluate.statistics.shares import Shares, UnitKind, shared_strata, within
from cxrbench.records.predictions import namespace
from cxrbench.records.selection import why_not_paired

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Weighted:
    """A measured cell and its share of the mean; the shares of a mean sum to 1."""

    measured: Measurement
    weight: float

    @property
    def task(self) -> str:
        """The task whose images it scores."""
        return self.measured.cell.record.data.task


Mean = Sequence[Weighted]


def mean_interval(mean: Mean) -> Interval:
    """The interval of a mean over these tasks: other test and training images of each, and no other tasks.

    A patient of several tasks counts as one where they name it alike (see `shared_patients`); other tasks are taken as
    independent. The same for the same records.
    """
    told = "; ".join(f"{part.task}: {why}" for part in mean if (why := cautions(part.measured.cell)))
    return interval(mean_estimate(mean), over_of(mean), units_of(mean), covers_of(mean), told)


@dataclass(frozen=True, slots=True)
class Part:
    """What tasks add to a sum over tasks, and what this speaks of."""

    estimate: Estimate
    over: UnitKind
    units: int
    covers: tuple[Covers, ...]


def part_of(mean: Mean) -> Part:
    """What cells of tasks that may show the same patients add."""
    return Part(mean_estimate(mean), over_of(mean), units_of(mean), covers_of(mean))


def interval_of_parts(parts: Sequence[Part], tasks: int) -> Interval:
    """The interval of the mean over so many tasks from independent parts of their sum."""
    over: UnitKind = "patient" if all(part.over == "patient" for part in parts) else "image"
    covers = tuple(dict.fromkeys(one for part in parts for one in part.covers))
    found = total(part.estimate for part in parts).scaled(1 / tasks)
    return interval(found, over, sum(part.units for part in parts), covers)


def mean_estimate(mean: Mean) -> Estimate:
    """The mean with its variance."""
    return _summed([(part, part.measured.shares) for part in mean], mean[0].measured.metric.bounds)


def mean_difference(a: Mean, b: Mean) -> Estimate:
    """The difference of two means, A minus B, over the same images and draws.

    Raises NotApplicableError with the reasons for means that are not over the same images.
    """
    if reasons := why_not_means(a, b):
        raise NotApplicableError(f"these means cannot be compared: {'; '.join(reasons)}")
    pairs = [
        (replace(one, measured=_of_both(one, two)), one.measured.shares.minus(two.measured.shares))
        for one, two in zip(a, b, strict=True)
    ]
    return _summed(pairs, a[0].measured.metric.difference_bounds)


def _of_both(one: Weighted, two: Weighted) -> Measurement:
    """The first cell, speaking of what a difference of both speaks of."""
    return replace(one.measured, covers=wider(one.measured.covers, two.measured.covers))


def _summed(parts: Sequence[tuple[Weighted, Shares]], bounds: tuple[float, float]) -> Estimate:
    groups: dict[str, list[tuple[Weighted, Shares]]] = {}
    over = kinds([part for part, _ in parts])
    for part, own in parts:
        groups.setdefault(namespace(part.task, over[part.task]), []).append((part, own))
    units = tuple(component for own in groups.values() for component in _units(own))
    drawn = [(part, own) for part, own in parts if part.measured.covers in DRAWN]
    draws = tuple(component for family in _drawn_together(drawn) for component in _draws(family))
    twice = sum(part.weight**2 * own.twice for part, own in drawn)
    whole = sum(part.weight for part, _ in parts)
    value = sum(part.weight * own.value for part, own in parts)
    shift = sum(part.weight * own.shift for part, own in parts)
    return Estimate(value, value + shift, units, draws, (whole * bounds[0], whole * bounds[1]), twice)


def _drawn_together(parts: Sequence[tuple[Weighted, Shares]]) -> list[list[tuple[Weighted, Shares]]]:
    """Cells whose training images are of one draw: those that one other task trains; all others are drawn apart."""
    families: dict[object, list[tuple[Weighted, Shares]]] = {}
    for place, (part, own) in enumerate(parts):
        other = part.measured.cell.record.data.trained_on
        families.setdefault(place if other is None else (other.task, len(own.values)), []).append((part, own))
    return list(families.values())


def _draws(family: Sequence[tuple[Weighted, Shares]]) -> list[Component]:
    """What drawing anew adds to the variance, fold by fold for cells whose folds have the same draws."""
    if len(family) == 1:
        ((part, own),) = family
        return [component.times(part.weight**2) for component in over_draws(own.values.tolist())]
    summed = np.sum([part.weight * own.values for part, own in family], axis=0)
    return list(over_draws(summed.tolist()))


def _units(parts: Sequence[tuple[Weighted, Shares]]) -> list[Component]:
    """What cells of the same units add to the variance of a mean: units once, floors cell by cell."""
    found = [component.times(part.weight**2) for part, own in parts for component in own.floors]
    if len(parts) == 1:
        ((part, own),) = parts
        return [*own.over_units(part.weight), *found]
    parts = sorted(parts, key=lambda one: len(one[1].each))  # the smaller test set needs its strata most
    names = [part.measured.cell.units for part, _ in parts]
    number = {name: place for place, name in enumerate(sorted(set().union(*names)))}
    each, strata = np.zeros(len(number)), []
    for (part, own), named in zip(parts, names, strict=True):
        place = np.array([number[name] for name in named])
        each[place] += part.weight * own.each
        moved = np.full(len(number), -1, dtype=np.int64)
        moved[place] = own.stratum
        strata.append(moved)
    known = [own.freedom for _, own in parts if own.freedom is not None]
    together = within(each, shared_strata(strata, len(number)))
    return [*(replace(one, freedom=min([one.freedom, *known])) for one in together), *found]


def why_not_means(a: Mean, b: Mean) -> tuple[str, ...]:
    """Reasons against comparing two means, none where they are over the same images cell by cell."""
    if [(p.task, p.weight) for p in a] != [(p.task, p.weight) for p in b]:
        return ("they are over other cells",)
    pairs = list(zip(a, b, strict=True))
    mark = len(pairs) > 1
    return tuple(
        f"{one.task}: {reason}" if mark else reason
        for one, two in pairs
        for reason in why_not_paired(one.measured.cell, two.measured.cell)
    )


def kinds(mean: Mean) -> dict[str, UnitKind]:
    """What is counted of each task: patients where those of all its cells are known."""
    found: dict[str, UnitKind] = {}
    for part in mean:
        found[part.task] = "image" if found.get(part.task) == "image" else part.measured.cell.over
    return found


def over_of(mean: Mean) -> UnitKind:
    """Patients where those of all tasks are known."""
    return "patient" if all(part.measured.cell.over == "patient" for part in mean) else "image"


def units_of(mean: Mean) -> int:
    """The units of all tasks; those of two tasks count in both."""
    return sum(part.measured.units for part in mean)


def covers_of(mean: Mean) -> tuple[Covers, ...]:
    """What the intervals of its parts speak of, each once."""
    return tuple(dict.fromkeys(part.measured.covers for part in mean))
