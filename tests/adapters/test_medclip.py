"""MedCLIP, both image networks, against its authors' own outputs on checkpoints with synthetic weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from made_pairs import Encoded, Golden, assert_equal, from_files, golden, loaded, prompts, refused, tensors, write
from made_weights import zoo_card
from torch import Tensor
from torch.nn.functional import normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.features import ImageFeatures
from cxrbench.specs.recipe import Resize, Steps

NAMES = ("medclip", "medclip_vit")
Tensors = dict[str, Tensor]
Load = Callable[[str], Any]


@pytest.fixture(scope="module")
def made() -> Callable[[str], Tensors]:
    kept: dict[str, Tensors] = {}
    return lambda name: kept.get(name) or kept.setdefault(name, tensors(name))


@pytest.fixture(scope="module")
def model(made: Callable[[str], Tensors], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    kept: dict[str, Any] = {}

    def load(name: str) -> Any:
        if name not in kept:
            path = write(name, made(name), tmp_path_factory.mktemp(name) / "pytorch_model.bin")
            kept[name] = loaded(name, path)
            path.unlink()
        return kept[name]

    return load


@pytest.fixture(scope="module")
def encoded(model: Callable[[str], Any]) -> Callable[[str], Encoded]:
    kept: dict[str, Encoded] = {}
    return lambda name: kept.get(name) or kept.setdefault(name, Encoded(model(name)))


@pytest.fixture(params=["committed", "shared"])
def figures(request: pytest.FixtureRequest) -> Callable[[str], Golden]:
    folder = request.getfixturevalue("shared") / "parity" if request.param == "shared" else None
    return lambda name: golden(name, folder)


@pytest.mark.parametrize("name", NAMES)
def test_image_vectors_from_pixels(
    name: str, model: Load, encoded: Callable[[str], Encoded], figures: Callable[[str], Golden]
) -> None:
    wanted = figures(name)
    found = encoded(name)(wanted["pixel_values"])
    assert_equal(found.pooled, wanted["image_trunk"])
    assert_equal(model(name).projected(found.pooled), wanted["image_projected"])
    assert_equal(found.joint, wanted["image_global"])
    assert_equal(encoded(name)(wanted["pixel_values_eval"]).joint, wanted["image_global_eval"])
    if "pixel_values_large" in wanted:
        large = encoded(name)(wanted["pixel_values_large"])
        assert_equal(large.pooled, wanted["image_trunk_large"])
        assert_equal(large.joint, wanted["image_global_large"])


@pytest.mark.parametrize("name", NAMES)
def test_image_vectors_from_files(
    name: str, model: Load, encoded: Callable[[str], Encoded], figures: Callable[[str], Golden]
) -> None:
    wanted, recipe = figures(name), zoo_card(name).recipe("authors")
    made = from_files(wanted["images"], recipe)
    assert torch.allclose(made, torch.from_numpy(wanted["pixel_values_eval"]), atol=1e-5)
    assert_equal(encoded(name)(made).joint, wanted["image_global_eval"], 1e-3)
    assert isinstance(recipe, Steps)
    processor = Resize(op="resize", to="exact", size=224, filter="bicubic")  # of the authors' README
    bicubic = recipe.model_copy(update={"steps": (recipe.steps[0], processor)})
    assert_equal(encoded(name)(from_files(wanted["images"], bicubic)).joint, wanted["image_global"], 1e-3)


@pytest.mark.parametrize("antialias", ["", "_antialias"])
def test_the_trunk_as_the_paper_probed_it(
    antialias: str, model: Load, encoded: Callable[[str], Encoded], figures: Callable[[str], Golden]
) -> None:
    wanted = figures("medclip")
    recipe = zoo_card("medclip").recipe("reality-check").model_copy(update={"antialias": bool(antialias)})
    found = encoded("medclip")(from_files(wanted["images"], recipe)).pooled
    assert_equal(found, wanted["dlilp_trunk" + antialias], 1e-3)
    if "images_large" in wanted:
        exact = encoded("medclip")(wanted["dlilp_pixels_0" + antialias]).pooled
        assert_equal(exact, wanted["dlilp_trunk" + antialias][:1])
        large = encoded("medclip")(from_files(wanted["images_large"], recipe)).pooled
        assert_equal(large, wanted["dlilp_trunk_large" + antialias], 1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_text_vectors_and_similarity(
    name: str, model: Load, encoded: Callable[[str], Encoded], figures: Callable[[str], Golden]
) -> None:
    wanted, told = figures(name), prompts(name)
    texts = model(name).encode_text(told["prompts"])
    assert_equal(texts.projected, wanted["text_projected"])
    assert_equal(texts.joint, wanted["text_global"])
    alone = torch.cat([model(name).encode_text([text]).joint for text in told["prompts"]])
    assert_equal(alone, wanted["text_global_alone"])
    assert_equal(model(name).encode_text([told["long"]]).joint, wanted["long_text_global"])
    assert model(name)._text.tokens(told["prompts"])["input_ids"].tolist() == wanted["input_ids"].tolist()
    images = encoded(name)(wanted["pixel_values"])
    assert_equal(model(name).score(images, texts), wanted["similarity"])
    assert model(name).log_scale == pytest.approx(float(wanted["logit_scale"]))
    assert model(name).logit_scale("text") == pytest.approx(float(np.exp(wanted["logit_scale"])))


def test_the_temperature_is_clamped_in_scores_and_in_zero_shot(model: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    """The authors clamp the parameter itself, to 0..4.6052, before it is used."""
    texts = model("medclip").encode_text(["edema"])
    images = ImageFeatures(torch.zeros(1, 2048), texts.joint)
    for log_scale, factor in ((9.0, 100.0), (-3.0, 1.0), (2.0, 7.389056)):
        monkeypatch.setattr(model("medclip"), "log_scale", log_scale)
        assert model("medclip").logit_scale("text") == pytest.approx(factor, rel=1e-4)
        assert float(model("medclip").score(images, texts)) == pytest.approx(factor, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_class_scores(
    name: str, model: Load, encoded: Callable[[str], Encoded], figures: Callable[[str], Golden]
) -> None:
    wanted, card = figures(name), zoo_card(name)
    images = encoded(name)(wanted["pixel_values_eval"])
    scores = [
        model(name).score(images, model(name).encode_text(texts)) for texts in prompts(name)["class_prompts"].values()
    ]
    # Synthetic weights give images nearly equal scores: what is left without the mean is 1e-3 of them.
    assert_equal(torch.stack([s.mean(dim=1) for s in scores], dim=1), wanted["zero_shot_mean"], 1e-5, centred=1e-3)
    assert_equal(torch.stack([s.amax(dim=1) for s in scores], dim=1), wanted["zero_shot_max"], 1e-5, centred=1e-3)
    assert (card.zero_shot.pooling, card.zero_shot.standardised) == ("mean", False)


def test_masked_padding_makes_a_text_independent_of_its_batch(model: Callable[[str], Any]) -> None:
    texts = prompts("medclip")["prompts"][:2]
    alone = torch.cat([model("medclip").encode_text([text], "masked").joint for text in texts])
    assert torch.allclose(model("medclip").encode_text(texts, "masked").joint, alone, atol=1e-6)
    assert torch.allclose(normalize(alone), alone, atol=1e-6)
    for padding in ("masked", "released"):
        with pytest.raises(SpecError, match="at least one text"):
            model("medclip").encode_text([], padding)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_depends_on_its_image_alone(name: str, model: Callable[[str], Any]) -> None:
    pixels = torch.rand((3, 1, 224, 224), generator=torch.Generator().manual_seed(1))
    together = model(name).encode_image(pixels).taps
    for tap, rows in together.items():
        assert_equal(model(name).encode_image(pixels[1:2].repeat(1, 3, 1, 1)).taps[tap], rows[1:2].numpy(), 1e-5)
        assert torch.equal(rows, model(name).encode_image(pixels).taps[tap])


def test_a_swin_takes_one_size(model: Callable[[str], Any]) -> None:
    with pytest.raises(SpecError, match="224 x 224 alone"):
        model("medclip_vit").encode_image(torch.zeros(1, 1, 256, 256))


def renamed(made: Tensors, old: str, new: str) -> Tensors:
    return {name.replace(old, new): tensor for name, tensor in made.items()}


BIAS = "vision_model.model.encoder.layers.1.blocks.1.attention.output.dense.bias"
CHANGES: dict[str, tuple[str, Callable[[Tensors], Tensors], str]] = {
    "renamed": (
        "medclip",
        lambda t: renamed(t, "vision_model.model.fc.", "vision_model.fc."),
        r"1 missing.*1 left over",
    ),
    "dropped": ("medclip", lambda t: {n: v for n, v in t.items() if n != "logit_scale"}, "1 missing: logit_scale"),
    "reshaped": (
        "medclip",
        lambda t: {**t, "vision_model.model.fc.weight": torch.zeros(512, 2047)},
        r"fc\.weight \(512, 2047\) instead of \(512, 2048\)",
    ),
    "a Swin for the ResNet": (
        "medclip",
        lambda t: {"vision_model.projection_head.weight": torch.zeros(1)},
        "card medclip_vit",
    ),
    "a ResNet for the Swin": (
        "medclip_vit",
        lambda t: {"vision_model.model.fc.weight": torch.zeros(1)},
        "card medclip\\)",
    ),
    "renamed in a Swin": (
        "medclip_vit",
        lambda t: renamed(t, "blocks.1.layernorm_after", "blocks.1.norm2"),
        "8 missing",
    ),
    "dropped in a Swin": ("medclip_vit", lambda t: {n: v for n, v in t.items() if n != BIAS}, f"1 missing: {BIAS}"),
    "reshaped in a Swin": ("medclip_vit", lambda t: {**t, BIAS: torch.zeros(191)}, r"\(191,\) instead of \(192,\)"),
    "no Swin": (
        "medclip_vit",
        lambda t: {n: v for n, v in t.items() if "bias_table" not in n},
        "no Swin transformer as transformers 4 names it",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_the_layout_is_refused(change: str, made: Callable[[str], Tensors]) -> None:
    name, alter, says = CHANGES[change]
    with pytest.raises(IntegrityError, match=says):
        refused(name, alter(made(name)))


def test_constants_of_older_versions_are_ignored_by_name_and_computed(model: Callable[[str], Any]) -> None:
    ignored = model("medclip_vit").coverage.ignored
    assert sum(name.endswith("relative_position_index") for name in ignored) == 12
    assert "text_model.model.embeddings.position_ids" in ignored
    assert len(ignored) == 13
