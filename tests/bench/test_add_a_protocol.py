"""A protocol in one file of another package, as CONTRIBUTING shows it: from raw files to comparison and report."""

import re
import subprocess
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from lab import Lab, records_of
from made_package import CHECKOUT, run_cxrbench, write_package

from cxrbench.errors import RunError, SpecError
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import ProtocolIdentity
from cxrbench.records.scores import FoldScores
from cxrbench.runner.measure import FoldExtra
from cxrbench.runner.measure import measured as measured_by_runner
from cxrbench.runner.protocol import Cell, load_protocol
from cxrbench.runner.protocols.linear_probe import LinearProbe
from cxrbench.specs import catalog

SECTION = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## A protocol")[2]
CODE = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[0]
POINT = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)[0].splitlines()[1].replace('"', "")


def installed(site: Path, code: str = CODE, *points: str) -> Path:
    """A folder for PYTHONPATH with the package and its entry points."""
    return write_package(site, "nearest_mean", {"nearest_mean.py": code}, "cxrbench.protocols", *(points or (POINT,)))


def measured(site: Path, lab: Lab, place: Path, *protocols: str) -> subprocess.CompletedProcess[str]:
    places = ["--out", str(place / "results"), "--cache", str(place / "cache"), "--device", "cpu"]
    models = [word for name in ("small_unimodal", "small_clip") for word in ("--model", lab.model(name))]
    chosen = [word for name in protocols for word in ("--protocol", name)]
    task = ["--task", lab.task("covid"), "--group", "2-class", "--variant", str(lab.variant), "--shots", "2"]
    return run_cxrbench(site, place, "run", *models, *task, *lab.roots, *places, *chosen)


def test_a_protocol_of_one_file_runs_from_files_to_comparison_and_report(lab: Lab, tmp_path: Path) -> None:
    site = installed(tmp_path / "site")
    done = measured(site, lab, tmp_path, "nearest-mean", "linear-probe")
    assert done.returncode == 0, done.stderr
    records = [record for record in records_of(tmp_path) if record.protocol.protocol == "nearest-mean"]
    assert {record.model.name for record in records} == {"small_unimodal", "small_clip"}
    assert {(record.protocol.shots, record.protocol.scores) for record in records} == {(2, "other")}
    assert {len(record.folds) for record in records} == {5}
    out = ["--out", str(tmp_path / "results")]
    variant = ["--variant", str(lab.variant)]
    compared = run_cxrbench(
        site,
        tmp_path,
        "compare",
        "small_unimodal",
        "small_clip",
        "--synthetic",
        "--group",
        "2-class",
        *variant,
        *out,
    )
    assert compared.returncode == 0, compared.stderr
    assert "nearest-mean, K = 2" in compared.stdout and "linear-probe, K = 2" in compared.stdout
    told = run_cxrbench(site, tmp_path, "report", *out, "--to", str(tmp_path / "report.html"))
    assert told.returncode == 0, told.stderr
    page = (tmp_path / "report.html").read_text()
    assert "<summary>Nearest mean, K = 2" in page and page.count("<summary>Linear probe, K = 2") == 2


def test_its_scores_are_what_its_code_gives(lab: Lab, tmp_path: Path) -> None:
    """By hand from the stored predictions: rows are cosines, and a record is read where its package is missing."""
    assert measured(installed(tmp_path / "site"), lab, tmp_path, "nearest-mean").returncode == 0
    results = read_results(tmp_path / "results", tmp_path)
    assert not results.left_out and len(results.records) == 2
    for found in results.records:
        for fold in read_cell(tmp_path / "results", found).folds:
            assert np.abs(fold.scores).max() <= 1 + 1e-6 and fold.scores.std() > 0
    with pytest.raises(SpecError, match="there is no protocol 'nearest-mean'"):
        load_protocol("nearest-mean")


def test_changed_code_of_a_protocol_makes_other_records_of_it_and_of_no_other(lab: Lab, tmp_path: Path) -> None:
    site, both = installed(tmp_path / "site"), ("nearest-mean", "linear-probe")
    measured(site, lab, tmp_path, *both)
    again = measured(site, lab, tmp_path, *both)
    assert again.stdout.count("% (recorded before)") == 4
    installed(site, CODE + "\n\nMORE = 1\n")
    changed = measured(site, lab, tmp_path, *both)
    assert changed.stdout.count("% (recorded before)") == 2


