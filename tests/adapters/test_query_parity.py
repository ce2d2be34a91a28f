"""MedKLIP, KAD-512 and KAD-224 against their authors' own outputs on checkpoints with synthetic weights."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from made_queries import NAMES, Golden, authors_pixels, difference, golden, load, prompts, score_difference
from PIL import Image
from torch import Tensor, nn

from cxrbench.images.pixels import pixels_by
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.kad import KAD
from cxrbench.models.medklip import MedKLIP
from cxrbench.models.query_decoder import QueryDecoder
from cxrbench.specs.card import RecipeName


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[QueryDecoder]:
    found = load(request.param, tmp_path_factory.mktemp(request.param))
    assert isinstance(found, QueryDecoder)
    yield found


@pytest.fixture(scope="module")
def figures(model: QueryDecoder) -> Golden:
    return golden(model.card.name)


@pytest.fixture(scope="module")
def seen(model: QueryDecoder, figures: Golden) -> ImageFeatures:
    return model.encode_image(authors_pixels(figures["resized"]))


@pytest.fixture(scope="module")
def asked(model: QueryDecoder) -> TextFeatures:
    return model.encode_text(prompts(model.card.name))


@pytest.fixture(scope="module")
def whole(model: QueryDecoder, shared: Path) -> Golden:
    with np.load(shared / "parity" / model.card.name / "golden.npz") as stored:
        return {key: stored[key] for key in stored.files}


def seen_by(model: QueryDecoder, images: np.ndarray, recipe: RecipeName, antialias: bool = False) -> ImageFeatures:
    """What the model makes of 8-bit pictures as PNG files, through one of its card's recipes."""
    how = model.card.recipe(recipe)
    if antialias:
        how = how.model_copy(update={"antialias": True})
    batch = []
    for number, image in enumerate(images):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="PNG")
        batch.append(torch.from_numpy(pixels_by(stream.getvalue(), f"{number}.png", how).array))
    return model.encode_image(torch.stack(batch))


def outputs(model: QueryDecoder, features: ImageFeatures) -> dict[str, Tensor]:
    """The authors' image vectors by the names of the figures; KAD-224's own trunk ends before what is pooled."""
    assert features.tokens is not None
    if isinstance(model, MedKLIP):
        return {"image_global": features.pooled, "image_trunk": features.pooled}
    assert features.joint is not None
    return {"image_global": features.joint} | ({"image_trunk": features.pooled} if model.card.name == "kad" else {})


def trunk_mean(model: QueryDecoder, shown: Tensor) -> Tensor:
    """The mean of the authors' trunk."""
    found: list[Tensor] = []
    handle = model._trunk.res_features.register_forward_hook(lambda _, __, out: found.append(out.mean(dim=(2, 3))))
    model.encode_image(shown)
    handle.remove()
    return found[0]


def attention(model: QueryDecoder, features: ImageFeatures, texts: TextFeatures) -> list[Tensor]:
    """The cross-attention weights of each layer (N, P, T), mean over heads, from what the layers really were given."""
    network = model._network if isinstance(model, MedKLIP) else model._decoder  # type: ignore[attr-defined]
    found: list[Tensor] = []

    def listen(block: nn.MultiheadAttention, given: tuple[Tensor, ...], _: object, __: object) -> None:
        with torch.inference_mode():
            weights = block.forward(given[0], given[1], given[2], need_weights=True)[1]
        assert weights is not None
        found.append(weights)

    layers = [layer.multihead_attn for layer in network.decoder.layers]
    handles = [layer.register_forward_hook(listen, with_kwargs=True) for layer in layers]
    model.logits(features, texts)
    for handle in handles:
        handle.remove()
    return found


def test_image_vectors(model: QueryDecoder, figures: Golden, seen: ImageFeatures) -> None:
    rows = len(figures["resized"])
    for name, vectors in outputs(model, seen).items():
        assert difference(vectors, figures[name][:rows]) <= 1e-4, name
    means = trunk_mean(model, authors_pixels(figures["resized"]))
    assert difference(means, figures["image_trunk"][:rows]) <= 1e-4


def test_tokens(model: QueryDecoder, figures: Golden, seen: ImageFeatures) -> None:
    assert seen.tokens is not None
    step = 7 if isinstance(model, MedKLIP) else 16
    assert difference(seen.tokens[0, ::step], figures["tokens_0"]) <= 1e-4
    if "image_patches_mean" in figures:
        assert difference(seen.tokens.mean(dim=1), figures["image_patches_mean"]) <= 1e-4


def test_text_vectors(model: QueryDecoder, figures: Golden, asked: TextFeatures) -> None:
    assert difference(asked.joint, figures["text_global"]) <= 1e-4
    if isinstance(model, MedKLIP):
        assert difference(model.queries(asked.joint), figures["text_query"]) <= 1e-4


