"""Models of open_clip by a card alone: equal to the library's own forward, and nothing else is loaded."""

import json
from pathlib import Path
from typing import Any

import made_hub
import open_clip
import pytest
import torch
from made_hub import TEXTS, assert_same
from made_weights import TEXT_ENCODER, zoo_card
from torch import nn

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import Adapter, Runtime, adapter_class
from cxrbench.specs.recipe import Canvas
from cxrbench.testing import check_adapter

ADAPTER = "open_clip:OpenCLIP"
WORDS = {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 2}
VIT = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 16}
BERT = {
    "model_type": "bert",
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 32,
}
READ = {
    "hf_model_name": "nobody/nothing",
    "hf_tokenizer_name": "nobody/nothing",
    "hf_proj_type": "mlp",
    "hf_pooler_type": "cls_last_hidden_state_pooler",
    "context_length": 24,
}
TIMM = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "", "timm_proj": "linear", "image_size": 224}
CONFIGS: dict[str, tuple[dict[str, Any], int]] = {  # and the width of `pooled`
    "vit": ({"embed_dim": 24, "vision_cfg": VIT, "text_cfg": WORDS}, 64),
    "quick gelu, bias, own text tower": (
        {
            "embed_dim": 24,
            "quick_gelu": True,
            "custom_text": True,
            "init_logit_bias": -10.0,
            "vision_cfg": {**VIT, "pool_type": "avg", "final_ln_after_pool": True},
            "text_cfg": {**WORDS, "no_causal_mask": True, "pool_type": "last"},
        },
        64,
    ),
    "resnet": (
        {
            "embed_dim": 24,
            "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "head_width": 8},
            "text_cfg": WORDS,
        },
        256,
    ),
    "timm and bert": ({"embed_dim": 24, "vision_cfg": TIMM, "text_cfg": READ}, 192),
}
TEXT = {"hub": "nobody/nothing", "files": ["vocab.txt"], "revision_reason": "made", "max_tokens": 24}


def options(name: str) -> dict[str, Any]:
    return {"config": CONFIGS[name][0], **({"text_config": BERT} if "bert" in name else {})}


def library_model(name: str, folder: Path) -> nn.Module:
    """The library's own model of a configuration, with drawn weights."""
    told = json.loads(json.dumps(CONFIGS[name][0]))
    if "bert" not in name:
        kind = open_clip.CustomTextCLIP if told.pop("custom_text", False) else open_clip.CLIP
        return made_hub.drawn(kind(**told))
    (folder / "config.json").write_text(json.dumps(BERT))
    told["text_cfg"] |= {"hf_model_name": str(folder), "hf_model_pretrained": False}
    return made_hub.drawn(open_clip.CustomTextCLIP(**told))


@pytest.fixture(scope="module", params=list(CONFIGS))
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Adapter, Any]:
    """A configuration's name, our model and the library's, with the same tensors."""
    name = request.param
    theirs = library_model(name, tmp_path_factory.mktemp("config"))
    told = made_hub.card(
        ADAPTER,
        options(name),
        {"pooled": CONFIGS[name][1], "joint": 24},
        text_encoder=TEXT if "bert" in name else None,
    )
    return name, made_hub.load(told, made_hub.tensors(theirs), TEXT_ENCODER if "bert" in name else None), theirs


def fitting(visual: Any) -> torch.Tensor:
    """Pixels of the size that an image network of the library takes."""
    size = visual.image_size
    return made_hub.pixels(size if isinstance(size, int) else size[0])


def library_ids(name: str) -> torch.Tensor:
    """The ids of the texts by the library's own tokenizer."""
    if "bert" in name:
        return open_clip.tokenizer.HFTokenizer(str(TEXT_ENCODER), context_length=24)(TEXTS)
    return open_clip.tokenize(TEXTS, context_length=24)


