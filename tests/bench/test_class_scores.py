"""Class scores of the bench, on synthetic weights, beside those that each model's own authors' code formed."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import made_zoo
import numpy as np
import pytest
from made_towers import from_files
from made_weights import FIXTURES, certificate, fixture_json
from numpy.typing import NDArray

from cxrbench.models import made
from cxrbench.models.features import ImageFeatures
from cxrbench.runner.model import BenchModel, bench_model
from cxrbench.runner.protocols.zero_shot import Readings, prompt_scores
from cxrbench.runner.request import Engine, Places
from cxrbench.runner.wording import ClassPrompts, wording
from cxrbench.specs import catalog
from cxrbench.specs.prompts import PromptSet

pytestmark = pytest.mark.slow

Array = NDArray[Any]
SETTINGS = catalog.load_variant("paper-code").settings
IMAGES = ("0", "1", "2", "3")
FIVE = catalog.load_task("chexpert5x200").groups["all"]


@dataclass(frozen=True)
class Vectors:
    """The authors' image vectors as the store would hold them."""

    rows: Array

    def vectors(self, tap: str, images: Sequence[str]) -> Array:
        assert tap == "joint"
        found = self.rows[[int(image) for image in images]]
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def scores(self, words: ClassPrompts, images: Sequence[str]) -> Array:
        raise AssertionError("a cosine was to be taken")


@dataclass
class Answers:
    """The model's own scores of the synthetic images as the store would hold them."""

    model: BenchModel

    def vectors(self, tap: str, images: Sequence[str]) -> Array:
        raise AssertionError("the model scores tokens")

    @cached_property
    def seen(self) -> ImageFeatures:
        pixels = from_files(made.images(len(IMAGES), 320, 260, seed=0), self.model.card.recipe("authors"))
        return self.model.adapter.encode_image(pixels)

    def scores(self, words: ClassPrompts, images: Sequence[str]) -> Array:
        assert tuple(images) == IMAGES
        return self.model.adapter.score(self.seen, self.model.adapter.encode_text(words.texts)).numpy()


