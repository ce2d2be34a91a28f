"""BioViL, BioViL-T and CXR-CLIP with synthetic weights in the published layouts, and what their authors' code gives."""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from made_weights import (
    certificate,
    figures,
    fixture_json,
    published_layout,
    published_tensors,
    with_prompts,
    zoo_card,
)
from PIL import Image
from torch import Tensor

from cxrbench.images.pixels import pixels_by
from cxrbench.models.base import Adapter, load_adapter
from cxrbench.models.nets import relative_difference
from cxrbench.specs.card import RecipeName

Golden = dict[str, np.ndarray]
Tensors = dict[str, Tensor]
BIOVIL, CXR_CLIP = ("biovil", "biovil_t"), ("cxr_clip", "cxr_clip_swin")


def golden(name: str) -> Golden:
    """The committed figures of a model, seed 0: the first two images, all texts."""
    return figures(name)


def whole(name: str, shared: Path) -> Golden:
    """All figures of a model."""
    with np.load(shared / "parity" / name / "golden.npz") as stored:
        return {key: stored[key] for key in stored.files}


def prompts(name: str) -> dict[str, Any]:
    """The texts behind the figures, by what they are for."""
    return with_prompts(name, fixture_json(f"{name}/prompts.json.gz"))


def layout(name: str) -> dict[str, Any]:
    """The published file: `tensors`, the values of those that are constants, and the configuration in it if any."""
    return dict(published_layout(name))


def bare(name: str) -> Tensors:
    """The tensors of the published file without values: names, shapes and dtypes."""
    entries = layout(name)["tensors"]
    return {entry: torch.empty(shape, dtype=getattr(torch, kind), device="meta") for entry, shape, kind in entries}


def tensors(name: str) -> Tensors:
    """The tensors of the published file with synthetic weights."""
    return published_tensors(name)


def text_tensors() -> Tensors:
    """The tensors of CXR-BERT's file with synthetic weights; those that are tied are one."""
    return published_tensors("biovil", "text_layout")


def text_folder(name: str) -> Path:
    """Tokenizer and configuration: three layers, 241 or 300 words."""
    told = certificate(name)
    assert told.text is not None
    return told.place(told.text)


def text_encoder(name: str, folder: Path, made: Tensors | None = None) -> Path:
    """The folder of the text encoder, with its own weights where the published one has them."""
    if name in CXR_CLIP:
        return text_folder(name)
    folder.mkdir()
    for file in text_folder(name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    torch.save(text_tensors() if made is None else made, folder / "pytorch_model.bin")
    return folder


def write(name: str, made: Tensors, path: Path) -> Path:
    """The published file with these tensors; CXR-CLIP's with its trainer's state and an omegaconf list beside them."""
    if name in BIOVIL:
        torch.save(made, path)
        return path
    omegaconf, lists = ModuleType("omegaconf"), ModuleType("omegaconf.listconfig")
    kind = type("ListConfig", (), {"__module__": lists.__name__})
    lists.ListConfig = kind  # type: ignore[attr-defined]
    config, leaf = layout(name)["config_example"], kind()
    crop = config["transform"]["train"]["RandomResizedCrop"]
    leaf._content, crop["scale"] = crop["scale"], leaf
    rest = {"optimizer": {}, "scheduler": {}, "config": config, "epoch": 14, "train_loss": 1.5}
    with pytest.MonkeyPatch.context() as patch:
        for module in (omegaconf, lists):
            patch.setitem(sys.modules, module.__name__, module)
        torch.save({"model": made, **rest}, path)
    return path


def load(name: str, folder: Path) -> Adapter:
    """The model behind its card, from files as they are published."""
    card = zoo_card(name)
    path = write(name, tensors(name), folder / card.weights.files[0])
    found = load_adapter(card, path, text_encoder(name, folder / "text"), recipe="authors")
    path.unlink()
    return found


def from_files(model: Adapter, images: Sequence[np.ndarray], recipe: RecipeName, antialias: bool = False) -> Tensor:
    """Pixels of 8-bit pictures kept as PNG files, by one of the card's recipes."""
    how = model.card.recipe(recipe)
    if antialias:
        how = how.model_copy(update={"antialias": True})
    batch = []
    for number, image in enumerate(images):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="PNG")
        batch.append(torch.from_numpy(pixels_by(stream.getvalue(), f"{number}.png", how).array))
    return torch.stack(batch)


def difference(found: Tensor, wanted: np.ndarray) -> float:
    """Largest relative difference of a row, before and after the mean row is taken off (made rows are alike)."""
    have, want = found.flatten(1), torch.from_numpy(wanted).flatten(1)
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    plain = relative_difference(have, want)
    mean = want.mean(dim=0)
    return plain if len(want) == 1 else max(plain, relative_difference(have - mean, want - mean))


def score_difference(found: Tensor, wanted: np.ndarray) -> float:
    """Largest relative difference of a row; cosines with synthetic images are too alike to take their mean off."""
    assert found.shape == wanted.shape
    return relative_difference(found, torch.from_numpy(wanted))
