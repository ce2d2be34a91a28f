"""Two tiny tasks in memory whose labels are partly the same findings, and a mapping that says which."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cxrbench.runner.protocol import TaskData
from cxrbench.specs.task import TaskSpec
from cxrbench.specs.transfer import LabelMapping
from cxrbench.types import Partition, Table

MAPPING = LabelMapping(
    {
        "Fluid": {"near": "Effusion", "far": "Pleural Effusion"},
        "Lump": {"near": "Mass", "far": "Mass"},
        "Air": {"near": "Air", "far": "Pneumothorax"},
    },
    {},
)
NEAR, FAR = ("Normal", "Effusion", "Mass", "Air"), ("Mass", "Pleural Effusion", "Normal", "Pneumothorax")


def made_task(name: str, labels: Sequence[str], **facts: Any) -> TaskSpec:
    """A task of these labels, all of them in group `all`, whose images are of a collection of its own."""
    body: dict[str, Any] = {
        "name": name,
        "title": name.capitalize(),
        "data_set": "made",
        "source": "rsna",
        "licence": "none",
        "get": "made",
        "pool": "made",
        "origins": [{"pool": f"pool of {name}", "images": 20, "known": "assumed", "source": "tests"}],
        "patients": {"kind": "image", "rule": "none recorded"},
        "folds": "external-test",
        "labels": [{"name": label, "column": label} for label in labels],
        "groups": {"all": list(labels)},
        "splits": {"one": {"rule": "draw"}},
    }
    return TaskSpec.model_validate(body | facts)


def rows(prefix: str, classes: Sequence[str], labels: Sequence[str], patients: Sequence[str] | None = None) -> Table:
    """One row for each of `classes` with that label alone (none for other words), ids PREFIX0, PREFIX1, ..."""
    onehot = np.array([[name == label for label in labels] for name in classes], np.int8).reshape(-1, len(labels))
    ids = tuple(f"{prefix}{n}" for n in range(len(classes)))
    return Table(ids, onehot, tuple(labels), None if patients is None else tuple(patients))


def laid(task: TaskSpec, parts: Mapping[str, Table], root: Path = Path("/data")) -> TaskData:
    """The task with these parts, each image in a folder of the task's name."""
    ids = [name for table in parts.values() for name in table.ids]
    paths = {name: root / task.name / f"{name}.png" for name in ids}
    return TaskData(task, Partition(task.name, "one", parts, paths), root / task.name)
