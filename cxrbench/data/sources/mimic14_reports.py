"""MIMIC-CXR-JPG's official parts with reports, one frontal image a study, for retrieval."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import Field

from cxrbench.data.reports import Section, with_reports
from cxrbench.data.sources.base import Disk, LabelledParts, partition, rule_of
from cxrbench.data.sources.mimic5x200 import image_rows, layout, view_positions
from cxrbench.data.sources.mimic14 import locate
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Spec
from cxrbench.types import Partition, Table

if TYPE_CHECKING:
    import pandas as pd


class FirstOfStudy(Spec):
    """The first image in table order of each study of an official `part`, of one of `views`, and which `sections`."""

    part: Literal["train", "validate", "test"]
    views: tuple[str, ...]
    sections: tuple[Section, ...] = Field(min_length=1)


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The part `test` from the tables and the reports at or below the folder; see `Source.tables`."""
    images = image_rows(folder)
    return _labelled(images, task, split, Disk(folder, folder, layout(images)))


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`; reports lie anywhere at or below the root."""
    folder = locate(root)
    images = image_rows(folder)
    disk = Disk(root, folder, layout(images), cache, survey)
    return partition(task, split, _labelled(images, task, split, disk), disk)


def _labelled(images: "pd.DataFrame", task: TaskSpec, split: str, disk: Disk) -> LabelledParts:
    rule = rule_of(task, split, ("first-of-study",)).parameters(FirstOfStudy)
    views = view_positions(disk.folder)
    frontal = np.array([views.get(name) in rule.views for name in images["dicom_id"]], dtype=np.bool_)
    own = images[frontal & (images["split"] == rule.part).to_numpy()]
    first = own.drop_duplicates("study_id", keep="first")
    part = Table(tuple(first["dicom_id"]), np.zeros((len(first), 0), np.int8), (), tuple(first["subject_id"]))
    counts = Counter(images["split"])
    totals = {"images": len(images), "patients": images["subject_id"].nunique()}
    totals |= {f"split_{name}": counts[name] for name in ("train", "validate", "test")}
    seen = {"view": {name: view for name, view in views.items() if view in {"AP", "PA"}}}
    more = len(own) - len(first)
    notes = (f"{more} further frontal images of the same studies take no part",) if more else ()
    known = images["dicom_id"].tolist()
    return with_reports(LabelledParts({"test": part}, known, totals, notes, seen), images, rule.sections, task, disk)
