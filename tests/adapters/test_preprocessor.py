"""The preprocessing that a library saved beside the weights, held against the card's recipe of the authors."""

import json
import warnings
from pathlib import Path
from typing import Any

import made_hub
import pytest
import transformers

from cxrbench.errors import CxrBenchWarning, IntegrityError
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.preprocessor import hold_recipe
from cxrbench.specs.card import ModelCard

SHORTER = {"op": "resize", "to": "shorter", "size": 40, "filter": "bicubic"}
EXACT = {"op": "resize", "to": "exact", "size": 32, "filter": "bilinear"}
CROP = {"op": "crop", "size": 32, "rest": "down"}
HALF = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
SIDE = {"height": 32, "width": 32}
# By the library's class: its settings, and the steps that they are.
SAVED: dict[str, tuple[str, dict[str, Any], list[dict[str, Any]]]] = {
    "clip": ("CLIPImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": SIDE, "resample": 3}, [SHORTER, CROP]),
    "clip of old": ("CLIPImageProcessor", {"size": 40, "crop_size": 32, "resample": 3}, [SHORTER, CROP]),
    "siglip": ("SiglipImageProcessor", {"size": SIDE, "resample": 2}, [EXACT]),
    "bit": ("BitImageProcessor", {"size": {"shortest_edge": 40}, "crop_size": SIDE, "resample": 3}, [SHORTER, CROP]),
    "vit": ("ViTImageProcessor", {"size": SIDE, "resample": 2}, [EXACT]),
    "vit of old": ("ViTImageProcessor", {"size": 32, "resample": 2}, [EXACT]),
    "deit": (
        "DeiTImageProcessor",
        {"size": {"height": 40, "width": 40}, "crop_size": SIDE, "resample": 1},
        [{"op": "resize", "to": "exact", "size": 40, "filter": "lanczos"}, CROP],
    ),
    "convnext": (
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 32}, "crop_pct": 0.8, "resample": 3},
        [SHORTER, CROP],
    ),
    "convnext, large": (
        "ConvNextImageProcessor",
        {"size": {"shortest_edge": 384}, "crop_pct": 0.8, "resample": 3},
        [{**EXACT, "size": 384, "filter": "bicubic"}],
    ),
}  # fmt: skip


def card(authors: dict[str, Any] | None, **weights: Any) -> ModelCard:
    plain = {"reality-check": {"size": 32, "mean": [0.5], "std": [0.25]}}
    told = {"files": ["tiny.safetensors"], "where": "here", **weights}
    recipes = plain if authors is None else {**plain, "authors": {"kind": "steps", **authors}}
    return made_hub.card("hf:HuggingFaceVision", {}, {"pooled": 32}, recipes=recipes, weights=told)


def recipe(steps: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    return {"steps": steps, "mean": [0.5], "std": [0.25], **changes}


def held(told: ModelCard, folder: Path) -> list[str]:
    """What is warned of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", CxrBenchWarning)
        hold_recipe(told, Checkpoint(folder / "model.safetensors", "", {}))
    return [str(one.message) for one in found]


def save(folder: Path, name: str = "clip", **changes: Any) -> None:
    """The file by the library's own hand, with changes."""
    kind, settings, _ = SAVED[name]
    getattr(transformers, kind)(**settings, **HALF).save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize("name", SAVED)
def test_a_recipe_that_does_what_the_processor_does_is_taken_in_silence(name: str, tmp_path: Path) -> None:
    save(tmp_path, name)
    steps = SAVED[name][2]
    assert held(card(recipe(steps)), tmp_path) == []
    assert held(card(recipe([{"op": "min-max"}, *steps])), tmp_path) == []  # that is before the processor
    with pytest.raises(IntegrityError, match="the card of tiny says otherwise"):
        held(card(recipe([{"op": "pad-square"}, *steps])), tmp_path)


@pytest.mark.parametrize("kind", ["CLIPImageProcessorFast", "CLIPFeatureExtractor"])
def test_a_file_as_older_versions_wrote_it_is_read_too(kind: str, tmp_path: Path) -> None:
    plain = {"size": 40, "crop_size": 32, "resample": 3, **HALF}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"feature_extractor_type": kind, **plain}))
    assert held(card(recipe([SHORTER, CROP])), tmp_path) == []


