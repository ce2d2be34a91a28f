"""EVA-X, Ark, DINOv2's layout and torchxrayvision against their authors' own outputs on synthetic weights."""

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import made_encoders
import numpy as np
import pytest
import torch
from made_encoders import ARK, DINO, EVA_X, NAMES, XRV, Golden, load, published, write
from made_hub import assert_same
from made_towers import assert_close, from_files, stored
from made_weights import published_tensors, zoo_card
from torch import Tensor

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime, adapter_class, load_adapter
from cxrbench.models.checkpoint import Checkpoint, read_checkpoint
from cxrbench.models.checkpoint_model import CheckpointModel, covered
from cxrbench.models.dinov2 import positions
from cxrbench.models.nets import frozen, under
from cxrbench.models.transformers_nets import network

QUICK = ("eva_x_ti", "ark6_swin_b", "xrv_densenet121")
PREFIX = {"chexfound": "backbone.", "ark_plus": "module."}


def each(names: tuple[str, ...]) -> list[Any]:
    """The names, those of large networks or pictures slow."""
    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


Loaded = Callable[[str], CheckpointModel[Any]]


@pytest.fixture(scope="module")
def loaded(folder: Path) -> Loaded:
    """A model behind its own card; the last two are kept."""
    return lru_cache(maxsize=2)(lambda name: load(name, folder))


def pixels(model: CheckpointModel[Any], images: np.ndarray) -> Tensor:
    return from_files(images, model.card.recipe("authors"))


def endings(golden: Golden) -> list[str]:
    return [ending for ending in ("", "_large", "_small") if "images" + ending in golden]


def whole(name: str, shared: Path) -> Golden:
    """All figures, of pictures that are reduced and enlarged, too."""
    return stored(shared / "parity" / name / "golden.npz")


