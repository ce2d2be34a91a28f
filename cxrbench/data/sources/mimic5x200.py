"""MIMIC5x200: 200 frontal images of each of five classes, one a patient, drawn from MIMIC-CXR-JPG's tables."""

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.listing import stem_key, without_image_suffix
from cxrbench.data.search import has_table, located
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, Tree, met, partition, rule_of
from cxrbench.data.splits import TooFewError, table
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import Partition

if TYPE_CHECKING:
    import pandas as pd

_VALUES = (0.0, 1.0, -1.0)


class OnePerSubject(Spec):
    """`per_class` images of each class's pool, `seed` started anew for each class.

    A pool holds the first image, in table order, of each subject with one of `views` and exactly one label at 1,
    provided that its other labels are 0 or blank. `on_disk`: images without a file are passed over before all that, as
    the released code does; else the draw does not know which files are there.
    """

    per_class: int
    seed: int
    views: tuple[str, ...]
    on_disk: bool = False


def stems(kind: str) -> tuple[str, ...]:
    """The names under which a table of a kind (split, metadata, chexpert, negbio) is met."""
    return (f"mimic-cxr-2.0.0-{kind}", f"mimic-cxr-2.1.0-{kind}")


def locate(root: Path) -> Path:
    """The folder that holds MIMIC-CXR-JPG's split table."""
    names = stems("split")
    return located(root, "MIMIC-CXR-JPG", has_table(*names), wanted="mimic-cxr-2.0.0-split.csv[.gz]", stems=names)


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The part `all` from the tables split, metadata and chexpert; see `Source.tables`."""
    images = image_rows(folder)
    return _labelled(images, task, split, Disk(folder, folder, layout(images)))


def layout(images: "pd.DataFrame") -> Layout:
    """Files named by `dicom_id`, in the folders that the rows of the split table say."""
    return Layout(key=stem_key, names=lambda image: (without_image_suffix(image),), tree=study_tree(images))


def _labelled(images: "pd.DataFrame", task: TaskSpec, split: str, disk: Disk) -> LabelledParts:
    return drawn(images, task, rule_of(task, split, ("one-per-subject",)).parameters(OnePerSubject), disk)


def drawn(images: "pd.DataFrame", task: TaskSpec, rule: OnePerSubject, disk: Disk) -> LabelledParts:
    """The part `all` that the rule draws from the images of the split table."""
    folder = disk.folder
    ids = images["dicom_id"].tolist()
    studies = images["study_id"].tolist()
    labels = _study_labels(folder, task, studies)
    views = view_positions(folder)
    frontal = np.array([views.get(name) in rule.views for name in ids])
    subjects = images["subject_id"].tolist()
    usable = frontal & ((labels == 1).sum(axis=1) == 1)
    lost = _lost(ids, usable, disk) if rule.on_disk else np.zeros(len(ids), dtype=np.bool_)
    picked, index = _draw(labels, usable & ~lost, subjects, rule, task)
    counts = images["split"].value_counts()
    found = {
        "images": len(ids),
        "patients": len(set(subjects)),
        "studies_with_labels": len({s for s, row in zip(studies, labels, strict=True) if not np.isnan(row).any()}),
        **{f"split_{name}": int(counts.get(name, 0)) for name in ("train", "validate", "test")},
    }
    for view in rule.views:
        found[f"view_{view}"] = sum(views.get(name) == view for name in ids)
    part = table(ids, index, picked, task.classes, subjects)
    told = {"view": {name: view for name, view in views.items() if view in {"AP", "PA"}}}
    notes = (*_gaps(ids, views, labels), *_passed_over(lost))
    return LabelledParts({"all": part}, ids, found, notes, told)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder = locate(root)
    images = image_rows(folder)
    disk = Disk(root, folder, layout(images), cache, survey)
    made = partition(task, split, _labelled(images, task, split, disk), disk)
    if not made.findings.missing:
        return made
    order = "drawn before it was known which files are there; --set mimic5x200.split=dlilp-on-disk passes them over"
    notes = (*made.findings.notes, f"{len(made.findings.missing)} images without a file were {order}")
    return replace(made, findings=replace(made.findings, notes=notes))


def study_tree(images: "pd.DataFrame") -> Tree:
    """`p10/p10000032/s50414267/<dicom_id>.jpg`, below a folder of any name."""
    studies = dict(zip(images["dicom_id"], zip(images["subject_id"], images["study_id"], strict=True), strict=True))

    def below(image: str) -> str:
        subject, study = studies[image]
        return f"p{subject[:2]}/p{subject}/s{study}/{image}.jpg"

    return Tree(re.compile(r"p\d\d"), below)


def image_rows(folder: Path) -> "pd.DataFrame":
    """The split table: dicom_id, study_id, subject_id, split; raises DataError for ids that are no whole numbers."""
    path = csv_tables.required(folder, *stems("split"))
    rows = csv_tables.read_table(path, ("dicom_id", "study_id", "subject_id", "split"))
    csv_tables.distinct(path, rows, "dicom_id")
    _whole(path, rows, "study_id")
    _whole(path, rows, "subject_id")
    return rows


def _whole(path: Path, rows: "pd.DataFrame", column: str) -> None:
    for number, text in enumerate(rows[column], start=1):
        if not text.isdigit():
            raise DataError(
                f"{path}: data row {number}: {column} is {text!r}, not a whole number. Was the table saved by a "
                "program that turned ids into decimals? Download it again."
            )


def view_positions(folder: Path) -> dict[str, str]:
    """ViewPosition by dicom_id, from the metadata table."""
    path = csv_tables.required(folder, *stems("metadata"), why="It says which images are frontal.")
    rows = csv_tables.read_table(path, ("dicom_id", "ViewPosition"))
    csv_tables.distinct(path, rows, "dicom_id")
    return dict(zip(rows["dicom_id"], rows["ViewPosition"], strict=True))


def _study_labels(folder: Path, task: TaskSpec, studies: list[str]) -> NDArray[np.float64]:
    """(n, C) labels of each image's study: 1, 0 (also for blank), -1; NaN where the study has none."""
    path = csv_tables.required(folder, *stems("chexpert"), why="It holds the labels of the studies.")
    rows = csv_tables.read_table(path, ("study_id", *task.columns))
    csv_tables.distinct(path, rows, "study_id")
    _whole(path, rows, "study_id")
    values = np.stack([np.nan_to_num(csv_tables.numbers(path, rows, c, _VALUES)) for c in task.columns], axis=1)
    padded = np.vstack([values, np.full((1, len(task.columns)), np.nan)])
    row_of = {study: row for row, study in enumerate(rows["study_id"])}
    return padded[[row_of.get(study, len(values)) for study in studies]]


