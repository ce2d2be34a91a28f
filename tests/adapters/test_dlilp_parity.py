"""CLIP, UniCL, unimodal and DLILP against their authors' own outputs on checkpoints with synthetic weights."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_weights import certificate, fixture_json
from PIL import Image
from torch import Tensor

from cxrbench.images.pixels import pixels_by
from cxrbench.models.base import Adapter
from cxrbench.models.features import ImageFeatures
from cxrbench.models.nets import relative_difference

Golden = dict[str, np.ndarray]
Load = Callable[[str], Adapter]

STRATEGIES = ("clip", "unicl", "unimodal", "dlilp")
WITH_TEXT = ("clip", "unicl", "dlilp")
SHAPES = ("", "_landscape", "_square", "_antialias")
PROMPTS = {"text": list(certificate("dlilp").prompts), **fixture_json("dlilp_prompts.json.gz")}
LABELLED = [(s, e) for s in ("unimodal", "dlilp") for e in PROMPTS["experiments"]]
SCORED = [(s, e) for s in ("unimodal", "dlilp") for e in ("chexpert_5x200", "covid_test_4class")]


def centred_difference(found: Tensor, wanted: Tensor) -> float:
    """The relative difference of what is left when the mean row is taken off: synthetic weights give like rows."""
    return relative_difference(found - wanted.mean(dim=0), wanted - wanted.mean(dim=0))


def assert_equal(found: Tensor, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    reference = torch.from_numpy(wanted)
    assert found.shape == reference.shape
    assert found.dtype == torch.float32
    assert relative_difference(found, reference) <= tolerance
    if len(reference) > 1 and not torch.equal(reference, reference[:1].expand_as(reference)):
        assert centred_difference(found, reference) <= tolerance


def assert_image_features(found: ImageFeatures, golden: Golden, shape: str, tolerance: float) -> None:
    assert_equal(found.pooled, golden["image_unprojected" + shape], tolerance)
    assert_equal(found.joint, golden["image_global" + shape], tolerance)
    if found.label is not None:
        assert_equal(found.label, golden["dlilp/image_label" + shape], tolerance)


def class_vectors(model: Adapter, prompts: dict[str, list[str]], classes: np.ndarray) -> Tensor:
    """Mean over a class's prompts of their unit vectors, not brought to unit length again."""
    return torch.stack([model.encode_text(prompts[name]).joint.mean(dim=0) for name in classes.tolist()])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_image_vectors_from_pixels(strategy: str, shape: str, model: Load, golden: Golden) -> None:
    found = model(strategy).encode_image(torch.from_numpy(golden["pixel_values" + shape]))
    assert (found.label is not None) == (strategy == "dlilp")
    assert_image_features(found, golden, shape, 1e-4)


@pytest.mark.parametrize("shape", SHAPES)
def test_image_vectors_from_files(shape: str, model: Load, golden: Golden) -> None:
    card = model("dlilp").card
    recipe = card.recipe("reality-check").model_copy(update={"antialias": shape == "_antialias"})
    batch = []
    for number, image in enumerate(golden["images" + shape.replace("_antialias", "")]):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="PNG")
        batch.append(torch.from_numpy(pixels_by(stream.getvalue(), f"{number}.png", recipe).array))
    assert_image_features(model("dlilp").encode_image(torch.stack(batch)), golden, shape, 1e-3)


def test_pooled_vectors_at_unit_length(model: Load, golden: Golden) -> None:
    pooled = model("clip").encode_image(torch.from_numpy(golden["pixel_values"])).pooled
    assert_equal(torch.nn.functional.normalize(pooled), golden["image_unprojected_unit"])


@pytest.mark.parametrize("strategy", WITH_TEXT)
def test_text_vectors_and_similarity(strategy: str, model: Load, golden: Golden) -> None:
    texts = model(strategy).encode_text(PROMPTS["text"])
    assert_equal(texts.joint, golden["text_global"])
    images = model(strategy).encode_image(torch.from_numpy(golden["pixel_values"]))
    assert_equal(model(strategy).score(images, texts), golden["similarity"])
    assert model(strategy).logit_scale("text") == pytest.approx(float(golden["logit_scale"]), rel=1e-6)


@pytest.mark.parametrize("strategy", WITH_TEXT)
def test_a_prompt_in_a_batch_of_its_own(strategy: str, model: Load, golden: Golden) -> None:
    alone = torch.cat([model(strategy).encode_text([text]).joint for text in PROMPTS["text"]])
    assert_equal(alone, golden["text_global_alone"])


@pytest.mark.parametrize("strategy", WITH_TEXT)
def test_class_vectors_of_names(strategy: str, model: Load, golden: Golden) -> None:
    prompts = {name: [text] for name, text in PROMPTS["names"].items()}
    found = class_vectors(model(strategy), prompts, golden["class_text_names_classes"])
    assert_equal(found, golden["class_text_names"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", WITH_TEXT)
def test_class_vectors_of_the_ensemble(strategy: str, model: Load, golden: Golden) -> None:
    found = class_vectors(model(strategy), PROMPTS["ensemble"], golden["class_text_ensemble_classes"])
    assert_equal(found, golden["class_text_ensemble"])


@pytest.mark.parametrize(("strategy", "experiment"), LABELLED)
def test_prototypes(strategy: str, experiment: str, model: Load, golden: Golden) -> None:
    found = model(strategy).prototypes(PROMPTS["experiments"][experiment])
    np.testing.assert_allclose(found.numpy(), golden[f"{strategy}/prototypes/{experiment}"], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("strategy", "experiment"), SCORED)
def test_label_scores(strategy: str, experiment: str, model: Load, golden: Golden) -> None:
    label = model(strategy)
    taps = label.encode_image(torch.from_numpy(golden["pixel_values"])).taps
    vectors = label.prototypes(PROMPTS["experiments"][experiment])
    found = taps[label.card.zero_shot.views["label"].tap] @ vectors.T * label.logit_scale("label")
    assert_equal(found, golden[f"{strategy}/similarity_label/{experiment}"])


def test_the_forward_pass_of_image_and_classes(model: Load, golden: Golden) -> None:
    prompts = [PROMPTS["forward"]["template"].replace("[CLS]", name) for name in PROMPTS["forward"]["classes"]]
    images = model("clip").encode_image(torch.from_numpy(golden["pixel_values"][:1]))
    logits = model("clip").score(images, model("clip").encode_text(prompts))
    assert_equal(logits, golden["forward/logits"])
    assert_equal(logits.softmax(dim=1), golden["forward/probs"])


@pytest.mark.slow
@pytest.mark.parametrize("strategy", WITH_TEXT)
def test_class_vectors_of_descriptions(strategy: str, model: Load, shared: Path) -> None:
    folder = shared / "parity"
    texts = json.loads((folder / "protocol" / "prompt_terms.json").read_text())["descriptions"]
    with np.load(folder / "dlilp" / "golden.npz") as golden:
        found = class_vectors(model(strategy), texts, golden["class_text_description_classes"])
        assert_equal(found, golden["class_text_description"])
