"""MGCA (Wang et al., NeurIPS 2022) with a ResNet-50 or a ViT-B/16 on the image side, and an orderless BERT.

Beside the global vectors both sides have local ones, of image regions and of words, in a space of their own; they were
aligned in training and enter no published score.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import resnet50, under
from cxrbench.models.orderless_bert import OrderlessWords, WordPieces, orderless_bert
from cxrbench.models.text import text_files
from cxrbench.models.vit import ViT
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Facts

IMAGE, TEXT = "img_encoder_q.", "text_encoder_q."
TRUNK, BERT, GLOBAL, LOCAL = "model.", "model.", "global_embed.", "local_embed."
_VIT_SIZE, _VIT_PATCH = 224, 16
_LOCAL_WIDTH = {"resnet50": 1024, "vit-b16": 768}  # channels of layer3; width of a token


class Options(Facts):
    """`hidden`: width inside the projections; `enlarged`: side of the square that the authors enlarge the input to."""

    trunk: Literal["resnet50", "vit-b16"]
    hidden: int
    enlarged: int | None = None


class Projection(nn.Module):
    """(N, width) to (N, d), or (N, width, T) to (N, d, T) where `local`; its last norm only shifts and scales."""

    def __init__(self, width: int, hidden: int, joint: int, *, local: bool) -> None:
        super().__init__()
        first, last = (
            (nn.Conv1d(width, hidden, 1), nn.Conv1d(hidden, joint, 1))
            if local
            else (nn.Linear(width, hidden), nn.Linear(hidden, joint))
        )
        norms = nn.BatchNorm1d(hidden), nn.BatchNorm1d(joint, affine=False)
        self.head = nn.Sequential(first, norms[0], nn.ReLU(), last, norms[1])

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        out: Tensor = self.head(x)
        return out


class MGCA(CheckpointModel[Options]):
    """`pooled`: the average pool (2048), or the class token after the last norm (768); `joint`: unit vectors (128)."""

    options_type = Options
    image_network = IMAGE + TRUNK

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        pooled, joint = card.taps["pooled"], card.taps["joint"]
        text = orderless_bert(under(tensors, TEXT + BERT))
        read = cast(nn.Embedding, text.get_submodule("embeddings.word_embeddings")).embedding_dim
        widths = {
            IMAGE + GLOBAL: pooled,
            IMAGE + LOCAL: _LOCAL_WIDTH[options.trunk],
            TEXT + GLOBAL: read,
            TEXT + LOCAL: read,
        }
        with torch.device("meta"):
            heads = {
                prefix: Projection(width, options.hidden, joint, local=prefix.endswith(LOCAL))
                for prefix, width in widths.items()
            }
            trunk = _trunk(under(tensors, IMAGE + TRUNK), options, pooled)
        return {IMAGE + TRUNK: trunk, TEXT + BERT: text, **heads}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for pixels of a size that a transformer cannot take."""
        with runtime.autocast():
            out = self.parts[IMAGE + TRUNK](self._as_the_authors(pixels))
        pooled = (out if self.options.trunk == "resnet50" else out[:, 0]).float()
        return ImageFeatures(pooled, normalize(self.parts[IMAGE + GLOBAL](pooled)))

    @torch.inference_mode()
    def encode_regions(self, pixels: Tensor) -> Tensor:
        """Unit vectors (N, T, 128) of image regions, row by row: cells of layer3's map, or patches."""
        with self.runtime.autocast():
            regions = self._regions(self._as_the_authors(self.on_device(pixels)))
        return normalize(self.parts[IMAGE + LOCAL](regions.float()), dim=1).transpose(1, 2)

    def _as_the_authors(self, pixels: Tensor) -> Tensor:
        """The pixels as they enter the trunk: enlarged for the authors' recipe alone."""
        if self.options.trunk == "vit-b16":
            require_size(pixels, _VIT_SIZE, self.card.name)
        if self.options.enlarged is None or self.runtime.recipe != "authors":
            return pixels
        size = (self.options.enlarged, self.options.enlarged)
        return interpolate(pixels, size, mode="bilinear", align_corners=True)

    def _regions(self, pixels: Tensor) -> Tensor:
        """What the local projection sees (N, width, T)."""
        trunk = self.parts[IMAGE + TRUNK]
        if self.options.trunk == "vit-b16":
            tokens: Tensor = trunk(pixels)
            return tokens[:, 1:].transpose(1, 2)
        for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3"):
            pixels = trunk.get_submodule(name)(pixels)
        return pixels.flatten(2)

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; DataError if the tokenizer is not at hand."""
        projected = self.parts[TEXT + GLOBAL](self._read(texts).states[:, 0])
        return TextFeatures(normalize(projected), projected)

    @torch.inference_mode()
    def encode_words(self, texts: Sequence[str]) -> Tensor:
        """Unit vectors (P, limit - 1, 128) of the words of P texts, `[SEP]` after them; the rest is that of no word."""
        words = self._read(texts).words(self._limit - 1)
        return normalize(self.parts[TEXT + LOCAL](words.transpose(1, 2)), dim=1).transpose(1, 2)

    def _read(self, texts: Sequence[str]) -> WordPieces:
        with self.runtime.autocast():
            return self.words.read(texts, self.parts[TEXT + BERT], self.runtime.device)

    @cached_property
    def words(self) -> OrderlessWords:
        """The tokenizer; raises DataError that says what to fetch when it is not at hand."""
        encoder = self.card.text_encoder
        if encoder is None:
            raise SpecError(f"{self.card.name}: the card names no text encoder")
        embeddings = cast(nn.Embedding, self.parts[TEXT + BERT].get_submodule("embeddings.word_embeddings"))
        files = text_files(encoder, self.text_encoder)
        return OrderlessWords(files, embeddings.num_embeddings, encoder.max_tokens)

    @property
    def _limit(self) -> int:
        assert self.card.text_encoder is not None  # `words` has been asked for
        return self.card.text_encoder.max_tokens


def _trunk(tensors: Mapping[str, Tensor], options: Options, width: int) -> nn.Module:
    """The image network under torchvision's or timm's names; what it returns is pooled or, for a ViT, all tokens."""
    if options.trunk == "resnet50":
        return resnet50()
    blocks = {name.split(".")[1] for name in tensors if name.startswith("blocks.")}
    return ViT(width, len(blocks), _VIT_PATCH, _VIT_SIZE)
