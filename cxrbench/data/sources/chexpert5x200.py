"""CheXpert5x200: 200 frontal images of each of five classes, drawn from CheXpert's `train.csv`."""

import re
from collections.abc import Mapping
from functools import cache as cache_calls
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import image_stem
from cxrbench.data.search import Sign, has_table, located
from cxrbench.data.sources import base
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, Tree, partition, rule_of
from cxrbench.data.splits import TooFewError, table
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import IntArray, Partition, Table

if TYPE_CHECKING:
    import pandas as pd

_TAIL = re.compile(r"(patient\d+)/(study\d+)/([^/]+)$")
_PREFIX = re.compile(r"^(?:.*/)?(?=(?:train|valid|test)/patient\d+/)")
_ALL, _READY = "train", "chexpert_5x200"
_VALUES = (0.0, 1.0, -1.0)


class Pools(Spec):
    """`per_class` images of each class's pool: this label 1, the other classes and the columns `others` 0 or blank.

    `seed` starts NumPy's legacy generator, once for all classes, or (`reseed`) anew for each. `ready_list`: a table
    `chexpert_5x200.csv` is taken as it stands where `train.csv` is absent.
    """

    per_class: int
    seed: int
    reseed: bool
    others: tuple[str, ...]
    ready_list: bool


def image_id(path: str) -> str:
    """`CheXpert-v1.0/train/patient.../study.../view...` from any spelling of a table's Path column."""
    plain = path.replace("\\", "/")
    name = "CheXpert-v1.0/" + _PREFIX.sub("", plain)
    return path if name == path else name  # one text, not two, for each of a large table's rows


def patient_of(image: str) -> str:
    """The folder `patientNNNNN` of an image id; raises DataError if the path has none."""
    found = _TAIL.search(image)
    if found is None:
        raise DataError(f"CheXpert: {image!r} is no path of the form train/patient00001/study1/view1_frontal.jpg")
    return found[1]


def locate(root: Path) -> Path:
    """The folder with CheXpert's `train.csv` (told by its columns), else the one with `chexpert_5x200.csv`.

    A `train.csv` that the system refuses to read comes before the ready list, a broken one after it: reading it says
    why.
    """
    named = has_table(_ALL)

    @cache_calls
    def state(folder: Path) -> Literal["whole", "another", "refused", "broken"]:
        try:
            columns = csv_tables.header(csv_tables.required(folder, _ALL))
        except DataError as error:
            return "refused" if isinstance(error.__cause__, PermissionError) else "broken"
        if "Frontal/Lateral" in columns:
            return "whole"
        return "broken" if any("Frontal/Lateral" in name for name in columns) else "another"

    def shows(wanted: str) -> Sign:
        return lambda folder: named(folder) and state(folder.path) == wanted

    signs = (shows("whole"), shows("refused"), has_table(_READY), shows("broken"))
    wanted = "train.csv of CheXpert or chexpert_5x200.csv"
    return located(root, "CheXpert", *signs, wanted=wanted, stems=(_ALL, _READY))


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The part `all` from `train.csv`, or from a ready list; see `Source.tables`."""
    spec = rule_of(task, split, ("pools",))
    rule = spec.parameters(Pools)
    path = csv_tables.named(folder, _ALL)
    if path is None and rule.ready_list:
        return _from_list(csv_tables.required(folder, _READY), task)
    if path is None:
        raise DataError(
            f"{folder}: split {split} of {task.name} is drawn from CheXpert's train.csv, which is not there."
        )
    return _from_all(path, task, rule)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, LAYOUT, cache, survey))


def _key(path: str) -> str | None:
    found = _TAIL.search(path)
    stem = image_stem(found[3]) if found else None
    return f"{found[1]}/{found[2]}/{stem}" if found and stem else None


def _names(image: str) -> tuple[str, ...]:
    found = _TAIL.search(image)
    return (f"{found[1]}/{found[2]}/{PurePosixPath(found[3]).stem}",) if found else ()


def _below(image: str) -> str | None:
    found = _TAIL.search(image)
    return found[0] if found else None


# Patient numbers of train, valid and test do not overlap, so the last three components name an image whatever the
# tools that unpacked the archives put above them.
LAYOUT = Layout(
    key=_key, names=_names, unlabelled=frozenset({"valid", "test"}), tree=Tree(re.compile(r"patient\d+"), _below)
)


ATTRIBUTES = {"sex": "Sex", "age": "Age", "view": "AP/PA"}


def _read(path: Path, columns: tuple[str, ...]) -> "tuple[pd.DataFrame, list[str]]":
    rows = csv_tables.read_table(path, ("Path", *columns))
    csv_tables.distinct(path, rows, "Path")
    ids = [image_id(name) for name in rows["Path"]]
    return rows, ids


def _from_all(path: Path, task: TaskSpec, rule: Pools) -> LabelledParts:
    rows, ids = _read(path, ("Frontal/Lateral", *task.columns, *rule.others))
    patients = [patient_of(name) for name in ids]
    frontal = (rows["Frontal/Lateral"] == "Frontal").to_numpy()
    values = {c: csv_tables.numbers(path, rows, c, _VALUES) for c in (*task.columns, *rule.others)}
    del rows
    picked = _drawn(path, values, frontal, task.columns, rule)
    index = np.zeros(len(ids), dtype=np.int64)
    for number, chosen in enumerate(picked):
        index[chosen] = number
    found = {
        "train_images": len(ids),
        "train_patients": len(set(patients)),
        "train_frontal": int(frontal.sum()),
        "train_lateral": int((~frontal).sum()),
    }
    part = table(ids, index, np.concatenate(picked), task.classes, patients)
    told = base.read(path, "Path", ATTRIBUTES, image_id, wanted=frozenset(part.ids))
    return LabelledParts({"all": part}, ids, found, attributes=told)


def _drawn(
    path: Path,
    values: Mapping[str, NDArray[np.float64]],
    frontal: NDArray[np.bool_],
    columns: tuple[str, ...],
    rule: Pools,
) -> list[IntArray]:
    """Row numbers of each class, in drawn order; -1 (uncertain) is not 0."""
    absent = {column: np.nan_to_num(value) == 0 for column, value in values.items()}
    generator = np.random.RandomState(rule.seed)
    drawn = []
    for column in columns:
        pool = frontal & (values[column] == 1)
        for other in values.keys() - {column}:
            pool &= absent[other]
        positions = np.flatnonzero(pool)
        if len(positions) < rule.per_class:
            raise TooFewError(f"{path}: {len(positions)} images have only {column}; the split takes {rule.per_class}.")
        if rule.reseed:
            generator = np.random.RandomState(rule.seed)
        drawn.append(positions[generator.choice(len(positions), rule.per_class, replace=False)].astype(np.int64))
    return drawn


def _from_list(path: Path, task: TaskSpec) -> LabelledParts:
    rows, ids = _read(path, task.columns)
    labels = np.stack([csv_tables.numbers(path, rows, c, _VALUES) == 1 for c in task.columns], axis=1).astype(np.int8)
    patients = tuple(patient_of(name) for name in ids)
    note = f"taken from the ready list {path.name}; train.csv is not there to draw it from"
    part = Table(tuple(ids), labels, task.classes, patients)
    told = base.read(path, "Path", ATTRIBUTES, image_id)
    return LabelledParts({"all": part}, ids, notes=(note,), attributes=told)
