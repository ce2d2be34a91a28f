"""BioViL and BioViL-T (Microsoft): ResNet-50 with a projector on its map, and CXR-BERT in a file of its own.

`pooled` is the mean of the trunk's last map, `joint` that of the projected map, at unit length. Similarity is the
cosine, without temperature. The text encoder's weights lie beside its tokenizer and are read when texts are first
asked for.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.biovil_net import BioViLNet, BioViLTNet, Maps
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.cxr_bert import CXRBert
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.layers import layer_count
from cxrbench.models.nets import resnet50
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Facts

_CHANNELS = 256  # of the static and of the difference map
_PAIR = 448  # pixels a side of a pair of images: the grid of 14 x 14 that the authors' code asserts
_BLOCKS = "encoder.vit_pooler.blocks."


class NoOptions(Facts):
    """A card of this adapter has no options."""


class BioViL(CheckpointModel[NoOptions]):
    """The published image model with the text model made for it (CXR-BERT-specialized)."""

    options_type = NoOptions
    image_network = ""  # one network, which holds all of the file

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: NoOptions) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        with torch.device("meta"):
            return {cls.image_network: BioViLNet(resnet50(), card.taps["joint"])}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; pixels may have any size."""
        return _features(self._maps(runtime, pixels))

    @torch.inference_mode()
    def maps(self, pixels: Tensor) -> Maps:
        """Pixels as for `encode_image`, to the maps whose means are the vectors: for grounding phrases in images."""
        return self._maps(self.runtime, self.on_device(pixels))

    def _maps(self, runtime: Runtime, *pixels: Tensor) -> Maps:
        with runtime.autocast():
            maps: Maps = self.parts[self.image_network](*pixels)
        return Maps(maps.trunk.float(), maps.fused.float(), maps.projected.float())

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; raises SpecError for a prompt that the authors' code refuses."""
        return self.text.features(texts)

    @cached_property
    def text(self) -> CXRBert:
        """The text encoder; reading it raises what `CXRBert` raises."""
        return CXRBert(self.card, self.text_encoder, self.runtime)


class BioViLT(BioViL):
    """The temporal model with the text model made for it; an image by itself, or with an earlier one of the patient."""

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: NoOptions) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; the pooler of pairs is as deep as the file has it."""
        depth = layer_count(tensors, _BLOCKS)
        with torch.device("meta"):
            return {cls.image_network: BioViLTNet(resnet50(), card.taps["joint"], _CHANNELS, depth)}

    @torch.inference_mode()
    def encode_image_with_prior(self, pixels: Tensor, prior: Tensor) -> ImageFeatures:
        """Pixels of N images and of an earlier image of each, all 448 x 448, otherwise as for `encode_image`.

        `pooled` is of the current images alone. Raises SpecError for pixels of another size or number.
        """
        for given in (pixels, prior):
            require_size(given, _PAIR, self.card.name)
        if len(pixels) != len(prior):
            raise SpecError(f"{self.card.name}: {len(pixels)} images and {len(prior)} priors; give one to each")
        return _features(self._maps(self.runtime, self.on_device(pixels), self.on_device(prior)))


def _features(maps: Maps) -> ImageFeatures:
    return ImageFeatures(maps.trunk.mean(dim=(2, 3)), normalize(maps.projected.mean(dim=(2, 3))))
