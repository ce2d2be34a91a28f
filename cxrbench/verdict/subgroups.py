"""A cell by sex, age or view of its images: the number in each group, and how far groups lie apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.interval import RESAMPLES, Resampled, around
from cxrbench.evaluate.statistics.resample import Statistic
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind, shared_strata, strata
from cxrbench.index import IntArray
from cxrbench.verdict.drawn import Asked, draw_name, together
from cxrbench.verdict.kinship import namespace
from cxrbench.verdict.predictions import ScoredCell

By = Literal["sex", "age", "view"]

BANDS = (("<18", 0), ("18–40", 18), ("40–60", 40), ("60–80", 60), ("80+", 80))  # each from its age to below the next
FEWEST = 20  # units (patients or images) that a group must have in every fold to be given a number
FEWEST_OF_CLASS = 5  # units of a class in every fold, for the class to be part of a group's number
RULE = (
    f"a group's number is the mean recall over the classes with at least {FEWEST_OF_CLASS} test patients or images of "
    f"it in every fold; with fewer than {FEWEST} in all, or no such class, there is no number"
)

FloatArray = NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class Subgroup:
    """One group: how many test images and units it has, the classes that its number is over, and the number.

    `left_out` maps the other classes to how many units the poorest fold has of them. With all classes in, the number is
    balanced accuracy. Without a number `interval` is None and `reason` says why.
    """

    name: str
    images: int
    units: int
    classes: tuple[str, ...]
    left_out: Mapping[str, int]
    interval: Interval | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """A group minus the reference group, over the classes that both have; uncorrected for the number of groups."""

    name: str
    reference: str
    classes: tuple[str, ...]
    interval: Interval | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Subgroups:
    """A cell by one attribute; `unknown` counts the test images of which it is not known.

    The reference of the gaps is the group with most units.
    """

    record: str
    by: By
    over: UnitKind
    images: int
    unknown: int
    groups: tuple[Subgroup, ...]
    gaps: tuple[Gap, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of a group by fold, and its units of each class in the poorest fold (C,)."""

    name: str
    images: int
    folds: tuple[ScoredRows | None, ...]
    units: int
    fewest: IntArray

    @property
    def classes(self) -> list[int]:
        """Classes that can be part of a number."""
        return [int(c) for c in np.flatnonzero(self.fewest >= FEWEST_OF_CLASS)]


def subgroups(cell: ScoredCell, by: By, resamples: int = RESAMPLES) -> Subgroups:
    """The groups of a cell by one attribute, with their counts. Raises DataError where no image has the attribute."""
    return subgroups_of([cell], by, resamples)[0]


def subgroups_of(cells: Sequence[ScoredCell], by: By, resamples: int = RESAMPLES) -> list[Subgroups]:
    """The same of many cells: those of one test set are drawn together, each with the same numbers as alone."""
    divided = [_divided(cell, by) for cell in cells]
    found, asked = zip(*divided, strict=True) if divided else ((), ())
    drawn = iter(together(list(chain(*asked)), resamples))
    return [
        _with_intervals(own, list(islice(drawn, len(draws))), draws) for own, draws in zip(found, asked, strict=True)
    ]


def _with_intervals(found: Subgroups, values: Sequence[FloatArray], draws: Sequence[Asked]) -> Subgroups:
    """Groups and gaps with the intervals of what was asked for them, in that order, where a reason says no more."""
    left = iter(zip(draws, values, strict=True))
    groups = [
        own if own.reason else replace(own, interval=_number(found.over, *next(left), own.units))
        for own in found.groups
    ]
    gaps = [own if own.reason else replace(own, interval=_number(found.over, *next(left))) for own in found.gaps]
    return replace(found, groups=tuple(groups), gaps=tuple(gaps))


def _number(over: UnitKind, draw: Asked, values: FloatArray, units: int | None = None) -> Interval:
    """The interval of one statistic over so many units, or of the first minus the second over all that are drawn."""
    estimates = [one.estimate for one in draw.statistics]
    if units is not None:
        return around(estimates[0], Resampled(values[0], over, units), (0, 1))
    units = int((draw.stratum >= 0).sum())
    return around(estimates[0] - estimates[1], Resampled(values[0] - values[1], over, units), (-1, 1))


def _divided(cell: ScoredCell, by: By) -> tuple[Subgroups, list[Asked]]:
    """Groups and gaps without intervals, and what is to be drawn for those that have a number."""
    values = cell.about.get(by, ())
    if not any(value is not None for value in values):
        record = cell.record
        raise DataError(
            f"{record.data.task}, record {record.id}: the predictions tell no image's {by}: the label tables of this "
            "data set have no such column, or the record is older than it; run the cell again to find out"
        )
    names = np.array([_group(by, value) or "" for value in values])
    tested = np.unique(np.concatenate(cell.image))
    order = [name for name, _ in BANDS] if by == "age" else sorted(set(names.tolist()) - {""})
    groups = [group for name in order if (group := _rows(cell, name, names == name)).images]
    told = [_subgroup(cell, group) for group in groups]
    gaps = _gaps(cell, [group for group, (own, _) in zip(groups, told, strict=True) if not own.reason])
    draws = [draw for _, draw in [*told, *gaps] if draw is not None]
    found = Subgroups(
        cell.record.id,
        by,
        cell.over,
        len(tested),
        int((names[tested] == "").sum()),
        tuple(own for own, _ in told),
        tuple(own for own, _ in gaps),
    )
    return found, draws


