"""BioViL and BioViL-T (Microsoft): ResNet-50 with a projector on its map, and CXR-BERT in a file of its own.

`pooled` is the mean of the trunk's last map, `joint` that of the projected map, at unit length. Similarity is the
cosine, without temperature. The text encoder's weights lie beside its tokenizer and are read when texts are first
asked for.
"""

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, scaled_dot_product_attention

from cxrbench.errors import SpecError
from cxrbench.models.base import NoOptions, Runtime
from cxrbench.models.bert_words import BertWords
from cxrbench.models.checkpoint_model import CheckpointModel, require_size
from cxrbench.models.container import layer_count
from cxrbench.models.coverage import coverage, require_complete
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import frozen, resnet50, under, width
from cxrbench.models.text import bert, text_checkpoint
from cxrbench.specs.card import ModelCard

_HEADS, _EPS = 8, 1e-6


@dataclass(frozen=True, slots=True)
class Maps:
    """Maps of N images on one grid: `trunk` (N, 2048, h, w), `fused` (N, f, h, w), `projected` (N, d, h, w).

    `fused` is what the projector gets: the trunk's map itself, or BioViL-T's static and difference maps. The image
    vectors are means over the grid; the model projects before it averages.
    """

    trunk: Tensor
    fused: Tensor
    projected: Tensor


def spatial(trunk: nn.Module) -> nn.Module:
    """A ResNet up to its last map (N, C, h, w), without pooling and head, under the same names."""
    return nn.Sequential(OrderedDict((n, m) for n, m in trunk.named_children() if n not in ("avgpool", "fc")))


def projector(channels: int, joint: int) -> nn.Sequential:
    """1x1 convolution, batch norm, ReLU, 1x1 convolution, on the map."""
    return nn.Sequential(
        nn.Conv2d(channels, joint, 1, bias=False), nn.BatchNorm2d(joint), nn.ReLU(), nn.Conv2d(joint, joint, 1)
    )


class BioViLNet(nn.Module):
    """ResNet-50 and projector."""

    def __init__(self, trunk: nn.Module, joint: int) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict({"encoder": spatial(trunk)})
        self.projector = nn.ModuleDict({"model": projector(width(trunk), joint)})

    def forward(self, pixels: Tensor) -> Maps:
        """Pixels (N, 3, H, W) of any size to maps."""
        trunk = self.encoder["encoder"](pixels)
        return Maps(trunk, trunk, self.projector["model"](trunk))


class BioViLTNet(nn.Module):
    """ResNet-50, reduction to `channels`, the pooler of image pairs, and projector of both maps."""

    def __init__(self, trunk: nn.Module, joint: int, channels: int, depth: int) -> None:
        super().__init__()
        self.encoder = _PairEncoder(trunk, channels, depth)
        self.projector = nn.ModuleDict({"model": projector(2 * channels, joint)})

    def forward(self, pixels: Tensor, prior: Tensor | None = None) -> Maps:
        """Pixels (N, 3, H, W), and those of an earlier image of each, to maps.

        Without `prior` a learned vector stands at every place of the difference map, and the pooler does not run.
        """
        trunk = self.encoder.encoder(pixels)
        static = self.encoder.backbone_to_vit(trunk)
        if prior is None:
            difference = self.encoder.missing_previous_emb.expand(len(static), -1, *static.shape[2:])
        else:
            before = self.encoder.backbone_to_vit(self.encoder.encoder(prior))
            difference = self.encoder.vit_pooler(static, before)
        fused = torch.cat([static, difference], dim=1)
        return Maps(trunk, fused, self.projector["model"](fused))


class _PairEncoder(nn.Module):
    def __init__(self, trunk: nn.Module, channels: int, depth: int) -> None:
        super().__init__()
        self.missing_previous_emb = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.encoder = spatial(trunk)
        self.backbone_to_vit = nn.Conv2d(width(trunk), channels, 1, bias=False)
        self.vit_pooler = PairPooler(channels, depth)


class PairPooler(nn.Module):
    """A transformer over the places of two maps; what becomes of the first one's is the difference map."""

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.type_embed = nn.Parameter(torch.zeros(2, 1, channels))  # current, prior
        self.blocks = nn.ModuleList(_Block(channels) for _ in range(depth))
        self.norm_post = nn.LayerNorm(channels, eps=_EPS)

    def forward(self, current: Tensor, prior: Tensor) -> Tensor:
        """Two maps (N, c, h, w) to one; row-major tokens, those of `current` first, all told their place and kind."""
        count, channels, height, across = current.shape
        tokens = torch.cat([map_.flatten(2).transpose(1, 2) for map_ in (current, prior)], dim=1)
        places = positions(height, across, channels).to(current.device)
        told = torch.cat([places + self.type_embed[0], places + self.type_embed[1]])
        for block in self.blocks:
            tokens = block(tokens, told)
        kept = self.norm_post(tokens)[:, : height * across]
        return kept.transpose(1, 2).reshape(count, channels, height, across)


