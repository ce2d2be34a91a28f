"""CXR-CLIP with both trunks against its authors' own outputs on checkpoints with synthetic weights."""

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from made_cosines import (
    CXR_CLIP,
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

from cxrbench.models.cxr_clip import CXRCLIP
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.swin import Swin


@pytest.fixture(scope="module", params=CXR_CLIP)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CXRCLIP]:
    found = load(request.param, tmp_path_factory.mktemp(request.param))
    assert isinstance(found, CXRCLIP)
    yield found


@pytest.fixture(scope="module")
def figures(model: CXRCLIP) -> Golden:
    return golden(model.card.name)


@pytest.fixture(scope="module")
def shown(model: CXRCLIP, figures: Golden) -> Tensor:
    return normalised(model, figures["resized"])


@pytest.fixture(scope="module")
def seen(model: CXRCLIP, shown: Tensor) -> ImageFeatures:
    return model.encode_image(shown)


@pytest.fixture(scope="module")
def asked(model: CXRCLIP) -> TextFeatures:
    return model.encode_text(prompts(model.card.name)["prompts"])


def normalised(model: CXRCLIP, resized: np.ndarray) -> Tensor:
    """8-bit pictures after the authors' resize, as they normalise them for this trunk."""
    recipe = model.card.recipe("authors")
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (recipe.mean, recipe.std))
    return (torch.from_numpy(resized)[:, None] / 255 - mean) / std


def phrases(name: str, label: str) -> list[str]:
    """Every combination of a class, in the published order."""
    told = prompts(name)["chexpert5x200"][label]
    return [" ".join(words).strip() for words in product(*(told[part] for part in told["order"]))]


def class_scores(model: CXRCLIP, seen: ImageFeatures, labels: list[str]) -> Tensor:
    """Scores of classes as the card's `mean` has them."""
    assert model.card.zero_shot.pooling == "mean"
    columns = [model.score(seen, model.encode_text(phrases(model.card.name, label))).mean(dim=1) for label in labels]
    return torch.stack(columns, dim=1)


def assert_images(found: ImageFeatures, wanted: Golden, suffix: str = "") -> None:
    assert found.joint is not None
    rows = len(found.pooled)
    assert difference(found.pooled, wanted["image_trunk" + suffix][:rows]) <= 1e-4
    assert difference(found.joint, wanted["image_global" + suffix][:rows]) <= 1e-4


def assert_scores(model: CXRCLIP, seen: ImageFeatures, asked: TextFeatures, wanted: Golden) -> None:
    """Similarities, and the probabilities of the two pairs of prompts: a softmax of plain cosines."""
    assert score_difference(model.score(seen, asked), wanted["similarity"]) <= 1e-4
    for task in ("binary", "rsna"):
        pair = model.encode_text(prompts(model.card.name)[f"{task}_prompts"])
        assert score_difference(model.score(seen, pair).softmax(dim=1), wanted[f"{task}_probability"]) <= 1e-6


def test_image_vectors(figures: Golden, seen: ImageFeatures) -> None:
    assert_images(seen, figures)


def test_projected_image_vectors(model: CXRCLIP, figures: Golden, seen: ImageFeatures) -> None:
    projected = model.parts["image_projection.projection."](seen.pooled)
    assert difference(projected, figures["image_projected"]) <= 1e-4


def test_swin_hands_over_its_first_token_and_not_the_mean(model: CXRCLIP, figures: Golden, shown: Tensor) -> None:
    if "image_tokens_mean" not in figures:
        pytest.skip("ResNet-50 has no tokens")
    with torch.inference_mode():
        tokens = Swin.forward(model.parts[model.image_network], shown.expand(-1, 3, -1, -1))  # type: ignore[arg-type]
    assert difference(tokens[:, 0], figures["image_trunk"]) <= 1e-4
    assert difference(tokens.mean(dim=1), figures["image_tokens_mean"]) <= 1e-4
    assert score_difference(tokens.mean(dim=1), figures["image_trunk"]) > 0.1


def test_text_vectors(model: CXRCLIP, figures: Golden, asked: TextFeatures) -> None:
    assert asked.projected is not None
    texts = prompts(model.card.name)
    assert difference(asked.joint, figures["text_global"]) <= 1e-4
    assert difference(asked.projected, figures["text_projected"]) <= 1e-4
    assert difference(model.states(texts["prompts"]).last_token, figures["text_pooled"]) <= 1e-4
    assert difference(model.encode_text([texts["long_prompt"]]).joint, figures["long_text_global"]) <= 1e-4