def test_the_processor_of_a_whole_model_is_held_too(tmp_path: Path) -> None:
    save(tmp_path)
    told = json.loads((tmp_path / "preprocessor_config.json").read_text())
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": told, "processor_class": "CLIP"}))
    with pytest.raises(IntegrityError, match=r"processor_config\.json: the card of tiny says otherwise"):
        held(card(recipe([EXACT])), tmp_path)


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "mean": ({}, {"mean": [0.4, 0.5, 0.5], "std": [0.25] * 3}, r"mean: the file .* the card \[0\.4.* `mean = "),
    "std": ({}, {"std": [0.5]}, r"std: the file says .*0\.25.*, the card \[0\.5\]\. Write `std = \[0\.25"),
    "size": ({}, {"steps": [{**SHORTER, "size": 36}, CROP]}, r'`steps = \[\{ op = "resize", to = "shorter", size = 40'),
    "squash": ({}, {"steps": [{**SHORTER, "to": "exact"}, CROP]}, 'the card .* to = "exact"'),
    "crop": ({"do_center_crop": False}, {}, "steps: the file says"),
    "rest": ({}, {"steps": [SHORTER, {**CROP, "rest": "even"}]}, 'the card .* rest = "even"'),
    "filter": ({"resample": 2}, {}, 'filter = "bilinear"'),
    "rescale": ({"do_rescale": False}, {}, "divisor: the file says 1, the card 255. Write `divisor = 1`"),
    "factor": ({"rescale_factor": 1 / 127.5}, {}, "divisor: the file says 127.5"),
    "range": ({}, {"divisor": "own-range"}, 'the card "own-range". Write `divisor = 255`'),
    "no normalising": ({"do_normalize": False}, {}, r"mean: the file says \[0\.0, 0\.0, 0\.0\]"),
    "resample": ({}, {"resample": {"size": 32, "filter": "bicubic"}}, "Write no `resample`"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_differs_is_refused_with_both_values_and_the_line_to_write(name: str, tmp_path: Path) -> None:
    changes, own, told = OTHERS[name]
    save(tmp_path, **changes)
    authors = {**recipe([SHORTER, CROP]), **own}
    with pytest.raises(IntegrityError, match=told):
        held(card(authors), tmp_path)
    assert held(card(authors, preprocessor="its authors wrote another one"), tmp_path) == []


def test_the_papers_canvas_is_no_recipe_of_a_processor(tmp_path: Path) -> None:
    save(tmp_path)
    told = card(None)
    both = told.model_copy(update={"recipes": {**told.recipes, "authors": told.recipes["reality-check"]}})
    with pytest.raises(IntegrityError, match=r'kind: the file says "steps", the card "canvas".*`steps = \['):
        held(both, tmp_path)


STRANGE: dict[str, tuple[dict[str, Any], str]] = {
    "another class": ({"image_processor_type": "HeronImageProcessor"}, "HeronImageProcessor is not known here"),
    "padding": ({"do_pad": True}, "what do_pad does is not known"),
    "another filter": ({"resample": 4}, "the filter 4 of its resize"),
    "no square": ({"size": {"height": 40, "width": 44}}, "is none that a recipe has"),
    "a longest side": ({"size": {"shortest_edge": 40, "longest_edge": 60}}, "is none that a recipe has"),
    "a crop that is no square": ({"crop_size": {"height": 32, "width": 24}}, "is no square"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_no_recipe_can_be_held_against_is_told(name: str, tmp_path: Path) -> None:
    changes, why = STRANGE[name]
    save(tmp_path, **changes)
    (told,) = held(card(recipe([EXACT])), tmp_path)
    assert "was held against nothing" in told and why in told


def test_a_card_without_the_authors_recipe_is_told_of_another_mean(tmp_path: Path) -> None:
    assert held(card(None), tmp_path) == []  # no file, no word
    save(tmp_path)
    assert held(card(None), tmp_path) == []
    save(tmp_path, image_mean=[0.48] * 3)
    (told,) = held(card(None), tmp_path)
    assert "`reality-check` of tiny says otherwise" in told and "`mean = [0.48, 0.48, 0.48]`" in told


def test_a_file_that_the_library_cannot_read_is_refused(tmp_path: Path) -> None:
    save(tmp_path, size="large")
    with pytest.raises(IntegrityError, match=r"preprocessor_config\.json: no image processor can be made"):
        held(card(None), tmp_path)
