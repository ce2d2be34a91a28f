"""Which rows train and which are judged: the released draw, draws that depend on image ids alone, and their base."""

import hashlib
import random
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, FewRowsError, SpecError
from cxrbench.specs import catalog
from cxrbench.system.contained import containing
from cxrbench.types import Fold, IntArray, Shots

N_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Pool:
    """The rows that training images are drawn from, in table order: those of the training part that bear a class.

    `ids` (n,), which may repeat; `labels` (n,) from 0 to `n_classes` - 1; `task` its name.
    """

    ids: Sequence[str]
    labels: IntArray
    n_classes: int
    task: str


class Draw(ABC):
    """One rule for K training images per class; its class is named by an entry point of the group `cxrbench.draws`.

    `name` is the word for it in `--set fewshot.draw=NAME` and in records. There are `folds` draws, numbered from 0.
    One that is `equal` gives K images of each class, or all that a class has; of others the record says how many
    images of each class were drawn. `of_findings`: in multi-label tasks, `finding_draws` stands for it.
    """

    name: ClassVar[str]
    folds: ClassVar[int] = N_FOLDS
    equal: ClassVar[bool] = True
    of_findings: ClassVar[bool] = False

    @abstractmethod
    def rows(self, pool: Pool, fold: int, shots: Sequence[int]) -> Mapping[int, IntArray]:
        """For each K of `shots` the numbers of the pool's rows that fold `fold` trains on, in fitting order.

        The same arguments give the same rows, and those of a K do not depend on what else is in `shots`. Raises
        FewRowsError for classes that have too few rows.
        """


def load_draw(name: str) -> Draw:
    """A draw by name; raises SpecError with the nearest names for one that does not exist or is none.

    What goes wrong in importing it, of whatever kind, is an error that names it.
    """
    point = catalog.one_point("draw", name, catalog.draw_points())
    with containing(f"draw {name}: loading {point.value}"):
        kind = point.load()
        if not isinstance(kind, type) or not issubclass(kind, Draw) or kind.name != name or kind.folds < 1:
            raise SpecError(f"draw {name}: {point.value} is no cxrbench.evaluate.draws.Draw of that name with folds")
        return kind()


def drawn_rows(draw: Draw, pool: Pool, fold: int, shots: Sequence[int]) -> dict[Shots, IntArray]:
    """What the draw gives for each K, checked: whole numbers of rows that the pool has, at least one.

    Raises DataError that names the draw for anything else.
    """
    found = draw.rows(pool, fold, shots)
    return {k: _checked(draw, pool, fold, k, found) for k in shots}


def _checked(draw: Draw, pool: Pool, fold: int, k: int, found: Mapping[int, IntArray]) -> IntArray:
    rows = np.asarray(found.get(k, ()))
    if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer):
        raise DataError(f"draw {draw.name}, fold {fold}, K = {k}: gave no list of row numbers, but {rows!r:.60}")
    if rows.min() < 0 or rows.max() >= len(pool.ids):
        raise DataError(
            f"draw {draw.name}, fold {fold}, K = {k}: gave rows {rows.min()} to {rows.max()} of a pool of "
            f"{len(pool.ids)}, whose rows are numbered from 0"
        )
    return rows.astype(np.int64)


class Released(Draw):
    """Python's generator, seeded with the fold number, shuffles the table: see `released_fold`."""

    name = "released"
    of_findings = True

    def rows(self, pool: Pool, fold: int, shots: Sequence[int]) -> Mapping[int, IntArray]:
        """The first K of each class; a class with fewer than the largest repeats its own."""
        train = released_fold(pool.labels, pool.n_classes, fold, shots, 0).train
        return {k: train[k] for k in shots}


class HashRank(Draw):
    """The K lowest ranks of each class: see `hash_rank_fold`."""

    name = "hash-rank-v1"
    of_findings = True

    def rows(self, pool: Pool, fold: int, shots: Sequence[int]) -> Mapping[int, IntArray]:
        """An image once; a class with fewer than K images gives all it has."""
        train = hash_rank_fold(pool.ids, pool.labels, task=pool.task, fold=fold, shots=shots).train
        return {k: train[k] for k in shots}


