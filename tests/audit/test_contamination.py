"""Pre-training on a task's source, collections that tell the class, and prompts that differ."""

import json
from pathlib import Path

import pytest
from made_records import made_record
from typer.testing import CliRunner

from cxrbench.analysis.contamination import by_source_alone, confounded, pretrained_on_source, unequal_prompts
from cxrbench.cli.main import app
from cxrbench.records.record import Record
from cxrbench.records.validity import contaminated
from cxrbench.specs import catalog
from cxrbench.specs.task import Origin, TaskSpec


@pytest.mark.parametrize(
    ("letters", "task", "mark"),
    [
        (["C"], "chexpert5x200", True),
        (["M"], "chexpert5x200", False),
        (["M", "C"], "mimic5x200", True),
        (["C", "C14", "M"], "rsna", True),
        (["C", "C14", "M"], "siim", True),
        (["M", "C", "NIH"], "nih_lt", True),
        (["NIH"], "covid", True),
        (["P"], "covid", False),  # the same hospitals, not the same images
        (["C", "M", "P"], "vindr", False),
        (["NIH", "OpenI"], "openi", True),
        (["VinDr-CXR"], "vindr_cxr", True),
        ([], "chexpert5x200", False),
    ],
)
def test_the_mark_follows_the_letters_of_the_card(letters: list[str], task: str, mark: bool) -> None:
    assert contaminated(letters, catalog.load_task(task)) is mark


def test_every_task_says_where_its_images_come_from() -> None:
    for name in catalog.task_files():
        assert catalog.load_task(name).origins, name


def test_every_letter_of_an_origin_is_one_that_cards_use_or_that_no_card_has_yet() -> None:
    used = {letter for name in catalog.card_files() for letter in catalog.load_card(name).pretraining}
    named = {letter for name in catalog.task_files() for o in catalog.load_task(name).origins for letter in o.letters}
    assert {"C", "M", "P"} <= used & named
    assert named - used <= {"VinDr-PCXR", "VinDr-CXR", "NIH", "C14"}


def with_origins(*origins: tuple[str, int, str]) -> TaskSpec:
    task = catalog.load_task("rsna")
    told = tuple(
        Origin(pool=pool, images=images, classes=(name,), known="assumed", source="made")
        for pool, images, name in origins
    )
    return task.model_copy(update={"origins": told})


def test_collections_that_hold_one_class_each_tell_everything() -> None:
    task = with_origins(("a", 10, "Normal"), ("b", 90, "Pneumonia"))
    assert by_source_alone(task, ("Normal", "Pneumonia")) == 1.0


def test_one_collection_for_all_tells_nothing() -> None:
    task = with_origins(("a", 10, "Normal"), ("a", 90, "Pneumonia"))
    assert by_source_alone(task, ("Normal", "Pneumonia")) == 0.5
    assert list(confounded(task)) == []


def test_shares_decide_in_a_mixture() -> None:
    task = with_origins(("a", 30, "Normal"), ("b", 70, "Normal"), ("a", 80, "Pneumonia"), ("b", 20, "Pneumonia"))
    assert by_source_alone(task, ("Normal", "Pneumonia")) == pytest.approx((0.8 + 0.7) / 2)


def test_covid_is_told_from_normal_by_the_collection_alone() -> None:
    found = {f.scope: f.text for f in confounded(catalog.load_task("covid"))}
    assert "reaches 100.0 %" in found["covid, group 2-class"]
    assert "Pneumonia from kermany, children (1345)" in found["covid, group all"]


def test_an_institution_in_common_is_told_with_what_it_can_mean() -> None:
    """PadChest's hospitals gave COVID most images of one class: no id names their patients, and the hospital tells."""
    found = list(pretrained_on_source(catalog.load_task("covid"), [catalog.load_card("dlilp_cmp")]))
    told = {(f.kind, f.count, f.total) for f in found}
    assert told == {("pre-training", 1, 1), ("not known", 2473, None), ("pre-training", 2473, 3615)}
    text = " ".join(f.text for f in found)
    assert "whether patients of the 2473 images from bimcv are in the pre-training data of dlilp_cmp" in text
    assert "all 2473 images from bimcv are of class COVID" in text
    assert list(pretrained_on_source(catalog.load_task("covid"), [catalog.load_card("dlilp_cm")])) == []


def asked(model: str, text: str = "pneumonia", name: str = "names", digest: str = "c" * 64) -> Record:
    return made_record(
        model__name=model,
        protocol__protocol="zero-shot",
        protocol__shots=None,
        prompts={
            "set": name,
            "digest": digest,
            "source": "prompts",
            "drawn": [{"Normal": ["normal"], "Pneumonia": [text]}],
        },
    )


def test_equal_words_are_no_finding() -> None:
    assert list(unequal_prompts([asked("one"), asked("two")])) == []


def test_other_words_under_one_name_are_found() -> None:
    (found,) = unequal_prompts([asked("one"), asked("two", "signs of pneumonia")])
    assert "the prompt set names was not the same words for all models: one | two" in found.text


def test_a_set_that_only_some_models_were_asked_is_found() -> None:
    found = list(unequal_prompts([asked("one"), asked("two"), asked("two", "x", "ensemble")]))
    assert ["only two, not one" in f.text for f in found] == [True]


def test_strict_fails_on_findings_and_only_then(tmp_path: Path) -> None:
    words = ["audit", "--out", str(tmp_path), "-t", "covid"]
    plain, strict = (CliRunner().invoke(app, [*words, *more]) for more in ([], ["--strict"]))
    assert (plain.exit_code, strict.exit_code) == (0, 1)
    assert plain.stdout == strict.stdout and "kermany" in plain.stdout
    vindr = CliRunner().invoke(app, ["audit", "--out", str(tmp_path), "-t", "vindr", "--strict"])
    assert vindr.exit_code == 0 and "questions that this data cannot answer" in vindr.stdout


def test_reports_are_written_as_their_names_say(tmp_path: Path) -> None:
    files = [tmp_path / f"audit{suffix}" for suffix in (".md", ".json", ".txt")]
    reports = [word for file in files for word in ("--report", str(file))]
    done = CliRunner().invoke(app, ["audit", "--out", str(tmp_path), "-t", "covid", *reports])
    assert done.exit_code == 0, done.output
    assert "| confounding" in files[0].read_text()
    kinds = {found["kind"] for found in json.loads(files[1].read_text())["findings"]}
    assert {"confounding", "pre-training", "not known"} <= kinds
