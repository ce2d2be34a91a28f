"""MGCA against its authors' own outputs on checkpoints with synthetic weights."""

import numpy as np
import pytest
import torch
from made_towers import Golden, Towers, assert_close, assert_well_behaved, from_files, stored
from torch import Tensor

from cxrbench.models.mgca import BERT, GLOBAL, IMAGE, MGCA, TEXT
from cxrbench.specs.recipe import Crop, Resize, Steps

BENCHX_PROBE = Steps(
    kind="steps",
    steps=(Resize(op="resize", to="shorter", size=224, filter="bilinear"), Crop(op="crop", size=224)),
    mean=(0.4978,),
    std=(0.2449,),
)
BENCHX_ZERO_SHOT = Steps(
    kind="steps",
    steps=(Resize(op="resize", to="exact", size=224, filter="bilinear"),),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


@pytest.fixture(scope="module", params=["mgca", "mgca_vit"])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, MGCA]:
    """One checkpoint as used with each recipe."""
    towers = Towers(request.param)
    path = towers.file(tmp_path_factory.mktemp(request.param))
    found = {recipe: towers.load(path, recipe) for recipe in ("authors", "reality-check")}
    assert all(isinstance(model, MGCA) for model in found.values())
    return found  # type: ignore[return-value]


@pytest.fixture(scope="module")
def model(models: dict[str, MGCA]) -> MGCA:
    return models["authors"]


@pytest.fixture(scope="module", params=["few rows", pytest.param("all rows", marks=pytest.mark.slow)])
def golden(request: pytest.FixtureRequest, model: MGCA) -> Golden:
    name = model.card.name
    if request.param == "few rows":
        return Towers(name).golden
    return stored(request.getfixturevalue("shared") / "parity" / name / "golden.npz")


def endings(golden: Golden) -> list[str]:
    return [ending for ending in ("", "_large", "_small") if "images" + ending in golden]


def joint(model: MGCA, pixels: Tensor) -> Tensor:
    found = model.encode_image(pixels).joint
    assert found is not None
    return found


def test_image_vectors(model: MGCA, golden: Golden) -> None:
    for ending in endings(golden):
        found = model.encode_image(torch.from_numpy(golden["pixel_values" + ending]))
        assert found.joint is not None
        assert_close(found.pooled, golden["image_trunk" + ending])
        assert_close(model.parts[IMAGE + GLOBAL](found.pooled), golden["image_projected" + ending])
        assert_close(found.joint, golden["image_global" + ending])


def test_image_vectors_from_files(model: MGCA, golden: Golden) -> None:
    for ending in endings(golden):
        found = model.encode_image(from_files(golden["images" + ending], model.card.recipe("authors")))
        assert found.joint is not None
        assert_close(found.pooled, golden["image_trunk" + ending], 1e-3)
        assert_close(found.joint, golden["image_global" + ending], 1e-3)


def test_regions(model: MGCA, golden: Golden) -> None:
    found = model.encode_regions(torch.from_numpy(golden["pixel_values"][:1]))
    assert found.shape == (1, 361 if model.card.name == "mgca" else 196, 128)
    wanted = golden["image_local_0"]
    assert_close(found[0, : len(wanted)], wanted)


def test_text_vectors(model: MGCA, golden: Golden) -> None:
    prompts = Towers(model.card.name).prompts
    texts = model.encode_text(prompts["prompts"])
    assert texts.projected is not None
    states = model.words.read(prompts["prompts"], model.parts[TEXT + BERT], torch.device("cpu")).states
    assert_close(states[:, 0], golden["text_pooled"])
    assert_close(texts.projected, golden["text_projected"])
    assert_close(texts.joint, golden["text_global"])
    assert_close(model.encode_text([prompts["long_prompt"]]).joint, golden["long_text_global"])
    assert_close(model.encode_text([" ".join(prompts["report_sentences"])]).joint, golden["report_text_global"])
    images = model.encode_image(torch.from_numpy(golden["pixel_values"]))
    assert_close(model.score(images, texts), golden["similarity"])


def test_the_order_of_words_makes_no_difference(model: MGCA, golden: Golden) -> None:
    found = model.encode_text(Towers(model.card.name).prompts["order"]).joint
    assert_close(found, golden["order_text_global"])
    assert torch.allclose(found[0], found[1], atol=1e-6)


def test_words(model: MGCA, golden: Golden) -> None:
    found = model.encode_words(Towers(model.card.name).prompts["prompts"])
    assert found.shape == (6, 111, 128)
    assert_close(found[0, :16], golden["text_local_0"])


def test_token_ids(model: MGCA, golden: Golden) -> None:
    prompts = Towers(model.card.name).prompts
    for texts, wanted in (
        (prompts["prompts"], golden["input_ids"]),
        ([prompts["long_prompt"]], golden["long_input_ids"]),
    ):
        found = model.words.tokens(texts)["input_ids"].numpy()
        assert np.array_equal(found, wanted[:, : found.shape[1]])
        assert not wanted[:, found.shape[1] :].any()


def test_the_bare_trunk_as_in_benchx(models: dict[str, MGCA], golden: Golden) -> None:
    """The recipe `reality-check` leaves out the enlargement, as does BenchX's classification."""
    bare, wanted = models["reality-check"], golden["benchx_probe_trunk"]
    assert_close(bare.encode_image(torch.from_numpy(golden["benchx_probe_pixels_0"])).pooled, wanted[:1])
    for ending in endings(golden):
        found = bare.encode_image(from_files(golden["images" + ending], BENCHX_PROBE)).pooled
        assert_close(found, golden["benchx_probe_trunk" + ending], 1e-3)
    authors = models["authors"].encode_image(torch.from_numpy(golden["benchx_probe_pixels_0"])).pooled
    assert torch.equal(authors, bare.encode_image(torch.from_numpy(golden["benchx_probe_pixels_0"])).pooled) == (
        bare.card.name == "mgca_vit"
    )


def test_zero_shot_as_in_benchx(model: MGCA, golden: Golden) -> None:
    """The card's pooling: the highest of a class's prompts, then standardised over the images."""
    if "benchx_zero_shot_max" not in golden:
        pytest.skip("the figures of all four images are not among the few rows")
    assert (model.card.zero_shot.pooling, model.card.zero_shot.standardised) == ("max", True)
    images = model.encode_image(from_files(golden["images"], BENCHX_ZERO_SHOT))
    assert images.joint is not None
    assert_close(images.joint, golden["benchx_image_global"], 1e-3)
    classes = Towers(model.card.name).prompts["class_prompts"].values()
    best = np.stack([model.score(images, model.encode_text(c)).numpy().max(axis=1) for c in classes], axis=1)
    assert_close(best, golden["benchx_zero_shot_max"], 1e-3)
    standardised = (best - best.mean(axis=0)) / best.std(axis=0)
    assert_close(standardised, golden["benchx_zero_shot_standardised"], 1e-3)


def test_a_vector_depends_on_its_own_input_alone(model: MGCA, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_well_behaved(model, monkeypatch)
