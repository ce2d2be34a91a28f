"""Folds of one task and label group as image ids: what the evaluators and the records need."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, NotApplicableError, SpecError
from cxrbench.evaluate.draws import (
    N_FOLDS,
    Pool,
    drawn_rows,
    finding_draws,
    load_draw,
    partition_folds,
    released_fold,
    usable_rows,
)
from cxrbench.evaluate.label_shares import share_draws, share_rows
from cxrbench.specs.settings import Settings
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Fold, Partition, Shots, Table

IntArray = NDArray[np.int64]
Rows = tuple[tuple[str, ...], IntArray]  # image ids, and class indices (n,) or, of a multi-label task, labels (n, C)

PROMPT_SHOTS = 16  # of the released draw that prompts go on from


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
    """One fold by image ids: training rows by shots (with repeats) and test rows, each with its label.

    `valid`: the rows of a multi-label task on which thresholds are chosen, where its split has such a part.
    """

    fold: int
    train: Mapping[Shots, Rows]
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


def equal_shots(shots: Shots, settings: Settings) -> bool:
    """Whether so many shots are K images of each class, as far as a class has them."""
    return isinstance(shots, int) and load_draw(settings.draw).equal


def id_folds(
    task: TaskSpec, partition: Partition, group: str, shots: Sequence[Shots], settings: Settings, test_part: str
) -> list[IdFold]:
    """The folds of a group, with training images for `shots`: numbers K, or a share or `all` alone, or none.

    `test_part` names the part that is scored where the task has separate parts. `random_state` of each fold is what the
    released draw of the largest K leaves; others leave none. Raises NotApplicableError for a multi-label task that has
    no training part, or whose images the draw cannot choose.
    """
    labels = group_labels(task, group, settings)
    if task.kind == "retrieval":
        return [_of_retrieval(partition, group, labels)]
    if task.kind == "multi-label":
        return _of_findings(task, partition, labels, shots, settings, test_part)
    if task.folds == "resplit":
        rows = labelled(partition.parts["all"], labels)
        return [_by_id(fold, rows, rows) for fold in _resplit(task, rows, len(labels), shots, settings)]
    train, test = labelled(partition.parts["train"], labels), labelled(partition.parts[test_part], labels)
    everything = np.arange(len(test.ids), dtype=np.int64)
    pool = Pool(train.ids, train.labels, len(labels), task.name)
    folds = (_trained(pool, fold, shots, settings) for fold in range(_count(shots, settings)))
    return [_by_id(replace(fold, test=everything), train, test) for fold in folds]


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
    task: TaskSpec,
    partition: Partition,
    labels: Sequence[str],
    shots: Sequence[Shots],
    settings: Settings,
    test_part: str,
) -> list[IdFold]:
    """Folds of a multi-label task, which has every row: they differ in training images alone, if it trains on any."""
    parts = {name: _findings(table, labels) for name, table in partition.parts.items()}
    train, test, valid = parts.get("train"), parts[test_part], parts.get("valid")
    if valid is not None:
        valid = _apart(valid, test, f"{task.name}, split {partition.split}")
    if shots and train is None:
        raise NotApplicableError(
            f"{task.name}: split {partition.split} has no training part, so no probe can be fitted to it; choose "
            f"another by --set {task.name}.split=NAME, or score the task zero-shot"
        )
    if train is None or not shots:
        return [IdFold(0, {}, test, None, valid)]
    folds = []
    for fold in range(_findings_count(task, shots, settings)):
        drawn = _trained_on_findings(task, train, fold, shots, settings)
        rows = {k: (tuple(train[0][row] for row in own), train[1][own]) for k, own in drawn.items()}
        folds.append(IdFold(fold, rows, test, None, valid))
    return folds


def _findings_count(task: TaskSpec, shots: Sequence[Shots], settings: Settings) -> int:
    if not all(isinstance(k, int) for k in shots):
        return _count(shots, settings)
    if not load_draw(settings.draw).of_findings:
        raise NotApplicableError(
            f"{task.name}: the draw {settings.draw} takes images class by class, and an image of a multi-label task "
            "shows several findings or none; choose --set fewshot.draw=hash-rank-v1, a share such as --shots 10%, or "
            "--shots all"
        )
    return N_FOLDS


def _trained_on_findings(
    task: TaskSpec, train: Rows, fold: int, shots: Sequence[Shots], settings: Settings
) -> dict[Shots, IntArray]:
    numbers = [k for k in shots if isinstance(k, int)]
    drawn = finding_draws(*train, task=task.name, fold=fold, shots=numbers)
    return {**drawn, **_shares(train, task.name, fold, shots, settings)}


def _shares(rows: Rows, task: str, fold: int, shots: Sequence[Shots], settings: Settings) -> dict[Shots, IntArray]:
    shares = [share for share in shots if isinstance(share, str)]
    return {share: share_rows(settings.share, share, *rows, task=task, fold=fold) for share in shares}


def _count(shots: Sequence[Shots], settings: Settings) -> int:
    """How often training images are drawn; what needs none is scored in as many folds as the paper has."""
    if shares := [share for share in shots if isinstance(share, str)]:
        return share_draws(settings.share, shares[0])
    return load_draw(settings.draw).folds if shots else N_FOLDS


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
    task: TaskSpec, rows: LabelledRows, n_classes: int, shots: Sequence[Shots], settings: Settings
) -> list[Fold]:
    """Folds of a task without a fixed test part."""
    numbers = [k for k in shots if isinstance(k, int)]
    if settings.resplit == settings.draw == "released" and len(numbers) == len(shots):
        return [released_fold(rows.labels, n_classes, fold, numbers, task.test_percent) for fold in range(N_FOLDS)]
    count = _count(shots, settings) if numbers else N_FOLDS
    if settings.resplit == "released":
        tests = [released_fold(rows.labels, n_classes, fold, (), task.test_percent).test for fold in range(count)]
    else:
        parts = partition_folds(rows.ids, rows.labels, rows.patients, task.name, N_FOLDS)
        tests = [parts[fold % N_FOLDS] for fold in range(count)]
    return [_beside(task, rows, n_classes, fold, test, shots, settings) for fold, test in enumerate(tests)]


def _beside(
    task: TaskSpec,
    rows: LabelledRows,
    n_classes: int,
    fold: int,
    test: IntArray,
    shots: Sequence[Shots],
    settings: Settings,
) -> Fold:
    """Training rows from everything whose image is not in the test part, in table order."""
    tested = {rows.ids[row] for row in test}
    rest = np.array([row for row, image in enumerate(rows.ids) if image not in tested], dtype=np.int64)
    drawn = _trained(Pool(*rows.at(rest), n_classes, task.name), fold, shots, settings)
    return Fold(fold, {k: rest[own] for k, own in drawn.train.items()}, test, drawn.random_state)


def _trained(pool: Pool, fold: int, shots: Sequence[Shots], settings: Settings) -> Fold:
    """Training rows by shots, and what the released draw leaves; no test rows."""
    numbers = [k for k in shots if isinstance(k, int)]
    if settings.draw == "released" and len(numbers) == len(shots):
        return released_fold(pool.labels, pool.n_classes, fold, numbers, 0)
    drawn = drawn_rows(load_draw(settings.draw), pool, fold, numbers) if numbers else {}
    shares = _shares((tuple(pool.ids), pool.labels), pool.task, fold, shots, settings)
    return Fold(fold, {**drawn, **shares}, np.empty(0, np.int64))


def _by_id(fold: Fold, train: LabelledRows, test: LabelledRows) -> IdFold:
    return IdFold(
        fold.fold, {k: train.at(rows) for k, rows in fold.train.items()}, test.at(fold.test), fold.random_state
    )
