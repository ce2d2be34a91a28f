"""MIMIC5x200 with the reports of its studies, for retrieval."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from cxrbench.data.reports import Section, with_reports
from cxrbench.data.sources.base import Disk, LabelledParts, partition, rule_of
from cxrbench.data.sources.mimic5x200 import OnePerSubject, drawn, image_rows, layout, locate
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Partition

if TYPE_CHECKING:
    import pandas as pd


class DrawnWithReports(OnePerSubject):
    """The images that `OnePerSubject` draws, and which `sections` of their reports."""

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
    rule = rule_of(task, split, ("one-per-subject",)).parameters(DrawnWithReports)
    plain = OnePerSubject(**rule.model_dump(exclude={"sections"}))
    found = drawn(images, task, plain, disk)
    return with_reports(replace(found, parts={"test": found.parts["all"]}), images, rule.sections, task, disk)
