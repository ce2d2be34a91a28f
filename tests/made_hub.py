"""Tiny models as libraries publish them, with drawn weights, and cards for them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.models.base import Adapter, Runtime, adapter_class, fill_adapter
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.nets import relative_difference
from cxrbench.specs.card import ModelCard

CLOSE = 1e-5
TEXTS = ["normal lungs", "a left pleural effusion with consolidation", "no finding", "edema"]


def card(adapter: str, options: Mapping[str, Any], taps: Mapping[str, int], **changes: Any) -> ModelCard:
    """A card of a made model with one view where there is a `joint` tap."""
    view = {"tap": "joint", "classes": "prompts"}
    scored = {"views": {"text": view}, "default": "text", "pooling": "unit-embedding"}
    told = {
        "name": "tiny",
        "title": "Tiny",
        "adapter": f"cxrbench.models.{adapter}",
        "licence": "none",
        "source": "this test",
        "synthetic": True,
        "options": options,
        "weights": {"files": ["tiny.safetensors"], "where": "nowhere"},
        "recipes": {"reality-check": {"size": 32}},
        "taps": taps,
        "zero_shot": scored if "joint" in taps else None,
    }
    return ModelCard.model_validate({**told, **changes})


def drawn(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module with drawn weights, biases and running statistics, in evaluation mode."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point() and tensor.ndim:
            noise = torch.randn(tensor.shape, generator=generator)
            around = 1.0 if tensor.ndim == 1 and name.endswith(("weight", "running_var")) else 0.0
            spread = 0.1 if tensor.ndim == 1 else tensor[0].numel() ** -0.5
            tensor.copy_(around + noise.abs() * spread if name.endswith("running_var") else around + noise * spread)
    return module.eval().requires_grad_(False)


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """The module's tensors, each with memory of its own."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def load(
    told: ModelCard,
    made: Mapping[str, Tensor],
    text_encoder: Path | None = None,
    runtime: Runtime | None = None,
    folder: Path = Path("nowhere"),
) -> Adapter:
    """The adapter of a card on these tensors, as if read from a file of that folder."""
    checkpoint = Checkpoint(folder / "tiny.safetensors", "0" * 64, dict(made))
    return fill_adapter(adapter_class(told), told, checkpoint, text_encoder, runtime or Runtime(torch.device("cpu")))


def pixels(size: int = 32, count: int = 3) -> Tensor:
    """Drawn pixels (count, 3, size, size)."""
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(7))


def assert_same(found: Tensor, wanted: Tensor, close: float = CLOSE) -> None:
    """Equal shape, float32, and equal rows to a relative `close`."""
    assert (found.shape, found.dtype) == (wanted.shape, torch.float32)
    assert relative_difference(found, wanted.float()) <= close


def changed(made: Mapping[str, Tensor], name: str, how: str) -> tuple[dict[str, Tensor], str]:
    """The tensors with one renamed, dropped or reshaped, and what a refusal must say."""
    rest = {key: value for key, value in made.items() if key != name}
    match how:
        case "renamed":
            return {**rest, f"{name}_": made[name]}, f"1 missing: {name}; 1 left over: {name}_"
        case "dropped":
            return rest, f"1 missing: {name}"
    return {**rest, name: made[name][:1]}, f"1 of another shape: {name} "
