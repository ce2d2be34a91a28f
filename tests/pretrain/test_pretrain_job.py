"""From raw files to a model and its record, by the commands of the README."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from made_lessons import made_text_encoder

from cxrbench.card import read_card
from cxrbench.data.phantom.write import write
from cxrbench.pretrain.frequencies import read as read_frequencies

PROGRAM = "from cxrbench.cli.main import main; main()"


def cxrbench(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CXRBENCH_CACHE": str(place / "cache")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *words], cwd=place, env=environment, capture_output=True, text=True, timeout=500
    )


@pytest.mark.slow
def test_from_raw_files_to_a_record(tmp_path: Path) -> None:
    for task, seed in (("chexpert5x200", 3), ("mimic5x200", 3)):
        write(task, tmp_path / "data", images_per_class=8, seed=seed)
        write(task, tmp_path / "eval")
    broken = next((tmp_path / "data").rglob("p10*/**/*.jpg"))
    broken.write_bytes(broken.read_bytes()[:100])
    made_text_encoder(tmp_path / "text")
    words = (
        *("pretrain", "run", "--corpus", "chexpert,mimic", "--objective", "dlilp", "--out", "runs/x"),
        *("--data-root", "data", "--evaluation", "phantom", "--workers", "1", "--set", "engine.accelerator=cpu"),
        *("--set", "image.trunk=resnet18", "--set", "image.size=32", "--set", "schedule.epochs=1"),
        *("--set", "text.folder=text", "--set", "text.initial=random", "--set", "data.batch_size=16"),
    )
    roots = ("--data-root", "chexpert5x200=eval", "--data-root", "mimic5x200=eval")
    done = cxrbench(tmp_path, *words, *roots)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "runs/x"
    told = json.loads((out / "corpus.json").read_text())
    assert len(told["unreadable"]) == 1
    assert "1 images cannot be read and are left out" in done.stdout
    findings = {(v["task"], v["source"]): v["finding"] for v in told["overlap"]}
    assert findings["chexpert5x200", "CHEXPERT"] in ("removed", "none")
    assert read_frequencies(out / "frequencies.json").corpus == told["digest"]
    card = read_card(out / "card.toml")
    assert (card.name, card.pretraining, card.synthetic) == ("x", ("C", "M"), True)
    again = cxrbench(tmp_path, *words, *roots)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    assert cxrbench(tmp_path, *words, *roots, "--resume").returncode == 0
    assert cxrbench(tmp_path, "pretrain", "plot", "runs/x").stdout.strip() == "runs/x/curves.svg"
    measure = (
        "run",
        "--model",
        "runs/x/card.toml",
        "--task",
        "chexpert5x200",
        "--variant",
        "phantom",
        "--device",
        "cpu",
    )
    measured = cxrbench(tmp_path, *measure, "--data-root", "eval", "--out", "results", "--prompts", "names")
    assert measured.returncode == 0, measured.stderr
    assert len(list((tmp_path / "results/records/chexpert5x200/x").glob("*.json"))) >= 2


def test_sources_that_nobody_knows_or_that_have_no_folder(tmp_path: Path) -> None:
    wrong = cxrbench(tmp_path, "pretrain", "run", "-c", "chexpart", "--out", "x")
    assert (wrong.returncode, "did you mean chexpert" in wrong.stderr) == (2, True)
    bare = cxrbench(tmp_path, "pretrain", "run", "-c", "mimic", "--out", "x", "--set", "text.initial=random")
    assert (bare.returncode, "--data-root" in bare.stderr) == (2, True)
