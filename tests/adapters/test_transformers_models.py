"""CLIP, SigLIP and image networks of the Hugging Face hub by a card alone, from files as the library publishes them."""

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import made_hub
import pytest
import torch
from made_hub import TEXTS, assert_same
from made_weights import TEXT_ENCODER, zoo_card
from safetensors.torch import load_file
from torch import nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import Adapter, Runtime, adapter_class, load_adapter
from cxrbench.models.unfilled import without_values
from cxrbench.testing import check_adapter

DUAL, VISION = "hf:HuggingFaceDual", "hf:HuggingFaceVision"
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SEEN = {**SIZES, "image_size": 32, "patch_size": 8}
SPECIAL = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}  # [CLS], [SEP] and [PAD] of the made vocabulary
READ = {**SIZES, **SPECIAL, "vocab_size": 400, "max_position_embeddings": 24}
DUALS: dict[str, tuple[dict[str, Any], int]] = {  # and the width of `joint`
    "clip": (
        {"model_type": "clip", "projection_dim": 24, "vision_config": SEEN, "text_config": READ},
        24,
    ),
    "siglip": (
        {"model_type": "siglip", "vision_config": SEEN, "text_config": {**READ, "projection_size": 32}},
        32,
    ),
}
IMAGES: dict[str, tuple[dict[str, Any], str, int]] = {  # `pooled`, and its width
    "vit, pooler": ({"model_type": "vit", **SEEN}, "pooler", 32),
    "vit, cls": ({"model_type": "vit", **SEEN}, "cls", 32),
    "dinov2, cls": ({"model_type": "dinov2", **SEEN}, "cls", 32),
    "dinov2, patches": ({"model_type": "dinov2", **SEEN}, "patches", 32),
    "registers, patches": (
        {"model_type": "dinov2_with_registers", **SEEN, "num_register_tokens": 4},
        "patches",
        32,
    ),
    "siglip's image side, pooler": ({"model_type": "siglip_vision_model", **SEEN}, "pooler", 32),
    "resnet, pooler": (
        {"model_type": "resnet", "embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]},
        "pooler",
        32,
    ),
}
TEXT = {"hub": "nobody/nothing", "files": ["vocab.txt"], "revision_reason": "made", "max_tokens": 24}


def saved(config: dict[str, Any], folder: Path) -> nn.Module:
    """The library's model of a configuration with drawn weights, saved by the library into the folder."""
    kind = AutoConfig.for_model(**config)
    model = made_hub.drawn(AutoModel.from_config(kind))
    model.save_pretrained(folder)  # type: ignore[operator]
    return model


def library_tokens(kind: str) -> dict[str, torch.Tensor]:
    """The texts by the library's own tokenizer, as the processor of the kind pads them."""
    tokenizer = AutoTokenizer.from_pretrained(str(TEXT_ENCODER))
    batch = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    return {key: batch[key] for key in ("input_ids", "attention_mask")}


@pytest.fixture(scope="module", params=list(DUALS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Adapter, Any]:
    """A kind, our model from the saved file, and the library's."""
    config, joint = DUALS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    theirs = saved(config, folder)
    told = made_hub.card(DUAL, {"config": config}, {"pooled": 32, "joint": joint}, text_encoder=TEXT)
    return request.param, load_adapter(told, folder / "model.safetensors", TEXT_ENCODER), theirs


@torch.inference_mode()
def test_vectors_and_scores_are_the_librarys(pair: tuple[str, Adapter, Any]) -> None:
    kind, ours, theirs = pair
    pixels = made_hub.pixels()
    wanted = theirs(pixel_values=pixels, **library_tokens(kind))
    found, read = ours.encode_image(pixels), ours.encode_text(TEXTS)
    assert found.joint is not None
    assert_same(found.joint, wanted.image_embeds)
    assert_same(read.joint, wanted.text_embeds)
    assert_same(found.pooled, theirs.vision_model(pixel_values=pixels).pooler_output)
    assert_same(ours.score(found, read), wanted.logits_per_image)
    assert ours.logit_scale("text") == pytest.approx(float(theirs.logit_scale.exp()))


def test_a_card_without_a_text_encoder_sees_images_and_says_why_it_reads_no_text(
    pair: tuple[str, Adapter, Any],
) -> None:
    _, ours, theirs = pair
    bare = ours.card.model_copy(update={"text_encoder": None})
    model = made_hub.load(bare, made_hub.tensors(theirs), TEXT_ENCODER)
    assert torch.equal(model.encode_image(made_hub.pixels()).pooled, ours.encode_image(made_hub.pixels()).pooled)
    with pytest.raises(SpecError, match="names no text encoder"):
        model.encode_text(TEXTS)


def test_it_keeps_the_promises_of_an_adapter(pair: tuple[str, Adapter, Any]) -> None:
    _, ours, theirs = pair
    low = Runtime(torch.device("cpu"), "bfloat16", "contiguous")
    reduced = made_hub.load(ours.card, made_hub.tensors(theirs), TEXT_ENCODER, low)
    check_adapter(ours, reduced=reduced).require()


@torch.inference_mode()
def test_a_vector_depends_on_its_own_input_alone(pair: tuple[str, Adapter, Any]) -> None:
    _, ours, _ = pair
    pixels = made_hub.pixels()
    whole, read = ours.encode_image(pixels).joint, ours.encode_text(TEXTS).joint
    alone = ours.encode_image(pixels[1:2]).joint
    assert whole is not None
    assert alone is not None
    assert_same(alone, whole[1:2])
    assert_same(ours.encode_text(TEXTS[2:3]).joint, read[2:3])


@pytest.mark.parametrize("how", ["renamed", "dropped", "reshaped"])
@pytest.mark.parametrize("tensor", ["vision_model.encoder.layers.1.mlp.fc1.bias", "text_model.final_layer_norm.weight"])
def test_another_layout_is_refused_by_name(tensor: str, how: str, pair: tuple[str, Adapter, Any]) -> None:
    _, ours, theirs = pair
    altered, says = made_hub.changed(made_hub.tensors(theirs), tensor, how)
    with pytest.raises(IntegrityError) as refusal:
        made_hub.load(ours.card, altered)
    assert says in str(refusal.value)


@pytest.fixture(scope="module", params=list(IMAGES))
def image_pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Adapter, Any]:
    """Our image network from the saved file, and the library's."""
    config, pooled, width = IMAGES[request.param]
    folder = tmp_path_factory.mktemp("image")
    theirs = saved(config, folder)
    told = made_hub.card(VISION, {"config": config, "pooled": pooled}, {"pooled": width})
    return load_adapter(told, folder / "model.safetensors"), theirs


@torch.inference_mode()
def test_image_vectors_are_the_librarys(image_pair: tuple[Adapter, Any]) -> None:
    ours, theirs = image_pair
    pixels = made_hub.pixels()
    wanted = theirs(pixel_values=pixels)
    skipped = 1 + getattr(theirs.config, "num_register_tokens", 0)
    match ours.card.options["pooled"]:
        case "pooler":
            expected = wanted.pooler_output.flatten(1)
        case "cls":
            expected = wanted.last_hidden_state[:, 0]
        case _:
            expected = wanted.last_hidden_state[:, skipped:].mean(dim=1)
    found = ours.encode_image(pixels)
    assert_same(found.pooled, expected)
    assert found.joint is None
    assert_same(ours.encode_image(pixels[:1]).pooled, expected[:1])
    with pytest.raises(SpecError, match="has no text side"):
        ours.encode_text(["edema"])


def test_an_image_network_keeps_the_promises_of_an_adapter(image_pair: tuple[Adapter, Any]) -> None:
    check_adapter(image_pair[0]).require()


def test_published_names_are_those_of_the_saved_file(image_pair: tuple[Adapter, Any], tmp_path: Path) -> None:
    """Newer versions of the library hold tensors under other names than they save them; coverage speaks the file's."""
    ours, theirs = image_pair
    theirs.save_pretrained(tmp_path)
    made = load_file(tmp_path / "model.safetensors")
    name = next(key for key in made if key.endswith("weight") and made[key].ndim > 1)
    for how in ("renamed", "dropped", "reshaped"):
        altered, says = made_hub.changed(made, name, how)
        with pytest.raises(IntegrityError) as refusal:
            made_hub.load(ours.card, altered)
        assert says in str(refusal.value)


def test_a_pooler_that_is_not_published_and_a_prefix(tmp_path: Path) -> None:
    config = {"model_type": "vit", **SEEN}
    theirs = saved(config, tmp_path)
    made = {f"vit.{k}": v for k, v in load_file(tmp_path / "model.safetensors").items() if not k.startswith("pooler.")}
    told = made_hub.card(VISION, {"config": config, "pooled": "cls", "prefix": "vit."}, {"pooled": 32})
    with torch.inference_mode():
        wanted = theirs(pixel_values=made_hub.pixels()).last_hidden_state[:, 0]
    assert_same(made_hub.load(told, made).encode_image(made_hub.pixels()).pooled, wanted)
    asked = told.model_copy(update={"options": {**told.options, "pooled": "pooler"}})
    with pytest.raises(IntegrityError, match=r"missing: vit\.pooler\.dense\.weight"):
        made_hub.load(asked, made)


def test_half_precision_and_low_precision(image_pair: tuple[Adapter, Any], tmp_path: Path) -> None:
    ours, theirs = image_pair
    theirs.save_pretrained(tmp_path)
    made = load_file(tmp_path / "model.safetensors")
    half = {name: value.half() if value.is_floating_point() else value for name, value in made.items()}
    config = {**ours.card.options["config"], "torch_dtype": "float16"}
    told = ours.card.model_copy(update={"options": {**ours.card.options, "config": config}})
    exact, pixels = ours.encode_image(made_hub.pixels()).pooled, made_hub.pixels()
    assert_same(made_hub.load(told, half).encode_image(pixels).pooled, exact, 2e-2)
    low = made_hub.load(ours.card, made, runtime=Runtime(torch.device("cpu"), "bfloat16", "contiguous"))
    found = low.encode_image(pixels).pooled
    assert not torch.equal(found, exact)
    assert_same(found, exact, 0.1)


def test_the_configuration_is_a_fact_of_the_key_and_is_held_against_the_published_one(tmp_path: Path) -> None:
    config = DUALS["clip"][0]
    saved(config, tmp_path)
    taps = {"pooled": 32, "joint": 24}
    told = made_hub.card(DUAL, {"config": config}, taps, text_encoder=TEXT)
    kind = adapter_class(told)
    seen = {**SEEN, "num_attention_heads": 2}
    other = made_hub.card(DUAL, {"config": {**config, "vision_config": seen}}, taps, text_encoder=TEXT)
    assert kind.options_digest(told) != kind.options_digest(other)
    with pytest.raises(IntegrityError, match=r"vision_config\.num_attention_heads is 4, used is 2"):
        load_adapter(other, tmp_path / "model.safetensors")
    bare = made_hub.card(DUAL, {}, taps, text_encoder=TEXT)
    bare._home = tmp_path
    assert load_adapter(bare, tmp_path / "model.safetensors").card is bare
    bare._home = tmp_path / "elsewhere"
    with pytest.raises(DataError, match=r"no config\.json in .* options\.config"):
        kind.options_digest(bare)


@pytest.mark.parametrize("adapter", [DUAL, VISION])
@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"model_type": "clip", "auto_map": {"AutoModel": "modeling.Theirs"}}, "code of a repository is never run"),
        ({"model_type": "theirs"}, "model_type"),
        ({}, "model_type"),
    ],
)
def test_models_that_are_refused(adapter: str, config: dict[str, Any], says: str) -> None:
    more = {"pooled": "cls"} if adapter == VISION else {}
    told = made_hub.card(adapter, {"config": config, **more}, {"pooled": 32})
    with pytest.raises(SpecError, match=says):
        made_hub.load(told, {})


