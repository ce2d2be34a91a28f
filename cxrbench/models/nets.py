"""Networks built from the tensors of a checkpoint, and the fastest way to run them that changes nothing."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from cxrbench.errors import IntegrityError

MemoryFormat = Literal["channels_last", "contiguous"]

_RESNETS: dict[tuple[str, tuple[int, ...]], str] = {
    ("basic", (2, 2, 2, 2)): "resnet18",
    ("basic", (3, 4, 6, 3)): "resnet34",
    ("bottleneck", (3, 4, 6, 3)): "resnet50",
}
_BLOCK = re.compile(r"layer(\d{1,3})\.(\d{1,3})\.")
SAME = 5e-5  # largest relative difference at which two engines count as equal in float32


def under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def resnet(tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """A torchvision ResNet (18, 34 or 50, by its block names) on the meta device; its output is the pooled vector.

    `tensors` bear torchvision's names without prefix. Raises IntegrityError if the blocks are those of no such network.
    """
    import torchvision

    blocks = {(int(m[1]), int(m[2])) for m in map(_BLOCK.match, tensors) if m}
    depths = tuple(len([b for b in blocks if b[0] == stage]) for stage in range(1, 5))
    kind = "bottleneck" if any(".conv3." in name for name in tensors) else "basic"
    if any(stage > 4 for stage, _ in blocks) or (kind, depths) not in _RESNETS:
        known = ", ".join(f"{name} ({k} {d})" for (k, d), name in _RESNETS.items())
        raise IntegrityError(f"{path}: an image network of {kind} blocks {depths}, which is none of: {known}")
    with torch.device("meta"):
        trunk: nn.Module = torchvision.models.get_model(_RESNETS[kind, depths], weights=None)
        trunk.fc = nn.Identity()
    return trunk


def resnet50() -> nn.Module:
    """Torchvision's ResNet-50 on the meta device; its output is the pooled vector (2048)."""
    import torchvision

    with torch.device("meta"):
        trunk: nn.Module = torchvision.models.resnet50(weights=None)
        trunk.fc = nn.Identity()
    return trunk


def feature_maps(trunk: nn.Module, pixels: Tensor) -> dict[str, Tensor]:
    """Maps (N, C, h, w) that the four stages of a ResNet make of (N, 3, H, W) pixels, `layer1` to `layer4`."""
    maps: dict[str, Tensor] = {}
    for name in ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"):
        pixels = trunk.get_submodule(name)(pixels)
        if name.startswith("layer"):
            maps[name] = pixels
    return maps


def width(trunk: nn.Module) -> int:
    """Length of the pooled vector of a `resnet`."""
    block = trunk.get_submodule("layer4.0")
    expansion = block.expansion
    assert isinstance(expansion, int)
    return 512 * expansion


def rename(module: nn.Module, names: Mapping[str, str]) -> None:
    """Let `state_dict` and `load_state_dict` of the module speak published names; `names` has its own names to them.

    Names that stand in no pair stay.
    """
    if all(own == published for own, published in names.items()):
        return
    own = {published: name for name, published in names.items()}

    def publish(module: nn.Module, tensors: dict[str, Tensor], prefix: str, local_metadata: object) -> None:
        _renamed(tensors, names, prefix)

    def take(module: nn.Module, tensors: dict[str, Tensor], prefix: str, *others: object) -> None:
        _renamed(tensors, own, prefix)

    module.register_state_dict_post_hook(publish)
    module.register_load_state_dict_pre_hook(take)


def _renamed(tensors: dict[str, Tensor], names: Mapping[str, str], prefix: str) -> None:
    """All names below the prefix at once, in place: one's new name may be another's old one."""

    def new(name: str) -> str:
        own = name.removeprefix(prefix)
        return prefix + names.get(own, own) if name.startswith(prefix) else name

    found = {new(name): tensor for name, tensor in tensors.items()}
    tensors.clear()
    tensors.update(found)


def frozen(module: nn.Module, tensors: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """The module with these tensors and no others, in evaluation mode, without gradients, on the device."""
    module.load_state_dict(dict(tensors), strict=True, assign=True)
    return module.eval().requires_grad_(False).to(device)


def relative_difference(found: Tensor, wanted: Tensor) -> float:
    """Largest absolute difference of a row over the largest absolute value of that row, over all rows of (N, D)."""
    scale = wanted.abs().amax(dim=1).clamp_min(torch.finfo(torch.float32).tiny)
    return float(((found - wanted).abs().amax(dim=1) / scale).max())


def settle(
    trunk: nn.Module, taps: Callable[[Tensor], Mapping[str, Tensor]], size: int
) -> tuple[MemoryFormat, dict[str, float]]:
    """Put the trunk into channels-last memory if every tap of a random batch of two stays the same to `SAME`.

    Returns the format chosen, and per tap the largest relative difference between the two.
    """
    device = next(trunk.parameters()).device
    pixels = torch.rand((2, 3, size, size), generator=torch.Generator().manual_seed(0)).to(device)
    plain = taps(pixels)
    trunk.to(memory_format=torch.channels_last)
    fast = taps(pixels.contiguous(memory_format=torch.channels_last))
    differences = {name: relative_difference(fast[name], plain[name]) for name in plain}
    if all(difference <= SAME for difference in differences.values()):
        return "channels_last", differences
    trunk.to(memory_format=torch.contiguous_format)
    return "contiguous", differences
