"""Ark+ (Ma et al., Nature 2025) and Ark-6 (MICCAI 2023): Swin transformers trained with the labels of six data sets."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from torch import Tensor, nn

from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import PrefixedVision, PrefixOptions, require_size
from cxrbench.models.container import require_depth
from cxrbench.models.features import ImageFeatures
from cxrbench.models.nets import rename
from cxrbench.models.unfilled import compute_buffers_when_filled, without_values
from cxrbench.specs.card import ModelCard

_PATCH, _HEAD, _STAGES = 4, 32, 4  # pixels a side of a patch, width of an attention head, stages of a Swin
_BLOCK = re.compile(r"layers\.(\d)\.blocks\.(\d{1,3})\.")
_DOWN = re.compile(r"layers\.(\d)\.downsample\.")


class Options(PrefixOptions):
    """`width` of the first stage, side of a `window` in patches, pixels a side (`size`); `prefix` of all names.

    `layers` of the projector, which makes `projected` vectors of the trunk's; `pooled`: which of the two a probe sees.
    The authors' own probes see projected vectors (Ark+), or the trunk's (the benchmark that Ark-6 points to).
    """

    width: int
    window: int
    size: int
    projected: int
    layers: Literal[1, 2]
    pooled: Literal["projected", "trunk"]


class Ark(PrefixedVision[Options]):
    """`pooled`: the mean of the tokens after the last norm, projected or not, as the options say.

    The file has the names of timm 0.5.4, where a stage ends with the layer that halves its grid.
    """

    options_type = Options

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; one network with the projector within."""
        blocks = {(int(m[1]), int(m[2])) for m in (_BLOCK.match(_own(name, options)) for name in tensors) if m}
        depths = [len([1 for stage, _ in blocks if stage == one]) for one in range(_STAGES)]
        require_depth(len(blocks), f"{options.prefix}layers.")
        with without_values():
            net = compute_buffers_when_filled(_ProjectedSwin(depths, options))
        rename(net, dict(_published(net.state_dict())))
        return {options.prefix: net}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for another size than the network's."""
        require_size(pixels, self.options.size, self.card.name)
        with runtime.autocast():
            trunk, projected = self.parts[self.image_network](pixels)
        return ImageFeatures((trunk if self.options.pooled == "trunk" else projected).float())


class _ProjectedSwin(nn.Module):
    """Pixels (N, 3, S, S) to pooled vectors of the trunk (N, 8 width) and projected ones (N, projected)."""

    def __init__(self, depths: Sequence[int], options: Options) -> None:
        from timm.models.swin_transformer import SwinTransformer

        super().__init__()
        self.trunk = SwinTransformer(
            img_size=options.size,
            patch_size=_PATCH,
            num_classes=0,
            embed_dim=options.width,
            depths=tuple(depths),
            num_heads=tuple(options.width * 2**stage // _HEAD for stage in range(_STAGES)),
            window_size=options.window,
            drop_path_rate=0.0,
        )
        widths = options.width * 2 ** (_STAGES - 1), options.projected
        self.projector: nn.Module = nn.Linear(*widths)
        if options.layers == 2:
            self.projector = nn.Sequential(nn.Linear(*widths), nn.ReLU(), nn.Linear(widths[1], widths[1]))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        pooled = self.trunk(pixels)
        return pooled, self.projector(pooled)


def _own(name: str, options: Options) -> str:
    return name.removeprefix(options.prefix)


def _published(names: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Own names and those of timm 0.5.4: a stage's halving layer belonged to the stage before."""
    for name in names:
        found = name.removeprefix("trunk.")
        yield name, _DOWN.sub(lambda m: f"layers.{int(m[1]) - 1}.downsample.", found)