def test_tokenizers_that_are_refused(pair: tuple[str, Adapter, Any], tmp_path: Path) -> None:
    _, ours, theirs = pair
    made = made_hub.tensors(theirs)

    def read(folder: Path, **text: Any) -> None:
        told = ours.card.model_validate({**ours.card.model_dump(), "text_encoder": {**TEXT, **text}})
        made_hub.load(told, made, folder).encode_text(["edema"])

    with pytest.raises(SpecError, match="max_tokens is 30 of 24"):
        read(TEXT_ENCODER, max_tokens=30)
    with pytest.raises(DataError, match=r"vocab\.txt is missing"):
        read(tmp_path)
    for file in TEXT_ENCODER.iterdir():
        shutil.copy(file, tmp_path / file.name)
    with (tmp_path / "vocab.txt").open("a") as stream:
        stream.writelines(f"spare{number}\n" for number in range(60))
    with pytest.raises(IntegrityError, match="more tokens"):
        read(tmp_path)


def test_a_sentencepiece_tokenizer_as_siglip_has_it(tmp_path: Path) -> None:
    """The library's own tokenizer of SigLIP needs sentencepiece; a made vocabulary of it is read from a folder."""
    import sentencepiece

    (tmp_path / "words.txt").write_text("normal lungs\nleft pleural effusion with consolidation\nedema\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "words.txt"),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=40,
        pad_id=3,
        bos_id=-1,
        eos_id=1,
        unk_id=2,
        minloglevel=2,
        hard_vocab_limit=False,
    )
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "SiglipTokenizer", "model_input_names": ["input_ids"]})
    )
    config, joint = DUALS["siglip"]
    theirs = saved(config, tmp_path / "model")
    text = {**TEXT, "files": ["spiece.model", "tokenizer_config.json"]}
    told = made_hub.card(DUAL, {"config": config}, {"pooled": 32, "joint": joint}, text_encoder=text)
    ours = made_hub.load(told, made_hub.tensors(theirs), tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(str(tmp_path))
    batch = tokenizer(TEXTS, padding="max_length", truncation=True, max_length=24, return_tensors="pt")
    assert set(batch) == {"input_ids"}
    with torch.inference_mode():
        wanted = theirs.text_model(**batch).pooler_output
        found = ours.encode_text(TEXTS).projected
    assert found is not None
    assert_same(found, wanted)


@pytest.mark.parametrize(("name", "count"), [("medsiglip", 878_300_338), ("rad_dino", 86_580_480)])
def test_a_card_of_the_zoo_builds_its_network(name: str, count: int) -> None:
    told = zoo_card(name)
    net = next(iter(adapter_class(told).networks({}, told, adapter_class(told)._options(told)).values()))
    assert sum(p.numel() for p in net.parameters()) == count
    assert {p.device.type for p in net.parameters()} == {"meta"}
    assert {b.device.type for b in net.buffers()} <= {"cpu"}


def test_building_without_values_concerns_one_thread() -> None:
    others: list[nn.Module] = []
    with without_values():
        thread = threading.Thread(target=lambda: others.append(nn.BatchNorm2d(3)))
        thread.start()
        thread.join()
        own = nn.BatchNorm2d(3)
    assert own.weight.device.type == "meta"
    assert own.running_mean is not None
    assert own.running_mean.device.type == others[0].weight.device.type == nn.Linear(1, 1).weight.device.type == "cpu"  # type: ignore[union-attr]
