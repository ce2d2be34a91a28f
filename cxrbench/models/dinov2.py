"""Vision transformers as Meta's DINOv2 saves them: CheXFound, XRay-DINO and others that were trained with its code.

Names may carry the number of a chunk of blocks (`blocks.CHUNK.BLOCK.*`, blocks counted through), which is dropped.
"""

import re
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import PrefixedVision, PrefixOptions
from cxrbench.models.container import require_depth
from cxrbench.models.features import ImageFeatures
from cxrbench.models.nets import rename
from cxrbench.models.unfilled import without_values
from cxrbench.specs.card import ModelCard

_HEAD, _EPS = 64, 1e-6  # width of an attention head in ViT-S, B and L
_BLOCK = re.compile(r"blocks\.(?:(\d{1,3})\.)?(\d{1,3})\.(?=[a-z])")


class Options(PrefixOptions):
    """`size` of pictures that it was trained on, side of a `patch`, `mlp` of its blocks, number of `registers`.

    `offset`: positions for pictures of another size are resampled by the factor (patches + offset) / grid, as DINOv2's
    own code does; without it, such pictures are refused. `prefix`: what the names of the file's tensors begin with.
    """

    size: int
    patch: int
    mlp: Literal["gelu", "swiglu"]
    registers: int = 0
    offset: float | None = None


class DINOv2(PrefixedVision[Options]):
    """`pooled`: the class token after the last norm."""

    options_type = Options

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; raises SpecError for a size that is no whole number of patches."""
        if options.size % options.patch:
            raise SpecError(f"{card.name}: options: {options.size} pixels are no whole number of patches")
        own = [name.removeprefix(options.prefix) for name in tensors if name.startswith(options.prefix)]
        chunks = {int(m[2]): m[1] for m in map(_BLOCK.match, own) if m}
        depth = require_depth(len(chunks), f"{options.prefix}blocks.")
        with without_values():
            net = _network(card.taps["pooled"], depth, options)
        rename(net, dict(_published(net.state_dict(), chunks, options.mlp)))
        return {options.prefix: net}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for pixels of a size that it does not take."""
        height, width = pixels.shape[-2:]
        fits = height == width == self.options.size
        if not fits and (self.options.offset is None or height % self.options.patch or width % self.options.patch):
            raise SpecError(f"{self.card.name}: pixels are {tuple(pixels.shape)}; it takes {self._takes}")
        with runtime.autocast():
            pooled = self.parts[self.image_network](pixels)
        return ImageFeatures(pooled.float())

    @property
    def _takes(self) -> str:
        if self.options.offset is None:
            return f"{self.options.size} x {self.options.size} alone"
        return f"sides of whole patches of {self.options.patch}"


def _network(width: int, depth: int, options: Options) -> nn.Module:
    """timm's network with DINOv2's order of tokens and positions, its output the class token."""
    from timm.layers import SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer

    class Tokens(VisionTransformer):
        """Class token and patches with positions; registers between the two without."""

        def _pos_embed(self, x: Tensor) -> Tensor:
            grid = x.shape[1:3]
            tokens = torch.cat([self.cls_token.to(x.dtype).expand(len(x), -1, -1), x.flatten(1, 2)], dim=1)
            tokens = tokens + positions(self.pos_embed, grid, options.offset).to(x.dtype)
            if self.reg_token is None:
                return tokens
            registers = self.reg_token.to(x.dtype).expand(len(x), -1, -1)
            return torch.cat([tokens[:, :1], registers, tokens[:, 1:]], dim=1)

    mlp: dict[str, Any] = {}
    if options.mlp == "swiglu":  # two thirds of 4 x width, in eights
        hidden = (width * 8 // 3 + 7) // 8 * 8
        mlp = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU, "mlp_ratio": 2 * hidden / width}
    net: nn.Module = Tokens(
        img_size=options.size,
        patch_size=options.patch,
        num_classes=0,
        embed_dim=width,
        depth=depth,
        num_heads=width // _HEAD,
        init_values=1.0,
        reg_tokens=options.registers,
        dynamic_img_size=True,
        norm_layer=partial(nn.LayerNorm, eps=_EPS),
        **mlp,
    )
    net.pos_embed = nn.Parameter(torch.empty(1, 1 + (options.size // options.patch) ** 2, width))
    return net


def positions(table: Tensor, grid: Iterable[int], offset: float | None) -> Tensor:
    """Positions (1, 1 + h w, D) for a grid of h x w patches, from those of the class token and a square of patches."""
    height, width = grid
    side = round((table.shape[1] - 1) ** 0.5)
    if height == width == side or offset is None:
        return table
    square = table[:, 1:].float().reshape(1, side, side, -1).permute(0, 3, 1, 2)
    factors = ((height + offset) / side, (width + offset) / side)
    found = interpolate(square, scale_factor=factors, mode="bicubic").flatten(2).transpose(1, 2)
    return torch.cat([table[:, :1].float(), found], dim=1)


def _published(names: Iterable[str], chunks: Mapping[int, str | None], mlp: str) -> Iterable[tuple[str, str]]:
    """timm's names and DINOv2's: chunk numbers of the file, and its own words for a gated MLP and for registers."""
    for name in names:
        found, block = name.replace("reg_token", "register_tokens"), _BLOCK.match(name)
        if mlp == "swiglu":
            found = found.replace(".mlp.fc1.", ".mlp.w12.").replace(".mlp.fc2.", ".mlp.w3.")
        chunk = None if block is None else chunks.get(int(block[2]))
        yield name, found if chunk is None else f"blocks.{chunk}.{found.removeprefix('blocks.')}"
