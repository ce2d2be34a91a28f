"""MedCLIP and GLoRIA with synthetic weights in the published layouts, and what the authors' code made of them."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_lightning import save_lightning
from made_weights import certificate, figures, fixture_json, published_tensors, with_prompts, zoo_card
from PIL import Image
from torch import Tensor

from cxrbench.images.pixels import pixels_by
from cxrbench.models.base import Runtime, adapter_class, load_adapter
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.features import ImageFeatures
from cxrbench.models.nets import relative_difference
from cxrbench.specs.card import RecipeName
from cxrbench.specs.recipe import Recipe

Golden = dict[str, np.ndarray]
SCALES = {"medclip": (0.5862785803043838, 0.27950088968644304), "gloria": (0.5, 0.5)}  # mean, std


def golden(name: str, folder: Path | None = None) -> Golden:
    """Figures of seed 0: those committed (two images), or all that the parity folder `folder` holds (four images)."""
    if folder is None:
        found = figures(name)
    else:
        with np.load(folder / name / "golden.npz") as stored:
            found = {key: stored[key] for key in stored.files}
    mean, std = SCALES[name.removesuffix("_vit")]
    for key in [key for key in found if key.startswith("resized")]:  # committed as 8 bits: a quarter of the size
        scaled = (found[key][:, None].astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
        found[key.replace("resized", "pixel_values")] = scaled
    return found


def prompts(name: str) -> Any:
    """`prompts` of the text rows, `long`, `class_prompts` in the order of the columns."""
    return with_prompts(name, fixture_json(f"{name}/prompts.json.gz"))


def text_folder(name: str) -> Path:
    """Tokenizer and configuration: four layers (GLoRIA five), 278 words."""
    told = certificate(name)
    assert told.text is not None
    return told.place(told.text)


def tensors(name: str) -> dict[str, Tensor]:
    """The tensors of a published file."""
    return published_tensors(name)


def write(name: str, made: Mapping[str, Tensor], path: Path) -> Path:
    """The published file with these tensors, in its container."""
    if name == "gloria":
        save_lightning(path, made)
    else:
        torch.save(dict(made), path)
    return path


def loaded(name: str, path: Path, recipe: RecipeName = "authors") -> Any:
    """The model of the zoo's card with a made file."""
    return load_adapter(zoo_card(name), path, text_folder(name), recipe=recipe)


def refused(name: str, made: Mapping[str, Tensor]) -> None:
    """Try to load the card's model with these tensors, without a file."""
    card = zoo_card(name)
    checkpoint = Checkpoint(Path("made.bin"), "0" * 64, made)
    adapter_class(card).load(card, checkpoint, text_folder(name), Runtime(torch.device("cpu")))


class Encoded:
    """A model whose batches are encoded once: features by the bytes of the pixels."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._kept: dict[bytes, ImageFeatures] = {}

    def __call__(self, pixels: np.ndarray | Tensor) -> ImageFeatures:
        """What the model makes of these pixels."""
        batch = torch.as_tensor(pixels)
        key = batch.numpy().tobytes()
        if key not in self._kept:
            self._kept[key] = self.model.encode_image(batch)
        return self._kept[key]


def from_files(images: np.ndarray, recipe: Recipe) -> Tensor:
    """What a recipe makes of 8-bit images (N, H, W), each written as PNG: (N, C, size, size)."""
    arrays = []
    for number, image in enumerate(images):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="PNG")
        arrays.append(torch.from_numpy(pixels_by(stream.getvalue(), f"{number}.png", recipe).array))
    return torch.stack(arrays)


def assert_equal(
    found: Tensor | None, wanted: np.ndarray, tolerance: float = 1e-4, centred: float | None = None
) -> None:
    """Rows within the tolerance relative to their largest value, also when the mean row is taken off (`centred`)."""
    reference = torch.from_numpy(wanted)
    assert found is not None
    assert found.shape == reference.shape
    assert found.dtype == torch.float32
    assert relative_difference(found, reference) <= tolerance
    if len(reference) > 1:
        mean = reference.mean(dim=0)
        assert relative_difference(found - mean, reference - mean) <= (centred or tolerance)
