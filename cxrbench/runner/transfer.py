"""Trained on one task, scored on another: the rows that may be drawn, what keeps the two sides apart, the folds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.sources.base import reference_verdict
from cxrbench.errors import DataError, NotApplicableError, SpecError
from cxrbench.evaluate.draws import usable_rows
from cxrbench.runner.folds import IdFold, group_labels, id_folds
from cxrbench.runner.protocol import Cell, TaskData, TrainingPart
from cxrbench.specs.settings import Settings
from cxrbench.specs.task import TaskSpec
from cxrbench.specs.transfer import LabelMapping, SharedLabel, group_name, why_apart
from cxrbench.types import Partition, Shots, Table

OF_PATIENTS = "of patients of the scored part"
OF_FILES = "of files of the scored part"
NOBODY = "image:"  # begins the patient of an image of which a collection's table tells none


@dataclass(frozen=True, slots=True)
class PairPaths(Mapping[str, Path]):
    """Where the images of two tasks lie, by their ids in a cell: those of `other` begin with `prefix`."""

    own: Mapping[str, Path]
    other: Mapping[str, Path]
    prefix: str

    def __getitem__(self, image: str) -> Path:
        if image.startswith(self.prefix):
            return self.other[image.removeprefix(self.prefix)]
        return self.own[image]

    def __iter__(self) -> Iterator[str]:
        yield from self.own
        yield from (f"{self.prefix}{name}" for name in self.other)

    def __len__(self) -> int:
        return len(self.own) + len(self.other)


def pair(source: TaskData, target: TaskData, mapping: LabelMapping, settings: Settings) -> TaskData:
    """The scored task as cells have it that are trained on another one: with the group of their shared labels.

    Raises NotApplicableError with the reason for tasks of two kinds or too few shared labels, and for a split without a
    part to train on; SpecError for a group of the task that is named like that of its cells, DataError for ids that
    could be taken for those of the other task.
    """
    scored = target.task
    if "retrieval" in (source.task.kind, scored.kind):
        raise NotApplicableError(
            f"{source.task.name} is a {source.task.kind} task and {scored.name} a {scored.kind} one: nothing is fitted "
            "to a retrieval task, and nothing that is fitted is scored on one"
        )
    if source.task.kind != scored.kind:
        raise NotApplicableError(
            f"{source.task.name} is a {source.task.kind} task and {scored.name} a {scored.kind} one: what is fitted to "
            "classes that exclude each other says nothing of findings that do not"
        )
    labels = group_labels(scored, "all", settings)
    usable = set(group_labels(source.task, "all", settings))
    shared = tuple(one for one in mapping.shared(source.task, scored, labels) if one.trained in usable)
    if reason := why_apart(source.task, scored, shared, mapping):
        raise NotApplicableError(reason)
    group = group_name(source.task, mapping, named=mapping.adds_to(source.task, scored, labels))
    if group in scored.groups:
        raise SpecError(
            f"{scored.name} has a group {group!r} of its own, which cells trained on {source.task.name} have"
        )
    part = _training_part(source, target, shared, group, mapping)
    if stranger := next((i for table in target.partition.parts.values() for i in table.ids if _like(i, part)), None):
        raise DataError(
            f"{scored.name}: image {stranger} cannot be told from one of {source.task.name}; rename the task"
        )
    groups = {**scored.groups, group: tuple(one.scored for one in shared)}
    return TaskData(
        scored.model_copy(update={"groups": groups}),
        replace(target.partition, paths=PairPaths(target.partition.paths, source.partition.paths, part.prefix)),
        target.root,
        part,
    )


def _like(image: str, part: TrainingPart) -> bool:
    return image.startswith(part.prefix)


def _training_part(
    source: TaskData, target: TaskData, shared: tuple[SharedLabel, ...], group: str, mapping: LabelMapping
) -> TrainingPart:
    """The rows of the source that may be drawn, beside those of the target that are scored."""
    part, tables = _name_of_pool(source), source.partition.parts
    test = scored_part(target)
    pool, left_out = _kept(source, target, _in_words_of_target(tables[part], shared, source.task.kind))
    parts = {"train": pool, "test": _columns(test, [one.scored for one in shared], shared)}
    if "valid" in tables and source.task.kind == "multi-label":
        valid, lost = _kept(source, target, _in_words_of_target(tables["valid"], shared, source.task.kind))
        parts["valid"] = replace(valid, ids=tuple(f"{source.task.name}:{name}" for name in valid.ids))
        left_out |= {f"for thresholds, {why}": rows for why, rows in lost.items()}
    apart, doubt = _apart(source, target, shared)
    spec = source.task.split(source.partition.split)
    counts = pool.counts
    facts = {
        "task": source.task.name,
        "split": source.partition.split,
        "part": part,
        "partition_digest": source.partition.digest,
        "reference": reference_verdict(spec, tables),
        "labels": tuple(one.trained for one in shared),
        "concepts": tuple(one.concept for one in shared),
        "mapping": mapping.name if group.endswith(f"+{mapping.name}") else None,
        "rows_per_label": {one.trained: counts[one.scored] for one in shared},
        "apart": apart,
        "doubt": doubt,
        "left_out": left_out,
        "rows_left_out": dict(source.partition.findings.left_out),
        "synthetic": source.partition.synthetic,
    }
    return TrainingPart(source, shared, group, parts, facts)


def _name_of_pool(source: TaskData) -> str:
    """The part that training images are drawn from: all rows of a task that has no test part of its own."""
    name = "all" if source.task.folds == "resplit" else "train"
    if name not in source.partition.parts:
        raise NotApplicableError(
            f"{source.task.name}: split {source.partition.split} has no training part, so nothing can be fitted to it; "
            f"choose another by --set {source.task.name}.split=NAME"
        )
    return name


def scored_part(target: TaskData) -> Table:
    """The rows that are scored: the test part, or all rows of a task that has none of its own."""
    return target.partition.parts["all" if target.task.folds == "resplit" else "test"]


def _columns(table: Table, names: Sequence[str], shared: Sequence[SharedLabel]) -> Table:
    """The rows with the labels of these names alone, in the spelling of the scored task."""
    places = [table.classes.index(name) for name in names]
    return Table(table.ids, table.labels[:, places], tuple(one.scored for one in shared), table.patients)


def _in_words_of_target(table: Table, shared: Sequence[SharedLabel], kind: str) -> Table:
    """Rows of the source with the shared labels: of classes that exclude each other those that have exactly one."""
    own = _columns(table, [one.trained for one in shared], shared)
    return own if kind == "multi-label" else own.at(usable_rows(own.labels, range(len(shared))).rows)


def _kept(source: TaskData, target: TaskData, table: Table) -> tuple[Table, dict[str, int]]:
    """The rows without those of patients or files of the scored part, and how many these are."""
    test = scored_part(target)
    patients = _mask(table.patients, set(test.patients or ())) if _one_collection(source, target) else None
    files = {path for name in test.ids if (path := target.partition.paths.get(name)) is not None}
    paths = source.partition.paths
    same = np.array([paths.get(name) in files for name in table.ids], np.bool_)
    theirs = np.zeros(len(table), np.bool_) if patients is None else patients
    counts = {OF_PATIENTS: int(theirs.sum()), OF_FILES: int((same & ~theirs).sum())}
    return table.at(~(theirs | same)), {why: rows for why, rows in counts.items() if rows}


def _mask(values: Sequence[str] | None, among: set[str]) -> NDArray[np.bool_] | None:
    return None if values is None else np.array([value in among for value in values], np.bool_)


def _one_collection(source: TaskData, target: TaskData) -> bool:
    """Whether both name a patient alike, and know the patients of all rows."""
    known = (source.partition.parts[_name_of_pool(source)].patients, scored_part(target).patients)
    own = source.task.patients.collection
    return own is not None and own == target.task.patients.collection and None not in known


def _apart(
    source: TaskData, target: TaskData, shared: Sequence[SharedLabel]
) -> tuple[Literal["patients", "collections", "unknown"], str]:
    """What keeps the training images from the scored ones, and why it may not, where nobody can tell."""
    one, other = source.task, target.task
    if _one_collection(source, target):
        rows = (*(source.partition.parts[_name_of_pool(source)].patients or ()), *(scored_part(target).patients or ()))
        if lost := sum(patient.startswith(NOBODY) for patient in rows):
            return "unknown", f"of {lost} rows of {one.name} and {other.name} no table tells the patient"
        return "patients", ""
    if silent := [task.name for task in (one, other) if not task.origins]:
        return "unknown", f"where the images of {' and '.join(silent)} come from, its task file does not say (origins)"
    pools = _pools(one, {label.trained for label in shared}) & _pools(other, {label.scored for label in shared})
    if not pools:
        return "collections", ""
    told = f"both hold images of {' and '.join(sorted(pools))}, and ids do not tell whether of the same patients"
    return "unknown", told


def _pools(task: TaskSpec, labels: set[str]) -> set[str]:
    """The collections that images of these classes are of."""
    return {o.pool for o in task.origins if o.shares == "images" and (not o.classes or labels & set(o.classes))}


def transfer_folds(other: TrainingPart, shots: Sequence[Shots], settings: Settings, test_part: str) -> list[IdFold]:
    """Folds with training images of the other task, drawn as its own are (its name is in the seeds), and one test part.

    Thresholds of findings are chosen on that task's validation images. Raises what `id_folds` does.
    """
    task = other.data.task
    labels = tuple(one.scored for one in other.shared)
    drawn_as = task.model_copy(update={"groups": {other.group: labels}, "folds": "external-test", "test_percent": 0})
    parts: Mapping[str, Table] = {**other.parts, test_part: other.parts["test"]}
    folds = id_folds(
        drawn_as, Partition(task.name, other.data.partition.split, parts, {}), other.group, shots, settings, test_part
    )
    return [replace(fold, train={k: _renamed(rows, other) for k, rows in fold.train.items()}) for fold in folds]


def _renamed(
    rows: tuple[tuple[str, ...], NDArray[np.int64]], other: TrainingPart
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    return tuple(f"{other.prefix}{name}" for name in rows[0]), rows[1]


def require_apart(cell: Cell, folds: Sequence[IdFold], contents: Mapping[str, str]) -> None:
    """Nothing, or DataError: a training image of the other task has the bytes of a test image, under another name."""
    if cell.data.trained_on is None:
        return
    tested = {contents[image]: image for fold in folds for image in fold.test[0] if image in contents}
    equal = sorted({image for image in _fitted(cell, folds) if contents.get(image) in tested})
    if equal:
        raise DataError(
            f"{cell.name}: {len(equal)} training images have the bytes of test images, {equal[0]} those of "
            f"{tested[contents[equal[0]]]} for one: both tasks hold the same pictures. Take them out of the training "
            "table, or say by `patients` and `origins` of the task file whose they are."
        )


def _fitted(cell: Cell, folds: Sequence[IdFold]) -> Iterator[str]:
    """Every image that something is fitted to or chosen on."""
    for fold in folds:
        if cell.shots is not None:
            yield from fold.train[cell.shots][0]
        yield from () if fold.valid is None else fold.valid[0]


def refuse_ambiguous(source: TaskSpec) -> None:
    """Raise SpecError for a task whose name could be taken for one with a mapping's."""
    if "+" in source.name or ":" in source.name:
        raise SpecError(
            f"{source.name}: a task with + or : in its name cannot be trained on: groups of cells are named so"
        )
