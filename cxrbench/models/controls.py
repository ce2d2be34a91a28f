"""Negative controls: an untrained ResNet-50, a few dozen numbers of the pixels, and none at all."""

import math
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from cxrbench.models.base import NoOptions, Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.checkpoint_model import VisionOnly
from cxrbench.models.features import ImageFeatures
from cxrbench.models.nets import resnet50
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec

_STEPS = 1 << 20  # of a normal deviate, in 1


class Options(Spec):
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


_BINS, _CELLS = 16, 4  # of the histogram; a side of the coarse means
_FLAT = 1e-12  # variance below which a picture counts as of one value


class _WithoutNetwork(VisionOnly[NoOptions]):
    """What a file could hold nothing for."""

    options_type = NoOptions
    image_network = ""

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: NoOptions) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; there is nothing to fill."""
        return {"": nn.Identity()}


class ImageStatistics(_WithoutNetwork):
    """`pooled` (36): mean, standard deviation, skewness, kurtosis; 16 parts of a histogram over 0..1; 4 x 4 means.

    Pixels are read as the mean of their channels on the scale 0..1; values outside count to the outermost part.
    """

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; always in float64, whatever the precision of networks."""
        grey = pixels.double().mean(dim=1)
        values = grey.flatten(1)
        coarse = adaptive_avg_pool2d(grey[:, None], _CELLS).flatten(1)
        return ImageFeatures(torch.cat([_moments(values), _histogram(values), coarse], dim=1).float())


class ClassPrior(_WithoutNetwork):
    """`pooled` (1): the number 1, whatever the image. A probe can learn nothing but how frequent the classes are."""

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`."""
        return ImageFeatures(torch.ones(len(pixels), 1, device=pixels.device))


def _moments(values: Tensor) -> Tensor:
    """Mean, standard deviation, skewness and kurtosis (N, 4) of (N, P); the last two are 0 for a flat picture."""
    mean = values.mean(dim=1, keepdim=True)
    centred = values - mean
    variance = centred.square().mean(dim=1, keepdim=True)
    unit = centred / variance.sqrt().clamp_min(_FLAT)
    flat = variance < _FLAT
    higher = [unit.pow(power).mean(dim=1, keepdim=True).masked_fill(flat, 0.0) for power in (3, 4)]
    return torch.cat([mean, variance.sqrt(), *higher], dim=1)


def _histogram(values: Tensor) -> Tensor:
    """Share (N, 16) of the values in each of 16 equal parts of 0..1."""
    part = (values * _BINS).floor().clamp(0, _BINS - 1).long()
    counts = torch.zeros(len(values), _BINS, dtype=values.dtype, device=values.device)
    return counts.scatter_add_(1, part, torch.ones_like(values)) / values.shape[1]
