"""MGCA (Wang et al., NeurIPS 2022) with a ResNet-50 or a ViT-B/16 on the image side, and an orderless BERT.

Beside the global vectors both sides have local ones, of image regions and of words, in a space of their own; they were
aligned in training and enter no published score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize, scaled_dot_product_attention

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import resnet50, under
from cxrbench.models.text import TextFiles, bert, text_files
from cxrbench.models.text_loading import load_tokenizer
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec


class _NoTypes(nn.Module):
    """Adds nothing where other BERTs add the embedding of the token's type."""

    def forward(self, ids: Tensor) -> Tensor:
        return torch.zeros((), device=ids.device)


def orderless_bert(tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network without pooler, sized by `tensors` (names of BertModel), on the meta device.

    The configuration at the hub is left alone: it says twelve layers, and the published checkpoints hold six.
    """
    model = bert(tensors, None, pooler=False)
    model.get_submodule("embeddings").token_type_embeddings = _NoTypes()
    return model


@dataclass(frozen=True, slots=True)
class WordPieces:
    """What the network makes of P texts: `states` (P, L, hidden) float32; `pieces` of each text, without padding."""

    states: Tensor
    pieces: tuple[tuple[str, ...], ...]

    def words(self, length: int) -> Tensor:
        """Sums of the states of each word's pieces (P, length, hidden), zero after the last.

        `[SEP]` counts as a word and is the last; `[CLS]` is left out.
        """
        texts, _, hidden = self.states.shape
        sums = self.states.new_zeros(texts, length + 1, hidden)
        for row, states, pieces in zip(sums, self.states, self.pieces, strict=True):
            starts = torch.tensor([not piece.startswith("##") for piece in pieces], device=states.device)
            row.index_add_(0, starts.cumsum(0) - 1, states[: len(pieces)])
        return sums[:, 1:]


class OrderlessWords:
    """The WordPiece tokenizer of a folder with `vocab.txt`, lower-casing whatever the folder says."""

    def __init__(self, files: TextFiles, vocabulary: int, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._tokenizer: Any = load_tokenizer("BertTokenizer", files.folder, do_lower_case=True)
        if len(self._tokenizer) != vocabulary:
            raise IntegrityError(
                f"{files.folder / 'vocab.txt'}: {len(self._tokenizer)} tokens, and the checkpoint has word embeddings "
                f"for {vocabulary}. Give the folder of the text encoder that the checkpoint was trained with."
            )

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """`input_ids` and `attention_mask` (P, L), padded to the longest, cut to the limit with `[SEP]` kept."""
        batch = self._tokenizer(
            list(texts), padding="longest", truncation=True, max_length=self._max_tokens, return_tensors="pt"
        )
        return {name: batch[name] for name in ("input_ids", "attention_mask")}

    def read(self, texts: Sequence[str], network: nn.Module, device: torch.device) -> WordPieces:
        """The last hidden states of the texts; a text's do not depend on its batch mates."""
        batch = {name: values.to(device) for name, values in self.tokens(texts).items()}
        nowhere = torch.zeros_like(batch["input_ids"])
        states = network(**batch, position_ids=nowhere).last_hidden_state.float()
        lengths = batch["attention_mask"].sum(dim=1).tolist()
        pieces = [
            tuple(self._tokenizer.convert_ids_to_tokens(ids[:length].tolist()))
            for ids, length in zip(batch["input_ids"], lengths, strict=True)
        ]
        return WordPieces(states, tuple(pieces))


_HEAD = 64  # width of an attention head in ViT-S, B and L
_EPS = 1e-6


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        heads = self.qkv(x).view(rows, length, 3, width // _HEAD, _HEAD).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(heads[0], heads[1], heads[2])
        out: Tensor = self.proj(seen.transpose(1, 2).reshape(rows, length, width))
        return out


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, _EPS), nn.LayerNorm(width, _EPS)
        self.attn = _Attention(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(width, 4 * width))
        self.mlp.add_module("act", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """Pixels (N, 3, S, S) to all tokens after the last norm (N, 1 + patches, width), the class token first."""

    def __init__(self, width: int, depth: int, patch: int, size: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, (size // patch) ** 2 + 1, width))
        self.patch_embed = nn.Sequential()
        self.patch_embed.add_module("proj", nn.Conv2d(3, width, patch, patch))
        self.blocks = nn.Sequential(*(_Block(width) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, _EPS)

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        patches = self.patch_embed(pixels).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.to(patches.dtype).expand(len(patches), -1, -1), patches], dim=1)
        out: Tensor = self.norm(self.blocks(tokens + self.pos_embed.to(patches.dtype)))
        return out


IMAGE, TEXT = "img_encoder_q.", "text_encoder_q."
TRUNK, BERT, GLOBAL, LOCAL = "model.", "model.", "global_embed.", "local_embed."
_VIT_SIZE, _VIT_PATCH = 224, 16
_LOCAL_WIDTH = {"resnet50": 1024, "vit-b16": 768}  # channels of layer3; width of a token


class Options(Spec):
    """`hidden`: width inside the projections; `enlarged`: side of the square that the authors enlarge the input to."""

    trunk: Literal["resnet50", "vit-b16"]
    hidden: int
    enlarged: int | None = None


class MGCAProjection(nn.Module):
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
                prefix: MGCAProjection(width, options.hidden, joint, local=prefix.endswith(LOCAL))
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