@pytest.fixture(scope="module")
def figures() -> dict[str, Array]:
    with np.load(FIXTURES / "class_scores.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> BenchModel:
    folder: Path = tmp_path_factory.mktemp("model")
    made_model = made_zoo.made_model(request.param, folder)
    places = Places(weights={"": made_model.weights}, text_encoder=made_model.text_encoder, cache=folder / "cache")
    return bench_model(made_model.card, places, Engine(), "cpu", alone=True, recipe="authors")


def models(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("model", names, indirect=True)


def scored(model: BenchModel, readings: Readings, prompts: PromptSet | str, classes: Sequence[str]) -> Array:
    """Scores (4, C) of the four synthetic images by a set of prompts."""
    chosen = catalog.load_prompts(prompts) if isinstance(prompts, str) else prompts
    words = wording(chosen, classes, SETTINGS, None)
    return prompt_scores(model, model.card.view_name("all"), IMAGES, words, readings, SETTINGS)


def with_pooling(model: BenchModel, **changes: object) -> BenchModel:
    """The same loaded model under a card that pools otherwise."""
    assert model.adapter.card is model.card
    other = copy.copy(model)
    assert model.card.zero_shot is not None
    other.card = model.card.model_copy(update={"zero_shot": model.card.zero_shot.model_copy(update=changes)})
    return other


def literal(prompts: Mapping[str, Sequence[str]]) -> PromptSet:
    return PromptSet(name="literal", classes={name: tuple(texts) for name, texts in prompts.items()})


def assert_close(found: Array, wanted: Array, tolerance: float = 1e-4, floor: float = 0.0) -> None:
    """Within `tolerance` of the largest value; `floor` is what the rounding of the stored figures allows."""
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= tolerance * np.abs(wanted).max() + floor


def assert_probability(found: Array, wanted: Array) -> None:
    """Differences of logits whose logistic function are the authors' softmax of a pair."""
    assert_close(1 / (1 + np.exp(-found.astype(np.float64))), wanted, 1e-6)
    odds = wanted.astype(np.float64)
    assert_close(found, np.log(odds / (1 - odds)), 1e-4, floor=5e-7)  # float32 near 0.5: 6e-8, times 4


@models("chexzero")
def test_chexzero_asks_each_class_against_its_absence(model: BenchModel, figures: dict[str, Array]) -> None:
    labels = certificate("chexzero").prompts[:6]  # the authors ask `no` and the name of each after them
    found = scored(model, Vectors(figures["chexzero/image_global"]), "chexzero_pairs", labels)
    assert_probability(found, figures["chexzero/zero_shot"])


@models("biovil", "biovil_t")
def test_biovil_pools_before_unit_length_and_sets_four_against_four(
    model: BenchModel, figures: dict[str, Array]
) -> None:
    name, prompts = model.card.name, catalog.load_prompts("biovil_toolbox")
    readings, (positive, negative) = Vectors(figures[f"{name}/image_global"]), figures[f"{name}/similarity_ensemble"].T
    found = scored(model, readings, prompts, ["Normal", "Pneumonia"])
    assert_close(found[:, 1], positive - negative, floor=1e-7)
    assert_close(found[:, 0], negative - positive, floor=1e-7)
    sides = literal({"present": prompts.classes["Pneumonia"], "absent": prompts.negatives["Pneumonia"]})
    assert_close(scored(model, readings, sides, ["present", "absent"]), np.stack([positive, negative], axis=1))


@models("cxr_clip", "cxr_clip_swin")
def test_cxr_clip_takes_the_mean_over_all_prompts(model: BenchModel, figures: dict[str, Array]) -> None:
    name = model.card.name
    found = scored(model, Vectors(figures[f"{name}/image_global"]), "cxr_clip_5x200", FIVE)
    assert_close(found, figures[f"{name}/chexpert_mean_similarity"])


PAIRS = PromptSet(
    name="pairs", spelling="kept", unlisted="template", template="{class}", negative_template="No {class}"
)


@models("cxr_clip", "cxr_clip_swin")
def test_cxr_clip_asks_pairs(model: BenchModel, figures: dict[str, Array]) -> None:
    name = model.card.name
    readings, asked = Vectors(figures[f"{name}/image_global"]), fixture_json(f"{name}/prompts.json.gz")["binary_class"]
    found = scored(model, readings, PAIRS, [asked])
    assert_probability(found[:, 0], figures[f"{name}/binary_probability"][:, 1])
    if asked == "Pneumothorax":
        assert_probability(
            scored(model, readings, "cxr_clip_siim", ["Normal", asked]), figures[f"{name}/binary_probability"]
        )
    rsna = scored(model, readings, "cxr_clip_rsna", ["Normal", "Pneumonia"])
    assert_probability(rsna, figures[f"{name}/rsna_probability"])


@models("medclip", "medclip_vit")
def test_medclip_takes_the_mean_of_scaled_similarities(model: BenchModel, figures: dict[str, Array]) -> None:
    name = model.card.name
    readings, prompts = (
        Vectors(figures[f"{name}/image_global_eval"]),
        fixture_json(f"{name}/prompts.json.gz")["class_prompts"],
    )
    assert_close(scored(model, readings, literal(prompts), list(prompts)), figures[f"{name}/zero_shot_mean"])
    highest = scored(with_pooling(model, pooling="max"), readings, literal(prompts), list(prompts))
    assert_close(highest, figures[f"{name}/zero_shot_max"])


BENCHX = {
    "Atelectasis": (
        " linear atelectasis at the lung bases",
        "mild bibasilar atelectasis at the left lower lobe",
        "minimal linear atelectasis at the mid lung zone",
    ),
    "Cardiomegaly": (" cardiomegaly which is unchanged ", " heart size is normal "),
    "Edema": ("mild pulmonary edema ", "moderate trace interstitial edema "),
}


@models("convirt", "mgca", "mgca_vit")
def test_benchx_takes_the_highest_and_standardises_over_the_images(
    model: BenchModel, figures: dict[str, Array]
) -> None:
    name = model.card.name
    prefix = f"{name}/" if name == "convirt" else f"{name}/benchx_"
    readings, prompts = Vectors(figures[f"{prefix}image_global"]), literal(BENCHX)
    found = scored(model, readings, prompts, list(BENCHX))
    assert_close(found, figures[f"{prefix}zero_shot_standardised"])
    plain = scored(with_pooling(model, standardised=False), readings, prompts, list(BENCHX))
    assert_close(plain, figures[f"{prefix}zero_shot_max"])


@models("gloria")
def test_gloria_takes_the_highest_and_standardises_over_the_images(
    model: BenchModel, figures: dict[str, Array]
) -> None:
    prompts = literal(fixture_json("gloria/prompts.json.gz")["class_prompts"])
    readings = Answers(model)
    assert_close(scored(model, readings, prompts, FIVE), figures["gloria/zero_shot"])
    plain = scored(with_pooling(model, standardised=False), readings, prompts, FIVE)
    assert_close(plain, figures["gloria/zero_shot_raw"])
    mean = scored(with_pooling(model, standardised=False, pooling="mean"), readings, prompts, FIVE)
    assert_close(mean, figures["gloria/zero_shot_mean"])


@models("kad_224", "medklip")
def test_query_decoders_are_asked_the_whole_set(model: BenchModel) -> None:
    told = certificate(model.card.name)
    wanted, queries = told.golden()["similarity"], list(told.prompts)
    prompts = literal({text: (text,) for text in queries})
    readings = Answers(model)
    found = scored(model, readings, prompts, queries)
    assert_close(1 / (1 + np.exp(-found)), wanted)
    two = [queries[4], queries[1]]
    part = ClassPrompts({text: (text,) for text in two}, asked=told.prompts)
    read_off = prompt_scores(model, model.card.view_name("all"), IMAGES, part, readings, SETTINGS)
    assert np.array_equal(read_off, found[:, [4, 1]])
    alone = scored(model, readings, prompts, two)
    assert np.abs(alone - read_off).max() > 1e-3  # queries see each other
