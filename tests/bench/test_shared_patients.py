"""What a run and a record say where patients are on both sides of a split of one's own."""

from pathlib import Path

import numpy as np
import pytest
from lab import records_of
from made_images import saved, waves
from typer.testing import CliRunner

from cxrbench.cli.main import app

TASK = """name = "mine"
source = "csv"
labels = ["Normal", "Ill"]
csv = { table = "t.csv", image = "file", label = "finding", patient = "patient" }
splits.own = { rule = "column", params = { column = "part", train = ["train"], test = ["test"] } }
"""


@pytest.mark.parametrize("shared", [0, 3])
def test_test_patients_that_were_trained_on_are_counted_beside_the_number(shared: int, tmp_path: Path) -> None:
    rows = ["file,finding,patient,part"]
    for number in range(16):
        test = number % 4 == 3
        finding = "Ill" if number % (8 if test else 2) == 3 % (8 if test else 2) else "Normal"
        patient = number - 3 if test and number // 4 < shared else number  # the first of its four, who is trained on
        (tmp_path / f"{number}.png").write_bytes(saved(waves(top=255, seed=number).astype(np.uint8)))
        rows.append(f"{number}.png,{finding},p{patient},{'test' if test else 'train'}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "mine.toml").write_text(TASK)
    words = [
        "run",
        "-t",
        tmp_path / "mine.toml",
        "-m",
        "image_statistics",
        "-p",
        "linear-probe",
        "-k",
        4,
        "--device",
        "cpu",
    ]
    places = ["--variant", "cxrbench-v1", "--out", tmp_path / "results", "--cache", tmp_path / "cache"]
    done = CliRunner().invoke(app, list(map(str, [*words, *places])))
    assert done.exit_code == 0, done.output
    (record,) = records_of(tmp_path)
    assert record.data.shared_patients == shared
    said = f"({shared} test patients were trained on, too: `cxrbench audit`)"
    assert (said in done.output) == (shared > 0)
