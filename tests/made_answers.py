"""CARZero, RadZero, MAVL and MedImageInsight with synthetic weights, and what their authors' code made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from made_lightning import save_lightning
from made_weights import FIXTURES, certificate, figures, published_tensors, zoo_card
from safetensors.torch import save_file
from torch import Tensor

from cxrbench.models.base import load_adapter
from cxrbench.models.entities import Entities
from cxrbench.specs import paths
from cxrbench.specs.card import RecipeName
from cxrbench.store.schema import read_toml

Golden = dict[str, np.ndarray]
Tensors = dict[str, Tensor]
NAMES = ("carzero", "radzero", "mavl", "medimageinsight")
OTHER = {"optimizer": {}, "lr_scheduler": {}, "config": {"image_res": 224}, "epoch": 3}


def golden(name: str, folder: Path | None = None) -> Golden:
    """Figures of seed 0: those committed (two images), or all that the parity folder `folder` holds."""
    if folder is None:
        return figures(name)
    with np.load(folder / name / "golden.npz") as stored:
        return {key: stored[key] for key in stored.files}


def told(name: str) -> dict[str, Any]:
    """`prompts` of the text rows, and what else the figures have texts for."""
    path = FIXTURES / name / "prompts.json"
    more = json.loads(path.read_text()) if path.exists() else {}
    return {"prompts": list(certificate(name).prompts), **more}


def write(name: str, made: Tensors, path: Path) -> Path:
    """The published file with these tensors, in its container."""
    if name == "carzero":
        save_lightning(path, made)
    elif name == "mavl":
        torch.save({"model": made, **OTHER}, path)
    else:
        save_file({key: value.contiguous() for key, value in made.items()}, path)
    return path


def text_encoder(name: str, folder: Path) -> Path:
    """The folder of the text encoder, with its own weights where the published one has them."""
    place = certificate(name).place(certificate(name).text or "")
    if name != "mavl":
        return place
    folder.mkdir()
    for file in place.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    torch.save(published_tensors(name, "text_layout"), folder / "pytorch_model.bin")
    words = read_toml(paths.folder("model_zoo") / "mavl_vocabulary.toml", Entities)
    return books(folder, list(words.entities))


def load(
    name: str, folder: Path, change: Callable[[Tensors], Tensors] = lambda made: made, recipe: RecipeName = "authors"
) -> Any:
    """The model behind its card, of the published layout or of a changed one."""
    path = write(name, change(published_tensors(name)), folder / f"{name}.pt")
    return load_adapter(zoo_card(name), path, text_encoder(name, folder / "text"), recipe=recipe)


def books(folder: Path, entities: list[str]) -> Path:
    """Files like those of MAVL's authors, with texts of our own; their keys are in an order of their own."""
    names = [*reversed(entities), "covid19"]
    described = {name: f"a finding that is called {name}" for name in names}
    parts = ("border", "fluid", "location", "opacity", "other", "patterns", "shape", "texture")
    aspects = {name: [f"{part}: that of\n {name}" for part in parts] for name in names}
    (folder / "observation explanation.json").write_text(json.dumps(described))
    (folder / "gpt4_mimic.json").write_text(json.dumps(aspects))
    return folder
