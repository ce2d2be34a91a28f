"""A data source in another package: a task that names it runs as any; what is wrong with it ends that task alone."""

from pathlib import Path

import pytest
from made_own import two_classes, write_set
from made_package import run_cxrbench, write_package

from cxrbench.data.sources import base
from cxrbench.errors import SpecError
from cxrbench.records.integrity import read_results
from cxrbench.specs.task import TaskSpec

CODE = '''"""File names say all: PATIENT_CLASS_NUMBER.png; the option `test` names the patients that are scored."""

import numpy as np

from cxrbench.data.sources.base import LabelledParts, assembled
from cxrbench.types import Findings, Table


def locate(root):
    return root


def tables(folder, task, split):
    parts = {}
    files = sorted(path.name for path in folder.glob("*.png"))
    patients = [name.split("_")[0] for name in files]
    index = np.array([task.columns.index(name.split("_")[1]) for name in files])
    for part in ("train", "test"):
        rows = [n for n, who in enumerate(patients) if (who in task.options["test"]) == (part == "test")]
        labels = np.eye(len(task.classes), dtype=np.int8)[index[rows]]
        parts[part] = Table(
            tuple(files[n] for n in rows), labels, task.classes, tuple(patients[n] for n in rows)
        )
    return LabelledParts(parts, files, left_out={"the name is odd": 3})


def load(root, task, split, cache=None, survey=False):
    labelled = tables(root, task, split)
    paths = {name: root / name for part in labelled.parts.values() for name in part.ids}
    return assembled(task, split, labelled, paths, Findings(), root)
'''
TASK = """name = "heronry"
source = "heron"
root = "images"
labels = ["A", "B"]
options = { test = ["p0", "p1"] }
splits.own = { rule = "names" }
"""
PROBE = ("--model", "image_statistics", "--protocol", "linear-probe", "--shots", "2", "--device", "cpu")


def installed(site: Path, code: str = CODE, *points: str) -> Path:
    return write_package(site, "heron_data", {"heron_data.py": code}, "cxrbench.sources", *(points or POINT))


POINT = ("heron = heron_data",)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with the task of the package's source, and one of a table."""
    home = tmp_path / "home"
    rows = [{"file": f"p{n % 6}_{'AB'[n // 6 % 2]}_{n}.png", "label": "x"} for n in range(24)]
    write_set(home / "images", rows)
    (home / "heronry.toml").write_text(TASK)
    write_set(home / "table", two_classes(24))
    facts = 'csv = { table = "labels.csv", image = "file", label = "finding" }'
    (home / "plain.toml").write_text(f'name = "plain"\nsource = "csv"\nroot = "table"\nlabels = ["A", "B"]\n{facts}\n')
    return home


def test_a_source_of_another_package_runs_from_files_to_a_record(home: Path, tmp_path: Path) -> None:
    site = installed(tmp_path / "site")
    done = run_cxrbench(site, home, "run", "--task", "heronry.toml", *PROBE)
    assert done.returncode == 0, done.stderr
    (record,) = read_results(home / "results", tmp_path).records
    assert record.data.rows_left_out == {"the name is odd": 3}
    assert record.data.rows_per_label == {"train": {"A": 8, "B": 8}, "test": {"A": 4, "B": 4}}
    told = run_cxrbench(site, home, "data", "status", "--task", "heronry.toml")
    assert told.returncode == 0 and "left out: 3 rows: the name is odd" in told.stdout


@pytest.mark.parametrize(
    ("code", "points", "said"),
    [
        ("import nowhere_at_all\n", POINT, "data source heron: loading heron_data"),
        ("def locate(root): ...\n", POINT, "heron_data has no tables, load"),
        (CODE.replace("parts = {}", "parts = {}[0]"), POINT, "KeyError"),
        (CODE, ("other = heron_data",), "there is no data source (task heronry) 'heron'"),
        (CODE, (*POINT, "csv = heron_data"), "a package has a data source 'csv', as cxrbench has"),
    ],
    ids=["no import", "no functions", "fails", "another name", "a built-in name"],
)
def test_what_is_wrong_with_a_source_ends_its_tasks_alone(
    code: str, points: tuple[str, ...], said: str, home: Path, tmp_path: Path
) -> None:
    site = installed(tmp_path / "site", code, *points)
    tasks = ("--task", "heronry.toml", "--task", "plain.toml")
    done = run_cxrbench(site, home, "run", *tasks, *PROBE)
    assert done.returncode != 0 and said in done.stderr
    measured = {record.data.task for record in read_results(home / "results", tmp_path).records}
    assert measured == ({"heronry"} if "csv" in said else {"plain"})


def test_an_unknown_source_is_answered_with_the_ones_there_are() -> None:
    facts = {"name": "mine", "source": "cvs", "labels": ["A", "B"], "splits": {"own": {"rule": "ratios"}}}
    with pytest.raises(SpecError, match="'cvs'; did you mean csv"):
        base.source(TaskSpec.model_validate(facts))
