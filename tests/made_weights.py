"""Checkpoints with made weights: every tensor's values follow from its name, its shape and a seed alone.

The authors' code was run on checkpoints made by the same rule, so its outputs (`fixtures/dlilp_*.npz`) can be compared
with ours without any published weights.
"""

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrbench import facts
from cxrbench.card import ModelCard, read_card

FIXTURES = Path(__file__).resolve().parent / "fixtures"
TEXT_ENCODER = FIXTURES / "dlilp_text"  # four layers, 373 words
Entry = tuple[str, Sequence[int], str]


def fixture_json(name: str) -> Any:
    """The content of a gzipped JSON file of the fixtures."""
    return json.loads(gzip.decompress((FIXTURES / name).read_bytes()))


def official_layout(strategy: str) -> list[Entry]:
    """Names, shapes and dtypes of a published file (clip, unicl, unimodal, dlilp), with four text layers."""
    return [(name, shape, dtype) for name, shape, dtype in fixture_json("dlilp_layouts.json.gz")[strategy]]


def small_layout(strategy: str) -> list[Entry]:
    """The official layout with a ResNet-18 as trunk: heads from 512, quick to make and to run."""
    import torchvision

    trunk = torchvision.models.resnet18().state_dict()
    own = [e for e in official_layout(strategy) if not e[0].startswith("vision_model.model.")]
    heads = [(n, [512, 512] if n.startswith("vision_model.") else shape, dtype) for n, shape, dtype in own]
    body: list[Entry] = [
        (f"vision_model.model.{n}", list(t.shape), str(t.dtype).removeprefix("torch."))
        for n, t in trunk.items()
        if not n.startswith("fc.")
    ]
    return [*heads, *body]


def make_checkpoint(layout: Iterable[Entry], seed: int = 0) -> dict[str, Tensor]:
    """The tensors of a layout, in its order."""
    return {name: torch.from_numpy(_values(name, tuple(shape), dtype, seed)) for name, shape, dtype in layout}


def _values(name: str, shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    if dtype == "int64":
        if name.endswith("position_ids"):
            return np.broadcast_to(np.arange(shape[-1], dtype=np.int64), shape).copy()
        return np.ones(shape, dtype=np.int64)
    noise = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())])).standard_normal(shape)
    match (name.endswith("running_var"), len(shape)):
        case True, _:
            made = 1.0 + 0.1 * np.abs(noise)
        case _, 0:
            made = 2.0 + 0.1 * noise
        case _, 1:
            made = 1.0 + 0.05 * noise if name.endswith("weight") else 0.02 * noise
        case _:
            made = noise * (0.05 if "embedding" in name else math.sqrt(1.0 / math.prod(shape[1:])))
    return np.asarray(made, dtype=np.float32)


def zoo_card(name: str) -> ModelCard:
    """A card of the zoo."""
    return read_card(facts.folder("model_zoo") / f"{name}.toml")


def small_card(name: str) -> ModelCard:
    """The card of the zoo for a ResNet-18: pooled vectors are 512 wide."""
    card = zoo_card(name)
    return card.model_copy(update={"taps": {**card.taps, "pooled": 512}})
