"""Image networks without a text side: linear probes see them, and nothing else does."""

from collections.abc import Sequence

import torch
from torch import Tensor

from cxrbench.errors import SpecError
from cxrbench.models.base import OptionsT
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.scaled_cosine import require_widths


class VisionOnly(CheckpointModel[OptionsT]):
    """`pooled` alone; its width is held against the card's."""

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """See `Adapter.encode_image`; raises SpecError where a vector is not as wide as the card says."""
        found = super().encode_image(pixels)
        require_widths(found, self.card.name, self.card.taps)
        return found

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """Raises SpecError: there is no text side."""
        raise SpecError(f"{self.card.name} has no text side; only linear probes see it")
