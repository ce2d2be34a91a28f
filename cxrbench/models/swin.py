"""Swin transformers saved under the names of Hugging Face transformers 4, run by whichever version is installed.

Version 5 renamed the parts of a block; all here speaks the published names, the renaming stays inside.
Depths, widths, heads and window follow from the tensors; patches of 4 pixels, images of 224, exact GELU, LayerNorm eps
1e-5, as in `microsoft/swin-tiny-patch4-window7-224`.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.errors import IntegrityError
from cxrbench.models.container import require_depth

_CONSTANT = "relative_position_index"  # last part of the names that version 4 saved and anyone can compute

# Published part of a block's name, part in version 5; the order matters.
_RENAMED = (
    ("attention.self.query", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.self.relative_position_bias_table", "attention.relative_position_bias.relative_position_bias_table"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
)
_BLOCK = re.compile(r"encoder\.layers\.(\d{1,3})\.blocks\.(\d{1,3})\.")
_MOST_SIDE = 127  # of a bias table: windows of 64 patches
_TABLE = re.compile(r"encoder\.layers\.(\d{1,3})\.blocks\.0\.attention\.self\.relative_position_bias_table")


class Swin(nn.Module):
    """Pixels (N, 3, 224, 224) to the tokens after the final LayerNorm (N, 49, width), row-major over the 7 x 7 map.

    Built on the meta device from the shapes of `tensors`, which bear the published names without prefix. Its own
    `state_dict` and `load_state_dict` speak those names too; it is to be loaded by itself, not as part of a module.
    The constant indices are none of its tensors: cards ignore them by name. Raises IntegrityError if the tensors do
    not tell depths, heads and window.
    """

    def __init__(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        super().__init__()
        self.model = _built(tensors, path)

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:  # type: ignore[override]
        """Every tensor by its published name."""
        return {_published(name): tensor for name, tensor in self.model.state_dict().items()}

    def load_state_dict(self, tensors: Mapping[str, Tensor], strict: bool = True, assign: bool = False) -> Any:
        """Take tensors by their published names."""
        own = {_published(name): name for name in self.model.state_dict()}
        named = {own.get(name, name): tensor for name, tensor in tensors.items()}
        return self.model.load_state_dict(named, strict=strict, assign=assign)

    def forward(self, pixels: Tensor) -> Tensor:
        """The tokens; what becomes of them (mean, projection) is each model's own."""
        tokens: Tensor = self.model(pixels).last_hidden_state
        return tokens


def relative_positions(window: int) -> Tensor:
    """(window², window²) int64: the row of the bias table for each pair of places, row-major.

    Source: the published files themselves hold the same numbers: (dy + window - 1)(2 window - 1) + dx + window - 1.
    """
    y, x = (axis.flatten() for axis in torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij"))
    dy, dx = y[:, None] - y[None, :], x[:, None] - x[None, :]
    return (dy + window - 1) * (2 * window - 1) + dx + window - 1


def _built(tensors: Mapping[str, Tensor], path: Path) -> nn.Module:
    """A SwinModel without pooler on the meta device, its constants computed."""
    from transformers import SwinConfig, SwinModel

    depths, heads, window, width = _shape(tensors, path)
    config = SwinConfig(depths=depths, num_heads=heads, window_size=window, embed_dim=width, drop_path_rate=0.0)
    with torch.device("meta"):
        model: nn.Module = SwinModel(config, add_pooling_layer=False)
    for module in model.modules():
        found = dict(module.named_buffers(recurse=False)).get(_CONSTANT)
        if found is not None:
            module.register_buffer(_CONSTANT, relative_positions(window).reshape(found.shape), persistent=False)
    return model


def _shape(tensors: Mapping[str, Tensor], path: Path) -> tuple[list[int], list[int], int, int]:
    """Blocks a stage, heads a stage, side of the window, width of the first stage."""
    blocks = {(int(m[1]), int(m[2])) for m in map(_BLOCK.match, tensors) if m}
    tables = {int(m[1]): tuple(tensors[name].shape) for name in tensors if (m := _TABLE.fullmatch(name))}
    stages = range(1 + max((stage for stage, _ in blocks), default=-1))
    require_depth(max(len(stages), len(blocks)), "encoder.layers.")
    depths = [len([b for b in blocks if b[0] == stage]) for stage in stages]
    norm = tensors.get("embeddings.norm.weight")
    rows = {shape[0] for shape in tables.values() if len(shape) == 2}
    side = math.isqrt(max(rows, default=0))
    heads = [tables[stage][-1] for stage in stages if tables.get(stage)]
    width = len(norm) if norm is not None and norm.ndim == 1 else 0
    told = side <= _MOST_SIDE and len(heads) == len(stages) and rows == {side**2} and side % 2 == 1 and width > 0
    if not told or any(width * 2**stage % max(count, 1) for stage, count in enumerate(heads)):
        raise IntegrityError(
            f"{path}: no Swin transformer as transformers 4 names it (stages of {depths} blocks, bias tables "
            f"{list(tables.values())}, width {width}). Give the published file, unconverted."
        )
    return depths, heads, (side + 1) // 2, width


def _published(name: str) -> str:
    """The name in version 4 of a tensor of the installed version."""
    for published, renamed in _RENAMED:
        if f".{renamed}" in name:
            return name.replace(f".{renamed}", f".{published}")
    return name
