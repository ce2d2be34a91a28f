"""What the adapter promises beside parity, on a small trunk in the official layout."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_weights import (
    TEXT_ENCODER,
    fixture_json,
    make_checkpoint,
    small_layout,
)
from torch import Tensor

from cxrbench.errors import SpecError
from cxrbench.models.base import Adapter, load_adapter

Tensors = dict[str, Tensor]
PIXELS = torch.rand((5, 1, 224, 224), generator=torch.Generator().manual_seed(1))


def test_a_vector_does_not_depend_on_its_batch(small: Adapter) -> None:
    together = small.encode_image(PIXELS)
    padded = [small.encode_image(torch.cat([PIXELS[i : i + 1], torch.zeros(4, 1, 224, 224)])) for i in range(5)]
    for tap, vectors in together.taps.items():
        alone = torch.cat([features.taps[tap][:1] for features in padded])
        assert float(((alone - vectors).abs() / vectors.abs().amax(dim=1, keepdim=True)).max()) <= 1e-5
    texts = small.encode_text(["edema", "pneumonia"])
    whole = small.score(together, texts)
    parts = torch.cat([small.score(features, texts)[:1] for features in padded])
    assert torch.allclose(whole, parts, rtol=1e-5, atol=1e-5 * float(whole.abs().max()))


def test_the_same_input_gives_the_same_bits(small: Adapter) -> None:
    first, second = small.encode_image(PIXELS), small.encode_image(PIXELS)
    assert all(torch.equal(first.taps[tap], second.taps[tap]) for tap in first.taps)


def test_one_channel_is_three_equal_ones(small: Adapter) -> None:
    grey, colour = small.encode_image(PIXELS), small.encode_image(PIXELS.repeat(1, 3, 1, 1))
    assert all(torch.equal(grey.taps[tap], colour.taps[tap]) for tap in grey.taps)


def test_vectors_are_float32_unit_and_without_gradient(small: Adapter) -> None:
    features = small.encode_image(PIXELS)
    assert {tap: vectors.shape[1] for tap, vectors in features.taps.items()} == dict(small.card.taps)
    for tap, vectors in {**features.taps, "text": small.encode_text(["a", "b c"]).joint}.items():
        assert vectors.dtype == torch.float32
        assert not vectors.requires_grad
        if tap != "pooled":
            assert torch.allclose(vectors.norm(dim=1), torch.ones(len(vectors)), atol=1e-6)


def test_plain_memory_gives_the_same_vectors_and_no_report(small: Adapter, small_file: Path) -> None:
    plain = load_adapter(small.card, small_file, TEXT_ENCODER, memory_format="contiguous")
    assert (plain.engine.memory_format, dict(plain.engine.differences)) == ("contiguous", {})
    assert set(small.engine.differences) == {"pooled", "joint", "label"}
    assert small.engine.memory_format == "channels_last"
    for tap, vectors in plain.encode_image(PIXELS).taps.items():
        assert torch.allclose(vectors, small.encode_image(PIXELS).taps[tap], rtol=0, atol=5e-5 * float(vectors.max()))


def test_lower_precision_is_near_and_comes_back_as_float32(small: Adapter, small_file: Path) -> None:
    low = load_adapter(small.card, small_file, TEXT_ENCODER, precision="bfloat16")
    assert low.engine.memory_format == "channels_last"
    found, wanted = low.encode_image(PIXELS), small.encode_image(PIXELS)
    for tap in wanted.taps:
        assert found.taps[tap].dtype == torch.float32
        assert not torch.equal(found.taps[tap], wanted.taps[tap])
        assert torch.cosine_similarity(found.taps[tap], wanted.taps[tap]).min() > 0.99
    assert torch.cosine_similarity(low.encode_text(["edema"]).joint, small.encode_text(["edema"]).joint).item() > 0.99


def test_masked_padding_makes_a_text_independent_of_its_batch(small: Adapter) -> None:
    texts = ["edema", "multifocal pneumonia at the bilateral lung bases"]
    alone = torch.cat([small.encode_text([text], "masked").joint for text in texts])
    together = small.encode_text(texts, "masked").joint
    assert torch.allclose(alone, together, atol=1e-6)
    released = small.encode_text(texts).joint
    assert torch.allclose(released[1], together[1], atol=1e-6)  # the longest has no padding
    assert not torch.allclose(released[0], together[0], atol=1e-3)


def test_texts_are_cut_at_the_limit_of_the_card(small: Adapter) -> None:
    long, longer = "edema " * 100, "edema " * 300
    assert torch.equal(small.encode_text([long]).joint, small.encode_text([longer]).joint)


def test_the_temperature_of_score_is_clamped_and_that_of_a_view_is_not(tmp_path: Path, small: Adapter) -> None:
    path = tmp_path / "hot.pth"
    torch.save({**make_checkpoint(small_layout("dlilp")), "logit_scale": torch.tensor(6.0)}, path)
    hot = load_adapter(small.card, path, TEXT_ENCODER)
    images, texts = hot.encode_image(PIXELS), hot.encode_text(["edema"])
    assert torch.allclose(hot.score(images, texts), images.joint @ texts.joint.T * 100, rtol=1e-4)
    assert hot.logit_scale("text") == pytest.approx(403.4288)
    assert hot.logit_scale("label") == small.logit_scale("label")


def test_prototypes_know_every_class_that_the_paper_scores_by_them(small: Adapter) -> None:
    table = make_checkpoint(e for e in small_layout("dlilp") if e[0] == "class_prototypes")["class_prototypes"]
    for name, rows in fixture_json("dlilp_prompts.json.gz")["prototype_rows"].items():
        if rows is None:
            with pytest.raises(SpecError, match="no prototype for class"):
                small.prototypes([name])
        else:
            wanted = torch.nn.functional.normalize(table[rows].mean(dim=0), dim=0)
            assert torch.allclose(small.prototypes([name])[0], wanted, atol=1e-7), name


def test_bronchitis_has_no_prototype_and_unimodal_no_text(model: Callable[[str], Adapter]) -> None:
    with pytest.raises(SpecError, match=r"'Bronchitis'.*adenopathy, .*vertebral degenerative changes.*covid"):
        model("unimodal").prototypes(["Pneumonia", "Bronchitis"])
    with pytest.raises(SpecError, match="unimodal_cm has no text side"):
        model("unimodal").encode_text(["edema"])
    with pytest.raises(SpecError, match="clip_cm has no label side"):
        model("clip").prototypes(["Pneumonia"])


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda m: m.encode_image(PIXELS[0]), "pixels are"),
        (lambda m: m.encode_image(PIXELS.double()), "float64"),
        (lambda m: m.encode_image(PIXELS.expand(-1, 2, -1, -1)), "1 or 3"),
        (lambda m: m.encode_text([]), "at least one text"),
        (lambda m: m.encode_text("edema"), "list of"),
        (lambda m: m.logit_scale("other"), "no view 'other'; known: text, label"),
    ],
)
def test_wrong_questions_are_refused(ask: Callable[[Adapter], object], says: str, small: Adapter) -> None:
    with pytest.raises(SpecError, match=says):
        ask(small)
