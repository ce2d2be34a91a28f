"""CheXpert's fourteen labels: the test set of 500 studies, the official validation set, and the training set.

Test and validation are downloads of their own, so their tables may lie in different folders.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.chexpert_labels import UncertainLabels, read_labels
from cxrbench.data.listing import is_folder
from cxrbench.data.search import file_names, folders, near_names
from cxrbench.data.sources import base
from cxrbench.data.sources.base import Attributes, Disk, LabelledParts, Layout, Tree, partition, rule_of
from cxrbench.data.sources.chexpert5x200 import ATTRIBUTES, LAYOUT, image_id, patient_of
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Partition, Table

_TEST = ("groundtruth", "test_labels", "filter_test_labels")
_VALID, _TRAIN = "valid", "train"
_ORDER: tuple[str, ...] = ("train", "valid", "test")
_VIEW = "/view1_frontal.jpg"
_SIGN = "Lung Opacity"  # a column that tells CheXpert's tables from others of the same names
_STUDY = re.compile(r"patient\d+/study\d+$")


class OfficialParts(UncertainLabels):
    """The official parts, frontal images alone: which one is part `test`, and whether there is a part `valid`.

    Part `train` is there where `train.csv` is, its uncertain labels settled as in `UncertainLabels`.
    """

    test: Literal["test", "valid"]
    valid: bool


def _below(image: str) -> str | None:
    return LAYOUT.tree.below(image) if LAYOUT.tree else None


# Other than for CheXpert5x200, validation and test images are wanted.
_LAYOUT = Layout(key=LAYOUT.key, names=LAYOUT.names, tree=Tree(re.compile(r"patient\d+"), _below))


def locate(root: Path) -> Path:
    """The lowest folder below which the tables of test and validation lie; of either, where there is one alone."""
    if not is_folder(root):
        raise DataError(f"{root}: there is no such folder. Point --data-root at the folder that holds CheXpert.")
    test = _found(root, _TEST)
    valid = _nearest(test.parent, root, _VALID) if test else _found(root, (_VALID,))
    tables = [str(path.parent) for path in (test, valid) if path]
    if not tables:
        near = [f"{v.path / name}" for v in folders(root) for name in near_names((*_TEST, _VALID), v.names)]
        hint = f" There is {near[0]}: is it the table?" if near else ""
        raise DataError(
            f"CheXpert: found no groundtruth.csv, test_labels.csv or valid.csv of CheXpert in {root} or the folders "
            f"below it.{hint} Point --data-root at the data set's folder, or at one that holds it."
        )
    return Path(os.path.commonpath(tables))


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The frontal images of the official parts; see `Source.tables`."""
    rule = rule_of(task, split, ("official-parts",)).parameters(OfficialParts)
    test = _found(folder, _TEST)
    at = test.parent if test else folder
    valid, train = _nearest(at, folder, _VALID), _nearest(at, folder, _TRAIN)
    read = _Read(task)
    if train:
        read.images(_TRAIN, train, rule)
    if valid and (rule.valid or rule.test == "valid"):
        read.images("valid" if rule.valid else "test", valid, UncertainLabels(uncertain="refuse"), total="valid")
    if rule.test == "valid" and valid is None:
        raise DataError(f"{folder}: there is no valid.csv of CheXpert here, of which the test part is made. {task.get}")
    if rule.test == "test":
        read.test_set(_required_test(test, folder, task))
    lacking = [name for name, path in ((_TRAIN, train), (_VALID, valid)) if path is None]
    read.notes += [f"there is no {name}.csv of CheXpert here, and so no part {name}" for name in lacking]
    parts = {name: read.parts[name] for name in _ORDER if name in read.parts}
    return LabelledParts(parts, read.known, read.found, tuple(read.notes), read.attributes)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, _LAYOUT, cache, survey))


def _found(folder: Path, stems: Sequence[str]) -> Path | None:
    """The first of CheXpert's tables of these stems, by stem, then level by level; else one that cannot be read."""
    visited = list(folders(folder))
    named = [
        place.path / name for stem in stems for place in visited for name in file_names((stem,)) if place.holds(name)
    ]
    states = {path: _state(path) for path in named}
    return next((path for wanted in ("whole", "broken") for path in named if states[path] == wanted), None)