@torch.inference_mode()
def test_vectors_and_scores_are_the_librarys(pair: tuple[str, Adapter, Any]) -> None:
    name, ours, theirs = pair
    pixels, ids = fitting(theirs.visual), library_ids(name)
    image, text, scale, *bias = theirs(pixels, ids)
    found, read = ours.encode_image(pixels), ours.encode_text(TEXTS)
    assert found.joint is not None
    assert read.projected is not None
    assert_same(found.joint, image)
    assert_same(read.joint, text)
    assert_same(read.projected, theirs.encode_text(ids))
    assert_same(ours.score(found, read), scale * image @ text.T + sum(bias))
    assert ours.logit_scale("text") == pytest.approx(float(scale))
    assert found.pooled.shape == (3, CONFIGS[name][1])


@torch.inference_mode()
def test_pooled_is_what_the_projection_sees(pair: tuple[str, Adapter, Any]) -> None:
    name, ours, theirs = pair
    visual = theirs.visual
    pixels = fitting(visual)
    pooled = ours.encode_image(pixels).pooled
    if name == "resnet":
        maps: list[torch.Tensor] = []
        handle = visual.layer4.register_forward_hook(lambda module, seen, out: maps.append(out))
        visual(pixels)
        handle.remove()
        assert_same(pooled, maps[0].mean(dim=(2, 3)))
    else:
        head = visual.head if "timm" in name else lambda seen: seen @ visual.proj
        assert_same(head(pooled), theirs.encode_image(pixels))


def test_a_vector_depends_on_its_own_input_alone(pair: tuple[str, Adapter, Any]) -> None:
    _, ours, theirs = pair
    pixels = fitting(theirs.visual)
    whole, read = ours.encode_image(pixels), ours.encode_text(TEXTS)
    assert whole.joint is not None
    for row in range(len(pixels)):
        alone = ours.encode_image(pixels[row : row + 1])
        assert alone.joint is not None
        assert_same(alone.joint, whole.joint[row : row + 1])
        assert_same(alone.pooled, whole.pooled[row : row + 1])
    assert_same(ours.encode_text(TEXTS[1:2]).joint, read.joint[1:2])


def test_it_keeps_the_promises_of_an_adapter(pair: tuple[str, Adapter, Any]) -> None:
    name, ours, theirs = pair
    size = fitting(theirs.visual).shape[-1]
    told = ours.card.model_copy(update={"recipes": {"reality-check": Canvas(size=size)}})
    text = TEXT_ENCODER if "bert" in name else None
    whole = made_hub.load(told, made_hub.tensors(theirs), text)
    low = made_hub.load(told, made_hub.tensors(theirs), text, Runtime(torch.device("cpu"), "bfloat16", "contiguous"))
    check_adapter(whole, reduced=low).require()


def test_engines(pair: tuple[str, Adapter, Any]) -> None:
    name, ours, theirs = pair
    assert ours.engine.memory_format == ("channels_last" if name == "resnet" else "contiguous")
    low = made_hub.load(
        ours.card, made_hub.tensors(theirs), runtime=Runtime(torch.device("cpu"), "bfloat16", "contiguous")
    )
    pixels = fitting(theirs.visual)
    found, exact = low.encode_image(pixels).joint, ours.encode_image(pixels).joint
    assert found is not None
    assert exact is not None
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    assert (found * exact).sum(dim=1).min() > 0.99


@pytest.mark.parametrize("how", ["renamed", "dropped", "reshaped"])
@pytest.mark.parametrize("tensor", ["visual.proj", "transformer.resblocks.1.mlp.c_fc.bias"])
def test_another_layout_is_refused_by_name(tensor: str, how: str, tmp_path: Path) -> None:
    told = made_hub.card(ADAPTER, options("vit"), {"pooled": 64, "joint": 24})
    made, says = made_hub.changed(made_hub.tensors(library_model("vit", tmp_path)), tensor, how)
    with pytest.raises(IntegrityError) as refusal:
        made_hub.load(told, made)
    assert says in str(refusal.value)


