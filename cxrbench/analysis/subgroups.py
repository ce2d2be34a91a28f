"""A cell by sex, age or view of its images: the number in each group, and how far groups lie apart."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.analysis.cell import covered
from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.findings import FindingRows
from cxrbench.evaluate.statistics.finding_shares import AnyRows, areas_of_findings, finding_units, of_kind
from cxrbench.evaluate.statistics.interval import Covers, Interval, estimate, interval, sparse
from cxrbench.evaluate.statistics.shares import ScoredRows, Shares, UnitKind, class_units, hits, shared_strata
from cxrbench.records.predictions import ScoredCell
from cxrbench.types import IntArray

FloatArray = NDArray[np.float64]
By = Literal["sex", "age", "view"]

BANDS = (("<18", 0), ("18–40", 18), ("40–60", 40), ("60–80", 60), ("80+", 80))  # each from its age to below the next
FEWEST = 20  # units (patients or images) that a group must have in every fold to be given a number
FEWEST_OF_CLASS = 5  # units of a class in every fold, for the class to be part of a group's number
RULE = (
    f"a group's number is the mean recall over the classes with at least {FEWEST_OF_CLASS} test patients or images of "
    f"it in every fold (in a multi-label task the mean AUROC over the findings with as many that show it, and that do "
    f"not); with fewer than {FEWEST} in all, or no such class, there is no number"
)


@dataclass(frozen=True, slots=True)
class Subgroup:
    """One group: how many test images and units it has, the classes that its number is over, and the number.

    `left_out` maps the other classes to how many units the poorest fold has of them. With all classes in, the number is
    the main metric. Without a number `interval` is None and `reason` says why.
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
    number: str = "mean recall"  # what a group's number is


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of a group by fold, and its units of each class in the poorest fold (C,)."""

    name: str
    images: int
    folds: tuple[AnyRows | None, ...]
    units: int
    fewest: IntArray

    @property
    def classes(self) -> list[int]:
        """Classes that can be part of a number."""
        return [int(c) for c in np.flatnonzero(self.fewest >= FEWEST_OF_CLASS)]


def subgroups(cell: ScoredCell, by: By, *, these_draws: bool = False) -> Subgroups:
    """The groups of a cell by one attribute, with their counts. Raises DataError where no image has the attribute."""
    if cell.kind == "retrieval":
        raise NotApplicableError(f"{cell.record.data.task} is a retrieval task: its queries are looked at all together")
    values, covers = cell.about.get(by, ()), covered(cell.record, these_draws=these_draws)
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
    told = [_subgroup(cell, group, covers) for group in groups]
    numbered = [group for group, own in zip(groups, told, strict=True) if not own.reason]
    return Subgroups(
        cell.record.id,
        by,
        cell.over,
        len(tested),
        int((names[tested] == "").sum()),
        tuple(told),
        tuple(_gaps(cell, numbered, covers)),
        "mean recall" if cell.kind == "single-label" else "mean AUROC",
    )


def _group(by: By, value: str | None) -> str | None:
    """The group that an image's value puts it in; bands hold whole years from their first age on."""
    if value is None or by != "age":
        return value
    return [name for name, first in BANDS if int(value) >= first][-1]


def _rows(cell: ScoredCell, name: str, chosen: NDArray[np.bool_]) -> _Group:
    """The rows of the chosen images (I,)."""
    pairs = [(fold, chosen[image]) for fold, image in zip(cell.folds, cell.image, strict=True)]
    folds = tuple(f.at(m) if m.any() else None for f, m in pairs)
    return _Group(
        name,
        len(np.unique(np.concatenate([image[chosen[image]] for image in cell.image]))),
        folds,
        len(np.unique(np.concatenate([f.unit[m] for f, m in pairs]))),
        _fewest(folds, len(cell.record.data.labels)),
    )


def _fewest(folds: Sequence[AnyRows | None], n_classes: int) -> IntArray:
    """The units of each class (C,) in the poorest fold; of a finding, the fewer of those that show it and do not."""
    there = [fold for fold in folds if fold is not None]
    if len(there) < len(folds):
        return np.zeros(n_classes, dtype=np.int64)
    findings = of_kind(there, FindingRows)
    return finding_units(findings).min(axis=1) if findings else class_units(of_kind(there, ScoredRows))