def test_a_protocol_that_cannot_be_imported_ends_only_itself(lab: Lab, tmp_path: Path) -> None:
    site = installed(tmp_path / "site", "import nowhere_at_all\n")
    done = measured(site, lab, tmp_path, "nearest-mean", "linear-probe")
    assert done.returncode != 0 and "protocol nearest-mean: loading nearest_mean:NearestMean" in done.stderr
    assert {record.protocol.protocol for record in records_of(tmp_path)} == {"linear-probe"}


RETURN = "return Scored("


def test_a_second_fit_of_its_own_is_recorded_and_told(lab: Lab, tmp_path: Path) -> None:
    """Here with the signs turned, so that no test image keeps its class."""
    turned = CODE.replace(RETURN, "found = (").rstrip() + "\n        return Scored(found, reordered=-found)\n"
    done = measured(installed(tmp_path / "site", turned), lab, tmp_path, "nearest-mean")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("training images in another order decide up to 10 of 10 test images otherwise") == 2
    for record in records_of(tmp_path):
        found = [fold.reordered for fold in record.folds]
        assert all(one is not None and one.changed == 10 for one in found)
        for one, fold in zip(found, record.folds, strict=True):  # of two classes the other one is taken
            assert one is not None and one.value == pytest.approx(1 - fold.metrics["balanced_accuracy"])


FAILING = """def combinations(self, *_):
        raise KeyError("mine")

    def score_fold("""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (RETURN, "return Scored(1000 * ", None),
        (RETURN, "return Scored(np.rint(9 * test @ means.T).astype(np.uint8)) if True else Scored(", "of uint8"),
        (RETURN, "return Scored(np.hstack([test @ means.T, test[:, :1]])) if True else Scored(", "gave scores (10, 3)"),
        (RETURN, "return Scored((test @ means.T)[:-1]) if True else Scored(", "gave scores (9, 2)"),
        ("def score_fold(", FAILING, "KeyError"),
    ],
    ids=["sound", "integers", "a column more", "a row less", "no cells"],
)
def test_wrong_scores_and_cells_end_this_protocol_alone(
    old: str, new: str, message: str | None, lab: Lab, tmp_path: Path
) -> None:
    assert old in CODE
    site = installed(tmp_path / "site", CODE.replace(old, new))
    done = measured(site, lab, tmp_path, "nearest-mean", "linear-probe")
    kinds = [record.protocol.protocol for record in records_of(tmp_path)]
    assert (kinds.count("linear-probe"), kinds.count("nearest-mean")) == (2, 2 if message is None else 0)
    assert message is None or (done.returncode != 0 and message in done.stderr)


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ("nearest-mean = nearest_mean:np", "is no cxrbench.runner.protocol.Protocol of that name"),
        ("nearer = nearest_mean:NearestMean", "is no cxrbench.runner.protocol.Protocol of that name"),
        ("linear-probe = nearest_mean:NearestMean", "two protocols are called linear-probe"),
    ],
)
def test_what_is_no_protocol_is_refused_by_name(point: str, message: str, lab: Lab, tmp_path: Path) -> None:
    site = installed(tmp_path / "site", CODE.replace("import numpy as np", "import numpy as np\n\n"), point)
    done = measured(site, lab, tmp_path, point.partition(" ")[0])
    assert done.returncode != 0 and message in done.stderr.replace("\n", " ")


def test_the_papers_probe_is_a_protocol_as_any() -> None:
    assert isinstance(load_protocol("linear-probe"), LinearProbe)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        (np.eye(2, 4), None),
        (np.eye(2, 4, dtype=np.int64), "of int64"),
        (np.eye(2, 5), r"gave scores \(2, 5\)"),
        (np.full((2, 4), np.nan), "scores of 2 of 2 images are not finite"),
    ],
)
def test_scores_of_every_protocol_are_held_to_one_check(scores: Any, message: str | None) -> None:
    """Not only of those that derive from `FewShot`."""
    task, settings = catalog.load_task("covid"), catalog.load_variant("paper-code").settings
    mine, data = SimpleNamespace(name="mine"), SimpleNamespace(task=task)
    cell = cast(Cell, SimpleNamespace(name="a cell", group="all", protocol=mine, data=data))
    how = ProtocolIdentity(protocol="mine", tap="pooled", part="test", scores="other")
    with nullcontext() if message is None else pytest.raises(RunError, match=message):
        fold = FoldScores(0, ("a", "b"), np.array([0, 1]), scores)
        found = measured_by_runner(cell, settings, how, [fold], [FoldExtra()], None)
        assert found.folds[0].metrics["accuracy"] == 1.0
