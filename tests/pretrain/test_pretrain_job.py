"""From raw files to a model and its record, by the commands of the README."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from made_lessons import made_text_encoder, small_choices

from cxrbench.card import read_card
from cxrbench.data.phantom.corpora import write_corpus
from cxrbench.data.phantom.write import write
from cxrbench.errors import CxrBenchError, DataError, SpecError
from cxrbench.pretrain.config import configured
from cxrbench.pretrain.corpus.build import Request
from cxrbench.pretrain.corpus.variants import corpus_variant
from cxrbench.pretrain.frequencies import read as read_frequencies
from cxrbench.pretrain.job import Job, pretrain
from cxrbench.progress import Quiet

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


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus("CHEXPERT", tmp_path_factory.mktemp("drawn"), images_per_class=3).root


@pytest.fixture
def job(drawn: Path, tmp_path: Path) -> Job:
    """Two steps of the smallest training that there is, on drawn radiographs."""
    choices = small_choices(tmp_path / "text", objective="unimodal", schedule__epochs="1", data__batch_size="32")
    corpus = Request({"CHEXPERT": drawn}, corpus_variant("as-published"))
    return Job(configured(None, choices), corpus, tmp_path / "run", tmp_path / "cache")


def test_what_a_run_says_of_itself_outlives_a_refused_one(job: Job) -> None:
    card = pretrain(job, Quiet(), str)
    assert (card.name, card.synthetic) == ("run", True)
    before = {name: (job.out / name).read_bytes() for name in ("config.toml", "corpus.json", "metrics.jsonl")}
    with pytest.raises(SpecError, match="--resume"):
        pretrain(job, Quiet(), str)
    faster = job.config.model_copy(update={"seed": 5})
    with pytest.raises(SpecError, match=r"another configuration \(config\.toml there\)"):
        pretrain(replace(job, config=faster, resume=True), Quiet(), str)
    assert {name: (job.out / name).read_bytes() for name in before} == before
    told: list[str] = []
    assert pretrain(replace(job, resume=True), Quiet(), told.append).weights == card.weights
    assert any(line.startswith("going on from step") for line in told)
    assert (job.out / "metrics.jsonl").read_bytes() == before["metrics.jsonl"]


@pytest.mark.parametrize(
    ("section", "values", "error"),
    [
        ("image", {"weights": Path("nowhere.pth")}, DataError),
        ("image", {"trunk": "resnet19"}, SpecError),
        ("tracking", {"wandb": "project"}, SpecError),
    ],
)
def test_what_would_end_a_run_is_told_before_images_are_decoded(
    section: str,
    values: dict[str, object],
    error: type[CxrBenchError],
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    config = job.config.model_copy(update={section: getattr(job.config, section).model_copy(update=values)})
    with pytest.raises(error):
        pretrain(replace(job, config=config), Quiet(), str)
    assert not job.cache.exists()


def test_a_folder_without_its_checkpoint_begins_its_curve_anew(job: Job) -> None:
    pretrain(job, Quiet(), str)
    before = (job.out / "metrics.jsonl").read_text().count("\n")
    (job.out / "state.pt").unlink()
    pretrain(job, Quiet(), str)
    assert (job.out / "metrics.jsonl").read_text().count("\n") == before


def test_sources_that_nobody_knows_or_that_have_no_folder(tmp_path: Path) -> None:
    wrong = cxrbench(tmp_path, "pretrain", "run", "-c", "chexpart", "--out", "x")
    assert (wrong.returncode, "did you mean chexpert" in wrong.stderr) == (2, True)
    bare = cxrbench(tmp_path, "pretrain", "run", "-c", "mimic", "--out", "x", "--set", "text.initial=random")
    assert (bare.returncode, "--data-root" in bare.stderr) == (2, True)
