"""The parts of a data set of one's own: by a column, or by shares in hash-rank order."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.splits import rank
from cxrbench.errors import DataError
from cxrbench.specs.own_data import ANY, PARTS, ColumnSplit, RatioSplit
from cxrbench.types import IntArray

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
    import pandas as pd

    codes, names = pd.factorize(np.array(units, dtype=object))
    holds = np.zeros((len(names), labels.shape[1]), dtype=bool)
    for place in range(labels.shape[1]):
        holds[codes[labels[:, place] == 1], place] = True
    salt = f"{_SALT}:{rule.seed}"
    ranks = np.array([rank(salt, name) for name in names.tolist()], dtype="S64")
    order = np.lexsort((ranks, *np.packbits(holds, axis=1).T[::-1]))
    chosen = np.empty(len(names), dtype=object)
    chosen[order] = _in_turn(len(names), rule)
    return chosen[codes]


def _in_turn(count: int, rule: RatioSplit) -> list[str]:
    """The part of each of so many units in turn: the one that is furthest below its share."""
    shares = {part: share for part in PARTS if (share := getattr(rule, part)) > 0}
    due, turns = dict.fromkeys(shares, 0.0), list[str]()
    for _ in range(count):
        for part, share in shares.items():
            due[part] += share
        part = max(due, key=due.__getitem__)
        due[part] -= 1
        turns.append(part)
    return turns


def share_patients(parts: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A note for every two parts that have patients in common; `parts` to the patients of their rows."""
    names, notes = list(parts), []
    for place, one in enumerate(names):
        for other in names[place + 1 :]:
            if shared := set(parts[one]) & set(parts[other]):
                notes.append(f"{one} and {other} share {len(shared):,} patients, such as {min(shared)}")
    return tuple(notes)


def order_of(ids: Sequence[str]) -> IntArray:
    """Row numbers (n,) in the order of the ids by code point."""
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.sort_indices(pa.array(ids, pa.large_string())).to_numpy().astype(np.int64)  # UTF-8 sorts by code point
