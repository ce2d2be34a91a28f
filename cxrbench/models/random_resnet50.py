"""Negative control: a ResNet-50 that was never trained. What a probe reads off it is owed to the architecture."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.features import ImageFeatures
from cxrbench.models.nets import resnet50
from cxrbench.models.scaled_cosine import VisionOnly
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Facts

_STEPS = 1 << 20  # of a normal deviate, in 1


class Options(Facts):
    """`seed` of the drawn weights."""

    seed: int


class RandomResNet50(VisionOnly[Options]):
    """`pooled`: the average pool (2048) of torchvision's ResNet-50 with drawn convolutions and neutral norms."""

    options_type = Options
    image_network = ""

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """See `Adapter.load`; the tensors follow from the options alone."""
        options = cls._options(card)
        drawn = {name: tensor(name, wanted, options.seed) for name, wanted in resnet50().state_dict().items()}
        return cls(card, options, replace(checkpoint, tensors=drawn), text_encoder, runtime)

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        return {"": resnet50()}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`."""
        with runtime.autocast():
            pooled = self.parts[""](pixels)
        return ImageFeatures(pooled.float())


def tensor(name: str, wanted: Tensor, seed: int) -> Tensor:
    """One tensor of the network, float32 (counts int64), the same on every machine.

    Convolutions: normal, of variance 2 / (outputs x kernel area) as torchvision begins (He et al. 2015), from NumPy's
    PCG64 seeded by `seed` and the CRC-32 of the name. Each filter of the first is taken minus its own mean, so that it
    answers to no plain brightness: else nearly all that tells two radiographs apart is how bright they are.
    Norms: scale 1, shift 0, running mean 0 and variance 1; in evaluation they pass values on as they are.
    """
    if wanted.ndim == 4:
        rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
        steps = np.rint(rng.standard_normal((len(wanted), wanted[0].numel())) * _STEPS).astype(np.int64)
        sums = steps.sum(axis=1, keepdims=True) if name == "conv1.weight" else 0  # of integers: without rounding
        spread = math.sqrt(2 / (wanted.shape[0] * wanted.shape[2] * wanted.shape[3]))
        drawn = (steps - sums / steps.shape[1]) * (spread / _STEPS)
        return torch.from_numpy(drawn.astype(np.float32)).reshape(wanted.shape)
    one = name.endswith(("weight", "running_var"))
    return torch.full(tuple(wanted.shape), int(one), dtype=wanted.dtype)
