"""Folds of one task and label group as image ids: what the evaluators and the records need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, NotApplicableError, SpecError
from cxrbench.evaluate.draws import finding_draws, hash_rank_fold, partition_folds, released_fold, usable_rows
from cxrbench.specs.settings import Settings
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Fold, Partition, Table

IntArray = NDArray[np.int64]
Rows = tuple[tuple[str, ...], IntArray]  # image ids, and class indices (n,) or, of a multi-label task, labels (n, C)

N_FOLDS = 5


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """The rows of a table that carry exactly one of a group's labels, in table order."""

    ids: tuple[str, ...]
    labels: IntArray  # (n,) index into the group's labels
    patients: tuple[str, ...] | None

    def at(self, rows: IntArray) -> Rows:
        """Ids and labels of some rows, in their order."""
        return tuple(self.ids[row] for row in rows), self.labels[rows]


@dataclass(frozen=True, slots=True)
class IdFold:
    """One fold by image ids: K-shot training rows (with repeats) and test rows, each with its label.

    `valid`: the rows of a multi-label task on which thresholds are chosen, where its split has such a part.
    """

    fold: int
    train: Mapping[int, Rows]
    test: Rows
    random_state: Any
    valid: Rows | None = None

    @property
    def scored(self) -> tuple[str, ...]:
        """All images that a protocol scores: those of the test part, then of the validation part."""
        return self.test[0] + (() if self.valid is None else self.valid[0])


def labelled(table: Table, labels: Sequence[str]) -> LabelledRows:
    """A table's usable rows for a group of labels; every other row drops out."""
    usable = usable_rows(table.labels, [table.classes.index(label) for label in labels])
    patients = None if table.patients is None else tuple(table.patients[row] for row in usable.rows)
    return LabelledRows(tuple(table.ids[row] for row in usable.rows), usable.labels, patients)


def group_labels(task: TaskSpec, group: str, settings: Settings) -> tuple[str, ...]:
    """The labels of a group in their released order, with the twentieth class of NIH-LT where the variant has it."""
    name = f"{group}-20" if settings.nih_classes == "20" and f"{group}-20" in task.groups else group
    if name not in task.groups:
        raise SpecError(f"{task.name} has no group {group!r}; it has {', '.join(task.groups)}")
    return tuple(task.groups[name])


def id_folds(
    task: TaskSpec, partition: Partition, group: str, shots: Sequence[int], settings: Settings, test_part: str
) -> list[IdFold]:
    """The five folds of a group. `test_part` names the part that is scored where the task has separate parts.

    `random_state` of each fold is what the draw of the largest of `shots` leaves.
    """
    labels = group_labels(task, group, settings)
    if task.kind == "retrieval":
        return [_of_retrieval(partition, group, labels)]
    if task.kind == "multi-label":
        return _of_findings(task, partition, labels, shots, test_part)
    if task.folds == "resplit":
        pool = labelled(partition.parts["all"], labels)
        return [_by_id(fold, pool, pool) for fold in _resplit(task, pool, len(labels), shots, settings)]
    train, test = labelled(partition.parts["train"], labels), labelled(partition.parts[test_part], labels)
    everything = np.arange(len(test.ids), dtype=np.int64)
    folds = (_draw(task, train, len(labels), fold, shots, settings) for fold in range(N_FOLDS))
    return [_by_id(Fold(f.fold, f.train, everything, f.random_state), train, test) for f in folds]


def _of_retrieval(partition: Partition, group: str, labels: Sequence[str]) -> IdFold:
    """The one fold of a retrieval task: every image that asks or is asked for, each once."""
    names = {"a-image-to-image": ("test", "candidates"), "a-text-to-image": ("candidates",)}.get(group, ("test",))
    if lost := [name for name in names if name not in partition.parts]:
        raise DataError(f"{partition.task}: split {partition.split} has no part {', '.join(lost)} for group {group}")
    parts = [_findings(partition.parts[name], labels) for name in names]
    ids = tuple(image for part in parts for image in part[0])
    if len(set(ids)) != len(ids):
        twice = next(image for image in ids if ids.count(image) > 1)
        raise DataError(f"{partition.task}: {twice} asks and is asked for, or stands there twice: each image once")
    return IdFold(0, {}, (ids, np.concatenate([part[1] for part in parts])), None)


