"""Image networks without a text side: linear probes see them, and their vectors are as wide as the card says."""

from collections.abc import Mapping

import torch
from torch import Tensor

from cxrbench.errors import SpecError
from cxrbench.models.base import OptionsT
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.features import ImageFeatures


def require_widths(images: ImageFeatures, name: str, taps: Mapping[str, int]) -> None:
    """Raise SpecError unless every tap has the width that the card states."""
    found = {tap: tuple(vectors.shape[1:]) for tap, vectors in images.taps.items()}
    if found != {tap: (width,) for tap, width in taps.items()}:
        told = ", ".join(f"{tap} = {'x'.join(map(str, shape))}" for tap, shape in found.items())
        raise SpecError(f"{name}: the card's taps do not fit the network, which gives {told}")


class VisionOnly(CheckpointModel[OptionsT]):
    """`pooled` alone; its width is held against the card's."""

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """See `Adapter.encode_image`; raises SpecError where a vector is not as wide as the card says."""
        found = super().encode_image(pixels)
        require_widths(found, self.card.name, self.card.taps)
        return found