def _subgroup(cell: ScoredCell, group: _Group, covers: Covers) -> Subgroup:
    labels, kept = cell.record.data.labels, group.classes
    left_out = {label: int(n) for c, (label, n) in enumerate(zip(labels, group.fewest, strict=True)) if c not in kept}
    told, reason = tuple(labels[c] for c in kept), _too_small(cell, [group], kept)
    number = None
    if not reason:
        found = estimate(_number(group, kept), (0, 1), covers)
        number = interval(found, cell.over, group.units, (covers,), _few(cell, [group], kept))
    return Subgroup(group.name, group.images, group.units, told, left_out, number, reason)


def _too_small(cell: ScoredCell, groups: Sequence[_Group], kept: Sequence[int]) -> str:
    """Why groups give no number over the kept classes; empty where they do."""
    if not kept:
        return f"no class has {FEWEST_OF_CLASS} {cell.over}s in every fold"
    fewest = min(min(len(np.unique(fold.unit)) for fold in _only(group, kept)) for group in groups)
    return f"{fewest} {cell.over}s, fewer than {FEWEST}" if fewest < FEWEST else ""


def _only(group: _Group, kept: Sequence[int]) -> list[AnyRows]:
    """The folds with the rows of the kept classes alone; all rows of a multi-label task."""
    folds = [fold for fold in group.folds if fold is not None]
    return [fold.at(np.isin(fold.labels, kept)) if isinstance(fold, ScoredRows) else fold for fold in folds]


def _few(cell: ScoredCell, groups: Sequence[_Group], kept: Sequence[int]) -> str:
    """The warning of kept classes that one of the groups has few units of."""
    fewest = np.min([group.fewest for group in groups], axis=0)
    return sparse({cell.record.data.labels[c]: int(fewest[c]) for c in kept}, cell.over)


def _number(group: _Group, kept: Sequence[int]) -> Shares:
    """The mean recall, or of findings the mean AUROC, over the kept classes, as a mean over folds.

    A row may be given any class of the task.
    """
    folds = _only(group, kept)
    if findings := of_kind(folds, FindingRows):
        return areas_of_findings(findings, kept)

    def worth(fold: ScoredRows) -> NDArray[np.float64]:
        counts = np.bincount(fold.labels, minlength=fold.scores.shape[1])
        found = np.zeros(len(counts))
        found[kept] = 1 / (len(kept) * counts[kept])
        return found

    return hits(of_kind(folds, ScoredRows), worth)


def _gaps(cell: ScoredCell, numbered: Sequence[_Group], covers: Covers) -> list[Gap]:
    """Every group with a number against the largest one."""
    if len(numbered) < 2:
        return []
    reference = max(numbered, key=lambda group: group.units)
    return [_gap(cell, group, reference, covers) for group in numbered if group is not reference]


def _gap(cell: ScoredCell, group: _Group, reference: _Group, covers: Covers) -> Gap:
    kept = sorted(set(group.classes) & set(reference.classes))
    told = tuple(cell.record.data.labels[c] for c in kept)
    reason = _too_small(cell, [group, reference], kept)
    if reason:
        return Gap(group.name, reference.name, told, None, f"over the classes of both: {reason}")
    apart = _apart(_number(group, kept), _number(reference, kept), len(cell.units))
    units, few = group.units + reference.units, _few(cell, [group, reference], kept)
    number = interval(estimate(apart, (-1, 1), covers), cell.over, units, (covers,), few)
    return Gap(group.name, reference.name, told, number)


def _apart(one: Shares, two: Shares, n_units: int) -> Shares:
    """The difference of numbers over other rows, of which a unit may have some in both."""

    def apart(name: str) -> FloatArray:
        own, other = (getattr(shares, name) for shares in (one, two))
        every = np.zeros((*own.shape[:-1], n_units))
        every[..., : own.shape[-1]] += own
        every[..., : other.shape[-1]] -= other
        return every

    stratum, floors = shared_strata([one.stratum, two.stratum], n_units), (*one.floors, *two.floors)
    known = None if one.freedom is None or two.freedom is None else min(one.freedom, two.freedom)
    values, shift = one.values - two.values, one.shift - two.shift
    return Shares(values, apart("each"), apart("alone"), stratum, floors, shift, freedom=known)
