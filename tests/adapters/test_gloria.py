"""GLoRIA against its authors' own outputs on a checkpoint with synthetic weights."""

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
from cxrbench.models import gloria
from cxrbench.models.gloria import GloriaWords, Words, cleaned, compared_places, word_numbers

Load = Callable[[str], Any]


@pytest.fixture(scope="module")
def made() -> dict[str, Tensor]:
    return tensors("gloria")


@pytest.fixture(scope="module")
def model(made: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> Load:
    path = write("gloria", made, tmp_path_factory.mktemp("gloria") / "chexpert_resnet50.ckpt")
    kept: dict[str, Any] = {}
    return lambda recipe: kept.get(recipe) or kept.setdefault(recipe, loaded("gloria", path, recipe))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def encoded(model: Load) -> Callable[[str], Encoded]:
    kept: dict[str, Encoded] = {}
    return lambda recipe: kept.get(recipe) or kept.setdefault(recipe, Encoded(model(recipe)))


@pytest.fixture(params=["committed", "shared"])
def figures(request: pytest.FixtureRequest) -> Golden:
    folder = request.getfixturevalue("shared") / "parity" if request.param == "shared" else None
    return golden("gloria", folder)


class Counted:
    """Words of texts, and how many were asked for at once."""

    def __init__(self, words: GloriaWords, asked: list[int]) -> None:
        self._words, self._asked = words, asked

    def words(self, texts: list[str]) -> Words:
        self._asked.append(len(texts))
        return self._words.words(texts)


def near(found: Tensor, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    """Similarities are small: they are compared absolutely."""
    assert found.shape == wanted.shape
    assert float((found - torch.from_numpy(wanted)).abs().max()) <= tolerance


def test_image_vectors_from_pixels(model: Load, encoded: Callable[[str], Encoded], figures: Golden) -> None:
    found = encoded("authors")(figures["pixel_values"])
    assert_equal(found.pooled, figures["image_trunk"])
    assert_equal(model("authors").projected(found.pooled), figures["image_global"])
    assert_equal(found.joint, normalize(torch.from_numpy(figures["image_global"])).numpy())
    assert found.tokens is not None
    assert found.tokens.shape == (len(found.pooled), 361, 768)
    assert_equal(found.tokens.mean(dim=1), figures["image_local_mean"])
    every2 = found.tokens[0].T.reshape(768, 19, 19)[:, ::2, ::2]
    if "image_local_0_every2" in figures:
        assert_equal(every2.flatten(1), figures["image_local_0_every2"].reshape(768, -1))
        large = encoded("authors")(figures["pixel_values_large"])
        assert_equal(large.pooled, figures["image_trunk_large"])
        assert_equal(model("authors").projected(large.pooled), figures["image_global_large"])
    else:
        assert_equal(every2[::16].flatten(1), figures["image_local_some"].reshape(48, -1))


def test_image_vectors_from_files(model: Load, encoded: Callable[[str], Encoded], figures: Golden) -> None:
    pixels = from_files(figures["images"], zoo_card("gloria").recipe("authors"))
    assert torch.allclose(pixels, torch.from_numpy(figures["pixel_values"][:, :1]), atol=1e-5)
    found = encoded("authors")(pixels)
    assert_equal(found.pooled, figures["image_trunk"], 1e-3)
    assert_equal(model("authors").projected(found.pooled), figures["image_global"], 1e-3)


@pytest.mark.parametrize("antialias", ["", "_antialias"])
def test_the_trunk_as_the_paper_probed_it(
    antialias: str, model: Load, encoded: Callable[[str], Encoded], figures: Golden
) -> None:
    recipe = zoo_card("gloria").recipe("reality-check").model_copy(update={"antialias": bool(antialias)})
    bare = encoded("reality-check")
    assert_equal(bare(from_files(figures["images"], recipe)).pooled, figures["dlilp_trunk" + antialias], 1e-3)
    if "images_large" in figures:
        exact = bare(figures["dlilp_pixels_0" + antialias]).pooled
        assert_equal(exact, figures["dlilp_trunk" + antialias][:1])
        large = bare(from_files(figures["images_large"], recipe)).pooled
        assert_equal(large, figures["dlilp_trunk_large" + antialias], 1e-3)


def test_text_vectors_and_words(model: Load, encoded: Callable[[str], Encoded], figures: Golden) -> None:
    told = prompts("gloria")
    texts = model("authors").encode_text(told["prompts"])
    assert_equal(texts.projected, figures["text_global"])
    assert_equal(texts.joint, normalize(torch.from_numpy(figures["text_global"])).numpy())
    words = figures["text_local"] if "text_local" in figures else figures["text_local_some"]
    found = texts.tokens.transpose(1, 2)[:, :: 768 // words.shape[1], : words.shape[2]]
    assert_equal(found.flatten(1), words.reshape(len(words), -1))
    assert not texts.tokens[:, words.shape[2] :].any()
    assert texts.mask.sum(dim=1).tolist() == figures["cap_lens"].tolist()
    assert_equal(model("authors").encode_text([told["long"]]).projected, figures["long_text_global"])
    ids = model("authors")._words.tokens(told["prompts"])["input_ids"]
    assert ids.tolist() == figures["input_ids"][:, : ids.shape[1]].tolist()
    assert not figures["input_ids"][:, ids.shape[1] :].any()


def test_texts_are_encoded_a_few_at_once(model: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [*prompts("gloria")["prompts"], prompts("gloria")["long"]]
    whole = model("authors").encode_text(texts)
    asked: list[int] = []
    words = model("authors")._words
    monkeypatch.setattr(gloria, "_AT_ONCE", 3)
    monkeypatch.setattr(model("authors"), "_words", Counted(words, asked), raising=False)
    parts = model("authors").encode_text(texts)
    assert asked == [3, 3, 1]
    assert_equal(parts.projected, whole.projected.numpy(), 1e-5)
    assert_equal(parts.tokens.flatten(1), whole.tokens.flatten(1).numpy(), 1e-5)
    assert torch.equal(parts.mask, whole.mask)


def test_similarities(model: Load, encoded: Callable[[str], Encoded], figures: Golden) -> None:
    images = encoded("authors")(figures["pixel_values"])
    texts = model("authors").encode_text(prompts("gloria")["prompts"])
    near(images.joint @ texts.joint.T, figures["similarity_global"])
    near(model("authors").local_similarity(images, texts), figures["similarity_local"])
    near(model("authors").score(images, texts), figures["similarity"])


def test_class_scores(model: Load, encoded: Callable[[str], Encoded], figures: Golden) -> None:
    card, count = zoo_card("gloria"), len(figures["pixel_values"])
    images = encoded("authors")(figures["pixel_values"])
    classes = prompts("gloria")["class_prompts"].values()
    scores = model("authors").score(images, model("authors").encode_text([text for texts in classes for text in texts]))
    parts = scores.split([len(texts) for texts in classes], dim=1)
    raw = torch.stack([part.amax(dim=1) for part in parts], dim=1)
    near(raw, figures["zero_shot_raw"][:count])
    near(torch.stack([part.mean(dim=1) for part in parts], dim=1), figures["zero_shot_mean"][:count])
    whole = raw if count == len(figures["zero_shot_raw"]) else torch.from_numpy(figures["zero_shot_raw"])
    near((whole - whole.mean(dim=0)) / whole.std(dim=0, correction=0), figures["zero_shot"], 2e-4)
    assert (card.zero_shot.pooling, card.zero_shot.standardised) == ("max", True)
    assert card.zero_shot.views["text"].scoring == "interaction"


def test_prompts_and_images_do_not_influence_each_other(model: Load) -> None:
    pixels = torch.rand((3, 1, 224, 224), generator=torch.Generator().manual_seed(1))
    texts = prompts("gloria")["prompts"]
    whole = model("authors").score(model("authors").encode_image(pixels), model("authors").encode_text(texts))
    rows = [model("authors").encode_image(pixels[i : i + 1].repeat(1, 3, 1, 1)) for i in range(3)]
    columns = [model("authors").encode_text([text]) for text in texts]
    parts = torch.cat([torch.cat([model("authors").score(r, c) for c in columns], dim=1) for r in rows])
    assert torch.allclose(whole, parts, atol=2e-6)


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        ("cardiomegaly", ""),
        ("3.5 cm nodule", "5 cm nodule"),
        (" linear atelectasis at the lung bases", "linear atelectasis at the lung bases"),
        ("1. No effusion. 2. Edema. 3. Heart size\nis normal", "no effusion heart size is normal"),
        ("Naïve π pleura\ufffd\ufffdfluid", "nave pleura fluid"),
        ("π edema", "edema"),
    ],
)
def test_prompts_are_cleaned_as_the_authors_do(prompt: str, text: str) -> None:
    assert cleaned(prompt) == text


def test_places_are_characters_and_pieces_make_words() -> None:
    assert compared_places("ab [c]", 97) == 5
    assert compared_places("x" * 108, 97) == 96
    with pytest.raises(SpecError, match="no characters"):
        compared_places("[", 97)
    assert word_numbers(["[CLS]", "card", "##io", "edema", "[SEP]", "[PAD]"]) == [0, 1, 1, 2, 3]


def test_a_long_prompt_is_compared_at_all_places_there_are(model: Load) -> None:
    images = model("authors").encode_image(torch.zeros(1, 1, 224, 224))
    texts = model("authors").encode_text([prompts("gloria")["long"]])
    assert texts.mask.sum() == 96
    assert torch.isfinite(model("authors").score(images, texts)).all()
    bare = model("authors").encode_text(["small effusion"])
    with pytest.raises(SpecError, match="regions with words"):
        model("authors").score(images, type(bare)(bare.joint))


CHANGES: dict[str, tuple[Callable[[dict[str, Tensor]], dict[str, Tensor]], str]] = {
    "renamed": (
        lambda t: {n.replace("img_encoder.model.conv1", "img_encoder.conv1"): v for n, v in t.items()},
        "1 missing: gloria.img_encoder.model.conv1.weight; 1 left over: gloria.img_encoder.conv1.weight",
    ),
    "dropped": (
        lambda t: {n: v for n, v in t.items() if n != "gloria.img_encoder.global_embedder.bias"},
        "1 missing: gloria.img_encoder.global_embedder.bias",
    ),
    "reshaped": (
        lambda t: {**t, "gloria.img_encoder.local_embedder.weight": torch.zeros(768, 1024)},
        r"local_embedder\.weight \(768, 1024\) instead of \(768, 1024, 1, 1\)",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_is_not_the_layout_is_refused(change: str, made: dict[str, Tensor]) -> None:
    alter, says = CHANGES[change]
    with pytest.raises(IntegrityError, match=says):
        refused("gloria", alter(made))