def _nearest(start: Path, top: Path, stem: str) -> Path | None:
    """The table that is nearest to a folder: at or below it, else at or below the folder above, up to `top`."""
    place = start
    while True:
        found = _found(place, (stem,))
        if found or place == top or top not in place.parents:
            return found
        place = place.parent


def _state(path: Path) -> Literal["whole", "another", "broken"]:
    """Whether a table has CheXpert's columns; `broken`: it cannot be read, and reading it says why."""
    try:
        return "whole" if any(_SIGN in name for name in csv_tables.header(path)) else "another"
    except DataError:
        return "broken"


def _required_test(path: Path | None, folder: Path, task: TaskSpec) -> Path:
    if path is None:
        raise DataError(f"{folder}: there is no {' or '.join(f'{stem}.csv' for stem in _TEST)} here. {task.get}")
    return path


class _Read:
    """The parts as they are read, and what there is to say of the tables."""

    def __init__(self, task: TaskSpec) -> None:
        self.task = task
        self.parts: dict[str, Table] = {}
        self.known: list[str] = []
        self.found: dict[str, int] = {}
        self.notes: list[str] = []
        self.attributes: Attributes = {}

    def images(self, part: str, path: Path, how: UncertainLabels, total: str = "") -> None:
        """The frontal rows of `train.csv` or `valid.csv`; `total`: how the totals call them, by default as the part."""
        rows = csv_tables.read_table(path, ("Path", "Frontal/Lateral", *self.task.columns))
        csv_tables.distinct(path, rows, "Path")
        csv_tables.one_of(path, rows, "Frontal/Lateral", ("Frontal", "Lateral"))
        ids = [image_id(name) for name in rows["Path"]]
        frontal = (rows["Frontal/Lateral"] == "Frontal").to_numpy()
        labels = read_labels(path, rows, self.task.columns, how)
        del rows
        self._add(part, [(ids[row], row) for row in np.flatnonzero(frontal).tolist()], labels)
        name, patients = total or part, len(set(map(patient_of, ids)))
        self.known += ids
        self.found |= {f"{name}_images": len(ids), f"{name}_patients": patients, f"{name}_frontal": int(frontal.sum())}
        if name == _VALID:
            self._count(name, self.parts[part])
        told = base.read(path, "Path", ATTRIBUTES, image_id, wanted=frozenset(self.parts[part].ids))
        self.attributes = {a: {**self.attributes.get(a, {}), **values} for a, values in told.items()}

    def test_set(self, path: Path) -> None:
        """One image a study, `view1_frontal`, of a table with a row a study or a row an image."""
        key = "Path" if "Path" in csv_tables.header(path) else "Study"
        rows = csv_tables.read_table(path, (key, *self.task.columns))
        csv_tables.distinct(path, rows, key)
        ids = [image_id(name if key == "Path" else _frontal_of(path, name)) for name in rows[key]]
        labels = read_labels(path, rows, self.task.columns, UncertainLabels(uncertain="refuse"))
        chosen = [(name, row) for row, name in enumerate(ids) if name.endswith(_VIEW)]
        if not chosen:
            raise DataError(f"{path}: none of its {len(ids)} rows is of an image view1_frontal. Is it CheXpert's?")
        self._add("test", chosen, labels)
        self.known += ids
        self.found |= {"test_studies": len(chosen), "test_patients": len({patient_of(name) for name, _ in chosen})}
        self._count("test", self.parts["test"])

    def _count(self, name: str, table: Table) -> None:
        self.found |= {f"{name}_{label}": count for label, count in table.counts.items()}

    def _add(self, part: str, chosen: Sequence[tuple[str, int]], labels: NDArray[np.int8]) -> None:
        """Rows by name: the tables' copies have other orders."""
        ordered = sorted(chosen)
        ids = tuple(name for name, _ in ordered)
        patients = tuple(map(patient_of, ids))
        self.parts[part] = Table(ids, labels[[row for _, row in ordered]], self.task.classes, patients)


def _frontal_of(path: Path, study: str) -> str:
    if not _STUDY.search(study):
        raise DataError(f"{path}: {study!r} is no study of the form CheXpert-v1.0/test/patient64741/study1.")
    return study + _VIEW
