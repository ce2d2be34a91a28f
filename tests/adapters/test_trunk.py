"""Trunks of torchvision and timm from a local file: the library's own features, and no tensor of its own choosing."""

from typing import Any

import made_hub
import pytest
import timm
import torch
import torchvision
from made_hub import assert_same
from made_weights import zoo_card
from torch import nn

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime, adapter_class
from cxrbench.testing import check_adapter

ADAPTER = "trunk:Trunk"
TRUNKS: dict[str, tuple[dict[str, Any], int]] = {  # options, and the width of `pooled`
    "resnet18": ({"library": "torchvision", "architecture": "resnet18"}, 512),
    "densenet121": ({"library": "torchvision", "architecture": "densenet121", "head": "classifier"}, 1024),
    "timm's resnet18": ({"library": "timm", "architecture": "resnet18", "prefix": "model."}, 512),
    "timm's vit": (
        {"library": "timm", "architecture": "vit_tiny_patch16_224", "arguments": {"img_size": 64, "depth": 2}},
        192,
    ),
}
HEADS = ("fc.", "classifier.", "head.")


def library_model(options: dict[str, Any]) -> tuple[nn.Module, nn.Module]:
    """The library's network with its classifier and drawn weights, and the same without the classifier."""
    if options["library"] == "timm":
        whole = made_hub.drawn(timm.create_model(options["architecture"], **options.get("arguments", {})))
        bare = timm.create_model(options["architecture"], num_classes=0, **options.get("arguments", {}))
        bare.load_state_dict(whole.state_dict(), strict=False)
        return whole, bare.eval()
    whole, bare = (made_hub.drawn(torchvision.models.get_model(options["architecture"])) for _ in range(2))
    setattr(bare, options.get("head", "fc"), nn.Identity())
    return whole, bare


def told(name: str) -> Any:
    options, width = TRUNKS[name]
    weights = {"files": ["a.pth"], "where": "nowhere"}
    ignored = {f"{options.get('prefix', '')}{head}*": "classes" for head in HEADS}
    recipes = {"reality-check": {"size": 64}}
    return made_hub.card(ADAPTER, options, {"pooled": width}, weights={**weights, "ignored": ignored}, recipes=recipes)


@pytest.mark.parametrize("name", TRUNKS)
@torch.inference_mode()
def test_pooled_is_what_the_librarys_classifier_sees(name: str) -> None:
    card = told(name)
    whole, bare = library_model(TRUNKS[name][0])
    made = {card.options.get("prefix", "") + key: value for key, value in made_hub.tensors(whole).items()}
    pixels = made_hub.pixels(64)
    ours = made_hub.load(card, made)
    found = ours.encode_image(pixels)
    assert_same(found.pooled, bare(pixels))
    assert found.joint is None
    assert_same(ours.encode_image(pixels[2:]).pooled, found.pooled[2:])
    assert ours.engine.memory_format == ("contiguous" if "vit" in name else "channels_last")
    low = made_hub.load(card, made, runtime=Runtime(torch.device("cpu"), "bfloat16", "contiguous"))
    assert_same(low.encode_image(pixels).pooled, found.pooled, 0.1)
    check_adapter(ours, reduced=low).require()


@pytest.mark.parametrize("how", ["renamed", "dropped", "reshaped"])
def test_another_layout_is_refused_by_name(how: str) -> None:
    made, says = made_hub.changed(
        made_hub.tensors(library_model(TRUNKS["resnet18"][0])[0]), "layer2.0.bn1.running_mean", how
    )
    with pytest.raises(IntegrityError) as refusal:
        made_hub.load(told("resnet18"), made)
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"library": "torchvision", "architecture": "resnet17"}, "torchvision cannot build 'resnet17'"),
        ({"library": "timm", "architecture": "resnet17"}, "timm cannot build 'resnet17'"),
        ({"library": "torchvision", "architecture": "densenet121"}, "torchvision cannot build 'densenet121'.*fc"),
        ({"library": "torchvision", "architecture": "fasterrcnn_resnet50_fpn"}, "fetch tensors of their own"),
        ({"library": "timm", "architecture": "hf-hub:a/b"}, "read from a file alone, not by hf-hub:a/b"),
        (
            {"library": "timm", "architecture": "resnet18", "arguments": {"pretrained": True}},
            r"not by \['pretrained'\]",
        ),
        ({"library": "keras", "architecture": "resnet18"}, "options: library"),
    ],
)
def test_trunks_that_are_refused(options: dict[str, Any], says: str) -> None:
    card = made_hub.card(ADAPTER, options, {"pooled": 8})
    with pytest.raises(SpecError, match=says):
        made_hub.load(card, {})


def test_pixels_that_a_transformer_cannot_take() -> None:
    card = told("timm's vit")
    made = made_hub.tensors(library_model(TRUNKS["timm's vit"][0])[0])
    with pytest.raises(SpecError, match=r"pixels are \(3, 3, 48, 48\)"):
        made_hub.load(card, made).encode_image(made_hub.pixels(48))


def test_counters_that_an_old_file_lacks_are_reported_and_change_nothing() -> None:
    """torchvision's IMAGENET1K_V1 was saved before batch norms counted their batches; its successor holds all."""
    made = made_hub.tensors(made_hub.drawn(torchvision.models.resnet50()))
    old = {key: value for key, value in made.items() if not key.endswith("num_batches_tracked")}
    card, plain = zoo_card("imagenet_resnet50"), Runtime(torch.device("cpu"), memory_format="contiguous")
    found, whole = (made_hub.load(card, tensors, runtime=plain) for tensors in (old, made))
    pixels = made_hub.pixels(64)
    assert torch.equal(found.encode_image(pixels).pooled, whole.encode_image(pixels).pooled)
    assert len(found.coverage.absent) == 53  # type: ignore[attr-defined]
    assert set(found.coverage.absent.values()) == set(card.weights.absent.values())  # type: ignore[attr-defined]
    assert not whole.coverage.absent  # type: ignore[attr-defined]
    without = {key: value for key, value in old.items() if key != "layer1.0.bn1.running_var"}
    with pytest.raises(IntegrityError, match=r"1 missing: layer1\.0\.bn1\.running_var"):
        made_hub.load(card, without)
    with pytest.raises(IntegrityError, match=r"53 missing: bn1\.num_batches_tracked"):
        made_hub.load(zoo_card("imagenet_resnet50_v2"), old)


@pytest.mark.parametrize("name", ["imagenet_resnet50", "imagenet_resnet50_v2"])
def test_the_baselines_of_the_zoo_take_torchvisions_file(name: str) -> None:
    card = zoo_card(name)
    made = torchvision.models.resnet50().state_dict()
    assert sum(value.numel() for key, value in made.items() if "running" not in key and value.ndim) == 25_557_032
    ours = made_hub.load(card, made, runtime=Runtime(torch.device("cpu"), memory_format="contiguous"))
    assert ours.encode_image(made_hub.pixels(64)).pooled.shape == (3, card.taps["pooled"])
    assert adapter_class(card).options_digest(card) == adapter_class(card).options_digest(zoo_card("imagenet_resnet50"))
