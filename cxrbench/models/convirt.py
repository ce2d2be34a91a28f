"""ConVIRT as BenchX trained it again: ResNet-50, a RoBERTa with its pooler, and a projection of two layers on each.

The paper's authors published no weights; this is not their model (their text encoder was a BERT, max-pooled).
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import resnet50, under
from cxrbench.models.roberta import RobertaWords, roberta
from cxrbench.models.text import text_files
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Facts

TRUNK, TEXT, IMAGE_HEAD, TEXT_HEAD = "visual.model.", "linguistic.encoder.", "vis_proj.", "lin_proj."


class Options(Facts):
    """`text_width`: width of the text encoder's states."""

    text_width: int


class ConVIRT(CheckpointModel[Options]):
    """`pooled`: the average pool (2048); `joint`: its projection (768) at unit length."""

    options_type = Options
    image_network = TRUNK

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        joint = card.taps["joint"]
        with torch.device("meta"):
            heads = {
                prefix: nn.Sequential(nn.Linear(width, joint), nn.ReLU(), nn.Linear(joint, joint))
                for prefix, width in ((IMAGE_HEAD, card.taps["pooled"]), (TEXT_HEAD, options.text_width))
            }
        return {TRUNK: resnet50(), TEXT: roberta(under(tensors, TEXT), options.text_width), **heads}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`."""
        with runtime.autocast():
            pooled = self.parts[TRUNK](pixels)
        pooled = pooled.float()
        return ImageFeatures(pooled, normalize(self.parts[IMAGE_HEAD](pooled)))

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; outer spaces are tokens. DataError if the tokenizer is not at hand."""
        batch = {name: values.to(self.runtime.device) for name, values in self.words.tokens(texts).items()}
        with self.runtime.autocast():
            pooled = self.parts[TEXT](**batch).pooler_output
        projected = self.parts[TEXT_HEAD](pooled.float())
        return TextFeatures(normalize(projected), projected)

    @cached_property
    def words(self) -> RobertaWords:
        """The tokenizer; raises DataError that says what to fetch when it is not at hand."""
        encoder = self.card.text_encoder
        if encoder is None:
            raise SpecError(f"{self.card.name}: the card names no text encoder")
        embeddings = self.parts[TEXT].get_submodule("embeddings.word_embeddings")
        assert isinstance(embeddings, nn.Embedding)
        return RobertaWords(text_files(encoder, self.text_encoder), embeddings.num_embeddings, encoder.max_tokens)
