"""A plain vision transformer under timm's names: class token, learned positions, norms before, GELU by erf."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

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
