"""Prompt sets: complete for the tasks, refused when malformed, with a digest of what decides a prompt."""

import json
import random
from pathlib import Path

import pytest

from cxrbench.errors import NotApplicableError, SpecError
from cxrbench.evaluate.zero_shot import plain_combinations
from cxrbench.runner.wording import require_task, wording
from cxrbench.specs import catalog
from cxrbench.specs.prompts import PromptSet, Terms, read_prompts

CLASSES = sorted({label for name in catalog.PAPERS_TASKS for label in catalog.load_task(name).groups["all"]})


def test_covid_is_described_as_the_paper_prints_it() -> None:
    described = catalog.load_prompts("description").classes["COVID"]
    assert described == ("the presence of patchy or confluent band like ground glass opacity or consolidation",)


def test_every_class_of_the_papers_tasks_has_a_description() -> None:
    prompts = catalog.load_prompts("description")
    assert [c for c in CLASSES if c not in prompts.classes and c not in prompts.aliases] == []
    assert set(prompts.aliases.values()) <= set(prompts.classes)


def test_title_and_source_do_not_enter_the_digest(tmp_path: Path) -> None:
    first, second, third = (tmp_path / f"{i}.toml" for i in range(3))
    first.write_text('name = "mine"\n[classes]\nEdema = ["wet lungs"]\n')
    second.write_text('name = "mine"\ntitle = "a title"\nsource = "me"\n[classes]\nEdema = ["wet lungs"]\n')
    third.write_text('name = "mine"\n[classes]\nEdema = ["wet lung"]\n')
    assert read_prompts(first).digest == read_prompts(second).digest != read_prompts(third).digest


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('name = "x"\nclases = {}\n', "clases"),
        ('name = "x"\n[classes]\nEdema = []\n', "Edema"),
        ('name = "x"\nunlisted = "template"\n', "template"),
        ('name = "x"\nunlisted = "template"\ntemplate = "an image"\n', "class"),
        ('name = "x"\nnegative_template = "no finding"\n', "class"),
        ('name = "x"\n[negatives]\nEdema = []\n', "Edema"),
        ('name = "x"\nqueries = true\n[classes]\nEdema = ["wet"]\n', "queries"),
        ('name = "x"\nspelling = "kept"\n[sample]\nabove = 1\nsize = 1\norder = []\n', "released spelling"),
        ("name = ", "no TOML"),
    ],
)
def test_malformed_set_is_refused_with_its_name_and_fault(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(SpecError, match=words) as caught:
        read_prompts(path)
    assert str(path) in str(caught.value)


def test_unknown_set_offers_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean ensemble"):
        catalog.load_prompts("ensembel")


AUTHORS = catalog.author_prompt_files()
ANY_FINDING = {"medimageinsight_documentation"}  # whose documented form has a place for a finding, and no list
NOBODYS = {"biovil_pair"}  # used by others, and asked for by name alone
FIVE = catalog.load_task("chexpert5x200").groups["all"]
SETTINGS = catalog.load_variant("paper-code").settings
NEW_IN_NIH_LT = {  # not among ChestX-ray14's
    "No Finding",
    "Pneumoperitoneum",
    "Pneumomediastinum",
    "Subcutaneous Emphysema",
    "Tortuous Aorta",
    "Calcification of the Aorta",
}
KAD_CHESTXRAY14 = {  # as listed in the authors' test script
    *("atelectasis", "cardiomegaly", "pleural effusion", "infiltration", "lung mass", "lung nodule", "pneumonia"),
    *("pneumothorax", "consolidation", "edema", "emphysema", "fibrosis", "pleural thicken", "hernia"),
}


def combined(name: str) -> dict[str, tuple[str, ...]]:
    return {label: plain_combinations(terms.slots) for label, terms in catalog.load_prompts(name).terms.items()}


def test_sets_of_the_authors_are_found_by_name_and_named_by_their_cards() -> None:
    named = {name for model in catalog.card_files() for name in _named(model)}
    assert named <= AUTHORS.keys() | catalog.prompt_files().keys()
    assert named - catalog.prompt_files().keys() == AUTHORS.keys() - NOBODYS
    assert not AUTHORS.keys() & catalog.prompt_files().keys()
    assert [name for name in AUTHORS if catalog.load_prompts(name).name != name] == []


def _named(model: str) -> tuple[str, ...]:
    how = catalog.load_card(model).zero_shot
    return () if how is None else how.prompts


@pytest.mark.parametrize("name", AUTHORS)
def test_sets_of_the_authors_speak_of_the_tasks_classes(name: str) -> None:
    prompts = catalog.load_prompts(name)
    known = {label for task in prompts.tasks for label in catalog.load_task(task).classes} or set(CLASSES)
    assert {*prompts.classes, *prompts.terms, *prompts.negatives} <= known
    assert prompts.source
    assert prompts.title


def test_medklip_and_mavl_have_queries_of_their_own() -> None:
    closed = {name for name in AUTHORS if catalog.load_prompts(name).queries}
    named = {model: closed & set(_named(model)) for model in catalog.card_files()}
    assert closed == {"medklip_entities", "mavl_entities"}
    assert {m: n for m, n in named.items() if n} == {"medklip": {"medklip_entities"}, "mavl": {"mavl_entities"}}


def test_there_is_spells_findings_as_the_lists_of_carzero_and_radzero_do(shared: Path) -> None:
    columns = {"chestxray14": "nih14_official", "chestxdet10": "chestx_det10", "openi18": "openi"}
    for model in ("carzero", "radzero"):
        told = json.loads((shared / "parity" / model / "prompt_terms.json").read_text())
        for terms, task in {**columns, "chexpert5": "chexpert5x200", "padchest192": "padchest_physician"}.items():
            (prompts,) = (p for p in map(catalog.load_prompts, _named(model)) if task in p.tasks)
            labels = [name for name in catalog.load_task(task).classes if name != "Normal"]
            words = wording(prompts, labels, SETTINGS, None).prompts
            assert [text for (text,) in words.values()] == [told["template"].format(term) for term in told[terms]]


def test_glorias_sample_is_what_its_seed_draws() -> None:
    rng = random.Random(6)
    drawn = {label: tuple(rng.sample(texts, 5)) for label, texts in combined("gloria_all").items()}
    assert catalog.load_prompts("gloria_readme").classes == drawn


def test_cxr_clip_counts_a_term_twice_that_stands_twice() -> None:
    prompts = combined("cxr_clip_5x200")
    assert {label: len(texts) for label, texts in prompts.items()} == dict(
        zip(FIVE, (210, 15, 192, 18, 54), strict=True)
    )
    assert len(set(prompts["Pleural Effusion"])) == 36
    assert "small left bilateral pleural effusion" in prompts["Pleural Effusion"]  # location before subtype


def test_tables_of_terms_differ_where_their_authors_spell_otherwise() -> None:
    gloria, medclip, benchx, cxr_clip = (
        {text.strip() for texts in combined(name).values() for text in texts}
        for name in ("gloria_all", "medclip_all", "benchx_all", "cxr_clip_5x200")
    )
    assert medclip == gloria
    assert {text.replace("uppper", "upper") for text in gloria} == benchx
    corrected = {text.replace("apperance", "appearance").replace("presistent", "persistent") for text in gloria}
    assert corrected == cxr_clip


def test_kad_spells_chestxray14_as_its_scripts_do() -> None:
    labels = [label for label in catalog.load_task("nih_lt").groups["all-20"] if label not in NEW_IN_NIH_LT]
    words = wording(catalog.load_prompts("kad_names"), labels, SETTINGS, None).prompts
    assert {text for (text,) in words.values()} == KAD_CHESTXRAY14


@pytest.mark.parametrize(
    ("name", "positive", "negative"),
    [
        ("cxr_clip_rsna", "Findings suggesting pneumonia.", "No evidence of pneumonia"),
        ("biovil_pair", "Findings suggesting pneumonia", "No evidence of pneumonia"),
        ("biovil_toolbox", "This opacity can represent pneumonia", "No signs of pneumonia"),
    ],
)
def test_two_sides_of_one_pair_are_asked_against_each_other(name: str, positive: str, negative: str) -> None:
    labels = catalog.load_task("rsna").groups["all"]
    words = wording(catalog.load_prompts(name), labels, SETTINGS, None)
    assert positive in words.prompts["Pneumonia"]
    assert negative in words.against["Pneumonia"]
    assert (words.against["Normal"], words.prompts["Normal"]) == (
        words.prompts["Pneumonia"],
        words.against["Pneumonia"],
    )


def test_pairs_by_template_keep_case_and_spelling() -> None:
    words = wording(catalog.load_prompts("chexzero_pairs"), ["No Finding", "Edema"], SETTINGS, None)
    assert words.prompts == {"No Finding": ("No Finding",), "Edema": ("Edema",)}
    assert words.against == {"No Finding": ("no No Finding",), "Edema": ("no Edema",)}


def test_a_rule_for_any_class_serves_the_tasks_that_its_authors_asked_alone() -> None:
    served = {name: catalog.load_prompts(name).tasks for name in AUTHORS}
    assert {name: tasks for name, tasks in served.items() if tasks} == {
        "chexzero_pairs": ("chexpert5x200", "chexpert_test500", "padchest_physician"),
        "cxr_clip_rsna": ("rsna",),
        "cxr_clip_siim": ("siim",),
        "kad_names": ("chexpert5x200", "nih_lt"),
        "there_is": (
            *("chexpert5x200", "chexpert_test500", "chexpert_valid202", "nih_lt", "nih14_official", "nih14_lineage"),
            *("chestx_det10", "rsna_pneumonia", "siim_pneumothorax"),
        ),
        "there_is_openi": ("openi",),
        "there_is_padchest": ("padchest_physician",),
    }
    for name, tasks in served.items():
        prompts = catalog.load_prompts(name)
        assert tasks or prompts.unlisted == "error" or name in ANY_FINDING, name
        assert set(tasks) <= set(catalog.task_files()), name
        for task in catalog.task_files():
            if not tasks or task in tasks:
                require_task(prompts, task, "single-label")
    with pytest.raises(NotApplicableError, match=r"'kad_names' is for chexpert5x200, nih_lt, .* and not for covid"):
        require_task(catalog.load_prompts("kad_names"), "covid", "single-label")
    with pytest.raises(NotApplicableError, match=r"'presence' is for multi-label tasks, and covid is a single-label"):
        require_task(catalog.load_prompts("presence"), "covid", "single-label")


def test_the_tasks_of_a_set_decide_no_prompt() -> None:
    prompts = catalog.load_prompts("kad_names")
    assert prompts.model_copy(update={"tasks": ()}).digest == prompts.digest


def test_a_class_that_the_authors_did_not_put_into_words_is_no_class_of_the_set() -> None:
    with pytest.raises(NotApplicableError, match="'biovil_toolbox' has no prompts for class 'COVID'"):
        wording(catalog.load_prompts("biovil_toolbox"), ["Normal", "COVID"], SETTINGS, None)


def test_phrases_are_what_prompts_are_made_of_and_nothing_that_is_said_about_the_set() -> None:
    written = PromptSet(
        name="own",
        title="a title",
        source="a source",
        template="an image of {class}",
        unlisted="template",
        classes={"Edema": ("fluid", "edema")},
        aliases={"Oedema": "Edema"},
        terms={"Mass": Terms(names=("mass",), slots=(("large", "small"), ("in the lung",)))},
        negative_template="no {class}",
        released={"Edema": "0" * 64},
    )
    expected = {"Edema", "fluid", "edema", "Oedema", "Mass", "mass", "large", "small", "in the lung"}
    assert set(written.phrases) == {*expected, "an image of {class}", "no {class}"}
