"""Image encoders without a text side, with synthetic weights: their files as published, and their authors' figures."""

import contextlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_weights import figures, make_checkpoint, published_layout, published_tensors, zoo_card
from torch import Tensor, nn

from cxrbench.models.base import load_adapter
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.specs.card import ModelCard

EVA_X, ARK, DINO = ("eva_x_ti", "eva_x_s", "eva_x_b"), ("ark_plus", "ark6_swin_b"), ("chexfound", "xray_dino")
XRV = ("xrv_densenet121", "xrv_resnet50_512")
NAMES = (*EVA_X, *ARK, *DINO, *XRV)
Golden = dict[str, np.ndarray]

# What the published file holds beside its tensors, with the foreign values that it is known or thought to have.
BESIDE: dict[str, dict[str, Any]] = {
    **{name: {"epoch": 9, "loss": np.float64(0.5), "optimizer": {"state": {}}} for name in EVA_X},
    "ark_plus": {"epoch": 50, "lossMIN": [np.float64(0.25)], "state_dict": {}, "optimizer": {}, "scheduler": {}},
}


def golden(name: str) -> Golden:
    """The certificate's figures and pictures, and what only tests need."""
    return figures(name)


def write(name: str, path: Path) -> None:
    """The model's file: in its container, or a whole network in a pickle."""
    tensors, told = published_tensors(name), published_layout(name)
    if "pickled_module" in told:
        with network_of_a_package(tensors) as net:
            torch.save(net, path)
        return
    if name == "chexfound":
        heads = [("dino_head.last_layer.weight_v", [8, 4], "float32"), ("ibot_head.mlp.0.bias", [4], "float32")]
        tensors |= make_checkpoint(heads)
    content: Any = tensors
    for key in reversed(told["container"]):
        content = {**BESIDE.get(name, {}), key: content}
    torch.save(content, path)


@contextlib.contextmanager
def network_of_a_package(tensors: dict[str, Tensor]) -> Iterator[nn.Module]:
    """torchvision's DenseNet-121 with one channel as a class of torchxrayvision, which is gone afterwards."""
    import torchvision

    class DenseNet(torchvision.models.DenseNet):
        pass

    modules = {name: types.ModuleType(name) for name in ("torchxrayvision", "torchxrayvision.models")}
    DenseNet.__module__, DenseNet.__qualname__ = "torchxrayvision.models", "DenseNet"
    modules["torchxrayvision.models"].DenseNet = DenseNet  # type: ignore[attr-defined]
    net = DenseNet(32, (6, 12, 24, 16), 64, num_classes=18)
    net.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    net.load_state_dict(tensors)
    sys.modules.update(modules)
    try:
        yield net
    finally:
        for name in modules:
            del sys.modules[name]


def card(name: str) -> ModelCard:
    """The zoo's card for a made file, which has not the digest of the published one."""
    found = zoo_card(name)
    return found.model_copy(update={"weights": found.weights.model_copy(update={"sha256": None})})


def load(name: str, folder: Path, own: ModelCard | None = None) -> CheckpointModel[Any]:
    path = folder / f"{name}.pt"
    if not path.exists():
        write(name, path)
    model = load_adapter(own or card(name), path, recipe="authors")
    assert isinstance(model, CheckpointModel)
    return model


# The last block that the fixture has, and how many the published file has.
LAST = {
    "eva_x_b": ("blocks.2.", "blocks.{}.", range(2, 12)),
    "ark_plus": ("module.layers.2.blocks.1.", "module.layers.2.blocks.{}.", range(1, 18)),
    "ark6_swin_b": ("layers.2.blocks.1.", "layers.2.blocks.{}.", range(1, 18)),
}
BLOCKS, CHUNK = 24, 6  # of a ViT-L, and how many of them a chunk has


def published(name: str) -> dict[str, Tensor]:
    """The tensors at the published depth, without values."""
    return {
        grown: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, shape, dtype in published_layout(name)["tensors"]
        for grown in _grown(name, key)
    }


def _grown(name: str, key: str) -> list[str]:
    if name in DINO:
        stem, found, rest = key.partition("blocks.")
        if not found:
            return [key]
        rest = rest.removeprefix("0.0.")  # the other blocks of the fixture stand in chunks of their own
        return [] if rest[0].isdigit() else [f"{stem}blocks.{b // CHUNK}.{b}.{rest}" for b in range(BLOCKS)]
    last, block, numbers = LAST.get(name, (None, "", range(0)))
    if last is None or not key.startswith(last):
        return [key]
    return [block.format(number) + key.removeprefix(last) for number in numbers]