def test_a_configuration_beside_the_card_and_one_that_contradicts_it(tmp_path: Path) -> None:
    config = CONFIGS["vit"][0]
    theirs = library_model("vit", tmp_path)
    bare = made_hub.card(ADAPTER, {}, {"pooled": 64, "joint": 24})
    bare._home = tmp_path
    with pytest.raises(DataError, match=r"no open_clip_config\.json in .* or in the hub's cache here"):
        adapter_class(bare).options_digest(bare)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": {}}))
    before = adapter_class(bare).options_digest(bare)
    assert made_hub.load(bare, made_hub.tensors(theirs)).encode_image(made_hub.pixels()).pooled.shape == (3, 64)
    other = {**config, "vision_cfg": {**VIT, "head_width": 32}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": other}))
    assert adapter_class(bare).options_digest(bare) != before
    told = made_hub.card(ADAPTER, options("vit"), {"pooled": 64, "joint": 24})
    with pytest.raises(IntegrityError, match=r"vision_cfg\.head_width is 32, used is 16"):
        made_hub.load(told, made_hub.tensors(theirs), folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"architecture": "ViT-B-3"}, "no architecture 'ViT-B-3'"),
        ({"architecture": "hf-hub:a/b"}, "no architecture 'hf-hub:a/b'"),
        ({"architecture": "ViT-B-32", "config": {}}, "`architecture` or `config`, not both"),
        ({"config": {"embed_dim": 8}}, "no vision_cfg and text_cfg"),
        ({"config": {**CONFIGS["vit"][0], "multimodal_cfg": {}}}, "a captioning model"),
        ({"config": {**CONFIGS["vit"][0], "auto_map": {}}}, r"code of a repository is never run"),
        ({"config": {**CONFIGS["vit"][0], "colour": 3}}, "open_clip cannot build"),
        ({"config": {**CONFIGS["vit"][0], "vision_cfg": {"timm_model_name": "hf-hub:a/b"}}}, "not a place to fetch"),
    ],
)
def test_configurations_that_are_refused(change: dict[str, Any], says: str) -> None:
    told = made_hub.card(ADAPTER, change, {"pooled": 64, "joint": 24})
    with pytest.raises(SpecError, match=says):
        made_hub.load(told, {})


def test_tokenizers_that_are_refused(tmp_path: Path) -> None:
    made = made_hub.tensors(library_model("vit", tmp_path))

    def read(change: dict[str, Any], **card: Any) -> None:
        config = {**CONFIGS["vit"][0], "text_cfg": {**WORDS, **change}}
        told = made_hub.card(ADAPTER, {"config": config}, {"pooled": 64, "joint": 24}, **card)
        made_hub.load(told, made, TEXT_ENCODER).encode_text(["edema"])

    with pytest.raises(SpecError, match="known are"):
        read({"tokenizer_kwargs": {"trust_remote_code": True}})
    with pytest.raises(SpecError, match="its card none, or the reverse"):
        read({"hf_tokenizer_name": "a/b"})
    with pytest.raises(SpecError, match=r"context_length is 24, text_encoder\.max_tokens is 30"):
        read({"hf_tokenizer_name": "a/b"}, text_encoder={**TEXT, "max_tokens": 30})
    with pytest.raises(SpecError, match="takes 32 x 32 alone"):
        told = made_hub.card(ADAPTER, options("vit"), {"pooled": 64, "joint": 24})
        made_hub.load(told, made).encode_image(made_hub.pixels(48))
    with pytest.raises(SpecError, match="taps do not fit the network, which gives pooled = 64, joint = 24"):
        told = made_hub.card(ADAPTER, options("vit"), {"pooled": 63, "joint": 24})
        made_hub.load(told, made).encode_image(made_hub.pixels())


BIOMED = {"vit": 85_798_656, "projection": 768 * 512, "bert": 108_891_648, "mlp": 768 * 640 + 640 * 512, "scale": 1}


@pytest.mark.parametrize(("name", "count"), [("biomedclip", sum(BIOMED.values())), ("clip_laion", 151_277_313)])
def test_a_card_of_the_zoo_builds_its_network(name: str, count: int) -> None:
    told = zoo_card(name)
    net = adapter_class(told).networks({}, told, adapter_class(told)._options(told))[""]
    assert sum(p.numel() for p in net.parameters()) == count
    assert {p.device.type for p in net.parameters()} == {"meta"}
