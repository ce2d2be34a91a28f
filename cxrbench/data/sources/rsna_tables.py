"""RSNA's two label tables, which hold a row for each box of an image."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxrbench.data import tables
from cxrbench.types import IntArray

_NORMAL, _OPACITY, _OTHER = "Normal", "Lung Opacity", "No Lung Opacity / Not Normal"


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one label table; `index` (n,) is 0 or 1, or -1 for a row of neither class; `found` are its totals."""

    path: Path
    ids: tuple[str, ...]
    index: IntArray
    found: Mapping[str, int]
    notes: tuple[str, ...] = ()


def targets(path: Path) -> Rows:
    """`stage_2_train_labels.csv`: a row a box, 1 with a box and 0 without; raises DataError on contradictions."""
    rows = tables.read_table(path, ("patientId", "Target"))
    ids, notes = tables.bare_ids(path, rows, "patientId")
    index = tables.labels(path, rows, "Target")
    tables.agreeing(path, ids, index.tolist(), "Target")
    positive = {name for name, value in zip(ids, index, strict=True) if value == 1}
    images = len(set(ids))
    found = {
        "train_images": images,
        "label_rows": len(ids),
        "target_1_images": len(positive),
        "target_0_images": images - len(positive),
    }
    return Rows(path, ids, index, found, notes)


def kinds(path: Path) -> Rows:
    """`stage_2_detailed_class_info.csv`: a row a box, Normal 0, Lung Opacity 1, the third kind -1."""
    rows = tables.read_table(path, ("patientId", "class"))
    tables.one_of(path, rows, "class", (_NORMAL, _OPACITY, _OTHER))
    ids, notes = tables.bare_ids(path, rows, "patientId")
    names = rows["class"].tolist()
    tables.agreeing(path, ids, names, "class")
    by_image = list(dict(zip(ids, names, strict=True)).values())
    found = {
        "train_images": len(by_image),
        "label_rows": len(ids),
        "class_Normal": by_image.count(_NORMAL),
        "class_Lung_Opacity": by_image.count(_OPACITY),
        "class_No_Lung_Opacity_Not_Normal": by_image.count(_OTHER),
    }
    number = {_NORMAL: 0, _OPACITY: 1, _OTHER: -1}
    return Rows(path, ids, np.array([number[name] for name in names], dtype=np.int64), found, notes)


def of_the_two_classes(rows: Rows) -> Rows:
    """The rows that belong to a class, in table order."""
    keep = np.flatnonzero(rows.index >= 0)
    return replace(rows, ids=tuple(rows.ids[row] for row in keep), index=rows.index[keep])


def images(rows: Rows) -> Rows:
    """One row an image, sorted by id; rows of neither class drop out."""
    index_of = {name: value for name, value in zip(rows.ids, rows.index.tolist(), strict=True) if value >= 0}
    ids = tuple(sorted(index_of))
    return replace(rows, ids=ids, index=np.array([index_of[name] for name in ids], dtype=np.int64))
