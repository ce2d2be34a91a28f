"""The demonstration, whole and once: encoders that learned, tables with their rows, and nothing done twice."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import fmean

import pytest
from demonstration import MODELS, Shown
from filelock import FileLock

from cxrbench.analysis.cell import cell_interval
from cxrbench.cli import demonstration as demonstration_steps
from cxrbench.cli.demonstration import (
    OBJECTIVES,
    SETTINGS,
    Folders,
    corpora,
    demo,
    draw,
    recipe,
    seen_and_unseen,
    vocabulary,
    write_text_encoder,
)
from cxrbench.evaluate.metric_table import MACRO_AUROC
from cxrbench.phantom.write import write
from cxrbench.pretrain.config import Config
from cxrbench.pretrain.export import CARD
from cxrbench.pretrain.job import FREQUENCIES, Job, pretrain
from cxrbench.records.predictions import read_cell
from cxrbench.runner.request import Engine, Places, Request
from cxrbench.runner.run import run
from cxrbench.specs import catalog
from cxrbench.specs.card import read_card
from cxrbench.specs.paper import published_table
from cxrbench.system.progress import Quiet

BASE = tuple((c.task, c.group) for c in published_table(2).columns if c.group != "new")


@pytest.fixture(scope="module")
def untrained(shown: Shown) -> dict[tuple[str, str], float]:
    """Probes of a trunk that took every step of an epoch with a rate at which no weight moves: only means and
    variances of its normalisation are those of the images.
    """
    told = recipe("unimodal", shown.folders).model_dump()
    told["optimiser"] |= {"learning_rate": 1e-12}
    told["schedule"] |= {"epochs": 1}
    out = shown.folders.root / "runs" / "untrained"
    request = corpora(shown.folders)
    job = Job(Config.model_validate(told), request, out, shown.folders.cache, resume=True)
    asked = Request(
        models=(str(out / CARD),),
        tasks=catalog.PAPERS_TASKS,
        protocols=("linear-probe",),
        variant=SETTINGS,
        groups=("*",),
        places=Places(data={"": shown.folders.evaluation}, out=out / "results", cache=shown.folders.cache),
        engine=Engine(device="cpu"),
    )
    with FileLock(shown.folders.root.with_suffix(".lock")):
        pretrain(job, Quiet(), lambda _: None)
        report = run(asked, Quiet(), lambda _: None)
    return {(r.data.task, r.data.group): r.summary["balanced_accuracy"]["mean"] for r in report.records}


@pytest.mark.slow
def test_every_task_is_measured_and_every_table_has_the_four_rows(shown: Shown) -> None:
    assert not shown.report.problems
    for number in (2, 3, 4):
        table = (shown.folders.results / f"tables/table{number}.md").read_text()
        assert "PHANTOM" in table
        titles = [read_card(shown.folders.run(objective) / CARD).title for objective in OBJECTIVES]
        assert len(set(titles)) == 4 and all(title in table for title in titles)
    for objective in OBJECTIVES:
        card = read_card(shown.folders.run(objective) / CARD)
        assert (card.synthetic, card.pretraining) == (True, ("C", "M", "P"))
        assert (shown.folders.run(objective) / FREQUENCIES).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("task", "group"), BASE)
def test_encoders_beat_chance_on_every_base_task(task: str, group: str, model: str, shown: Shown) -> None:
    record = shown.one(model, task, group, "zero-shot")
    assert record is not None
    found = cell_interval(read_cell(shown.folders.results, record), MACRO_AUROC)
    low = found.estimate if found.low is None else found.low  # perfect: nothing to resample
    assert low is not None and low > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_base_findings_are_mostly_told_apart(model: str, shown: Shown) -> None:
    assert fmean(shown.skill(model, task, group) for task, group in BASE) > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("task", "group"), BASE)
def test_probes_beat_those_of_an_untrained_trunk(
    task: str, group: str, model: str, shown: Shown, untrained: dict[tuple[str, str], float]
) -> None:
    record = shown.one(model, task, group, "linear-probe")
    assert record is not None
    assert record.summary["balanced_accuracy"]["mean"] > untrained[task, group] + 0.05


@pytest.mark.slow
@pytest.mark.parametrize("model", ["demo_clip", "demo_unicl", "demo_dlilp"])
@pytest.mark.parametrize("task", ["nih_lt", "vindr"])
def test_findings_that_were_never_seen_stay_near_chance(task: str, model: str, shown: Shown) -> None:
    seen, unseen = shown.skill(model, task, "base"), shown.skill(model, task, "new")
    assert unseen < 0.3 and unseen < seen / 2
    assert shown.one("demo_unimodal", task, "new", "zero-shot") is None, "it has no word for them"


@pytest.mark.slow
def test_what_was_seen_is_told_beside_what_was_not(shown: Shown) -> None:
    lines = seen_and_unseen(shown.records, shown.folders.results).splitlines()
    assert [line.split()[0] for line in lines[-5:]] == [*sorted(MODELS), "chance"]
    assert lines[-1].split()[1:] == ["12.50", "9.09", "50.00", "33.33"]
    assert sum("rank correlation" in text for text in shown.told) == 1


@pytest.mark.slow
def test_a_second_call_trains_and_measures_nothing(shown: Shown) -> None:
    told: list[str] = []
    before = {path: path.stat().st_mtime_ns for path in shown.folders.root.rglob("card.toml")}
    again = demo(shown.folders.root, Quiet(), told.append, told.append)
    assert again.decoded == again.encoded == 0
    assert again.cached == len(again.records)
    assert sum("trained already" in text for text in told) == len(OBJECTIVES)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_what_is_drawn_already_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demonstration_steps, "IMAGES", {"PADCHEST": {"pool": 1, "other": 1, "odd": 6}})
    monkeypatch.setattr(catalog, "PAPERS_TASKS", ("covid",))
    monkeypatch.setattr(demonstration_steps, "write", partial(write, images_per_class=1))
    first: list[str] = []
    draw(Folders(tmp_path), first.append)
    assert [line.partition(":")[0] for line in first] == ["pre-training phantom of PADCHEST", "phantom of covid"]
    monkeypatch.setattr(demonstration_steps, "ProcessPoolExecutor", lambda *_, **__: pytest.fail("started"))
    again: list[str] = []
    draw(Folders(tmp_path), again.append)
    assert again == first


@pytest.fixture
def words(tmp_path: Path) -> Callable[[str], list[str]]:
    from transformers import AutoTokenizer

    folder = write_text_encoder(["No focal consolidation is seen.", "A hazy opacity."], tmp_path)
    return AutoTokenizer.from_pretrained(str(folder)).tokenize


def test_the_made_vocabulary_knows_its_words_and_spells_the_others(words: Callable[[str], list[str]]) -> None:
    assert words("Consolidation is hazy.") == ["consolidation", "is", "hazy", "."]
    assert words("mass") == ["m", "##a", "##s", "##s"]


def test_no_word_is_twice_in_the_vocabulary() -> None:
    made = vocabulary(["A a view.", "view of 2"])
    assert len(set(made)) == len(made)
    assert "view" in made and "[MASK]" in made


def test_the_variant_of_the_demo_ships() -> None:
    assert catalog.load_variant(SETTINGS).splits.keys() == {*catalog.PAPERS_TASKS}
