"""Heron: a picture in a few cells, a text as a bag of words, one linear layer each."""

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec

IMAGE, WORDS = "image.", "words."  # what the names of the tensors in the file begin with


class Options(Spec):
    """`cells` a side of the picture, `words` that texts are told apart by."""

    cells: int
    words: int


class Heron(CheckpointModel[Options]):
    """`pooled`: means of the cells; `joint`: their projection at unit length."""

    options_type = Options
    image_network = IMAGE

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """Every network by the prefix of its tensors, without values: they come from the file, all of them."""
        joint = card.taps["joint"]
        with torch.device("meta"):
            return {IMAGE: nn.Linear(options.cells**2, joint), WORDS: nn.EmbeddingBag(options.words, joint)}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """Pixels (N, 3, H, W) as the card's recipe makes them, on the model's device."""
        pooled = adaptive_avg_pool2d(pixels.mean(dim=1, keepdim=True), self.options.cells).flatten(1)
        with runtime.autocast():
            joint = self.parts[IMAGE](pooled)
        return ImageFeatures(pooled, normalize(joint.float()))

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """Texts to unit vectors; none depends on the others."""
        ids = [[zlib.crc32(word.encode()) % self.options.words for word in text.lower().split()] for text in texts]
        bags = [torch.tensor([words], device=self.runtime.device) for words in ids]
        projected = torch.cat([self.parts[WORDS](bag) for bag in bags])
        return TextFeatures(normalize(projected), projected)