def _draw(
    labels: NDArray[np.float64], usable: NDArray[np.bool_], subjects: list[str], rule: OnePerSubject, task: TaskSpec
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Row numbers drawn from the usable rows (n,), and class numbers (n,) of all."""
    seen: dict[str, int] = {}
    for row in np.flatnonzero(usable).tolist():
        seen.setdefault(subjects[row], row)
    first = np.array(sorted(seen.values()), dtype=np.int64)
    index = (labels == 1).argmax(axis=1).astype(np.int64)
    drawn = []
    for number, name in enumerate(task.classes):
        sure = (np.delete(labels[first], number, axis=1) == 0).all(axis=1)
        pool = first[(index[first] == number) & sure]
        if len(pool) < rule.per_class:
            raise TooFewError(
                f"{len(pool)} patients show only {name}; the split takes {rule.per_class}. Are the tables whole?"
            )
        drawn.append(pool[np.random.RandomState(rule.seed).choice(len(pool), rule.per_class, replace=False)])
    return np.concatenate(drawn).astype(np.int64), index


def _lost(ids: list[str], usable: NDArray[np.bool_], disk: Disk) -> NDArray[np.bool_]:
    """(n,) usable rows whose image has no file."""
    there = met([ids[row] for row in np.flatnonzero(usable).tolist()], disk).paths
    return usable & ~np.array([name in there for name in ids])


def _passed_over(lost: NDArray[np.bool_]) -> tuple[str, ...]:
    count = int(lost.sum())
    return (f"{count} images without a file were passed over before the draw",) if count else ()


def _gaps(ids: list[str], views: dict[str, str], labels: NDArray[np.float64]) -> tuple[str, ...]:
    without_view = sum(name not in views for name in ids)
    without_label = int(np.isnan(labels).any(axis=1).sum())
    return tuple(
        f"{count} images of the split table have no {what}; they cannot be drawn"
        for count, what in ((without_view, "row in the metadata table"), (without_label, "study labels"))
        if count
    )
