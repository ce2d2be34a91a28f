"""Draws that several data sets share: row numbers by named, frozen generators, or by ranks that ids alone decide."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from cxrbench.errors import DataError
from cxrbench.store.schema import Spec
from cxrbench.types import IntArray, Table


def rank(salt: str, item: str) -> str:
    """Hex SHA-256 of `salt:item`; ranks are compared as text."""
    return hashlib.sha256(f"{salt}:{item}".encode()).hexdigest()


def ranked(salt: str, items: Iterable[str]) -> list[str]:
    """The items by ascending rank: the order depends neither on the input's order nor on the other items."""
    return sorted(items, key=lambda item: rank(salt, item))


def share(salt: str, item: str) -> float:
    """The rank's first 32 bits as a number in [0, 1): below p for a fraction p of all items."""
    return int(rank(salt, item)[:8], 16) / 2**32


class TooFewError(DataError):
    """A pool that holds fewer images than the split takes of it."""


class ThreeParts(Spec):
    """70 % train; the other 30 % halved into `first` and the remaining one of test and valid."""

    seed: int
    stratified: bool
    first: str = Field(pattern="^(test|valid)$")


class Quotas(Spec):
    """Rows per class and part, taken from the top in the order in which the parts stand in the file."""

    parts: Mapping[str, int]


class HashQuotas(Quotas):
    """As Quotas, after sorting each class by SHA-256 of `salt:id`."""

    salt: str


class Shares(Spec):
    """A fraction of all items for each part, by the hash rank of `salt:item`, in the order in which they stand here."""

    salt: str
    shares: Mapping[str, float]

    @model_validator(mode="after")
    def _whole(self) -> "Shares":
        if min(self.shares.values(), default=0) <= 0 or abs(sum(self.shares.values()) - 1) > 1e-9:
            raise ValueError("shares must be above 0 and sum up to 1")
        return self

    def part_of(self, item: str) -> str:
        """The part of an item (a patient, an image), which no other item decides."""
        place, end = share(self.salt, item), 0.0
        for part, fraction in self.shares.items():
            end += fraction
            if place < end:
                return part
        return part  # the shares may sum up to a rounding less than 1


def valid_from(train: Table, salt: str, fraction: float) -> dict[str, Table]:
    """Parts train and valid out of train: patients (images, where none are known) of the lowest hash ranks are valid.

    Raises TooFewError where a part would stay empty.
    """
    units = train.ids if train.patients is None else train.patients
    low = {unit: share(salt, unit) < fraction for unit in set(units)}
    cut = np.array([low[unit] for unit in units])
    if cut.all() or not cut.any():
        kind = "images" if train.patients is None else "patients"
        raise TooFewError(f"{len(low)} {kind} are too few to part valid from train.")
    return {"train": train.at(~cut), "valid": train.at(cut)}


def random_pair(n: int, second: float | int, seed: int, labels: IntArray | None = None) -> tuple[IntArray, IntArray]:
    """Positions 0..n-1 in two drawn parts, as scikit-learn's train_test_split draws and orders them.

    `second` is the second part's fraction or size; `labels` (n,) stratify the draw. Raises TooFewError if a part
    would stay empty.
    """
    from sklearn.model_selection import train_test_split

    try:
        one, two = train_test_split(np.arange(n), test_size=second, random_state=seed, stratify=labels)
    except ValueError as error:
        raise TooFewError(f"{n} rows are too few for this split: {error}") from error
    return one.astype(np.int64), two.astype(np.int64)


def three_parts(labels: NDArray[np.int64], rule: ThreeParts) -> dict[str, IntArray]:
    """Row numbers of train, valid and test out of len(labels) rows; both cuts use the same seed anew."""
    chosen = labels if rule.stratified else None
    train, rest = random_pair(len(labels), 0.3, rule.seed, chosen)
    one, two = random_pair(len(rest), 0.5, rule.seed, labels[rest] if rule.stratified else None)
    other = {"test": "valid", "valid": "test"}[rule.first]
    drawn = {"train": train, rule.first: rest[one], other: rest[two]}
    return {name: drawn[name] for name in ("train", "valid", "test")}


def from_the_top(
    classes: Sequence[Sequence[int] | IntArray], quotas: Mapping[str, int], names: Sequence[str]
) -> dict[str, IntArray]:
    """Per class the first rows for the first part, the next for the second, and so on; rows class after class.

    Raises TooFewError that names the class that has too few rows.
    """
    need = sum(quotas.values())
    for name, rows in zip(names, classes, strict=True):
        if len(rows) < need:
            raise TooFewError(
                f"class {name} has {len(rows)} rows, the split takes {need}. Is the download complete, and the version "
                "the right one? A split with smaller quotas needs fewer."
            )
    parts: dict[str, IntArray] = {}
    start = 0
    for part, size in quotas.items():
        parts[part] = np.array([row for rows in classes for row in rows[start : start + size]], dtype=np.int64)
        start += size
    return parts


def by_hash(
    ids: Sequence[str], index: NDArray[np.int64], rule: HashQuotas, names: Sequence[str]
) -> dict[str, IntArray]:
    """Row numbers by hash rank: one row an image, `index` (n,) its class number; see `from_the_top`."""
    position = {name: row for row, name in enumerate(ids)}
    classes = [
        [position[name] for name in ranked(rule.salt, (ids[row] for row in np.flatnonzero(index == number).tolist()))]
        for number in range(len(names))
    ]
    return from_the_top(classes, rule.parts, names)


def holding(found: Sequence[Collection[str]], columns: Sequence[str]) -> NDArray[np.int8]:
    """Labels (n, C) of 1 and 0 from the labels that hold in each row; those without a column are passed over."""
    place = {column: number for number, column in enumerate(columns)}
    labels = np.zeros((len(found), len(columns)), dtype=np.int8)
    for row, names in enumerate(found):
        labels[row, [place[name] for name in names if name in place]] = 1
    return labels


def table(
    ids: Sequence[str],
    index: NDArray[np.int64],
    rows: IntArray,
    classes: tuple[str, ...],
    patients: Sequence[str] | None = None,
    numbers: Sequence[int] | None = None,
) -> Table:
    """The chosen rows, in the order of `rows`, as a table; `ids`, `index` and `patients` are (n,) over all rows.

    `index` holds class numbers; `numbers` (C,) are those of `classes`, if not 0 to C - 1.
    """
    shown = np.arange(len(classes)) if numbers is None else np.asarray(numbers)
    return Table(
        ids=tuple(ids[row] for row in rows),
        labels=(index[rows][:, None] == shown).astype(np.int8),
        classes=classes,
        patients=None if patients is None else tuple(patients[row] for row in rows),
    )
