"""The image networks of BioViL and BioViL-T, with the tensor names of their files."""

import math
from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from cxrbench.models.nets import width

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
