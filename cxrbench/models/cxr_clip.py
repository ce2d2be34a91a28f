"""CXR-CLIP (You et al., MICCAI 2023): an image trunk and Bio_ClinicalBERT, each with a linear head with bias.

A text's vector is the last hidden state at its last token. The published evaluation compares cosines, without the
temperature of training.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import NoOptions, Runtime
from cxrbench.models.bert_words import BertWords, States
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import resnet50, under
from cxrbench.models.swin import Swin
from cxrbench.models.text import bert, text_files
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard, read_card

BERT, IMAGE_HEAD, TEXT_HEAD = (
    "text_encoder.text_encoder.",
    "image_projection.projection.",
    "text_projection.projection.",
)


class CXRCLIP(CheckpointModel[NoOptions]):
    """The published files with a ResNet-50; `pooled` is its average pool (2048).

    The editions (M, M+C, M+C+C14) have one layout, so only names and digests tell them apart.
    """

    options_type = NoOptions
    image_network = "image_encoder.resnet."

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """See `Adapter.load`; raises IntegrityError also for a file with the trunk or name of another published one."""
        _require_edition(cls, card, checkpoint)
        return super().load(card, checkpoint, text_encoder, runtime)

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: NoOptions) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        text = bert(under(tensors, BERT), None)
        hidden = text.get_submodule("embeddings.LayerNorm").weight.shape[0]  # type: ignore[index]
        with torch.device("meta"):
            heads: dict[str, nn.Module] = {
                IMAGE_HEAD: nn.Linear(card.taps["pooled"], card.taps["joint"]),
                TEXT_HEAD: nn.Linear(int(hidden), card.taps["joint"]),
            }
        return {cls.image_network: cls.trunk(under(tensors, cls.image_network)), BERT: text, **heads}

    @classmethod
    def trunk(cls, tensors: Mapping[str, Tensor]) -> nn.Module:
        """Pixels (N, 3, H, W) to what the image head gets, on the meta device, under the published names."""
        return resnet50()

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`."""
        with runtime.autocast():
            pooled = self.parts[self.image_network](pixels)
        pooled = pooled.float()
        return ImageFeatures(pooled, normalize(self.parts[IMAGE_HEAD](pooled)))

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; texts are cut at the card's limit, their last token kept."""
        projected = self.parts[TEXT_HEAD](self.states(texts).last_token)
        return TextFeatures(normalize(projected), projected)

    @torch.inference_mode()
    def states(self, texts: Sequence[str]) -> States:
        """The text encoder's hidden states, before pooling and head; DataError if the tokenizer is not at hand."""
        words, limit = self._words
        with self.runtime.autocast():
            return words.states(texts, limit)

    @cached_property
    def _words(self) -> tuple[BertWords, int]:
        encoder = self.card.text_encoder
        if encoder is None:
            raise SpecError(f"{self.card.name}: the card names no text encoder")
        files = text_files(encoder, self.text_encoder)
        return BertWords(self.parts[BERT].state_dict(), files, self.runtime.device), encoder.max_tokens


class CXRCLIPSwin(CXRCLIP):
    """The published files with a Swin-tiny; `pooled` is token 0 (768), the top-left place of its 7 x 7 grid.

    The authors' code takes index 0 as for a class token, which Swin does not have.
    """

    image_network = "image_encoder.image_encoder."

    @classmethod
    def trunk(cls, tensors: Mapping[str, Tensor]) -> nn.Module:
        """See `CXRCLIP.trunk`; raises IntegrityError if the tensors are those of no Swin."""
        return FirstToken(tensors, Path("the image network of CXR-CLIP"))


class FirstToken(Swin):
    """A Swin to its token 0 (N, width)."""

    def forward(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, 224, 224) to vectors."""
        return super().forward(pixels)[:, 0]


def _require_edition(kind: type[CXRCLIP], card: ModelCard, checkpoint: Checkpoint) -> None:
    """Raise IntegrityError if the file's trunk or its name are those of other cards of this module.

    Names are all there is to compare for editions: their layouts are equal, and no digests are published.
    """
    family = {f"{k.__module__}:{k.__name__}": k for k in (CXRCLIP, CXRCLIPSwin)}
    published = map(read_card, sorted(paths.folder("model_zoo").glob("cxr_clip*.toml")))
    zoo = [other for other in published if other.adapter in family]
    named = [c for c in zoo if checkpoint.name in c.weights.files]
    looks = [] if checkpoint.name in card.weights.files else named
    if not under(checkpoint.tensors, kind.image_network):
        alike = [c for c in zoo if under(checkpoint.tensors, family[c.adapter].image_network)]
        looks = [c for c in alike if c in named] or alike
    if looks:
        raise IntegrityError(
            f"{checkpoint.path}: this looks like {' / '.join(c.title for c in looks)}; the card {card.name} wants "
            f"{card.title}, published as {card.weights.files[0]}. Take the card {' / '.join(c.name for c in looks)}, "
            "or the other file."
        )