def test_tokens_of_the_texts(model: CXRCLIP, figures: Golden) -> None:
    words, limit = model._words
    texts = prompts(model.card.name)
    found = words.tokens(texts["prompts"], limit)
    assert all(np.array_equal(found[name].numpy(), figures[name]) for name in ("input_ids", "attention_mask"))
    assert np.array_equal(words.tokens([texts["long_prompt"]], limit)["input_ids"].numpy(), figures["long_input_ids"])


def test_scores(model: CXRCLIP, figures: Golden, seen: ImageFeatures, asked: TextFeatures) -> None:
    assert_scores(model, seen, asked, figures)


def test_class_scores_of_the_classes_with_few_prompts(model: CXRCLIP, figures: Golden, seen: ImageFeatures) -> None:
    found = class_scores(model, seen, ["Cardiomegaly", "Edema"])
    assert score_difference(found, figures["chexpert_mean_similarity"][:, [1, 3]]) <= 1e-4


def test_from_files_by_the_authors_recipe(model: CXRCLIP, figures: Golden, shown: Tensor) -> None:
    found = from_files(model, figures["images"], "authors")
    assert torch.equal(found, shown)
    assert_images(model.encode_image(found), figures)


@pytest.mark.parametrize("antialias", [False, True])
def test_the_papers_recipe(model: CXRCLIP, figures: Golden, antialias: bool) -> None:
    key = "dlilp_trunk_antialias" if antialias else "dlilp_trunk"
    if key not in figures:
        pytest.skip("the paper did not probe it")
    found = model.encode_image(from_files(model, figures["images"], "reality-check", antialias)).pooled
    assert difference(found, figures[key]) <= 1e-4


def test_every_figure_from_files(model: CXRCLIP, shared: Path, asked: TextFeatures) -> None:
    figures = whole(model.card.name, shared)
    shown = {suffix: from_files(model, figures["images" + suffix], "authors") for suffix in ("", "_large")}
    assert difference(shown[""].expand(-1, 3, -1, -1), figures["pixel_values"]) <= 1e-6
    assert difference(shown["_large"][:, :1], figures["pixel_values_large"]) <= 1e-6
    for suffix, pictures in shown.items():
        assert_images(model.encode_image(pictures), figures, suffix)
    seen = model.encode_image(torch.from_numpy(figures["pixel_values"]))
    assert_images(seen, figures)
    assert_scores(model, seen, asked, figures)
    assert model.coverage.ignored["logit_scale"]


def test_every_figure_of_the_paper_from_files(model: CXRCLIP, shared: Path) -> None:
    figures = whole(model.card.name, shared)
    for kind in [name.removeprefix("dlilp_trunk") for name in figures if name.startswith("dlilp_trunk")]:
        images = figures["images_large" if "large" in kind else "images"]
        shown = from_files(model, images, "reality-check", "antialias" in kind)
        if "large" not in kind:
            assert difference(shown[:1, :1], figures["dlilp_pixels_0" + kind]) <= 1e-5
        assert difference(model.encode_image(shown).pooled, figures["dlilp_trunk" + kind]) <= 1e-4


@pytest.mark.slow
def test_class_scores_of_all_classes(model: CXRCLIP, shared: Path) -> None:
    figures = whole(model.card.name, shared)
    seen = model.encode_image(torch.from_numpy(figures["pixel_values"]))
    labels = prompts(model.card.name)["chexpert_classes"]
    assert [len(phrases(model.card.name, label)) for label in labels] == [210, 15, 192, 18, 54]
    assert score_difference(class_scores(model, seen, labels), figures["chexpert_mean_similarity"]) <= 1e-4


def test_the_committed_texts_are_the_shared_ones(model: CXRCLIP, shared: Path) -> None:
    folder = shared / "parity" / model.card.name
    committed = prompts(model.card.name)
    terms = json.loads((folder / "prompt_terms.json").read_text())["chexpert5x200"]["classes"]
    assert json.loads((folder / "prompts.json").read_text()) | {"chexpert5x200": terms} == committed
    for file in text_folder(model.card.name).iterdir():
        assert file.read_bytes() == (folder / "text" / file.name).read_bytes()
