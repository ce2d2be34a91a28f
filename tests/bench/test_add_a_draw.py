"""A draw in one file of another package, as CONTRIBUTING shows it: from raw files to a record."""

import re
import subprocess
from pathlib import Path

import pytest
from lab import Lab, records_of
from made_package import CHECKOUT, run_cxrbench, write_package

from cxrbench.records.integrity import read_results

SECTION = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## A draw\n")[2]
CODE = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[0]
POINT = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)[0].splitlines()[1].replace('"', "")


def installed(site: Path, code: str = CODE, point: str = POINT) -> Path:
    return write_package(site, "turned", {"turned.py": code}, "cxrbench.draws", point)


def measured(site: Path, lab: Lab, place: Path, draw: str = "turned") -> subprocess.CompletedProcess[str]:
    places = ["--out", str(place / "results"), "--cache", str(place / "cache"), "--device", "cpu"]
    how = ["--protocol", "linear-probe", "--shots", "1,2", "--set", f"fewshot.draw={draw}"]
    task = ["--task", lab.task("covid"), "--group", "all", "--variant", str(lab.variant)]
    return run_cxrbench(site, place, "run", "--model", lab.model("small_unimodal"), *task, *lab.roots, *places, *how)


def test_a_draw_of_one_file_runs_from_files_to_records(lab: Lab, tmp_path: Path) -> None:
    site = installed(tmp_path / "site")
    done = measured(site, lab, tmp_path)
    assert done.returncode == 0, done.stderr
    records = records_of(tmp_path)
    assert {(r.settings.draw, r.protocol.shots, len(r.folds)) for r in records} == {("turned", 1, 3), ("turned", 2, 3)}
    assert len({fold.train for r in records if r.protocol.shots == 2 for fold in r.folds}) == 3
    assert not read_results(tmp_path / "results", tmp_path).left_out, "records are read without the package"
    told = run_cxrbench(site, tmp_path, "info", "fewshot.draw")
    assert "turned: of a package, turned:Turned" in told.stdout
    assert measured(installed(site, CODE + "\n\nMORE = 1\n"), lab, tmp_path).stdout.count("(recorded before)") == 2


@pytest.mark.parametrize(
    ("code", "point", "draw", "message"),
    [
        (CODE, POINT, "turnd", "did you mean turned"),
        ("import nowhere_at_all\n", POINT, "turned", "draw turned: loading turned:Turned"),
        (CODE, "turned = turned:np", "turned", "is no cxrbench.evaluate.draws.Draw of that name"),
        (CODE, "other = turned:Turned", "other", "is no cxrbench.evaluate.draws.Draw of that name"),
        (CODE, "relaxed = turned:Turned", "relaxed", "two draws are called relaxed"),
        (CODE.replace("rows[:k]", "rows[:k] + 99"), POINT, "turned", "draw turned, fold 0, K = 1: gave rows"),
    ],
    ids=["unknown", "import", "no draw", "other name", "namesake", "rows"],
)
def test_what_is_no_draw_is_refused_by_name(
    code: str, point: str, draw: str, message: str, lab: Lab, tmp_path: Path
) -> None:
    done = measured(installed(tmp_path / "site", code, point), lab, tmp_path, draw)
    assert done.returncode != 0 and message in done.stderr.replace("\n", " "), done.stderr
    assert not records_of(tmp_path)
