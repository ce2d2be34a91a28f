"""NIH-CXR-LT, the long-tailed single-label tables over NIH ChestX-ray14."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import image_stem, stem_key
from cxrbench.data.search import has_table, located
from cxrbench.data.sources import base
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, partition, rule_of
from cxrbench.data.splits import ranked
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import Partition, Table

ENTRIES = ("Data_Entry_2017_v2020", "Data_Entry_2017")
Official = Literal["train", "balanced-val", "balanced-test"]

LAYOUT = Layout(key=stem_key, names=lambda image: (image_stem(image) or image,))


class Tables(Spec):
    """Which official tables make up each part, one after the other.

    `salt`: rows class after class, each class sorted by SHA-256 of `salt:id`; else in file order.
    """

    parts: Mapping[str, tuple[Official, ...]]
    salt: str = ""


def _stems(kind: str) -> tuple[str, ...]:
    return (f"nih-cxr-lt_single-label_{kind}", f"nih-lt_single-label_{kind}")


def locate(root: Path) -> Path:
    """The folder that holds the long-tail tables; the images may lie beside it."""
    stems = _stems("train")
    return located(root, "NIH-CXR-LT", has_table(*stems), wanted="nih-cxr-lt_single-label_train.csv", stems=stems)


def official(path: Path, task: TaskSpec) -> Table:
    """One table in file order; labels (n, 20) of 0 and 1, patients from the file names."""
    there = {name.replace("_", " "): name for name in csv_tables.header(path)}
    columns = [there.get(column.replace("_", " "), column) for column in task.columns]
    rows = csv_tables.read_table(path, ("id", *columns))
    csv_tables.distinct(path, rows, "id")
    labels = np.stack([csv_tables.labels(path, rows, column) for column in columns], axis=1)
    ids = tuple(rows["id"])
    return Table(ids, labels.astype(np.int8), task.classes, tuple(name[:8] for name in ids))


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split from the official tables; see `Source.tables`."""
    rule = rule_of(task, split, ("tables",)).parameters(Tables)
    needed = dict.fromkeys(kind for kinds in rule.parts.values() for kind in kinds)
    why = f"Split {split} uses it. It comes with NIH-CXR-LT, in the folder LongTailCXR."
    read = {kind: official(csv_tables.required(folder, *_stems(kind), why=why), task) for kind in needed}
    parts = {part: _stacked([read[kind] for kind in kinds]) for part, kinds in rule.parts.items()}
    if rule.salt:
        parts = {part: _by_rank(table, rule.salt) for part, table in parts.items()}
    found = {kind.replace("-", "_"): len(table) for kind, table in read.items()}
    others = _others(folder)
    found |= {name: len(ids) for name, ids in others.items()}
    every = {name for table in read.values() for name in table.ids}.union(*others.values())
    path = entries(folder)
    told = base.read(path, "Image Index", ATTRIBUTES) if path else {}
    near = "" if path else csv_tables.near_hint(folder, *ENTRIES) or csv_tables.near_hint(folder.parent, *ENTRIES)
    notes = (f"sex, age and view are not known: there is no {ENTRIES[0]}.csv.{near}",) if near else ()
    return LabelledParts(parts, every, found, notes, attributes=told)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, LAYOUT, cache, survey))


def _others(folder: Path) -> dict[str, set[str]]:
    """Images that other tables name, where they are there: the full test table, and NIH's own list of all images."""
    lists = {}
    test = csv_tables.named(folder, *_stems("test"))
    if test:
        lists["test"] = set(csv_tables.read_table(test, ("id",))["id"])
    every = entries(folder)
    if every:
        lists["images"] = set(csv_tables.read_table(every, ("Image Index",))["Image Index"])
    return lists


ATTRIBUTES = {"sex": "Patient Gender", "age": "Patient Age", "view": "View Position"}


def entries(folder: Path) -> Path | None:
    """NIH's own table of all images, in the folder or beside it; None if there is none."""
    return csv_tables.named(folder, *ENTRIES) or csv_tables.named(folder.parent, *ENTRIES)


def _stacked(read: list[Table]) -> Table:
    labels: NDArray[np.int8] = np.concatenate([table.labels for table in read])
    patients = tuple(patient for table in read for patient in table.patients or ())
    return Table(tuple(name for table in read for name in table.ids), labels, read[0].classes, patients)


def _by_rank(table: Table, salt: str) -> Table:
    row_of = {name: row for row, name in enumerate(table.ids)}
    by_rank = [row_of[name] for name in ranked(salt, table.ids)]
    rows = sorted(by_rank, key=lambda row: int(table.labels[row].argmax()))
    return table.at(np.array(rows, dtype=np.int64))