def _group(by: By, value: str | None) -> str | None:
    """The group that an image's value puts it in; bands hold whole years from their first age on."""
    if value is None or by != "age":
        return value
    return [name for name, first in BANDS if int(value) >= first][-1]


def _rows(cell: ScoredCell, name: str, chosen: NDArray[np.bool_]) -> _Group:
    """The rows of the chosen images (I,)."""
    pairs = [(fold, chosen[image]) for fold, image in zip(cell.folds, cell.image, strict=True)]
    n_classes = cell.folds[0].scores.shape[1]
    met = [np.unique(f.unit[m] * n_classes + f.labels[m]) % n_classes for f, m in pairs]
    return _Group(
        name,
        len(np.unique(np.concatenate([image[chosen[image]] for image in cell.image]))),
        tuple(ScoredRows(f.unit[m], f.labels[m], f.scores[m]) if m.any() else None for f, m in pairs),
        len(np.unique(np.concatenate([f.unit[m] for f, m in pairs]))),
        np.array([np.bincount(own, minlength=n_classes) for own in met]).min(axis=0),
    )


def _subgroup(cell: ScoredCell, group: _Group) -> tuple[Subgroup, Asked | None]:
    labels, kept = cell.record.data.labels, group.classes
    left_out = {label: int(n) for c, (label, n) in enumerate(zip(labels, group.fewest, strict=True)) if c not in kept}
    told, reason = tuple(labels[c] for c in kept), _too_small(cell, [group], kept)
    found = Subgroup(group.name, group.images, group.units, told, left_out, None, reason)
    return found, None if reason else _asked(cell, [group], kept)


def _too_small(cell: ScoredCell, groups: Sequence[_Group], kept: Sequence[int]) -> str:
    """Why groups give no number over the kept classes; empty where they do."""
    if not kept:
        return f"no class has {FEWEST_OF_CLASS} {cell.over}s in every fold"
    fewest = min(min(len(np.unique(fold.unit)) for fold in _only(group, kept)) for group in groups)
    return f"{fewest} {cell.over}s, fewer than {FEWEST}" if fewest < FEWEST else ""


def _only(group: _Group, kept: Sequence[int]) -> list[ScoredRows]:
    """The folds with the rows of the kept classes alone."""
    folds = [fold for fold in group.folds if fold is not None]
    masks = [np.isin(fold.labels, kept) for fold in folds]
    return [ScoredRows(f.unit[m], f.labels[m], f.scores[m]) for f, m in zip(folds, masks, strict=True)]


def _asked(cell: ScoredCell, groups: Sequence[_Group], kept: Sequence[int]) -> Asked:
    """The mean recall of each group over the kept classes, on the same resamples."""
    rows = [_only(group, kept) for group in groups]
    stratum = shared_strata([strata(own) for own in rows], len(cell.units))
    space = namespace(cell.record.data.task, cell.over)
    return Asked(draw_name(space, cell.units, stratum), stratum, [_recalls(own, kept, len(stratum)) for own in rows])


def _recalls(folds: Sequence[ScoredRows], kept: Sequence[int], n_units: int) -> Statistic:
    """Mean over folds of the mean recall over the kept classes; a row may be given any class of the task."""
    counts, units = [], []
    for number, fold in enumerate(folds):
        place, right = np.searchsorted(kept, fold.labels) + 2 * len(kept) * number, fold.predictions == fold.labels
        counts += [place[right], place + len(kept)]
        units += [fold.unit[right], fold.unit]
    where = np.concatenate(counts), np.concatenate(units)
    shape = 2 * len(kept) * len(folds), n_units

    def of(counts: FloatArray) -> FloatArray:
        hits, rows = counts.reshape(len(folds), 2, len(kept), -1).swapaxes(0, 1)
        shares = np.divide(hits, rows, out=np.full(hits.shape, np.nan, dtype=hits.dtype), where=rows > 0)
        return shares.mean(axis=(0, 1))

    return Statistic(sparse.csr_array((np.ones(len(where[0]), dtype=np.int64), where), shape=shape), of)


def _gaps(cell: ScoredCell, numbered: Sequence[_Group]) -> list[tuple[Gap, Asked | None]]:
    """Every group with a number against the largest one."""
    if len(numbered) < 2:
        return []
    reference = max(numbered, key=lambda group: group.units)
    return [_gap(cell, group, reference) for group in numbered if group is not reference]


def _gap(cell: ScoredCell, group: _Group, reference: _Group) -> tuple[Gap, Asked | None]:
    kept = sorted(set(group.classes) & set(reference.classes))
    told = tuple(cell.record.data.labels[c] for c in kept)
    reason = _too_small(cell, [group, reference], kept)
    if reason:
        return Gap(group.name, reference.name, told, None, f"over the classes of both: {reason}"), None
    return Gap(group.name, reference.name, told, None), _asked(cell, [group, reference], kept)
