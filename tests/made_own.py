"""Data of one's own for tests: small images of any kind, tables of any format, and tasks that describe them."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from made_images import dicom, saved, waves

from cxrbench.data.sources import base
from cxrbench.specs.task import TaskSpec, lying_in
from cxrbench.types import Partition

Rows = Sequence[Mapping[str, object]]


def write_image(path: Path, seed: int = 0) -> None:
    """A picture of 24 x 20 pixels; DICOM where the name ends so or has no suffix, else PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = waves(24, 20, 255, seed).astype(np.uint8)
    as_dicom = path.suffix.casefold() in ("", ".dcm", ".dicom")
    path.write_bytes(dicom(values) if as_dicom else saved(values))


def table_text(rows: Rows, separator: str = ",") -> str:
    """The rows as text, the keys of the first as header."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=separator)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write_set(folder: Path, rows: Rows, column: str = "file", table: str = "labels.csv", suffix: str = "") -> Path:
    """A table in the folder, and an image for each distinct cell of its column; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / table).write_text(table_text(rows), encoding="utf-8")
    for seed, name in enumerate(dict.fromkeys(str(row[column]) for row in rows)):
        write_image(folder / f"{name}{suffix}", seed)
    return folder


def own_task(home: Path, **facts: Any) -> TaskSpec:
    """A task as if its file lay in the folder `home`."""
    return lying_in(TaskSpec.model_validate({"name": "mine", "source": "csv", "labels": ["A", "B"], **facts}), home)


def laid_out(task: TaskSpec, survey: bool = False, split: str | None = None) -> Partition:
    """A split of the task, by default the first, with its files."""
    root = task.data_root({})
    assert root is not None
    return base.load_partition(root, task, split or next(iter(task.splits)), survey=survey)


def two_classes(count: int = 20) -> list[dict[str, object]]:
    """Rows of that many images, each second one of class B, two images a patient."""
    return [{"file": f"images/{n:03d}.png", "finding": "AB"[n % 2], "patient": f"p{n // 4:02d}"} for n in range(count)]
