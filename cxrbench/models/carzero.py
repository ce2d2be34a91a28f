"""CARZero (Lai et al., CVPR 2024): a ViT-B/16 and a BERT, compared by cross-attention in both directions.

One network of cross-attention layers is used twice with the same weights: the text as a whole looks at the image's
tokens, and the image as a whole at the words of the text. Neither texts nor images see each other.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from cxrbench.errors import SpecError
from cxrbench.models.base import NoOptions, Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.container import layer_count
from cxrbench.models.coverage import require_same
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.gloria import GloriaWords, Words, words_of
from cxrbench.models.nets import under
from cxrbench.models.text import bert
from cxrbench.models.unfilled import without_values
from cxrbench.specs.card import ModelCard

IMAGE, BERT, FUSION = "CARZero.img_encoder.model.", "CARZero.text_encoder.model.", "CARZero.fusion_module."
NORM, NORM_AGAIN = f"{FUSION}decoder_norm.", f"{FUSION}decoder.norm."
_SIZE, _HEADS = 224, 4
_TEXTS_AT_ONCE = 32
_HEAD_WIDTHS = (1024, 512, 256, 1)


class _CrossLayer(nn.Module):
    """A pre-norm decoder layer without self-attention: the queries look at the memory, each for itself."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(width, _HEADS, batch_first=True)
        self.linear1, self.linear2 = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        queries = queries + self.multihead_attn(self.norm2(queries), memory, memory, need_weights=False)[0]
        out: Tensor = queries + self.linear2(relu(self.linear1(self.norm3(queries))))
        return out


class Fusion(nn.Module):
    """Queries (B, Q, w) and memories (B, M, w) to one number each (B, Q)."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.decoder_norm = nn.LayerNorm(width)
        self.decoder = nn.Module()
        self.decoder.layers = nn.ModuleList(_CrossLayer(width, _HEAD_WIDTHS[0]) for _ in range(depth))
        self.decoder.norm = self.decoder_norm  # the file has it under both names
        self.mlp_head = _head(width)

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """See the class."""
        queries, memory = self.decoder_norm(queries), self.decoder_norm(memory)
        for layer in self.decoder.layers:  # type: ignore[union-attr]
            queries = layer(queries, memory)
        found: Tensor = self.mlp_head(self.decoder_norm(queries)).squeeze(2)
        return found


def _head(width: int) -> nn.Sequential:
    """Linear layers with a ReLU between; the file counts another layer, of training alone, after each ReLU."""
    layers: list[nn.Module] = []
    for wide in _HEAD_WIDTHS:
        layers += [nn.Linear(width, wide), nn.ReLU(), nn.Identity()]
        width = wide
    return nn.Sequential(*layers[:-2])


class CARZero(CheckpointModel[NoOptions]):
    """`pooled` is the class token after the last norm (768), neither projected nor of unit length.

    `tokens` of an image are that token and its 196 patches; of a text, the words at its 97 places, zero where there is
    no word, and `joint` is their mean over all places.
    """

    options_type = NoOptions
    image_network = IMAGE
    texts_apart: ClassVar[bool] = True

    def __init__(
        self, card: ModelCard, options: NoOptions, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        super().__init__(card, options, checkpoint, text_encoder, runtime)
        twice = {f"{NORM_AGAIN}{part}": f"{NORM}{part}" for part in ("weight", "bias")}
        require_same(checkpoint.path, checkpoint.tensors, twice)

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: NoOptions) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`."""
        import timm

        width = card.taps["pooled"]
        depth = layer_count(tensors, f"{IMAGE}blocks.")
        with without_values():
            trunk = timm.create_model(
                "vit_base_patch16_224", pretrained=False, num_classes=0, embed_dim=width, depth=depth
            )
        with torch.device("meta"):
            fusion = Fusion(width, layer_count(tensors, f"{FUSION}decoder.layers."))
        return {IMAGE: trunk, BERT: bert(under(tensors, BERT), None), FUSION: fusion}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for another size than the network's."""
        require_size(pixels, _SIZE, self.card.name)
        trunk = self.parts[IMAGE]
        with runtime.autocast():
            tokens: Tensor = trunk.forward_features(pixels)  # type: ignore[operator]
        tokens = tokens.float()
        return ImageFeatures(tokens[:, 0], tokens=tokens)

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; a text whose sentences have one word each is read as the empty one."""
        parts = [self._read(texts[first : first + _TEXTS_AT_ONCE]) for first in range(0, len(texts), _TEXTS_AT_ONCE)]
        words = torch.cat([part.vectors for part in parts])
        return TextFeatures(words.mean(dim=1), tokens=words)

    def _read(self, texts: Sequence[str]) -> Words:
        with self.runtime.autocast():
            return self._words.words(texts)

    @cached_property
    def _words(self) -> GloriaWords:
        return words_of(self, BERT)

    @torch.inference_mode()
    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Mean (N, P) of the logits of both directions; neither a sigmoid nor a temperature takes part."""
        return sum(self.both_logits(images, texts)) / 2  # type: ignore[return-value]

    @torch.inference_mode()
    def both_logits(self, images: ImageFeatures, texts: TextFeatures) -> tuple[Tensor, Tensor]:
        """Logits (N, P) of texts that look at an image, and of images that look at a text's words.

        The places of a text without a word take part as the norm's bias. Raises SpecError for features without tokens.
        """
        if images.tokens is None or texts.tokens is None:
            raise SpecError(f"{self.card.name} compares image tokens with words, and these features have none")
        count = len(images.pooled)
        words = torch.cat([texts.joint[:, None], texts.tokens], dim=1)
        fusion, runtime = self.parts[FUSION], self.runtime
        with runtime.autocast():
            looking = fusion(texts.joint.expand(count, -1, -1), images.tokens)
            seen = [fusion(images.pooled[None], text[None]) for text in words]
        return looking.float(), torch.cat(seen).T.float()
