"""Checkpoints with synthetic weights, in the layouts of the certificates that the package ships.

The authors' code was run on checkpoints made by the same rule, so its outputs (in the certificates, and what only tests
need in `fixtures`) can be compared with ours without any published weights.
"""

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cxrbench.models import made
from cxrbench.models.certificate import Certificate, made_tensors, read_certificate, read_layout
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard, read_card

FIXTURES = Path(__file__).resolve().parent / "fixtures"
TEXT_ENCODER = paths.folder("model_zoo") / "certificates" / "dlilp" / "text"  # four layers, 373 words
Entry = tuple[str, Sequence[int], str]


def fixture_json(name: str) -> Any:
    """The content of a gzipped JSON file of the fixtures."""
    return json.loads(gzip.decompress((FIXTURES / name).read_bytes()))


def certificate(name: str) -> Certificate:
    """The certificate of that name in the package."""
    return read_certificate(paths.folder("model_zoo") / "certificates" / name)


def published_layout(name: str, file: str = "layout") -> Any:
    """A certificate's layout: `tensors` and what else it tells."""
    return read_layout(certificate(name).place(getattr(certificate(name), file)))


def figures(name: str, file: str = "golden") -> dict[str, np.ndarray]:
    """What the authors' code made of a model, seed 0: its certificate's figures and pictures, the fixtures' rest."""
    told = certificate(name)
    with np.load(FIXTURES / name / f"{file}.npz") as stored:
        return told.golden() | {"images": told.images()} | {key: stored[key] for key in stored.files}


def with_prompts(name: str, rest: Any) -> dict[str, Any]:
    """The texts behind a model's figures: the certificate's prompts, and those that only tests need."""
    return {"prompts": list(certificate(name).prompts), **rest}


def official_layout(strategy: str) -> list[Entry]:
    """Names, shapes and dtypes of a published file (clip, unicl, unimodal, dlilp), with four text layers."""
    return [(name, shape, dtype) for name, shape, dtype in published_layout(strategy)["tensors"]]


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
    return {name: torch.from_numpy(made.fill(name, shape, dtype, seed)) for name, shape, dtype in layout}


def published_tensors(name: str, file: str = "layout") -> dict[str, Tensor]:
    """The tensors of a certificate's published file with synthetic weights; those kept under two names are one."""
    shared: dict[int, Tensor] = {}
    arrays = made_tensors(published_layout(name, file))
    return {key: shared.setdefault(id(array), torch.from_numpy(array)) for key, array in arrays.items()}


def zoo_card(name: str) -> ModelCard:
    """A card of the zoo, without the digest of the published file, which no made file has."""
    card = read_card(paths.folder("model_zoo") / f"{name}.toml")
    return card.model_copy(update={"weights": card.weights.model_copy(update={"sha256": None})})


def small_card(name: str) -> ModelCard:
    """The card of the zoo for a ResNet-18: pooled vectors are 512 wide."""
    card = zoo_card(name)
    return card.model_copy(update={"taps": {**card.taps, "pooled": 512}})
