"""MIMIC-CXR-JPG's fourteen labels on its official parts, frontal images alone."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.chexpert_labels import UncertainLabels, read_labels
from cxrbench.data.search import has_table, located
from cxrbench.data.sources.base import Disk, LabelledParts, partition, rule_of
from cxrbench.data.sources.mimic5x200 import image_rows, layout, stems, view_positions
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Partition, Table

if TYPE_CHECKING:
    import pandas as pd

_PARTS = {"train": "train", "valid": "validate", "test": "test"}


class OfficialSplit(UncertainLabels):
    """The official parts: images with one of `views`, labels from the table of a `labeller`, settled by a rule."""

    views: tuple[str, ...]
    labeller: Literal["chexpert", "negbio"]


def locate(root: Path) -> Path:
    """The folder that holds MIMIC-CXR-JPG's split table, first one with the tables of both labellers."""
    names = stems("split")
    named, both = has_table(*names), has_table(*stems("negbio"))
    wanted = "mimic-cxr-2.0.0-split.csv[.gz]"
    return located(root, "MIMIC-CXR-JPG", lambda v: named(v) and both(v), named, wanted=wanted, stems=names)


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts from the tables split, metadata and chexpert or negbio; see `Source.tables`."""
    return _labelled(image_rows(folder), folder, task, split)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    images = image_rows(folder)
    disk = Disk(root, folder, layout(images), cache, survey)
    return partition(task, split, _labelled(images, folder, task, split), disk)


def _labelled(images: "pd.DataFrame", folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    rule = rule_of(task, split, ("official-split",)).parameters(OfficialSplit)
    path = csv_tables.required(folder, *stems(rule.labeller), why="It holds the labels of the studies.")
    rows = csv_tables.read_table(path, ("study_id", *task.columns))
    csv_tables.distinct(path, rows, "study_id")
    labels = read_labels(path, rows, task.columns, rule)
    row_of = {study: row for row, study in enumerate(rows["study_id"])}
    views = view_positions(folder)
    parts, unlabelled = {}, 0
    frontal = images[[views.get(name) in rule.views for name in images["dicom_id"]]]
    for part, official in _PARTS.items():
        own = frontal[frontal["split"] == official].sort_values("dicom_id")
        known = own[own["study_id"].isin(row_of)]
        unlabelled += len(own) - len(known)
        parts[part] = _table(known, labels, row_of, task)
    if not len(parts["test"]):
        raise DataError(
            f"{folder}: no image of split test has a view of {', '.join(rule.views)} and labels. {task.get}"
        )
    told = {"view": {name: view for name, view in views.items() if view in {"AP", "PA"}}}
    return LabelledParts(parts, images["dicom_id"].tolist(), _totals(images, views, row_of), _notes(unlabelled), told)


def _table(rows: "pd.DataFrame", labels: NDArray[np.int8], row_of: Mapping[str, int], task: TaskSpec) -> Table:
    chosen = np.array([row_of[study] for study in rows["study_id"]], dtype=np.int64)
    return Table(tuple(rows["dicom_id"]), labels[chosen], task.classes, tuple(rows["subject_id"]))


def _totals(images: "pd.DataFrame", views: Mapping[str, str], row_of: Mapping[str, int]) -> dict[str, int]:
    counts = images["split"].value_counts()
    positions = [views.get(name) for name in images["dicom_id"]]
    return {
        "images": len(images),
        "patients": images["subject_id"].nunique(),
        "studies_with_labels": len(row_of.keys() & set(images["study_id"])),
        **{f"split_{name}": int(counts.get(name, 0)) for name in _PARTS.values()},
        **{f"view_{name}": positions.count(name) for name in ("AP", "PA")},
    }


def _notes(unlabelled: int) -> tuple[str, ...]:
    return (f"{unlabelled} frontal images are of studies without labels and take no part",) if unlabelled else ()