class _Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=_EPS)
        self.attn = _Attention(channels)
        self.norm2 = nn.LayerNorm(channels, eps=_EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(channels, channels), "fc2": nn.Linear(channels, channels)})

    def forward(self, tokens: Tensor, told: Tensor) -> Tensor:
        """Queries, keys and values are all told place and kind; the tokens themselves are not."""
        tokens = tokens + self.attn(self.norm1(tokens) + told)
        return tokens + self.mlp["fc2"](gelu(self.mlp["fc1"](self.norm2(tokens))))


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.proj_q = nn.Linear(channels, channels, bias=False)
        self.proj_k = nn.Linear(channels, channels, bias=False)
        self.proj_v = nn.Linear(channels, channels, bias=False)
        self.proj = nn.Linear(channels, channels)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = (made(tokens).unflatten(-1, (_HEADS, -1)).transpose(1, 2) for made in self._three)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    @property
    def _three(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        return self.proj_q, self.proj_k, self.proj_v


def positions(height: int, across: int, channels: int) -> Tensor:
    """Sines and cosines (height * across, channels) of row-major places: the first half tells y, the second x."""
    half = channels // 2
    number = torch.arange(half)
    period = 10000 ** (2 * torch.div(number, 2, rounding_mode="floor") / half)

    def told(count: int) -> Tensor:
        angle = torch.arange(1, count + 1)[:, None] / (count + _EPS) * 2 * math.pi / period
        return torch.where(number % 2 == 0, angle.sin(), angle.cos())

    y = told(height)[:, None].expand(height, across, half)
    x = told(across)[None].expand(height, across, half)
    return torch.cat([y, x], dim=-1).flatten(0, 1)


BERT, HEAD = "bert.", "cls_projection_head."
_ENDINGS = "!?."  # what the authors strip from the right end of a prompt


class ProjectionHead(nn.Module):
    """`[CLS]` states (P, hidden) to vectors (P, d), not of unit length; names as in the file."""

    def __init__(self, hidden: int, joint: int) -> None:
        super().__init__()
        self.dense_to_hidden = nn.Linear(hidden, joint)
        self.LayerNorm = nn.LayerNorm(joint, eps=1e-12)  # whatever the configuration says
        self.dense_to_output = nn.Linear(joint, joint)

    def forward(self, states: Tensor) -> Tensor:
        """Dense, exact gelu, norm, dense."""
        return self.dense_to_output(self.LayerNorm(gelu(self.dense_to_hidden(states))))


class CXRBert:
    """The text encoder in the folder of tokenizer and configuration, read and checked when it is made.

    Raises SpecError if the card has no text encoder, DataError if a file is not at hand, IntegrityError unless every
    tensor of the file is used, or ignored by name on the card.
    """

    def __init__(self, card: ModelCard, folder: Path | None, runtime: Runtime) -> None:
        if card.text_encoder is None:
            raise SpecError(f"{card.name} has no text side: its card names no text encoder")
        self._limit, self._runtime, self._name = card.text_encoder.max_tokens, runtime, card.name
        files, checkpoint = text_checkpoint(card.text_encoder, folder)
        head = _head(card.taps["joint"], under(checkpoint.tensors, BERT))
        self.coverage = coverage(checkpoint.tensors, _wanted(checkpoint.tensors, head), card.weights.ignored)
        require_complete(self.coverage, checkpoint.path, f"the text encoder of {card.name}")
        tensors = {name: checkpoint.tensors[name] for name in self.coverage.used}
        self._words = BertWords(under(tensors, BERT), files, runtime.device, pooler=False)
        self._head = frozen(head, under(tensors, HEAD), runtime.device)

    @torch.inference_mode()
    def features(self, texts: Sequence[str]) -> TextFeatures:
        """Vectors before (`projected`) and at (`joint`) unit length; trailing `!`, `?` and `.` do not count.

        Raises SpecError for a text of too many tokens and for one that spells a special token other than `[MASK]`.
        """
        stripped = [text.rstrip(_ENDINGS) for text in texts]
        self._check(stripped)
        with self._runtime.autocast():
            projected = self._head(self._words.states(stripped, None).first_token)
        projected = projected.float()
        return TextFeatures(normalize(projected), projected)

    def _check(self, texts: Sequence[str]) -> None:
        for text in texts:
            found = [token for token in self._words.special if token in text and token != "[MASK]"]
            if found:
                raise SpecError(f"{self._name}: the prompt {text!r} spells the special token {found[0]}")
        counts = self._words.tokens(texts, None)["attention_mask"].sum(dim=1).tolist()
        for text, count in zip(texts, counts, strict=True):
            if count > self._limit:
                said = f"the prompt {text[:60]!r}… has {count} tokens; the text encoder takes {self._limit}"
                raise SpecError(f"{self._name}: {said} and the authors do not cut. Shorten it.")


def _head(joint: int, tensors: Mapping[str, Tensor]) -> ProjectionHead:
    norm = tensors.get("embeddings.LayerNorm.weight")
    with torch.device("meta"):
        return ProjectionHead(768 if norm is None else len(norm), joint)


def _wanted(tensors: Mapping[str, Tensor], head: nn.Module) -> dict[str, Tensor]:
    encoder = bert(under(tensors, BERT), None, pooler=False).state_dict()
    return {
        **{BERT + name: tensor for name, tensor in encoder.items()},
        **{HEAD + name: tensor for name, tensor in head.state_dict().items()},
    }


_CHANNELS = 256  # of the static and of the difference map
_PAIR = 448  # pixels a side of a pair of images: the grid of 14 x 14 that the authors' code asserts
_BLOCKS = "encoder.vit_pooler.blocks."


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
