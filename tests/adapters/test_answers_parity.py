"""CARZero, RadZero, MAVL and MedImageInsight against their authors' own outputs on checkpoints of synthetic weights."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_answers import NAMES, Golden, golden, load, told
from made_queries import score_difference
from made_weights import zoo_card
from torch import Tensor
from torch.nn.functional import normalize

from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import relative_difference
from cxrbench.specs.recipe import Steps, Stretch
from cxrbench.testing.samples import through

SCORES = {"logits", "logits_fewer", "logits_i2t", "logits_t2i", "similarity", "zero_shot", "zero_shot_multilabel"}
SCORES |= {"cosine", "similarity_map_mean"}
Outputs = dict[str, Tensor]


@pytest.fixture(scope="module", params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def model(name: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load(name, tmp_path_factory.mktemp(name))


@pytest.fixture(scope="module")
def asked(model: Any, name: str) -> TextFeatures:
    return model.encode_text(told(name)["prompts"])  # type: ignore[no-any-return]


def pixels(name: str, images: np.ndarray) -> Tensor:
    return through(zoo_card(name).recipe("authors"), images)


@pytest.fixture(scope="module")
def committed(name: str) -> Golden:
    return golden(name)


@pytest.fixture(scope="module")
def seen(model: Any, name: str, committed: Golden) -> ImageFeatures:
    return model.encode_image(pixels(name, committed["images"]))  # type: ignore[no-any-return]


def carzero(model: Any, images: ImageFeatures, texts: TextFeatures) -> Outputs:
    """Every figure of the authors by its name."""
    looking, seen = model.both_logits(images, texts)
    classes = [text for row in told("carzero")["class_prompts"].values() for text in row]
    assert images.tokens is not None
    assert texts.tokens is not None
    return {
        "image_global": images.pooled,
        "image_local_mean": images.tokens[:, 1:].mean(dim=1),
        "image_local_0_every4": images.tokens[0, 1::4],
        "text_global": texts.joint,
        "text_local": texts.tokens[:5, :15],
        "logits_i2t": looking,
        "logits_t2i": seen,
        "similarity": model.score(images, texts),
        "zero_shot": model.score(images, model.encode_text(classes)),
    }


def radzero(model: Any, images: ImageFeatures, texts: TextFeatures) -> Outputs:
    """Every figure of the authors by its name."""
    maps = model.similarity_map(images, texts)
    assert images.tokens is not None
    mean = images.tokens[:, 1:].mean(dim=1)
    return {
        "image_cls": images.pooled,
        "image_patches_mean": mean,
        "image_patches_0_every37": images.tokens[0, 1::37],
        "image_global": normalize(torch.cat([images.pooled, mean], dim=1)),
        "text_global": texts.joint,
        "similarity_map_mean": maps.mean(dim=2),
        "similarity_map_0": maps[0],
        "logits": model.score(images, texts),
    }


def mavl(model: Any, images: ImageFeatures, texts: TextFeatures) -> Outputs:
    """Every figure of the authors by its name; `cosine` is their other score, which has no decoder."""
    queries = model.queries(texts.joint)
    assert images.tokens is not None
    assert images.joint is not None
    places = normalize(queries.reshape(len(texts.joint), 9, -1), dim=2)
    return {
        "image_trunk": images.pooled,
        "image_global": images.joint,
        "image_tokens_mean": images.tokens.mean(dim=1),
        "image_tokens_0": images.tokens[0],
        "text_global": texts.joint.reshape(len(queries), -1),
        "text_query": queries,
        "cosine": torch.einsum("nd,qpd->npq", normalize(images.joint), places),
        "logits": model.logits(images, texts),
        "logits_fewer": model.logits(images, TextFeatures(texts.joint[:4])),
        "similarity": model.score(images, texts).sigmoid(),
    }


def medimageinsight(model: Any, images: ImageFeatures, texts: TextFeatures) -> Outputs:
    """Every figure of the authors by its name."""
    logits, (scale, bias) = model.score(images, texts), model.scale_and_bias
    assert bias == 0
    assert images.joint is not None
    assert texts.projected is not None
    return {
        "image_trunk": images.pooled,
        "image_projected": images.pooled @ model.parts[""].image_projection,
        "image_global": images.joint,
        "text_projected": texts.projected,
        "text_global": texts.joint,
        "long_text_global": model.encode_text([told("medimageinsight")["long_prompt"]]).joint,
        "logit_scale_exp": torch.tensor(scale),
        "similarity": images.joint @ texts.joint.T,
        "zero_shot": logits[:, :4].softmax(dim=1),
        "zero_shot_multilabel": logits[:, :4].sigmoid(),
    }


ALL: dict[str, Callable[[Any, ImageFeatures, TextFeatures], Outputs]] = {
    "carzero": carzero,
    "radzero": radzero,
    "mavl": mavl,
    "medimageinsight": medimageinsight,
}


def apart(name: str, found: Tensor, figures: Golden) -> float:
    """Largest relative difference from a figure, of which some columns may be kept; scores as scores are compared."""
    wanted = figures[name]
    if wanted.ndim == 0:
        return abs(float(found) / float(wanted) - 1)
    found = found[..., :: -(-found.shape[-1] // wanted.shape[-1])]
    if name in SCORES:
        return score_difference(found, wanted)
    assert found.shape == wanted.shape
    ours, theirs = (torch.as_tensor(values).flatten(1) for values in (found, wanted))
    mean = theirs.mean(dim=0) if len(theirs) > 1 else torch.zeros(())
    return max(relative_difference(ours, theirs), relative_difference(ours - mean, theirs - mean))


def test_every_committed_figure(
    name: str, model: Any, seen: ImageFeatures, asked: TextFeatures, committed: Golden
) -> None:
    found = ALL[name](model, seen, asked)
    names = found.keys() & committed.keys()
    assert len(names) >= 7
    assert {key: far for key in names if not (far := apart(key, found[key], committed)) <= 1e-4} == {}


def test_pixels(name: str, committed: Golden) -> None:
    found = pixels(name, committed["images"])[:, 0, ::16, ::16].numpy()
    assert np.array_equal(found[: len(committed["pixels"])], committed["pixels"])


def test_tokens_of_the_texts(name: str, model: Any, committed: Golden) -> None:
    texts = told(name)["prompts"]
    if name == "mavl":
        lines = [line for text in texts for line in text.split("\n")]
        ids = model._text.tokens(lines, 64)["input_ids"]
    else:
        ids = (model._words if name == "carzero" else model).tokens(texts)["input_ids"]
    width = ids.shape[1]
    assert np.array_equal(ids.numpy(), committed["input_ids"][:, :width])
    assert not (committed["input_ids"][:, width:] != 0).any()


def test_texts_do_not_see_each_other_where_the_authors_do_not(
    name: str, model: Any, seen: ImageFeatures, asked: TextFeatures
) -> None:
    if name == "mavl":
        assert not model.texts_apart
        return
    whole = model.score(seen, asked)
    alone = torch.cat([model.score(seen, model.encode_text([text])) for text in told(name)["prompts"]], dim=1)
    assert model.texts_apart or name == "medimageinsight"  # whose score is a cosine
    assert score_difference(alone, whole.numpy()) <= 1e-4


def test_mavls_score_without_a_decoder(name: str, model: Any, seen: ImageFeatures, asked: TextFeatures) -> None:
    if name != "mavl":
        pytest.skip("MAVL alone has two scores")
    cosines = mavl(model, seen, asked)["cosine"]
    against = [torch.stack([cosines[:, :, [r]].expand_as(cosines), cosines]).softmax(dim=0)[1] for r in (0, 1)]
    found = torch.stack(against).mean(dim=0).mean(dim=1)
    assert np.abs(found.numpy() - golden("mavl")["similarity_text"]).max() <= 1e-6


def test_radzeros_stretch_is_for_pictures_that_are_no_dicom() -> None:
    recipe = zoo_card("radzero").recipe("authors")
    assert isinstance(recipe, Steps)
    assert recipe.steps[0] == Stretch(op="stretch")
    assert recipe.dicom == "over-maximum"


@pytest.fixture(scope="module")
def whole(name: str, shared: Path) -> Golden:
    return golden(name, shared / "parity")


@pytest.mark.slow
def test_every_figure(name: str, model: Any, asked: TextFeatures, whole: Golden) -> None:
    sizes = [key.removeprefix("images") for key in whole if key.startswith("images")]
    for size in sizes:
        found = ALL[name](model, model.encode_image(pixels(name, whole[f"images{size}"])), asked)
        names = [key for key in found if key + size in whole]
        assert names
        far = {key + size: apart(key, found[key], {key: whole[key + size]}) for key in names}
        assert {key: value for key, value in far.items() if not value <= 1e-4} == {}


@pytest.mark.slow
def test_the_authors_own_pixels(name: str, model: Any, asked: TextFeatures, whole: Golden) -> None:
    if "pixel_values" not in whole:
        pytest.skip("the fixture keeps some rows and columns of the pixels alone")
    found = ALL[name](model, model.encode_image(torch.from_numpy(whole["pixel_values"])), asked)
    assert max(apart(key, values, whole) for key, values in found.items()) <= 1e-4


def test_the_committed_prompts_are_the_shared_ones(name: str, shared: Path) -> None:
    theirs = json.loads((shared / "parity" / name / "prompts.json").read_text())["prompts"]
    ours = told(name)["prompts"]
    assert "\n".join(ours).split("\n") == theirs if name == "mavl" else ours == theirs
