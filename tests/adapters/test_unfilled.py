"""Networks that no encoder has are not built: neither their memory nor their hours are spent."""

import time

import made_hub
import pytest
import torch
from torch import nn

from cxrbench.errors import CxrBenchError, SpecError
from cxrbench.models.unfilled import without_values

SOON = 15.0  # seconds


@pytest.mark.parametrize("make", [torch.zeros, torch.ones, torch.empty, torch.randn])
def test_a_tensor_that_no_encoder_has_is_not_made(make: object) -> None:
    with pytest.raises(SpecError, match="a tensor of 1,000,000,000,000 numbers"), without_values():
        make(10**6, 10**6)  # type: ignore[operator]


def test_a_large_parameter_takes_no_memory() -> None:
    with without_values():
        layer = nn.Linear(1 << 15, 1 << 15)  # 4 GB
    assert layer.weight.is_meta


def test_small_tensors_that_are_no_parameters_are_real() -> None:
    with without_values():
        norm = nn.BatchNorm2d(8)
    assert norm.running_mean is not None and not norm.running_mean.is_meta
    assert norm.weight.is_meta


def test_a_network_of_endless_parameters_is_given_up() -> None:
    with pytest.raises(SpecError, match="more than 8,000 parameters"), without_values():
        nn.ModuleList(nn.Linear(1, 1) for _ in range(10**7))


@pytest.mark.parametrize(
    ("adapter", "options"),
    [
        ("trunk:Trunk", {"library": "timm", "architecture": "vit_tiny_patch16_224", "arguments": {"depth": 10**7}}),
        ("trunk:Trunk", {"library": "timm", "architecture": "vit_tiny_patch16_224", "arguments": {"embed_dim": 10**9}}),
        ("hf:HuggingFaceVision", {"pooled": "cls", "config": {"model_type": "vit", "num_hidden_layers": 10**7}}),
        (
            "hf:HuggingFaceVision",
            {"pooled": "cls", "config": {"model_type": "vit", "image_size": 10**6, "patch_size": 1}},
        ),
        ("hf:HuggingFaceVision", {"pooled": "cls", "config": {"model_type": "vit", "hidden_size": "wide"}}),
    ],
)
def test_a_card_that_asks_for_such_a_network_is_refused_soon(adapter: str, options: dict[str, object]) -> None:
    import timm  # noqa: F401  # importing the libraries is not what is measured
    import transformers.models.vit.modeling_vit  # noqa: F401

    began = time.monotonic()
    with pytest.raises(CxrBenchError, match=r"no (network|encoder)|can be made"):
        made_hub.load(made_hub.card(adapter, options, {"pooled": 192}), {"a": torch.zeros(1)})
    assert time.monotonic() - began < SOON
