"""The parts of a data set of one's own: by a column, or by shares in hash-rank order."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.splits import rank
from cxrbench.errors import DataError
from cxrbench.specs.own_data import ANY, PARTS, ColumnSplit, RatioSplit

_SALT = "cxrbench:own:v1"


def by_column(path: Path, values: Sequence[str], rule: ColumnSplit) -> NDArray[np.object_]:
    """The part of each row (n,), "" for a row that is left out; DataError names a value that no part has."""
    part_of = {value: part for part in PARTS for value in getattr(rule, part)} | dict.fromkeys(rule.leave_out, "")
    meaning: dict[str, str] = {}
    for value in dict.fromkeys(values):
        part = part_of.get(value, part_of.get(ANY))
        if part is None:
            told = "; ".join(f"{name}: {', '.join(getattr(rule, name))}" for name in PARTS)
            raise DataError(
                f"{path}: data row {values.index(value) + 1}: {rule.column} is {value!r}, which is no part ({told}). "
                "Name it in the params of the split, as one of a part or of leave_out."
            )
        meaning[value] = part
    return np.array([meaning[value] for value in values], dtype=object)


def by_shares(units: Sequence[str], labels: NDArray[np.int8], rule: RatioSplit) -> NDArray[np.object_]:
    """The part of each row (n,); rows of one unit (a patient, else an image) come into one part.

    Units are put in order by the labels that their rows have together, and those of equal labels by SHA-256 of
    `salt:unit`; then each goes to the part that is furthest below its share. So parts have nearly the same mixture of
    labels, and neither the order of the rows nor that of the files decides anything. `labels` (n, C).
    """
    marks: dict[str, NDArray[np.bool_]] = {}
    holds = labels == 1
    for unit, row in zip(units, holds, strict=True):
        marks[unit] = marks[unit] | row if unit in marks else row
    salt = f"{_SALT}:{rule.seed}"
    order = sorted(marks, key=lambda unit: (marks[unit].tobytes(), rank(salt, unit)))
    shares = [(part, share) for part in PARTS if (share := getattr(rule, part)) > 0]
    counts, chosen = dict.fromkeys(PARTS, 0), dict[str, str]()
    for place, unit in enumerate(order, start=1):
        part = max(shares, key=lambda one: one[1] * place - counts[one[0]])[0]
        counts[part] += 1
        chosen[unit] = part
    return np.array([chosen[unit] for unit in units], dtype=object)


def share_patients(parts: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A note for every two parts that have patients in common; `parts` to the patients of their rows."""
    names, notes = list(parts), []
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            if shared := set(parts[one]) & set(parts[other]):
                notes.append(f"{one} and {other} share {len(shared):,} patients, such as {min(shared)}")
    return tuple(notes)
