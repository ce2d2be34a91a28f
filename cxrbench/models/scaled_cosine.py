"""Two-tower models whose published score is a cosine times a temperature, plus a bias where they have one."""

from abc import abstractmethod

import torch
from torch import Tensor

from cxrbench.models.base import OptionsT
from cxrbench.models.checkpoint_model import CheckpointModel, require_widths
from cxrbench.models.features import ImageFeatures, TextFeatures


class ScaledCosine(CheckpointModel[OptionsT]):
    """`CheckpointModel` with the logits of the model's own library; widths are held against the card's."""

    @property
    @abstractmethod
    def scale_and_bias(self) -> tuple[float, float]:
        """Factor and summand from cosine to logit, as stored."""

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """See `Adapter.encode_image`; raises SpecError where a vector is not as wide as the card says."""
        found = super().encode_image(pixels)
        require_widths(found, self.card.name, self.card.taps)
        return found

    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Logits (N, P)."""
        scale, bias = self.scale_and_bias
        return super().score(images, texts) * scale + bias

    def logit_scale(self, view: str) -> float:
        """The stored factor; raises SpecError for a view that the card does not have."""
        return super().logit_scale(view) * self.scale_and_bias[0]
