"""Slips of a user who writes an adapter beside his card: each is a SpecError with the line to write, and no bug."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import cxrbench
from cxrbench.errors import SpecError
from cxrbench.models.base import Adapter, adapter_class
from cxrbench.runner.forward import forward
from cxrbench.runner.model import prompt_array
from cxrbench.specs.card import read_card
from cxrbench.store.embeddings import Key

CARD = """
name = "mine"
title = "Mine"
adapter = "{module}:Mine"
licence = "mine"
source = "me"
weights = {{ files = ["mine.safetensors"], where = "beside the card" }}
recipes.reality-check = {{ size = 8 }}
taps = {{ pooled = 4, joint = 4 }}
"""
MODULE = """
import torch
from torch import nn
from torch.nn.functional import normalize
from cxrbench.models.base import NoOptions
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.features import ImageFeatures, TextFeatures

class Mine(CheckpointModel[NoOptions]):
    options_type = NoOptions
    image_network = "net."

    @classmethod
    def networks(cls, tensors, card, options):
        with torch.device("meta"):
            return {"net.": nn.Linear(3, 4)}

    def image_vectors(self, pixels, runtime):
        pooled = self.parts["net."](pixels.mean((2, 3)))
        return ImageFeatures(pooled, normalize(pooled))

    def text_vectors(self, texts):
        return TextFeatures(torch.ones(len(texts), 4) / 2)
"""


def written(place: Path, old: str, new: str) -> Path:
    """A card with its adapter and weights beside it, where `old` of the adapter is `new`."""
    assert old in MODULE
    module = f"mine_{abs(hash((old, new)))}"  # of its own, as modules are imported once
    (place / f"{module}.py").write_text(MODULE.replace(old, new), encoding="utf-8")
    save_file({"net.weight": torch.ones(4, 3), "net.bias": torch.zeros(4)}, place / "mine.safetensors")
    (place / "mine.toml").write_text(CARD.format(module=module), encoding="utf-8")
    return place / "mine.toml"


def loaded(card: Path) -> Adapter:
    return cxrbench.load_model(card, device="cpu").adapter


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('    image_network = "net."\n', "", 'image_network of Mine is not there; write image_network = "net."'),
        (
            'image_network = "net."',
            'image_network = "nets."',
            "image_network of Mine is 'nets.', no prefix that its `networks`",
        ),
        ("    options_type = NoOptions\n", "", "lacks the line options_type = NoOptions"),
        ("    options_type = NoOptions\n", "    options_type = dict\n", "lacks the line options_type = NoOptions"),
        ("def image_vectors", "def vectors", "lacks the method image_vectors"),
        ("def networks", "def network", "lacks the method networks"),
    ],
)
def test_a_class_that_is_not_whole_is_refused_when_it_is_loaded(old: str, new: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=f"mine: .*{re.escape(told)}"):
        loaded(written(tmp_path, old, new))


IMAGES = "return ImageFeatures(pooled, normalize(pooled))"
TEXTS = "return TextFeatures(torch.ones(len(texts), 4) / 2)"


@dataclass
class Held:
    adapter: Adapter
    device: str = "cpu"


@pytest.mark.parametrize(
    ("new", "told"),
    [
        ("return pooled", "a Tensor of images; end its method with `return ImageFeatures(pooled)`"),
        ("pass", "a NoneType of images"),
        ("return ImageFeatures(pooled, (pooled,))", "no tensor as joint"),
        ("return ImageFeatures(pooled)", "which gives pooled = 4. If these are right, write taps = { pooled = 4 }"),
        ("return ImageFeatures(pooled, pooled[:, 1:])", "write taps = { pooled = 4, joint = 3 } on the card"),
        ("return ImageFeatures(pooled[..., None], pooled)", "gives pooled = 4x1, joint = 4. 2 images are 2 rows"),
        ("return ImageFeatures(pooled[:1], pooled)", "2 images are 2 rows"),
    ],
)  # fmt: skip
def test_what_is_made_of_images_is_held_against_the_card(new: str, told: str, tmp_path: Path) -> None:
    adapter = loaded(written(tmp_path, IMAGES, new))
    with pytest.raises(SpecError, match=f"mine: .*{re.escape(told)}"):
        adapter.encode_image(torch.zeros(2, 1, 8, 8))


def test_a_run_holds_every_adapter_to_it_at_the_first_batch(tmp_path: Path) -> None:
    bare = "def encode_image(self, pixels):\n        return pixels.mean((2, 3))\n\n    def image_vectors"
    texts = bare.replace("encode_image(self, pixels)", "encode_text(self, texts, padding='released')").replace(
        "pixels.mean((2, 3))", "torch.ones(len(texts), 4)"
    )
    (tmp_path / "images").mkdir()
    adapter = loaded(written(tmp_path / "images", "def image_vectors", bare))
    with pytest.raises(SpecError, match="mine: its adapter makes a Tensor of images"):
        forward(Held(adapter), {})(np.zeros((2, 1, 8, 8), np.float32), list[Key]())
    with pytest.raises(SpecError, match="mine: its adapter makes a Tensor of texts"):
        prompt_array(loaded(written(tmp_path, "def image_vectors", texts)), ["edema"], "released", projected=False)


@pytest.mark.parametrize("new", ["return torch.ones(len(texts), 4)", "return TextFeatures(torch.ones(4))"])
def test_what_is_made_of_texts_is_held_too(new: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="mine: its adapter"):
        loaded(written(tmp_path, TEXTS, new)).encode_text(["edema", "no edema"])


def test_the_module_without_a_slip_works(tmp_path: Path) -> None:
    card = written(tmp_path, TEXTS, TEXTS)
    assert adapter_class(read_card(card)).slip() is None
    found = loaded(card)
    assert found.encode_image(torch.ones(2, 1, 8, 8)).pooled.tolist() == [[3.0] * 4] * 2
    assert found.encode_text(["edema"]).joint.shape == (1, 4)
