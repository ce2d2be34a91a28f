"""The partitions that the released code wrote from a small archive of raw data, written again row for row."""

import csv
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrbench.data.sources import base
from cxrbench.specs import paths
from cxrbench.specs.task import TaskSpec, read_task
from cxrbench.types import Table

COVID_ORDER = ["COVID", "Normal", "Pneumonia", "Lung Opacity"]
SMALL: Mapping[str, Mapping[str, Any]] = {
    "gloria": {"per_class": 60},
    "dlilp": {"per_class": 44},
    "dlilp-boxes": {"per_class": 110},
    "dlilp-detailed-as-published": {"per_class": 120},
    "dlilp-rows": {"parts": {"train": 44, "test": 14}},
    "dlilp-sorted": {
        "quotas": {
            "test": {**dict.fromkeys(COVID_ORDER, 40), "Lung Opacity": 20},
            "train": dict.fromkeys(COVID_ORDER, 20),
        }
    },
}
CASES = [
    ("chexpert5x200", "gloria", SMALL["gloria"], {"all": "chexpert_5x200"}),
    ("mimic5x200", "dlilp", SMALL["dlilp"], {"all": "mimic_5x200"}),
    (
        "rsna",
        "dlilp-detailed-as-published",
        SMALL["dlilp-detailed-as-published"],
        {"train": "RSNA_train", "test": "RSNA_test"},
    ),
    ("rsna", "dlilp-boxes", SMALL["dlilp-boxes"], {"train": "RSNA_gloria_train", "test": "RSNA_gloria_test"}),
    ("siim", "dlilp-rows", SMALL["dlilp-rows"], {"train": "SIIM_train", "test": "SIIM_test"}),
    ("covid", "dlilp-sorted", SMALL["dlilp-sorted"], {"train": "covid_train", "test": "covid_test"}),
    ("nih_lt", "dlilp", {}, {"train": "nih_train", "test": "nih_test"}),
    ("vindr", "dlilp", {"quotas": {"train": 24, "test": 10}}, {"train": "vindr_train", "test": "vindr_test"}),
]


@pytest.fixture(scope="module")
def raw(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("raw")
    with tarfile.open(shared / "parity" / "protocol" / "raw.tar.xz") as archive:
        archive.extractall(root, filter="data")
    return root


@pytest.fixture(scope="module")
def whole_mimic(raw: Path) -> Path:
    """The raw data with the split table cut to the images that are there: the released code leaves the others out."""
    path = next(raw.rglob("mimic-cxr-2.0.0-split.csv"))
    here = {file.stem for file in path.parent.rglob("*.jpg")}
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, *(row for row in rows if row.split(",")[0] in here)]) + "\n")
    return raw


def with_params(name: str, split: str, changes: Mapping[str, Any]) -> TaskSpec:
    """The task with another split's parameters changed, as a user's own task file could have them."""
    task = read_task(paths.folder("tasks") / f"{name}.toml")
    spec = task.split(split)
    changed = spec.model_copy(update={"params": {**spec.params, **changes}, "complete": False, "reference": {}})
    return task.model_copy(update={"splits": {**task.splits, split: changed}})


def written(shared: Path, stem: str) -> list[dict[str, str]]:
    with (shared / f"parity/protocol/partitions/transferability/{stem}.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


@pytest.mark.parametrize(("name", "split", "changes", "parts"), CASES, ids=[f"{c[0]}-{c[1]}" for c in CASES])
def test_partition_is_the_one_the_released_code_wrote(
    name: str, split: str, changes: Mapping[str, Any], parts: Mapping[str, str], whole_mimic: Path, shared: Path
) -> None:
    task = with_params(name, split, changes)
    found = base.load_partition(whole_mimic, task, split)
    assert found.findings.missing == ()
    assert set(found.parts) == set(parts)
    for part, stem in parts.items():
        assert_same(found.parts[part], [found.paths[i] for i in found.parts[part].ids], written(shared, stem), task)


def assert_same(table: Table, paths: list[Path], rows: list[dict[str, str]], task: TaskSpec) -> None:
    assert len(table) == len(rows)
    for path, row in zip(paths, rows, strict=True):
        assert path.is_file()
        tail = Path(row["Path"]).parts
        assert path.parts[-len(tail) + 1 :] == tail[1:]  # the released paths may repeat or cut the first folder
    labels = np.array([[float(row[name]) for name in task.classes] for row in rows])
    assert (table.labels == labels).all()