@dataclass(frozen=True, slots=True)
class Usable:
    """Rows of a table that belong to exactly one of an experiment's classes, in table order."""

    rows: IntArray  # (n,) row numbers of the table
    labels: IntArray  # (n,) class index, 0 to C - 1


def usable_rows(labels: NDArray[np.integer], columns: Sequence[int]) -> Usable:
    """Rows of one-hot labels (N, all classes) whose sum over `columns`, the experiment's classes, is exactly 1.

    The class is the position in `columns` of the largest label: -1 counts in the sum, as in the released code.
    """
    chosen = np.asarray(labels, dtype=np.int64)[:, list(columns)]
    rows = np.flatnonzero(chosen.sum(axis=1) == 1)
    return Usable(rows, chosen[rows].argmax(axis=1))


def released_fold(labels: IntArray, n_classes: int, fold: int, shots: Iterable[int], test_percent: int) -> Fold:
    """The fold that the released code draws from usable rows in table order; numbers are positions in `labels` (n,).

    The table is shuffled by Python's generator seeded with `fold`. Class by class, the first
    int(test_percent / 100 * count) rows are test (the floor of a floating product), the next K train. Classes that
    have fewer than the largest repeat rows of their own, drawn class by class by the same generator, and placed after
    the class's own. K-shot sets are nested as long as nothing is repeated.

    `random_state` is what the draw with the largest of `shots` leaves: prompts of the set `ensemble` go on from it.
    Only a class with fewer than K rows makes it depend on K: the recorded prompts go with every K from 1 to 16, and
    exclude a training list without a limit. Raises DataError for a class that has exactly one row (at
    which the released code stops) or, when rows must be repeated, none left for training. Source: protocol facts,
    section 3.
    """
    rng = random.Random(fold)
    shuffled = _shuffled(len(labels), rng)
    test, rest = _cut(_by_class(labels, shuffled, n_classes), test_percent)
    after_shuffle = state = rng.getstate()
    train: dict[Shots, IntArray] = {}
    for k in _ascending(shots):
        rng.setstate(after_shuffle)
        train[k] = _concatenated(_balanced([rows[:k] for rows in rest], rng))
        state = rng.getstate()
    return Fold(fold=fold, train=train, test=_concatenated(test), random_state=state)


def hash_rank_fold(
    ids: Sequence[str], labels: IntArray, *, task: str, fold: int, shots: Iterable[int], test: IntArray | None = None
) -> Fold:
    """K images per class with the lowest SHA-256 rank (setting `fewshot.draw = hash-rank-v1`).

    The rank of an image is the hex digest of `cxrbench:fewshot:v1:<task>:<fold>:<id>`, so a draw depends on ids, not on
    the table's order; the sets of growing K are nested. An image enters once, by its first row. `test` (m,), where test
    rows are in the same table, and all other rows of the same images are left out; it is the fold's test part (empty
    by default). A class with fewer than K images gives all it has, in which case nothing is repeated.
    """
    held_out = np.empty(0, np.int64) if test is None else test
    taken = {ids[i] for i in held_out}
    first_rows: dict[tuple[int, str], int] = {}
    for row, (label, name) in enumerate(zip(labels.tolist(), ids, strict=True)):
        if name not in taken:
            first_rows.setdefault((label, name), row)
    ranked = sorted(first_rows, key=lambda key: (key[0], _hash(f"cxrbench:fewshot:v1:{task}:{fold}:{key[1]}")))
    rows = np.array([first_rows[key] for key in ranked], dtype=np.int64)
    per_class = [rows[labels[rows] == c] for c in np.unique(labels[rows])]
    train: dict[Shots, IntArray] = {k: _concatenated([r[:k] for r in per_class]) for k in _ascending(shots)}
    return Fold(fold=fold, train=train, test=held_out)