def test_tokens_of_the_texts(model: QueryDecoder, figures: Golden) -> None:
    assert isinstance(model, MedKLIP | KAD)
    assert model.card.text_encoder is not None
    found = model._text.tokens(prompts(model.card.name), model.card.text_encoder.max_tokens)
    width = found["input_ids"].shape[1]
    for name, ids in found.items():
        assert np.array_equal(ids.numpy(), figures[name][:, :width]), name
        assert not figures[name][:, width:].any()


def test_scores(model: QueryDecoder, figures: Golden, seen: ImageFeatures, asked: TextFeatures) -> None:
    rows = len(figures["resized"])
    assert score_difference(model.logits(seen, asked), figures["logits"][:rows]) <= 1e-4
    assert score_difference(model.score(seen, asked).sigmoid(), figures["similarity"][:rows]) <= 1e-4


def test_queries_asked_one_by_one(model: QueryDecoder, figures: Golden, seen: ImageFeatures) -> None:
    alone = [model.logits(seen, model.encode_text([text])) for text in prompts(model.card.name)]
    assert score_difference(torch.cat(alone, dim=1), figures["logits_single"][: len(figures["resized"])]) <= 1e-4


def test_attention(model: QueryDecoder, figures: Golden, seen: ImageFeatures, asked: TextFeatures) -> None:
    layers = attention(model, seen, asked)
    found = torch.stack(layers).mean(dim=0) if isinstance(model, MedKLIP) else layers[-1]
    assert difference(found, figures["attention"][: len(figures["resized"])]) <= 1e-4


def test_from_files_by_the_authors_recipe(model: QueryDecoder, figures: Golden, asked: TextFeatures) -> None:
    features = seen_by(model, figures["images"], "authors")
    for name, vectors in outputs(model, features).items():
        assert difference(vectors, figures[name][: len(vectors)]) <= 1e-3, name
    assert score_difference(model.logits(features, asked), figures["logits"][: len(figures["images"])]) <= 1e-3


@pytest.mark.parametrize("antialias", [False, True])
def test_from_files_by_the_papers_recipe(model: QueryDecoder, figures: Golden, antialias: bool) -> None:
    wanted = figures["dlilp_trunk_antialias" if antialias else "dlilp_trunk"]
    assert difference(seen_by(model, figures["images"], "reality-check", antialias).pooled, wanted) <= 1e-3


def test_every_figure_from_the_authors_pixels(model: QueryDecoder, whole: Golden, asked: TextFeatures) -> None:
    features = model.encode_image(torch.from_numpy(whole["pixel_values"]))
    rows = len(whole["pixel_values"])
    for name, values in outputs(model, features).items():
        assert difference(values, whole[name][:rows]) <= 1e-4, name
    assert score_difference(model.logits(features, asked), whole["logits"][:rows]) <= 1e-4
    assert score_difference(model.score(features, asked).sigmoid(), whole["similarity"][:rows]) <= 1e-4
    assert features.tokens is not None
    every = {"image_patches_0": 1, "image_patches_0_every4": 4}
    for name in whole.keys() & every:
        assert difference(features.tokens[0, :: every[name]], whole[name]) <= 1e-4, name


def test_the_papers_trunk_from_its_own_pixels(model: QueryDecoder, whole: Golden) -> None:
    for kind in ("", "_antialias"):
        found = model.encode_image(torch.from_numpy(whole[f"dlilp_pixels_0{kind}"])).pooled
        assert difference(found, whole[f"dlilp_trunk{kind}"][:1]) <= 1e-4


@pytest.mark.slow
def test_every_figure_from_files(model: QueryDecoder, whole: Golden, asked: TextFeatures) -> None:
    for size in ("", "_large"):
        features = seen_by(model, whole[f"images{size}"], "authors")
        for name, vectors in outputs(model, features).items():
            if name + size in whole:
                assert difference(vectors, whole[name + size]) <= 1e-3, name + size
        assert score_difference(model.logits(features, asked), whole[f"logits{size}"]) <= 1e-3
        for kind in ("", "_antialias"):
            pooled = seen_by(model, whole[f"images{size}"], "reality-check", bool(kind)).pooled
            assert difference(pooled, whole[f"dlilp_trunk{size}{kind}"]) <= 1e-3


def test_a_picture_that_is_no_square(model: QueryDecoder, whole: Golden, asked: TextFeatures) -> None:
    """KAD's way with ChestX-ray14: the shorter side resized, nothing cropped."""
    if "nih_shape" not in whole:
        pytest.skip("MedKLIP has one way only")
    shape, image = tuple(whole["nih_shape"].tolist()), Image.fromarray(whole["images"][0])
    resized = np.asarray(image.resize((shape[2], shape[1]), Image.Resampling.BICUBIC))
    features = model.encode_image(authors_pixels(resized[None]))
    assert features.joint is not None
    assert difference(features.joint, whole["nih_image_global"]) <= 1e-3
    assert score_difference(model.logits(features, asked), whole["nih_logits"]) <= 1e-3


def test_the_committed_prompts_are_the_shared_ones(model: QueryDecoder, shared: Path) -> None:
    told = json.loads((shared / "parity" / model.card.name / "prompts.json").read_text())
    assert told["prompts"] == prompts(model.card.name)
