"""VinDr-PCXR: paediatric radiographs with the official train and test tables of image labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import stem_key
from cxrbench.data.search import Visited, has_table, located
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, partition, rule_of
from cxrbench.data.splits import ranked, table
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import Partition

_PARTS = ("train", "test")

LAYOUT = Layout(key=stem_key, names=lambda image: (image,))


class FirstRows(Spec):
    """Rows with exactly one of the classes; of each class, in file order, at most as many as the part's quota."""

    quotas: Mapping[str, int]


class OnlyFinding(Spec):
    """Images with exactly one positive among the classes and the columns `others`; all of them, each class sorted by
    SHA-256 of `salt:id`.
    """

    salt: str
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Read:
    """One table: labels (n, C) and other findings (n, D), 0 or 1."""

    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    others: NDArray[np.int64]
    notes: tuple[str, ...]


def locate(root: Path) -> Path:
    """The folder that holds `image_labels_train.csv`, first one with VinDr-PCXR's columns: VinDr-CXR has one too."""
    stem = "image_labels_train"
    named = has_table(stem)

    def children(folder: Visited) -> bool:
        return named(folder) and _is_childrens(csv_tables.required(folder.path, stem))

    return located(root, "VinDr-PCXR", children, named, wanted=f"{stem}.csv", stems=(stem,))


def _is_childrens(path: Path) -> bool:
    try:
        return any("Bronchiolitis" in name for name in csv_tables.header(path))
    except DataError:
        return False  # it is taken where no other is there, and reading it says why


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The official parts, reduced to single-class images; patients are not known; see `Source.tables`."""
    spec = rule_of(task, split, ("first-rows", "only-finding"))
    first = spec.parameters(FirstRows) if spec.rule == "first-rows" else None
    only = spec.parameters(OnlyFinding) if spec.rule == "only-finding" else None
    parts, known, found, notes, left_out = {}, set[str](), dict[str, int](), list[str](), dict[str, int]()
    for part in _PARTS:
        path = csv_tables.required(folder, f"image_labels_{part}")
        read = _read(path, task, only.others if only else ())
        ids, labels = read.ids, read.labels
        notes += read.notes
        holding = labels.sum(axis=1) + read.others.sum(axis=1)
        index = np.where((holding == 1) & labels.any(axis=1), labels.argmax(axis=1), -1).astype(np.int64)
        some = labels.any(axis=1)
        left_out[f"{part}: no class of the task holds"] = int((~some).sum())
        left_out[f"{part}: several findings hold"] = int((some & (index < 0)).sum())
        rows = []
        for number in range(len(task.classes)):
            own = np.flatnonzero(index == number)
            rows.append(own[: first.quotas[part]] if first else _by_rank(ids, own, only.salt if only else ""))
        parts[part] = table(ids, index, np.concatenate(rows), task.classes)
        left_out[f"{part}: beyond the quota of the class"] = int((index >= 0).sum()) - len(parts[part])
        known |= set(ids)
        found |= {part: len(set(ids))} | {
            f"{part}_{label.column}": int(count) for label, count in zip(task.labels, labels.sum(axis=0), strict=True)
        }
    return LabelledParts(parts, known, found, tuple(notes), left_out={why: n for why, n in left_out.items() if n})


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    labelled = tables(folder, task, split)
    return partition(task, split, labelled, Disk(root, folder, LAYOUT, cache, survey))


def _read(path: Path, task: TaskSpec, others: tuple[str, ...]) -> _Read:
    rows = csv_tables.read_table(path, ("image_id", *task.columns, *others))
    csv_tables.distinct(path, rows, "image_id")

    def stacked(columns: tuple[str, ...]) -> NDArray[np.int64]:
        read = [csv_tables.labels(path, rows, column) for column in columns]
        return np.stack(read, axis=1) if read else np.zeros((len(rows), 0), dtype=np.int64)

    ids, notes = csv_tables.bare_ids(path, rows, "image_id")
    return _Read(ids, stacked(task.columns), stacked(others), notes)


def _by_rank(ids: tuple[str, ...], rows: NDArray[np.int64], salt: str) -> NDArray[np.int64]:
    row_of = {ids[row]: int(row) for row in rows}
    return np.array([row_of[name] for name in ranked(salt, row_of)], dtype=np.int64)