def finding_draws(
    ids: Sequence[str], labels: IntArray, *, task: str, fold: int, shots: Iterable[int]
) -> dict[Shots, IntArray]:
    """Training rows of a multi-label task for each number of shots, from labels (n, C) of 1, 0 and UNKNOWN.

    Of every finding the K images that show it with the lowest SHA-256 rank, and K images that are known to show none;
    an image that is drawn for several findings enters once. The rank is the hex digest of
    `cxrbench:findings:v1:<task>:<fold>:<id>`, so a draw depends on ids alone; the sets of growing K are nested. Rows
    come in the order of their ranks. A finding that fewer than K images show gives all that it has.
    """
    first = {name: row for row, name in reversed(list(enumerate(ids)))}
    ranked = sorted(first, key=lambda name: _hash(f"cxrbench:findings:v1:{task}:{fold}:{name}"))
    order = np.array([first[name] for name in ranked], dtype=np.int64)
    own = [*(labels[order] == 1).T, (labels[order] == 0).all(axis=1)]
    chosen = {k: np.any([shown & (np.cumsum(shown) <= k) for shown in own], axis=0) for k in _ascending(shots)}
    return {k: order[rows] for k, rows in chosen.items()}


def partition_folds(
    ids: Sequence[str], labels: IntArray, patients: Sequence[str] | None, task: str, n_folds: int = N_FOLDS
) -> tuple[IntArray, ...]:
    """Test parts (sorted rows) that cover all rows once and split no patient (`5x200.folds = patient-partition-v1`).

    Patients (images, where patients are None) with many rows go first, equals by the SHA-256 rank of
    `cxrbench:folds:v1:<task>:<patient>`. Each joins the part that has fewest rows of the patient's classes, then fewest
    rows at all, then the lowest number. With one row a patient, no class differs by more than one row between parts.
    The rows' order does not matter. Raises DataError when there are fewer patients than folds.
    """
    groups: dict[str, list[int]] = {}
    for row, name in enumerate(ids if patients is None else patients):
        groups.setdefault(name, []).append(row)
    if len(groups) < n_folds:
        raise DataError(f"{task}: {len(groups)} patients cannot be put into {n_folds} test parts")
    n_classes = int(labels.max()) + 1
    sizes = np.zeros((n_folds, n_classes), dtype=np.int64)
    parts: list[list[int]] = [[] for _ in range(n_folds)]
    for name in sorted(groups, key=lambda g: (-len(groups[g]), _hash(f"cxrbench:folds:v1:{task}:{g}"))):
        classes = np.bincount(labels[groups[name]], minlength=n_classes)
        part = min(range(n_folds), key=lambda p: (int(sizes[p] @ classes), int(sizes[p].sum()), p))
        sizes[part] += classes
        parts[part].extend(groups[name])
    return tuple(np.array(sorted(part), dtype=np.int64) for part in parts)


def _shuffled(n: int, rng: random.Random) -> list[int]:
    rows = list(range(n))
    rng.shuffle(rows)
    return rows


def _by_class(labels: IntArray, rows: Sequence[int], n_classes: int) -> list[list[int]]:
    groups: list[list[int]] = [[] for _ in range(n_classes)]
    for row in rows:
        groups[labels[row]].append(row)
    if alone := [c for c, group in enumerate(groups) if len(group) == 1]:
        raise FewRowsError(
            alone,
            "has exactly one row, at which the released draw stops. "
            "Check that all images are there, or choose the variant fewshot.draw=hash-rank-v1.",
        )
    return groups


def _cut(groups: Sequence[Sequence[int]], test_percent: int) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    if not 0 <= test_percent <= 100:
        raise SpecError(f"{test_percent} % of the rows cannot be test; 0 to 100 can")
    ends = [int(test_percent / 100 * len(group)) for group in groups]
    return [g[:e] for g, e in zip(groups, ends, strict=True)], [g[e:] for g, e in zip(groups, ends, strict=True)]


def _balanced(groups: Sequence[Sequence[int]], rng: random.Random) -> list[Sequence[int]]:
    largest = max(len(group) for group in groups)
    if empty := [c for c, group in enumerate(groups) if not group]:
        raise FewRowsError(empty, "has no row left to train on; check that all images are there")
    return [[*g, *rng.choices(g, k=largest - len(g))] if len(g) < largest else g for g in groups]


def _ascending(shots: Iterable[int]) -> list[int]:
    ascending = sorted(set(shots))
    if ascending and ascending[0] < 1:
        raise SpecError(f"shots must be positive, not {ascending[0]}")
    return ascending


def _concatenated(groups: Sequence[Sequence[int]]) -> IntArray:
    return np.array([row for group in groups for row in group], dtype=np.int64)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
