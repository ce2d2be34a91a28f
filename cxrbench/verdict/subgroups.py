"""A cell by sex, age or view of its images: the number in each group, and how far groups lie apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cxrbench.errors import DataError
from cxrbench.evaluate.statistics.interval import RESAMPLES, Resampled, around
from cxrbench.evaluate.statistics.resample import Statistic, replicates
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import ScoredRows, UnitKind, strata
from cxrbench.index import IntArray
from cxrbench.verdict.average import shared_strata
from cxrbench.verdict.cell import seeded
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
    values = cell.about.get(by, ())
    if not any(value is not None for value in values):
        record = cell.record
        raise DataError(
            f"{record.data.task}, record {record.id}: the predictions tell no image's {by}: the label tables of this "
            "data set have no such column, or the record is older than it; run the cell again to find out"
        )
    names = [_group(by, value) for value in values]
    tested = np.unique(np.concatenate(cell.image))
    order = [name for name, _ in BANDS] if by == "age" else sorted({name for name in names if name is not None})
    groups = [group for name in order if (group := _rows(cell, name, names)).images]
    told = [_subgroup(cell, by, group, resamples) for group in groups]
    known = {number for number, name in enumerate(names) if name is not None}
    unknown = sum(int(image) not in known for image in tested)
    gaps = _gaps(cell, by, groups, told, resamples)
    return Subgroups(cell.record.id, by, cell.over, len(tested), unknown, tuple(told), tuple(gaps))


def _group(by: By, value: str | None) -> str | None:
    """The group that an image's value puts it in; bands hold whole years from their first age on."""
    if value is None or by != "age":
        return value
    return [name for name, first in BANDS if int(value) >= first][-1]


def _rows(cell: ScoredCell, name: str, names: Sequence[str | None]) -> _Group:
    chosen = np.array([own == name for own in names])
    masks = [chosen[image] for image in cell.image]
    n_classes = cell.folds[0].scores.shape[1]
    pairs = list(zip(cell.folds, masks, strict=True))
    fewest = [[len(np.unique(f.unit[m & (f.labels == c)])) for c in range(n_classes)] for f, m in pairs]
    return _Group(
        name,
        len(np.unique(np.concatenate([image[m] for image, m in zip(cell.image, masks, strict=True)]))),
        tuple(ScoredRows(f.unit[m], f.labels[m], f.scores[m]) if m.any() else None for f, m in pairs),
        len(np.unique(np.concatenate([f.unit[m] for f, m in pairs]))),
        np.array(fewest).min(axis=0),
    )


def _subgroup(cell: ScoredCell, by: By, group: _Group, resamples: int) -> Subgroup:
    labels, kept = cell.record.data.labels, group.classes
    left_out = {label: int(n) for c, (label, n) in enumerate(zip(labels, group.fewest, strict=True)) if c not in kept}
    told = tuple(labels[c] for c in kept)
    reason = _too_small(cell, [group], kept)
    if reason:
        return Subgroup(group.name, group.images, group.units, told, left_out, None, reason)
    rows = _only(group, kept)
    stratum = strata(rows)
    found = _recalls(rows, kept, len(stratum))
    values = replicates([found], stratum, resamples, seeded(cell.record.id, by, group.name))[0]
    interval = around(found.estimate, Resampled(values, cell.over, group.units), (0, 1))
    return Subgroup(group.name, group.images, group.units, told, left_out, interval)


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


def _recalls(folds: Sequence[ScoredRows], kept: Sequence[int], n_units: int) -> Statistic:
    """Mean over folds of the mean recall over the kept classes; a row may be given any class of the task."""
    pieces = []
    for fold in folds:
        place = np.searchsorted(kept, fold.labels)
        for rows in (fold.predictions == fold.labels, np.ones(len(place), dtype=bool)):
            ones = np.ones(int(rows.sum()), dtype=np.int64)
            pieces.append(sparse.csr_array((ones, (place[rows], fold.unit[rows])), shape=(len(kept), n_units)))

    def of(counts: FloatArray) -> FloatArray:
        hits, rows = counts.reshape(len(folds), 2, len(kept), -1).swapaxes(0, 1)
        shares = np.divide(hits, rows, out=np.full(hits.shape, np.nan, dtype=hits.dtype), where=rows > 0)
        return shares.mean(axis=(0, 1))

    return Statistic(sparse.vstack(pieces, format="csr"), of)


def _gaps(cell: ScoredCell, by: By, groups: Sequence[_Group], told: Sequence[Subgroup], resamples: int) -> list[Gap]:
    """Every group with a number against the largest one."""
    numbered = [group for group, own in zip(groups, told, strict=True) if own.interval is not None]
    if len(numbered) < 2:
        return []
    reference = max(numbered, key=lambda group: group.units)
    return [_gap(cell, by, group, reference, resamples) for group in numbered if group is not reference]


def _gap(cell: ScoredCell, by: By, group: _Group, reference: _Group, resamples: int) -> Gap:
    kept = sorted(set(group.classes) & set(reference.classes))
    told = tuple(cell.record.data.labels[c] for c in kept)
    reason = _too_small(cell, [group, reference], kept)
    if reason:
        return Gap(group.name, reference.name, told, None, f"over the classes of both: {reason}")
    rows = [_only(one, kept) for one in (group, reference)]
    stratum = shared_strata([strata(own) for own in rows], len(cell.units))
    both = [_recalls(own, kept, len(cell.units)) for own in rows]
    drawn = replicates(both, stratum, resamples, seeded(cell.record.id, by, group.name, reference.name))
    estimate = both[0].estimate - both[1].estimate
    apart = Resampled(drawn[0] - drawn[1], cell.over, int((stratum >= 0).sum()))
    interval = around(estimate, apart, (-1, 1))
    return Gap(group.name, reference.name, told, interval)