def _of_findings(
    task: TaskSpec, partition: Partition, labels: Sequence[str], shots: Sequence[int], test_part: str
) -> list[IdFold]:
    """Folds of a multi-label task, which has every row: they differ in training images alone, if it trains on any."""
    parts = {name: _findings(table, labels) for name, table in partition.parts.items()}
    train, test, valid = parts.get("train"), parts[test_part], parts.get("valid")
    if valid is not None:
        valid = _apart(valid, test, f"{task.name}, split {partition.split}")
    if train is None:
        if shots:
            raise NotApplicableError(
                f"{task.name}: split {partition.split} has no training part, so no probe can be fitted to it; choose "
                f"another by --set {task.name}.split=NAME, or score the task zero-shot"
            )
        return [IdFold(0, {}, test, None, valid)]
    draws = (finding_draws(*train, task=task.name, fold=fold, shots=shots) for fold in range(N_FOLDS if shots else 1))
    return [
        IdFold(
            fold,
            {k: (tuple(train[0][row] for row in rows), train[1][rows]) for k, rows in drawn.items()},
            test,
            None,
            valid,
        )
        for fold, drawn in enumerate(draws)
    ]


_MOST_SHARED = 0.1  # of the validation images; more is a mistaken list


def _apart(valid: Rows, test: Rows, where: str) -> Rows:
    """The validation rows whose image is no test image, so that no threshold is ever chosen on one.

    Raises DataError where many are: then the lists are not what they should be.
    """
    tested = set(test[0])
    kept = [row for row, image in enumerate(valid[0]) if image not in tested]
    if shared := len(valid[0]) - len(kept):
        first = next(image for image in valid[0] if image in tested)
        if shared > _MOST_SHARED * len(valid[0]):
            raise DataError(
                f"{where}: {shared} of {len(valid[0])} validation images are test images, {first} for one, and no "
                "threshold may be chosen on those. Look at the lists of the two parts."
            )
    return tuple(valid[0][row] for row in kept), valid[1][kept]


def _findings(table: Table, labels: Sequence[str]) -> Rows:
    places = [table.classes.index(label) for label in labels]
    return table.ids, table.labels[:, places].astype(np.int64)


def _resplit(
    task: TaskSpec, pool: LabelledRows, n_classes: int, shots: Sequence[int], settings: Settings
) -> list[Fold]:
    """Folds of a task without a fixed test part."""
    if settings.resplit == "released":
        folds = range(N_FOLDS)
        return [released_fold(pool.labels, n_classes, fold, shots, task.test_percent) for fold in folds]
    parts = partition_folds(pool.ids, pool.labels, pool.patients, task.name, N_FOLDS)
    return [_beside(task, pool, n_classes, fold, test, shots, settings) for fold, test in enumerate(parts)]


def _beside(
    task: TaskSpec,
    pool: LabelledRows,
    n_classes: int,
    fold: int,
    test: IntArray,
    shots: Sequence[int],
    settings: Settings,
) -> Fold:
    """Training rows drawn from everything that is not in the test part."""
    rest = np.setdiff1d(np.arange(len(pool.ids)), test)
    drawn = _draw(task, LabelledRows(*pool.at(rest), None), n_classes, fold, shots, settings)
    return Fold(fold, {k: rest[rows] for k, rows in drawn.train.items()}, test, drawn.random_state)


def _draw(
    task: TaskSpec, rows: LabelledRows, n_classes: int, fold: int, shots: Sequence[int], settings: Settings
) -> Fold:
    if settings.draw == "released":
        return released_fold(rows.labels, n_classes, fold, shots, 0)
    return hash_rank_fold(rows.ids, rows.labels, task=task.name, fold=fold, shots=shots)


def _by_id(fold: Fold, train: LabelledRows, test: LabelledRows) -> IdFold:
    return IdFold(
        fold.fold, {k: train.at(rows) for k, rows in fold.train.items()}, test.at(fold.test), fold.random_state
    )
