"""Negative controls without any network: a few dozen numbers of the pixels, or none."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from cxrbench.models.base import Runtime
from cxrbench.models.features import ImageFeatures
from cxrbench.models.scaled_cosine import VisionOnly
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Facts

_BINS, _CELLS = 16, 4  # of the histogram; a side of the coarse means
_FLAT = 1e-12  # variance below which a picture counts as of one value


class Options(Facts):
    """There are none."""


class ImageStatistics(VisionOnly[Options]):
    """`pooled` (36): mean, standard deviation, skewness, kurtosis; 16 parts of a histogram over 0..1; 4 x 4 means.

    Pixels are read as the mean of their channels on the scale 0..1; values outside count to the outermost part.
    """

    options_type = Options
    image_network = ""

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; there is nothing to fill."""
        return {"": nn.Identity()}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; always in float64, whatever the precision of networks."""
        grey = pixels.double().mean(dim=1)
        values = grey.flatten(1)
        coarse = adaptive_avg_pool2d(grey[:, None], _CELLS).flatten(1)
        return ImageFeatures(torch.cat([_moments(values), _histogram(values), coarse], dim=1).float())


class ClassPrior(VisionOnly[Options]):
    """`pooled` (1): the number 1, whatever the image. A probe can learn nothing but how frequent the classes are."""

    options_type = Options
    image_network = ""

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; there is nothing to fill."""
        return {"": nn.Identity()}

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
