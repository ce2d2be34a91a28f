"""VinDr-CXR: adults, a consensus of five radiologists for the test set, three readers a training image."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import stem_key
from cxrbench.data.search import Visited, has_table, located
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, partition, rule_of
from cxrbench.data.splits import valid_from
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import Partition, Table

_STEMS = ("image_labels_test", "image_labels_train")
_SIGN = "aortic enlargement"  # a column that VinDr-PCXR, whose files have the same names, does not have
_SHOWN = 3

LAYOUT = Layout(key=stem_key, names=lambda image: (image,))


class Readings(Spec):
    """The official parts; a training label holds where `any` reader, or a `majority` of an image's readers, says so.

    Images whose rank by `salt` lies in the lowest fraction `valid` leave part train for part valid.
    """

    reading: Literal["any", "majority"]
    salt: str = ""
    valid: float = 0.0


@dataclass(frozen=True, slots=True)
class _Read:
    """One table, row by row: ids (n,), labels (n, C) of 0 and 1."""

    path: Path
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    notes: tuple[str, ...]


def spelling(name: str) -> str:
    """A column's name without letter case, plural, underscores and repeated blanks: copies of the tables differ."""
    return re.sub(r"[\s_]+", " ", name.casefold()).strip().removesuffix("s")


def locate(root: Path) -> Path:
    """The folder that holds `image_labels_test.csv` of VinDr-CXR, told from VinDr-PCXR's by its columns."""

    def adults(folder: Visited) -> bool:
        paths = [path for stem in _STEMS if (path := csv_tables.named(folder.path, stem))]
        return any(_is_adults(path) for path in paths)

    wanted = f"{_STEMS[0]}.csv of VinDr-CXR (not VinDr-PCXR)"
    return located(root, "VinDr-CXR", lambda v: has_table(*_STEMS)(v) and adults(v), wanted=wanted, stems=_STEMS)


def _is_adults(path: Path) -> bool:
    try:
        return any(_SIGN in spelling(name) for name in csv_tables.header(path))
    except DataError:
        return True  # reading it says why


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The official parts, rows in the order of their ids; patients are not known; see `Source.tables`."""
    rule = rule_of(task, split, ("readings",)).parameters(Readings)
    read = {part: _read(csv_tables.required(folder, f"image_labels_{part}"), task) for part in ("train", "test")}
    train, test = read["train"], read["test"]
    parts = {"train": _read_by_several(train, rule, task)}
    if rule.valid:
        parts |= valid_from(parts["train"], rule.salt, rule.valid)
    parts["test"] = _consensus(test, task)
    found = {"train_rows": len(train.ids), "train": len(set(train.ids)), "test": len(test.ids)}
    known = {*train.ids, *test.ids}
    return LabelledParts(parts, known, found, (*train.notes, *test.notes))


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, LAYOUT, cache, survey))


def _read(path: Path, task: TaskSpec) -> _Read:
    """Raises DataError for a column that is not there under any spelling, or under two."""
    there: dict[str, list[str]] = {}
    for name in csv_tables.header(path):
        there.setdefault(spelling(name), []).append(name)
    lost = [column for column in task.columns if spelling(column) not in there]
    twice = [there[spelling(column)] for column in task.columns if len(there.get(spelling(column), ())) > 1]
    if lost or twice:
        what = f"no column {', '.join(map(repr, lost))}" if lost else f"two columns {' and '.join(map(repr, twice[0]))}"
        raise DataError(f"{path}: has {what} (letter case and plural aside). Is it VinDr-CXR's own table?")
    columns = [there[spelling(column)][0] for column in task.columns]
    readers = [name for key, names in there.items() if key == "rad id" for name in names]
    rows = csv_tables.read_table(path, ("image_id", *readers, *columns))
    ids, notes = csv_tables.bare_ids(path, rows, "image_id")
    _check_rows(path, ids, tuple(rows[readers[0]]) if readers else None)
    labels = np.stack([csv_tables.labels(path, rows, column) for column in columns], axis=1)
    return _Read(path, ids, labels, notes)


def _check_rows(path: Path, ids: tuple[str, ...], readers: tuple[str, ...] | None) -> None:
    """Raises DataError for an image without an id, or twice by one reader."""
    keys = list(zip(ids, readers or ids, strict=True))
    seen = set[tuple[str, str]]()
    for number, key in enumerate(keys, start=1):
        if not all(key):
            raise DataError(f"{path}: data row {number} has no {'id' if not key[0] else 'reader'}.")
        if key in seen:
            raise DataError(f"{path}: data row {number}: {' of reader '.join(dict.fromkeys(key))} stands there twice.")
        seen.add(key)


def _read_by_several(read: _Read, rule: Readings, task: TaskSpec) -> Table:
    """One row an image, by the rule over its readers; raises DataError if images have different numbers of readers."""
    ids, of = np.unique(np.array(read.ids), return_inverse=True)
    readers = np.bincount(of)
    if readers.min() != readers.max():
        few = ids[readers != readers.max()].tolist()
        raise DataError(
            f"{read.path}: most images have {readers.max()} readers, {len(few)} have fewer, such as "
            f"{', '.join(few[:_SHOWN])}. Is the table whole?"
        )
    votes = np.zeros((len(ids), len(task.classes)), dtype=np.int64)
    np.add.at(votes, of, read.labels)
    needed = 1 if rule.reading == "any" else readers.max() // 2 + 1
    return Table(tuple(ids.tolist()), (votes >= needed).astype(np.int8), task.classes)


def _consensus(read: _Read, task: TaskSpec) -> Table:
    if len(set(read.ids)) != len(read.ids):
        raise DataError(f"{read.path}: an image has several rows: this is no table of the readers' consensus.")
    order = sorted(range(len(read.ids)), key=read.ids.__getitem__)
    return Table(tuple(read.ids[row] for row in order), read.labels[order].astype(np.int8), task.classes)
