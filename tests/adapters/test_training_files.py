"""Cards whose published file is a training checkpoint with names of its own: small editions beside the library's."""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made_hub
import open_clip
import pytest
import timm
import torch
from made_hub import TEXTS, assert_same
from made_weights import TEXT_ENCODER, zoo_card
from torch import Tensor, nn

from cxrbench.errors import IntegrityError
from cxrbench.models import coverage
from cxrbench.models.base import Adapter, adapter_class, load_adapter
from cxrbench.specs.card import ModelCard
from cxrbench.testing import check_adapter

BERT = {"model_type": "bert", "vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
BERT |= {"intermediate_size": 48}
UNIMED = ["unimed_clip_b16", "unimed_clip_l14_336"]
DUAL = [*UNIMED, "biomedclip_cxr"]
IMAGES = ["mrm"]
POOLER = {
    "text.transformer.pooler.dense.weight": torch.ones(32, 32),
    "text.transformer.pooler.dense.bias": torch.ones(32),
}
POSITIONS = {"text.transformer.embeddings.position_ids": torch.arange(512)[None]}
TRAINING = {"epoch": 3, "name": "run", "optimizer": {"state": {}, "param_groups": [{"lr": 1e-3}]}}


@dataclass(frozen=True)
class Edition:
    """A card of the zoo for a shallow network, the library's own, and its tensors as the published file has them."""

    card: ModelCard
    theirs: nn.Module
    file: dict[str, Any]
    published: dict[str, Tensor]


def dual(name: str, folder: Path) -> Edition:
    card = zoo_card(name)
    config = json.loads(json.dumps(card.options["config"]))
    taps = dict(card.taps)
    if name in UNIMED:
        config["vision_cfg"]["layers"] = 1
    else:
        config["vision_cfg"]["timm_model_name"] = "vit_tiny_patch16_224"
        taps["pooled"] = 192
    small = card.model_copy(update={"options": {"config": config, "text_config": BERT}, "taps": taps})
    (folder / "config.json").write_text(json.dumps(BERT))
    text = {**config["text_cfg"], "hf_model_name": str(folder), "hf_model_pretrained": False}
    theirs = open_clip.CustomTextCLIP(**{**config, "text_cfg": text})
    if name not in UNIMED:
        theirs.visual.set_input_size(config["vision_cfg"]["image_size"])
    made_hub.drawn(theirs)
    own = made_hub.tensors(theirs) | POOLER | POSITIONS
    if name in UNIMED:
        published = {re.sub(r"^text\.", "text_encoder.", key): tensor for key, tensor in own.items()}
    else:
        published = {f"module.{key}": tensor for key, tensor in own.items()}
    return Edition(small, theirs, {**TRAINING, "state_dict": published}, published)


def image_side(name: str, folder: Path) -> Edition:
    card = zoo_card(name)
    options = {**card.options, "arguments": {**card.options["arguments"], "depth": 1}}
    theirs = made_hub.drawn(timm.create_model("vit_base_patch16_224", depth=1, num_classes=0, global_pool=""))
    training = {"decoder_embed.weight": torch.ones(8, 8), "decoder_blocks.0.norm1.weight": torch.ones(8)}
    training |= {"mask_token": torch.zeros(1, 1, 8), "bert_encoder.x.weight": torch.ones(4)}
    published = made_hub.tensors(theirs) | training
    file = {"model": published, "epoch": 3, "optimizer": {}, "args": argparse.Namespace(lr=1.0)}
    return Edition(card.model_copy(update={"options": options}), theirs, file, published)


@pytest.fixture(autouse=True)
def no_zoo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusals look for the zoo's cards that a file does fit, and so build each; that is tested elsewhere."""
    monkeypatch.setattr(coverage, "card_files", lambda folder: ())


@pytest.fixture(scope="module", params=[*DUAL, *IMAGES])
def edition(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Edition:
    make: Callable[[str, Path], Edition] = dual if request.param in DUAL else image_side
    return make(request.param, tmp_path_factory.mktemp("config"))


@pytest.fixture(scope="module")
def model(edition: Edition, tmp_path_factory: pytest.TempPathFactory) -> Adapter:
    """The card's model on a file as it is published."""
    path = tmp_path_factory.mktemp("weights") / edition.card.weights.files[0]
    torch.save(edition.file, path)
    return load_adapter(edition.card, path, TEXT_ENCODER, memory_format="contiguous")


@torch.inference_mode()
def test_vectors_are_the_librarys(edition: Edition, model: Adapter) -> None:
    size = edition.card.recipe("reality-check").size
    pixels, theirs = made_hub.pixels(size, 1), edition.theirs
    found = model.encode_image(pixels)
    assert found.pooled.shape == (1, edition.card.taps["pooled"])
    if edition.card.name in DUAL:
        ids = open_clip.tokenizer.HFTokenizer(str(TEXT_ENCODER), context_length=256)(TEXTS)
        text = theirs.encode_text(ids, normalize=True)  # type: ignore[operator]
        assert_same(found.joint, theirs.encode_image(pixels, normalize=True))  # type: ignore[arg-type, operator]
        assert_same(model.encode_text(TEXTS).joint, text)
    else:
        assert_same(found.pooled, theirs(pixels)[:, 1:].mean(dim=1))


def test_every_tensor_is_used_or_ignored_with_a_reason(edition: Edition, model: Adapter) -> None:
    assert model.coverage is not None
    ignored = model.coverage.ignored
    assert len(model.coverage.used) + len(ignored) == len(edition.published)
    assert len(ignored) == {"mrm": 4}.get(edition.card.name, 3) and all(ignored.values())
    one = next(name for name in edition.published if name.endswith(("norm1.bias", "ln_1.bias", "bn1.bias")))
    without = {name: tensor for name, tensor in edition.published.items() if name != one}
    with pytest.raises(IntegrityError, match="1 missing: "):
        made_hub.load(edition.card, without)
    with pytest.raises(IntegrityError, match=r"1 left over: more\."):
        made_hub.load(edition.card, {**edition.published, "more": torch.zeros(2)})


@pytest.mark.slow
@pytest.mark.parametrize("edition", ["unimed_clip_b16", *IMAGES], indirect=True)
def test_it_keeps_the_promises_of_an_adapter(edition: Edition, model: Adapter, tmp_path: Path) -> None:
    """The others are larger editions of the first, or of a network that `test_open_clip` takes through them."""
    path = tmp_path / edition.card.weights.files[0]
    torch.save(edition.file, path)
    low = load_adapter(edition.card, path, TEXT_ENCODER, precision="bfloat16", memory_format="contiguous")
    check_adapter(model, reduced=low).require()


BERT_BASE, MLP = 108_891_648, {512: 768 * 640 + 640 * 512, 768: 768 * 768 + 768 * 768}
SIZES = {
    "unimed_clip_b16": 86_192_640 + BERT_BASE + MLP[512] + 1,
    "unimed_clip_l14_336": 304_293_888 + BERT_BASE + MLP[768] + 1,
    "biomedclip_cxr": 85_798_656 + (1025 - 197) * 768 + 768 * 512 + BERT_BASE + MLP[512] + 1,
    "mrm": 85_798_656,
}


@pytest.mark.parametrize("name", SIZES)
def test_a_card_of_the_zoo_builds_its_network_and_says_what_was_not_checked(name: str) -> None:
    card = zoo_card(name)
    net = adapter_class(card).networks({}, card, adapter_class(card)._options(card))[""]  # type: ignore[attr-defined]
    assert sum(value.numel() for value in net.parameters()) == SIZES[name]
    said = " ".join(card.notes)
    assert "not read" in said and ("not opened here" in said or "not seen" in said)
    assert "official parts were left out is not known" in said
