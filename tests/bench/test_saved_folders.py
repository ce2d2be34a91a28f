"""Folders as the libraries' own `save_pretrained` leaves them, by a card alone: a run's vectors are the library's."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import made_hub
import numpy as np
import open_clip
import pytest
import timm
import torch
from lab import Lab
from made_hub import TEXTS
from made_weights import TEXT_ENCODER
from open_clip.push_to_hf_hub import save_for_hf
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer
from written_facts import write_facts

import cxrbench
from cxrbench.images.pixels import pixels_by
from cxrbench.models.base import find_weights
from cxrbench.models.weights.identity import weights_identity
from cxrbench.specs.card import ModelCard, read_card
from cxrbench.store import digest
from cxrbench.store.embeddings import Store

pytestmark = pytest.mark.slow

CLOSE = 1e-6
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
SEEN = {**SIZES, "image_size": 32, "patch_size": 8}
READ = {**SIZES, "vocab_size": 400, "max_position_embeddings": 24, "eos_token_id": 3, "pad_token_id": 0}
CLIP = {"model_type": "clip", "projection_dim": 24, "vision_config": SEEN, "text_config": READ}
SIGLIP = {"model_type": "siglip", "vision_config": SEEN, "text_config": {**READ, "projection_size": 32}}
WIDE = {"embedding_size": 8, "hidden_sizes": [8, 16, 16, 32], "depths": [1, 1, 1, 1]}
WINDOWS = {"embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "image_size": 32, "patch_size": 2}
TOKENS = ["vocab.txt", "tokenizer_config.json"]


@dataclass(frozen=True)
class Kind:
    """A configuration of the library, how it is saved, and what a card says of it."""

    config: Mapping[str, Any]
    adapter: str = "hf:HuggingFaceVision"
    taps: Mapping[str, int] = field(default_factory=lambda: {"pooled": 32})
    pooled: str = "pooler"
    shards: bool = False
    half: bool = False
    text: bool = False


DUAL = "hf:HuggingFaceDual"
KINDS = {
    "clip": Kind(CLIP, DUAL, {"pooled": 32, "joint": 24}, text=True),
    "clip in bf16 shards": Kind(CLIP, DUAL, {"pooled": 32, "joint": 24}, text=True, half=True, shards=True),
    "clip without text": Kind(CLIP, DUAL, {"pooled": 32, "joint": 24}, half=True),
    "siglip in shards": Kind(SIGLIP, DUAL, {"pooled": 32, "joint": 32}, text=True, shards=True),
    "vit": Kind({"model_type": "vit", **SEEN}),
    "dinov2 in shards": Kind({"model_type": "dinov2", **SEEN}, pooled="cls", shards=True),
    "swin in bf16": Kind({"model_type": "swin", **WINDOWS}, taps={"pooled": 16}, half=True),
    "resnet": Kind({"model_type": "resnet", **WIDE}),
    "convnext in shards": Kind({"model_type": "convnext", **WIDE, "num_stages": 4}, shards=True),
}


def save(kind: Kind, folder: Path) -> None:
    made = made_hub.drawn(AutoModel.from_config(AutoConfig.for_model(**kind.config)))
    model: Any = made.bfloat16() if kind.half else made
    model.save_pretrained(folder, **({"max_shard_size": "20KB"} if kind.shards else {}))
    assert (folder / "model.safetensors.index.json").exists() == kind.shards
    if kind.text:
        AutoTokenizer.from_pretrained(str(TEXT_ENCODER)).save_pretrained(folder)


def card(folder: Path, adapter: str, taps: Mapping[str, int], file: str, **more: Any) -> Path:
    """A card beside the folder, without a word on any hub."""
    weights = {"files": [f"{folder.name}/{file}"], "where": "trained here"}
    told = made_hub.card(adapter, more.pop("options", {}), taps, name=folder.name, weights=weights, **more)
    return write_facts(folder.parent / f"{folder.name}.toml", told)


def text_of(folder: Path) -> dict[str, Any]:
    names = [name for name in ("tokenizer.json", *TOKENS) if (folder / name).exists()]
    return {"folder": folder.name, "files": names, "max_tokens": 24}


def of_transformers(name: str, root: Path) -> Path:
    kind, folder = KINDS[name], root / name.replace(" ", "-")
    save(kind, folder)
    dual = kind.adapter == DUAL
    more: dict[str, Any] = {} if dual else {"options": {"pooled": kind.pooled}}
    if dual:
        more = {"text_encoder": text_of(folder)} if kind.text else {"zero_shot": None}
    return card(folder, kind.adapter, kind.taps, "model.safetensors", **more)


def of_open_clip(root: Path) -> tuple[Path, nn.Module]:
    vision = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8}
    config = {
        "embed_dim": 24,
        "vision_cfg": vision,
        "text_cfg": {"width": 64, "heads": 1, "layers": 2, "vocab_size": 400},
    }
    config["text_cfg"] |= {"hf_tokenizer_name": "own", "context_length": 24}  # type: ignore[operator]
    net = {key: {k: v for k, v in told.items() if not k.startswith("hf_")} if isinstance(told, dict) else told
           for key, told in config.items()}  # fmt: skip
    model, folder = made_hub.drawn(open_clip.CLIP(**net)), root / "open-clip"
    visual: Any = model.visual
    visual.image_mean, visual.image_std = (0.0,) * 3, (1.0,) * 3
    save_for_hf(model, AutoTokenizer.from_pretrained(str(TEXT_ENCODER)), config, str(folder))
    return card(folder, "open_clip:OpenCLIP", {"pooled": 64, "joint": 24}, "open_clip_model.safetensors",
                text_encoder=text_of(folder)), model  # fmt: skip


def of_timm(root: Path) -> tuple[Path, nn.Module]:
    model, folder = made_hub.drawn(timm.create_model("test_vit", num_classes=0, img_size=32)), root / "timm"
    timm.models.save_for_hf(model, str(folder))
    options = {"library": "timm", "architecture": "test_vit", "arguments": {"img_size": 32}}
    return card(folder, "trunk:Trunk", {"pooled": 64}, "pytorch_model.bin", options=options), model


@dataclass(frozen=True)
class Measured:
    """The cards by their models' names, the networks that no `from_pretrained` reads, and the one run's store."""

    root: Path
    place: Path
    others: Mapping[str, nn.Module]
    pixels: Mapping[str, Tensor]

    def stored(self, name: str) -> dict[str, np.ndarray[Any, Any]]:
        """Vectors by tap, in the order of the pixels."""
        told, store = self.card(name), Store(self.place / "cache")
        tensors = weights_identity(find_weights(told, None), told, self.place / "cache").tensors
        (key,) = (key for key, _ in store.entries() if (key.weights, key.adapter) == (tensors, told.adapter))
        found = store.read(key)
        return {tap: found.rows(tap, list(self.pixels)) for tap in told.taps}

    def card(self, name: str) -> ModelCard:
        return read_card(self.root / f"{name.replace(' ', '-')}.toml")


@pytest.fixture(scope="module")
def measured(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """One run of all of them."""
    root, place = tmp_path_factory.mktemp("saved"), tmp_path_factory.mktemp("measured")
    cards = [of_transformers(name, root) for name in KINDS]
    made = dict(zip(("open-clip", "timm"), (of_open_clip(root), of_timm(root)), strict=True))
    asked = {"models": [str(path) for path in (*cards, *(path for path, _ in made.values()))], "text_encoder": None}
    found = lab.run(place, [], ["covid"], protocols=["linear-probe"], shots=(1,), **asked)
    assert not found.problems
    recipe = read_card(cards[0]).recipe("reality-check")
    files = list(lab.files("covid").values())[:6]
    seen = {
        digest.of_file(path): torch.from_numpy(pixels_by(path.read_bytes(), path.name, recipe).array) for path in files
    }
    return Measured(root, place, {name: model for name, (_, model) in made.items()}, seen)


def library(measured: Measured, name: str) -> Any:
    """What the library itself makes of the folder, in single precision."""
    loaded: Any = AutoModel.from_pretrained(measured.root / name.replace(" ", "-"), dtype=torch.float32)
    return loaded.eval()


def pixels(measured: Measured) -> Tensor:
    return torch.stack(list(measured.pixels.values())).expand(-1, 3, -1, -1)


def unit(vectors: Any) -> Tensor:
    """At unit length, of what versions of the library give as a tensor or as an output with one."""
    plain = vectors if isinstance(vectors, Tensor) else vectors.pooler_output
    return nn.functional.normalize(plain)


def assert_close(found: Any, wanted: Tensor) -> None:
    assert found.shape == wanted.shape and float(wanted.abs().max()) > 0.01
    np.testing.assert_allclose(np.asarray(found), wanted.numpy(), rtol=0, atol=CLOSE)


@pytest.mark.parametrize("name", KINDS)
@torch.inference_mode()
def test_a_runs_vectors_are_the_librarys_of_the_saved_folder(name: str, measured: Measured) -> None:
    kind, theirs, found, seen = KINDS[name], library(measured, name), measured.stored(name), pixels(measured)
    if kind.adapter != DUAL:
        out = theirs(pixel_values=seen)
        wanted = out.last_hidden_state[:, 0] if kind.pooled == "cls" else out.pooler_output.flatten(1)
        assert_close(found["pooled"], wanted)
        return
    assert_close(found["pooled"], theirs.vision_model(pixel_values=seen).pooler_output)
    assert_close(found["joint"], unit(theirs.get_image_features(pixel_values=seen)))


@pytest.mark.parametrize("name", ["clip", "clip in bf16 shards", "siglip in shards"])
@torch.inference_mode()
def test_texts_are_read_by_the_tokenizer_in_the_folder(name: str, measured: Measured) -> None:
    folder = measured.root / name.replace(" ", "-")
    batch = AutoTokenizer.from_pretrained(folder)(
        TEXTS, padding="max_length", truncation=True, max_length=24, return_tensors="pt"
    )
    theirs = library(measured, name).get_text_features(batch["input_ids"], attention_mask=batch["attention_mask"])
    ours = cxrbench.load_model(str(folder.with_suffix(".toml")), device="cpu").encode_text(TEXTS)
    assert_close(ours.joint.numpy(), unit(theirs))


@torch.inference_mode()
def test_what_open_clip_and_timm_save_is_read_as_it_lies(measured: Measured) -> None:
    seen = pixels(measured)
    assert_close(measured.stored("timm")["pooled"], measured.others["timm"](seen))
    theirs: Any = measured.others["open-clip"]
    assert_close(measured.stored("open-clip")["joint"], theirs.encode_image(seen, normalize=True))
    ours = cxrbench.load_model(str(measured.root / "open-clip.toml"), device="cpu")
    assert_close(
        ours.encode_text(TEXTS).joint.numpy(), theirs.encode_text(ours.adapter.tokenizer(TEXTS), normalize=True)
    )
