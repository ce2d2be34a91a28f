"""The variant's choices on both kinds of recipe."""

import pytest

from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard, read_card
from cxrbench.specs.card_facts import card_digest, recipe_for
from cxrbench.specs.catalog import load_variant
from cxrbench.specs.recipe import Canvas, Resize, Steps
from cxrbench.specs.settings import Settings

STEPPED = Steps(kind="steps", steps=(Resize(op="resize", to="exact", size=224, filter="bilinear"),))


def card(**authors: object) -> ModelCard:
    plain = read_card(paths.folder("model_zoo") / "dlilp_cm.toml")
    return plain.model_copy(
        update={"recipes": {"reality-check": Canvas(), "authors": STEPPED.model_copy(update=authors)}}
    )


def settings(**changes: str) -> Settings:
    return load_variant("paper-code").settings.model_copy(update=changes)


def test_released_preprocessing_takes_the_canvas_with_its_choices() -> None:
    name, recipe = recipe_for(card(), settings(antialias="on", canvas_floor="exact"), "stored")
    assert (name, recipe) == ("reality-check", Canvas(antialias=True, floor="exact"))


@pytest.mark.parametrize(
    ("decode", "polarity", "vindr", "expected"),
    [
        ("released", "stored", "released", ("official", "stored")),
        ("released", "negated", "released", ("official", "negated")),
        ("released", "negated", "header", ("official", "header")),
        ("radiograph", "negated", "released", ("radiograph", "header")),
    ],
)
def test_steps_take_the_decode_and_nothing_of_the_canvas(
    decode: str, polarity: str, vindr: str, expected: tuple[str, str]
) -> None:
    choices = settings(preprocessing="authors", decode=decode, vindr_polarity=vindr, antialias="on")
    name, recipe = recipe_for(card(), choices, polarity)
    assert name == "authors"
    assert recipe == STEPPED.model_copy(update={"decode": expected[0], "polarity": expected[1]})


def test_a_card_that_reads_by_the_header_keeps_to_it() -> None:
    reading = {"decode": "radiograph", "polarity": "header"}
    _, recipe = recipe_for(card(**reading), settings(preprocessing="authors"), "negated")
    assert recipe == STEPPED.model_copy(update=reading)


def test_a_recipe_that_negates_by_the_header_keeps_to_it() -> None:
    own = {"dicom": "over-maximum", "files": "opencv", "polarity": "header"}
    _, recipe = recipe_for(card(**own), settings(preprocessing="authors"), "negated")
    assert recipe == STEPPED.model_copy(update=own)
    _, recipe = recipe_for(card(**own), settings(preprocessing="authors", decode="radiograph"), "negated")
    assert recipe == STEPPED.model_copy(update={"decode": "radiograph", "polarity": "header"})


@pytest.mark.parametrize(
    ("shots", "worded", "moves"), [(None, True, True), (16, True, True), (16, False, False), (None, False, False)]
)
def test_how_prompts_are_pooled_decides_each_cell_that_is_scored_by_words_and_no_other(
    shots: int | None, worded: bool, moves: bool
) -> None:
    plain = read_card(paths.folder("model_zoo") / "clip_cm.toml")
    assert plain.zero_shot is not None and plain.zero_shot.pooling != "max"
    other = plain.model_copy(update={"zero_shot": plain.zero_shot.model_copy(update={"pooling": "max"})})
    digests = [card_digest(one, settings(), "all", shots, Canvas(), worded=worded) for one in (plain, other)]
    assert (digests[0] != digests[1]) == moves