@pytest.mark.parametrize("name", each(NAMES))
def test_image_vectors_from_files(name: str, loaded: Loaded) -> None:
    model, golden = loaded(name), made_encoders.golden(name)
    made = pixels(model, golden["images"])
    found = model.encode_image(made).pooled
    assert_close(found, golden["image_global"], 2e-5)
    assert_close(model.encode_image(made[1:]).pooled, golden["image_global"][1:], 2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_image_vectors_of_all_pictures(name: str, loaded: Loaded, shared: Path) -> None:
    model, golden = loaded(name), whole(name, shared)
    for ending in endings(golden):
        made = pixels(model, golden["images" + ending])
        assert_close(model.encode_image(made).pooled, golden["image_global" + ending])
        told = golden.get("pixel_values" + ending)
        if told is None:
            assert np.abs(made[:, :, ::8, ::8].numpy() - golden["pixel_values_every8" + ending]).max() < 1e-6
        elif name == "xrv_resnet50_512":
            assert np.array_equal(made[:, :, ::4, ::4].numpy(), told)
        else:
            assert np.array_equal(made[:, :1].numpy(), told)
            assert_close(model.encode_image(torch.from_numpy(told)).pooled, golden["image_global" + ending])


@pytest.mark.parametrize("name", each(EVA_X))
@torch.inference_mode()
def test_the_class_token_of_eva_x_is_not_in_the_mean(name: str, loaded: Loaded) -> None:
    model, golden = loaded(name), made_encoders.golden(name)
    net: Any = model.parts[""]
    tokens = net.forward_features(pixels(model, golden["images"]))
    assert_close(tokens[:, 0], golden["image_class_token"])
    assert_close(net.fc_norm(tokens[:, 0]), golden["image_class_token_normed"])


@pytest.mark.parametrize("name", each(ARK))
@torch.inference_mode()
def test_trunk_and_heads_of_ark(name: str, folder: Path) -> None:
    golden, card = made_encoders.golden(name), zoo_card(name)
    width = golden["image_trunk"].shape[1]
    bare = card.model_copy(update={"options": {**card.options, "pooled": "trunk"}, "taps": {"pooled": width}})
    model = load(name, folder, bare)
    trunk = model.encode_image(pixels(model, golden["images"][:2])).pooled
    assert_close(trunk, golden["image_trunk"])
    prefix = PREFIX.get(name, "")
    net: Any = model.parts[prefix]
    tensors = under(published_tensors(name), f"{prefix}omni_heads.")
    heads = [net.projector(trunk) @ tensors[f"{n}.weight"].T + tensors[f"{n}.bias"] for n in range(6)]
    assert_close(torch.cat(heads, dim=1).sigmoid(), golden["predictions"])


@pytest.mark.slow
@torch.inference_mode()
def test_registers_and_last_blocks_of_chexfound(loaded: Loaded) -> None:
    golden, model = made_encoders.golden("chexfound"), loaded("chexfound")
    net: Any = model.parts["backbone."]
    made = pixels(model, golden["images"])
    tokens = net.forward_features(made)
    assert_close(tokens[:, 1:5].flatten(1), golden["image_registers"].reshape(2, -1))
    assert_close(tokens[:, 5:].mean(dim=1), golden["image_patch_mean"])
    _, layers = net.forward_intermediates(made, indices=4, norm=True, return_prefix_tokens=True)
    last = torch.stack([prefix[:, 0] for _, prefix in layers], dim=1)
    assert_close(last.flatten(1), golden["image_last4_class"].reshape(2, -1))


@pytest.mark.slow
@torch.inference_mode()
def test_patches_and_other_sizes_of_xray_dino(loaded: Loaded) -> None:
    golden, model = made_encoders.golden("xray_dino"), loaded("xray_dino")
    net: Any = model.parts[""]
    assert_close(net.forward_features(pixels(model, golden["images"]))[:, 1:].mean(dim=1), golden["image_patch_mean"])
    authors = model.card.recipe("authors")
    small = authors.model_copy(update={"steps": tuple(s.model_copy(update={"size": 224}) for s in authors.steps)})  # type: ignore[union-attr]
    found = model.encode_image(from_files(golden["images"], small))
    assert_close(found.pooled, golden["image_global_224"])
    with pytest.raises(SpecError, match="takes sides of whole patches of 16"):
        model.encode_image(torch.rand(1, 1, 500, 512))


def test_positions_for_their_own_size_stay_as_they_are() -> None:
    table = torch.rand(1, 10, 4)
    assert positions(table, (3, 3), 0.1) is table
    grown = positions(table, (5, 4), 0.1)
    assert grown.shape == (1, 21, 4)
    assert torch.equal(grown[:, :1], table[:, :1])


@pytest.mark.parametrize("name", each(XRV))
@torch.inference_mode()
def test_the_findings_of_torchxrayvision(name: str, loaded: Loaded) -> None:
    """The classifier is left out of the model; with it the vectors give the authors' logits."""
    golden, model = made_encoders.golden(name), loaded(name)
    tensors = published_tensors(name)
    head = "classifier" if "densenet" in name else "fc"
    pooled = model.encode_image(pixels(model, golden["images"][:2])).pooled
    assert_close(pooled @ tensors[f"{head}.weight"].T + tensors[f"{head}.bias"], golden["logits"])


def test_the_first_channel_is_seen_where_there_are_three(loaded: Loaded) -> None:
    model = loaded("xrv_densenet121")
    made = torch.rand((2, 3, 224, 224), generator=torch.Generator().manual_seed(0)) * 2048 - 1024
    assert_same(model.encode_image(made).pooled, model.encode_image(made[:, :1].contiguous()).pooled)


@pytest.mark.parametrize("name", NAMES)
def test_the_published_file_is_used_or_ignored_by_name(name: str) -> None:
    card, tensors = zoo_card(name), published(name)
    kind: Any = adapter_class(card)
    found = covered(kind, Checkpoint(Path(card.weights.files[0]), "", tensors), card, kind._options(card))
    assert found.complete, found
    assert set(found.used) | set(found.ignored) == set(tensors)
    for pattern in card.weights.ignored:
        assert pattern.startswith(("dino_head", "ibot_head", "rope", "blocks.*.attn.rope")) or found.ignored, pattern


@pytest.mark.parametrize("how", ["without one", "with another", "of another shape"])
@pytest.mark.parametrize("name", ["eva_x_b", "ark_plus", "chexfound", "xray_dino", "xrv_resnet50_512"])
def test_a_file_that_lacks_a_tensor_or_has_one_too_many_is_refused(name: str, how: str) -> None:
    card, tensors = zoo_card(name), published(name)
    kind: Any = adapter_class(card)
    used = covered(kind, Checkpoint(Path("a"), "", tensors), card, kind._options(card)).used
    altered = dict(tensors)
    if how == "with another":
        altered["stranger.weight"] = torch.empty(2, 2, device="meta")
    elif how == "of another shape":
        altered[used[0]] = torch.empty(7, 7, 7, device="meta")
    else:
        del altered[used[0]]
    found = covered(kind, Checkpoint(Path("a"), "", altered), card, kind._options(card))
    assert not found.complete
    assert (found.unexpected, tuple(found.wrong_shape), found.missing) in (
        (("stranger.weight",), (), ()),
        ((), (used[0],), ()),
        ((), (), (used[0],)),
    )


@pytest.mark.parametrize("name", DINO)
def test_a_chunk_number_is_dropped_and_a_file_without_one_is_read_alike(name: str) -> None:
    card = zoo_card(name)
    kind: Any = adapter_class(card)
    prefix = PREFIX.get(name, "")
    joined = {}
    for key, tensor in published(name).items():
        stem, block, rest = key.partition(f"{prefix}blocks.")
        joined[f"{stem}{block}{rest.split('.', 1)[1]}" if block else key] = tensor
    found = covered(kind, Checkpoint(Path("a"), "", joined), card, kind._options(card))
    assert found.complete, found


def test_a_prefix_too_many_is_told(tmp_path: Path) -> None:
    """Whether Ark-6's names begin with `module.` nobody here could see."""
    path = tmp_path / "ark.pth.tar"
    torch.save({f"module.{key}": tensor for key, tensor in published_tensors("ark6_swin_b").items()}, path)
    with pytest.raises(IntegrityError, match=r"prefix 'module\.'.*without it they are exactly this model's"):
        load_adapter(made_encoders.card("ark6_swin_b"), path)


def test_the_halving_layers_of_a_new_timm_are_not_taken_for_the_old_ones() -> None:
    card, tensors = zoo_card("ark6_swin_b"), published("ark6_swin_b")
    kind: Any = adapter_class(card)
    newer = {
        key.replace("layers.2.d", "layers.3.d")
        .replace("layers.1.d", "layers.2.d")
        .replace("layers.0.d", "layers.1.d"): t
        for key, t in tensors.items()
    }
    found = covered(kind, Checkpoint(Path("a"), "", newer), card, kind._options(card))
    assert not found.complete
    assert all("downsample" in key for key in (*found.missing, *found.unexpected, *found.wrong_shape))


def test_a_training_checkpoint_is_read_without_what_lies_beside(tmp_path: Path) -> None:
    """NumPy's scalars and the optimizer's state, as EVA-X's file has them by those who opened it."""
    path, card = tmp_path / "published.pt", zoo_card("eva_x_ti")
    write("eva_x_ti", path)
    found = read_checkpoint(path, card.weights.container, foreign=card.weights.foreign)
    assert found.other["loss"].endswith("multiarray.scalar")
    assert found.other["optimizer"] == "dict"
    with pytest.raises(IntegrityError, match="foreign class"):
        read_checkpoint(path, card.weights.container)


@pytest.mark.parametrize("name", ["eva_x_ti", "ark6_swin_b"])
def test_pixels_of_another_size_are_refused(name: str, loaded: Loaded) -> None:
    with pytest.raises(SpecError, match="224 x 224 alone"):
        loaded(name).encode_image(torch.rand(1, 1, 256, 256))


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    """As the published file of EVA-X is by its size."""
    half = {key: t.half() for key, t in published_tensors("eva_x_ti").items()}
    torch.save({"module": half}, tmp_path / "half.pt")
    model = load_adapter(made_encoders.card("eva_x_ti"), tmp_path / "half.pt", recipe="authors")
    single = tmp_path / "single.pt"
    torch.save({"module": {key: t.float() for key, t in half.items()}}, single)
    made = torch.rand((2, 1, 224, 224), generator=torch.Generator().manual_seed(0))
    same = load_adapter(made_encoders.card("eva_x_ti"), single, recipe="authors")
    assert torch.equal(model.encode_image(made).pooled, same.encode_image(made).pooled)


@torch.inference_mode()
def test_dinov2_of_transformers_is_the_same_network() -> None:
    """RAD-DINO's `backbone_compatible` has these names; its hub file is run by the library that is asked here."""
    from transformers import Dinov2Config

    generator = torch.Generator().manual_seed(0)
    config = Dinov2Config(hidden_size=128, num_hidden_layers=3, num_attention_heads=2, image_size=56, patch_size=14)
    theirs = network("dinov2", config)
    made = {key: torch.randn(t.shape, generator=generator) * 0.2 for key, t in theirs.state_dict().items()}
    frozen(theirs, made, torch.device("cpu"))
    tensors = dict(_from_transformers(made))
    card = zoo_card("xray_dino")
    card = card.model_copy(
        update={
            "options": {"size": 56, "patch": 14, "mlp": "gelu"},
            "taps": {"pooled": 128},
            "recipes": {"reality-check": card.recipe("reality-check").model_copy(update={"size": 56})},
        }
    )
    model = adapter_class(card).load(card, Checkpoint(Path("a"), "", tensors), None, Runtime(torch.device("cpu")))
    seen = torch.randn((2, 3, 56, 56), generator=generator)
    assert_same(model.encode_image(seen).pooled, theirs(pixel_values=seen).pooler_output, 1e-5)


def _from_transformers(tensors: dict[str, Tensor]) -> Any:
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj",
        "encoder.layer.": "blocks.",
        ".attention.output.dense": ".attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
        "layernorm": "norm",
    }
    for key, tensor in tensors.items():
        found = key
        for old, new in names.items():
            found = found.replace(old, new)
        if ".attention.attention.query." in found:
            parts = [tensors[key.replace("query", part)] for part in ("query", "key", "value")]
            yield found.replace(".attention.attention.query.", ".attn.qkv."), torch.cat(parts)
        elif ".attention.attention." not in found:
            yield found, tensor
