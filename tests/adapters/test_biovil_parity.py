"""BioViL and BioViL-T against their authors' own outputs on checkpoints with synthetic weights."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_cosines import (
    BIOVIL,
    Golden,
    difference,
    from_files,
    golden,
    load,
    prompts,
    score_difference,
    text_folder,
    whole,
)
from torch import Tensor
from torch.nn.functional import normalize

from cxrbench.models.biovil import BioViL, BioViLT
from cxrbench.models.features import ImageFeatures, TextFeatures


@pytest.fixture(scope="module", params=BIOVIL)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BioViL]:
    found = load(request.param, tmp_path_factory.mktemp(request.param))
    assert isinstance(found, BioViL)
    yield found


@pytest.fixture(scope="module")
def figures(model: BioViL) -> Golden:
    return golden(model.card.name)


@pytest.fixture(scope="module")
def shown(figures: Golden) -> Tensor:
    return torch.from_numpy(figures["resized"])[:, None] / 255


@pytest.fixture(scope="module")
def seen(model: BioViL, shown: Tensor) -> ImageFeatures:
    return model.encode_image(shown)


@pytest.fixture(scope="module")
def asked(model: BioViL) -> TextFeatures:
    return model.encode_text(prompts(model.card.name)["prompts"])


def ensembles(model: BioViL) -> Tensor:
    """Class vectors as the card's `projected-embedding` has it: positive, negative."""
    assert model.card.zero_shot.pooling == "projected-embedding"
    lists = prompts(model.card.name)["ensembles"]
    means = [model.encode_text(lists[sign]).projected.mean(dim=0) for sign in ("positive", "negative")]  # type: ignore[union-attr]
    return normalize(torch.stack(means))


def assert_images(found: ImageFeatures, wanted: Golden, suffix: str = "") -> None:
    assert found.joint is not None
    assert difference(found.pooled, wanted["image_trunk" + suffix]) <= 1e-4
    assert difference(found.joint, wanted["image_global" + suffix]) <= 1e-4


def test_image_vectors(figures: Golden, seen: ImageFeatures) -> None:
    assert_images(seen, figures)


def test_maps(model: BioViL, figures: Golden, shown: Tensor) -> None:
    maps = model.maps(shown)
    assert difference(maps.projected.mean(dim=(2, 3)), figures["image_projected"]) <= 1e-4
    places = normalize(maps.projected[0], dim=0).permute(1, 2, 0)[::4, ::4]
    assert difference(places, figures["patch_projected_0"]) <= 1e-4
    if isinstance(model, BioViLT):
        assert difference(maps.fused.mean(dim=(2, 3)), figures["image_fused"]) <= 1e-4


def test_an_image_with_a_prior(model: BioViL, figures: Golden, shown: Tensor, seen: ImageFeatures) -> None:
    if not isinstance(model, BioViLT):
        pytest.skip("BioViL takes one image")
    found = model.encode_image_with_prior(shown[:1], shown[1:])
    assert found.joint is not None
    assert difference(found.joint, figures["image_global_with_prior"][:1]) <= 1e-4
    assert torch.allclose(found.pooled, seen.pooled[:1], rtol=1e-5)
    assert not torch.allclose(found.joint, seen.joint[:1], atol=1e-3)  # type: ignore[index]


def test_text_vectors(model: BioViL, figures: Golden, asked: TextFeatures) -> None:
    assert asked.projected is not None
    assert difference(asked.joint, figures["text_global"]) <= 1e-4
    assert difference(asked.projected, figures["text_projected"]) <= 1e-4


def test_tokens_and_states_of_the_texts(model: BioViL, figures: Golden) -> None:
    given: list[Tensor] = []
    handle = model.text._head.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0]))
    texts = prompts(model.card.name)["prompts"]
    model.encode_text(texts)
    handle.remove()
    assert difference(given[0], figures["text_cls_hidden"]) <= 1e-4
    tokens = model.text._words.tokens([text.rstrip("!?.") for text in texts], None)
    assert all(np.array_equal(tokens[name].numpy(), figures[name]) for name in ("input_ids", "attention_mask"))


def test_scores(model: BioViL, figures: Golden, seen: ImageFeatures, asked: TextFeatures) -> None:
    assert seen.joint is not None
    assert score_difference(model.score(seen, asked), figures["similarity"]) <= 1e-4
    assert score_difference(seen.joint @ ensembles(model).T, figures["similarity_ensemble"]) <= 1e-4


def test_the_authors_recipe_gives_their_pixels(model: BioViL, figures: Golden, shown: Tensor) -> None:
    assert torch.equal(from_files(model, figures["images"], "authors"), shown)


def test_the_papers_recipe(model: BioViL, figures: Golden) -> None:
    if "dlilp_trunk" not in figures:
        pytest.skip("the paper did not probe it")
    found = model.encode_image(from_files(model, figures["images"], "reality-check")).pooled
    assert difference(found, figures["dlilp_trunk"]) <= 1e-4


@pytest.mark.slow
def test_every_figure_from_files(model: BioViL, shared: Path, asked: TextFeatures) -> None:
    figures = whole(model.card.name, shared)
    for suffix in ("", "_large"):
        shown = from_files(model, figures["images" + suffix], "authors")
        assert np.array_equal(np.rint(shown[:, 0].numpy() * 255), figures["pixel_uint8" + suffix])
        features = model.encode_image(shown)
        assert_images(features, figures, suffix)
        if not suffix:
            assert np.array_equal(shown[:1].expand(-1, 3, -1, -1).numpy(), figures["pixel_values"])
            assert score_difference(model.score(features, asked), figures["similarity"]) <= 1e-4
            assert features.joint is not None
            assert score_difference(features.joint @ ensembles(model).T, figures["similarity_ensemble"]) <= 1e-4
        if not suffix and isinstance(model, BioViLT):
            paired = model.encode_image_with_prior(shown, shown.roll(-1, dims=0)).joint
            assert paired is not None
            assert difference(paired, figures["image_global_with_prior"]) <= 1e-4


@pytest.mark.slow
def test_every_figure_of_the_paper_from_files(model: BioViL, shared: Path) -> None:
    figures = whole(model.card.name, shared)
    for kind in [name.removeprefix("dlilp_trunk") for name in figures if name.startswith("dlilp_trunk")]:
        images = figures["images_large" if "large" in kind else "images"]
        shown = from_files(model, images, "reality-check", "antialias" in kind)
        assert difference(shown[:, 0, ::8, ::8], figures["dlilp_pixels_every8" + kind]) <= 1e-5
        assert difference(model.encode_image(shown).pooled, figures["dlilp_trunk" + kind]) <= 1e-4


def test_the_committed_texts_are_the_shared_ones(model: BioViL, shared: Path) -> None:
    folder = shared / "parity" / model.card.name
    assert json.loads((folder / "prompts.json").read_text()) == prompts(model.card.name)
    for file in text_folder(model.card.name).iterdir():
        assert file.read_bytes() == (folder / "text" / file.name).read_bytes()
