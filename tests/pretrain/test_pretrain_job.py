"""From raw files to a model and its record, by the commands of its page."""

import json
import shlex
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from forks import Fork, command_line, fork
from made_lessons import small_choices

from cxrbench.errors import CxrBenchError, DataError, SpecError
from cxrbench.phantom.write import write_corpus
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.corpus.build import CorpusRequest
from cxrbench.pretrain.corpus.variants import corpus_variant
from cxrbench.pretrain.frequencies import read as read_frequencies
from cxrbench.pretrain.job import Job, pretrain
from cxrbench.pretrain.state import read_state
from cxrbench.specs import catalog
from cxrbench.specs.card import read_card
from cxrbench.system.progress import Quiet

PAGE = Path(__file__).parents[2] / "docs" / "pretraining.md"


def begun(place: Path, *words: str) -> Fork:
    environment = {"CXRBENCH_CACHE": str(place / "cache")}
    return fork(command_line, words, said=place / "said", cwd=place, environment=environment)


def cxrbench(place: Path, *words: str) -> tuple[int, str, str]:
    """Exit status, output and complaints of a command."""
    done = begun(place, *words)
    return done.ended(500), done.said.read_text(encoding="utf-8"), done.warned.read_text(encoding="utf-8")


def shown_commands() -> list[list[str]]:
    """The words of each command of the page's example on drawn data sets."""
    section = PAGE.read_text(encoding="utf-8").partition("## On drawn data sets")[2]
    before, found, after = section.partition("cxrbench pretrain phantom")
    block = before.rpartition("```\n")[2] + found + after.partition("```")[0]
    return [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]


@pytest.mark.slow
def test_the_commands_of_the_page_go_from_raw_files_to_a_row_of_table_4(paper_phantom: Path, tmp_path: Path) -> None:
    """All but the first draw, train and measure; of the drawn test sets of the first one, one alone is missing."""
    commands = shown_commands()
    assert [words[:3] for words in commands] == [
        ["cxrbench", "data", "phantom"],
        ["cxrbench", "pretrain", "phantom"],
        ["cxrbench", "pretrain", "run"],
        ["cxrbench", "run", "--model"],
        ["cxrbench", "table", "4"],
    ]
    shutil.copytree(paper_phantom, tmp_path / "phantom/data")
    shutil.rmtree(tmp_path / "phantom/data/COVID-19_Radiography_Dataset")
    said = []
    for _, *words in commands:
        if words[:2] == ["pretrain", "run"]:
            broken = next((tmp_path / "phantom/corpora").rglob("p10*/**/*.jpg"))
            broken.write_bytes(broken.read_bytes()[:100])
        code, told_here, warned = cxrbench(tmp_path, *words)
        assert code == 0, (words, warned)
        said.append(told_here)
    assert [line.partition(":")[0] for line in said[0].splitlines()] == [*catalog.PAPERS_TASKS]
    assert "1 images cannot be read and are left out" in said[2]
    out = tmp_path / "runs/dlilp_mcp"
    told = json.loads((out / "corpus.json").read_text())
    assert len(told["unreadable"]) == 1
    assert min(counts["taken"] for counts in told["counts"].values()) > 100
    findings = {(v["task"], v["source"]): v["finding"] for v in told["overlap"]}
    assert {findings["chexpert5x200", "CHEXPERT"], findings["mimic5x200", "MIMIC"]} == {"none"}
    assert read_frequencies(out / "frequencies.json").corpus == told["digest"]
    card = read_card(out / "card.toml")
    assert (card.name, card.pretraining, card.synthetic) == ("dlilp_mcp", ("C", "M", "P"), True)
    row = next(line for line in said[4].splitlines() if line.startswith("DLILP (C+M+P), pre-trained here"))
    cells = [float(cell.strip("†*")) for cell in row.split() if cell[0].isdigit()]
    assert len(cells) == 8, "seven data sets and their mean"
    assert cells[-1] == pytest.approx(sum(cells[:7]) / 7, abs=0.02)
    assert cells[-1] > 35  # chance is 27 on average


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus("CHEXPERT", tmp_path_factory.mktemp("drawn"), images_per_class=3).root


@pytest.mark.slow
def test_sigterm_has_an_exit_code_of_its_own_and_the_same_command_goes_on(drawn: Path, tmp_path: Path) -> None:
    choices = small_choices(tmp_path / "text", objective="unimodal", schedule__epochs="100", data__batch_size="8")
    settings = [word for name, value in choices.items() for word in ("--set", f"{name}={value}")]
    command = ("pretrain", "run", "-c", "chexpert", "--out", "run", "--data-root", f"chexpert={drawn}", *settings)
    words = (*command, "--allow-overlap", "--set", "schedule.patience=100", "--set", "saving.every_steps=10000")
    running = begun(tmp_path, *words)
    metrics = tmp_path / "run/metrics.jsonl"
    while not (metrics.exists() and metrics.stat().st_size):
        assert running.process.is_alive(), f"it was done before it could be stopped: {running.told}"
        time.sleep(0.01)
    running.process.terminate()
    assert (running.ended(120), "stopped by SIGTERM after step" in running.told) == (6, True), running.told
    found = read_state(tmp_path / "run")
    assert found is not None
    assert 0 < found.position.step < 100 * 3
    again = cxrbench(tmp_path, *words, "--resume", "--set", f"schedule.epochs={found.position.epoch + 2}")
    assert again[0] == 0, again
    assert f"going on from step {found.position.step} " in again[1]
    assert read_card(tmp_path / "run/card.toml").name == "run"


@pytest.fixture
def job(drawn: Path, tmp_path: Path) -> Job:
    """Two steps of the smallest training that there is, on synthetic radiographs."""
    choices = small_choices(tmp_path / "text", objective="unimodal", schedule__epochs="1", data__batch_size="32")
    corpus = CorpusRequest({"CHEXPERT": drawn}, corpus_variant("as-published"))
    return Job(build_config(None, choices), corpus, tmp_path / "run", tmp_path / "cache")


def test_what_a_run_says_of_itself_outlives_a_refused_one(job: Job) -> None:
    card = pretrain(job, Quiet(), str)
    assert (card.name, card.synthetic) == ("run", True)
    kept = ("config.toml", "identity.json", "corpus.json", "metrics.jsonl")
    before = {name: (job.out / name).read_bytes() for name in kept}
    assert json.loads(before["identity.json"])["precision"] == "32-true"
    assert "precision 32-true" in card.notes[0]
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
    code, _, warned = cxrbench(tmp_path, "pretrain", "run", "-c", "chexpart", "--out", "x")
    assert (code, "did you mean chexpert" in warned) == (2, True)
    code, _, warned = cxrbench(tmp_path, "pretrain", "run", "-c", "mimic", "--out", "x", "--set", "text.initial=random")
    assert (code, "--data-root" in warned) == (2, True)
