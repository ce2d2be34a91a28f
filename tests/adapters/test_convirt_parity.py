"""ConVIRT (BenchX) against BenchX's own outputs on a checkpoint with synthetic weights."""

import numpy as np
import pytest
import torch
from made_towers import Golden, Towers, assert_close, assert_well_behaved, from_files, stored
from torch import Tensor

from cxrbench.models.convirt import IMAGE_HEAD, TEXT, ConVIRT
from cxrbench.specs.recipe import Crop, Resize, Steps

MADE = Towers("convirt")
PROMPTS = MADE.prompts
BENCHX_PROBE = Steps(
    kind="steps",
    steps=(Resize(op="resize", to="shorter", size=224, filter="bilinear"), Crop(op="crop", size=224)),
    mean=(0.4978,),
    std=(0.2449,),
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ConVIRT:
    found = MADE.load(MADE.file(tmp_path_factory.mktemp("convirt")))
    assert isinstance(found, ConVIRT)
    return found


@pytest.fixture(scope="module", params=["few rows", pytest.param("all rows", marks=pytest.mark.slow)])
def golden(request: pytest.FixtureRequest) -> Golden:
    if request.param == "few rows":
        return MADE.golden
    return stored(request.getfixturevalue("shared") / "parity" / "convirt" / "golden.npz")


def endings(golden: Golden) -> list[str]:
    return [ending for ending in ("", "_large", "_small") if "image_trunk" + ending in golden]


def colour(pixels: np.ndarray, model: ConVIRT) -> Tensor:
    """All three channels (N, 3, H, W) from the first."""
    recipe = model.card.recipe("authors")
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (recipe.mean, recipe.std))
    grey = (torch.from_numpy(pixels[:, :1]) * std[0] + mean[0]).mul(255).round().div(255)
    return (grey - mean) / std


def test_image_vectors(model: ConVIRT, golden: Golden) -> None:
    for ending in endings(golden):
        found = model.encode_image(colour(golden["pixel_values" + ending], model))
        assert found.joint is not None
        assert_close(found.pooled, golden["image_trunk" + ending])
        assert_close(model.parts[IMAGE_HEAD](found.pooled), golden["image_projected" + ending])
        assert_close(found.joint, golden["image_global" + ending])
        probed = model.encode_image(torch.from_numpy(golden["pixel_values_probe" + ending]))
        assert_close(probed.pooled, golden["image_trunk_probe" + ending])


def test_the_channels_of_the_figures_are_the_ones_made_here(model: ConVIRT, golden: Golden) -> None:
    if golden["pixel_values"].shape[1] == 1:
        pytest.skip("the few rows have the first channel alone")
    assert_close(colour(golden["pixel_values"], model), golden["pixel_values"], 1e-6)


def test_image_vectors_from_files(model: ConVIRT, golden: Golden) -> None:
    for ending in (e for e in endings(golden) if "images" + e in golden):
        found = model.encode_image(from_files(golden["images" + ending], model.card.recipe("authors")))
        assert found.joint is not None
        assert_close(found.pooled, golden["image_trunk" + ending], 1e-3)
        assert_close(found.joint, golden["image_global" + ending], 1e-3)
        probed = model.encode_image(from_files(golden["images" + ending], BENCHX_PROBE))
        assert_close(probed.pooled, golden["image_trunk_probe" + ending], 1e-3)


def test_text_vectors_and_similarity(model: ConVIRT, golden: Golden) -> None:
    texts = model.encode_text(PROMPTS["prompts"])
    assert texts.projected is not None
    with torch.inference_mode():
        pooled = model.parts[TEXT](**model.words.tokens(PROMPTS["prompts"])).pooler_output
    assert_close(pooled, golden["text_pooled"])
    assert_close(texts.projected, golden["text_projected"])
    assert_close(texts.joint, golden["text_global"])
    assert_close(model.encode_text([PROMPTS["long_prompt"]]).joint, golden["long_text_global"])
    images = model.encode_image(colour(golden["pixel_values"], model))
    assert_close(model.score(images, texts), golden["similarity"])


def test_token_ids(model: ConVIRT, golden: Golden) -> None:
    for texts, wanted in (
        (PROMPTS["prompts"], golden["input_ids"]),
        ([PROMPTS["long_prompt"]], golden["long_input_ids"]),
    ):
        found = model.words.tokens(texts)["input_ids"].numpy()
        assert np.array_equal(found, wanted[:, : found.shape[1]])
        assert (wanted[:, found.shape[1] :] == 1).all()


def test_zero_shot(model: ConVIRT, golden: Golden) -> None:
    """The card's pooling: the highest of a class's prompts, then standardised over the images."""
    assert (model.card.zero_shot.pooling, model.card.zero_shot.standardised) == ("max", True)
    images = model.encode_image(colour(golden["pixel_values"], model))
    classes = PROMPTS["class_prompts"].values()
    best = np.stack([model.score(images, model.encode_text(c)).numpy().max(axis=1) for c in classes], axis=1)
    assert_close(best, golden["zero_shot_max"])
    if "zero_shot_standardised" in golden:
        assert_close((best - best.mean(axis=0)) / best.std(axis=0), golden["zero_shot_standardised"])


def test_outer_spaces_and_case_are_tokens(model: ConVIRT) -> None:
    found = model.encode_text(["edema", " edema", "Edema"]).joint
    assert not torch.allclose(found[0], found[1], atol=1e-3)
    assert not torch.allclose(found[0], found[2], atol=1e-3)


def test_a_vector_depends_on_its_own_input_alone(model: ConVIRT, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_well_behaved(model, monkeypatch)
