"""CheXzero, MGCA and ConVIRT with synthetic weights, beside the figures of their authors' code."""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_weights import FIXTURES, Entry, certificate, figures, make_checkpoint, with_prompts, zoo_card
from PIL import Image
from torch import Tensor

from cxrbench.images.pixels import pixels_by
from cxrbench.models.base import load_adapter
from cxrbench.models.certificate import read_layout
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.specs.card import RecipeName
from cxrbench.specs.recipe import Recipe

Golden = dict[str, np.ndarray]


@dataclass(frozen=True)
class Towers:
    """A published model by the name of its card; `layout` names one of the fixtures, otherwise the certificate's."""

    name: str
    layout: str | None = None

    @property
    def facts(self) -> dict[str, Any]:
        """`container`, `optional`, `reduced` and `tensors` of the layout."""
        told = certificate(self.name)
        return read_layout(self.folder / f"{self.layout}.json.gz" if self.layout else told.place(told.layout))

    @property
    def folder(self) -> Path:
        return FIXTURES / self.name

    @property
    def entries(self) -> list[Entry]:
        return [(name, shape, dtype) for name, shape, dtype in self.facts["tensors"]]

    @property
    def prompts(self) -> dict[str, Any]:
        return with_prompts(self.name, json.loads((self.folder / "prompts.json").read_text()))

    @property
    def golden(self) -> Golden:
        """The committed figures: the first two images, all texts."""
        return figures(self.name)

    @property
    def text(self) -> Path | None:
        """The folder of the tokenizer, where one is needed."""
        told = certificate(self.name)
        return None if told.text is None else told.place(told.text)

    def tensors(self) -> dict[str, Tensor]:
        return make_checkpoint(self.entries)

    def published(self) -> dict[str, Tensor]:
        """The published sizes, without values: what the fixture has smaller is brought to full depth and vocabulary."""
        found: dict[str, Tensor] = {}
        for name, shape, dtype in self.entries:
            whole = self._published_shape(name, shape)
            for grown in self._published_names(name):
                found[grown] = torch.empty(whole, dtype=getattr(torch, dtype), device="meta")
        return found

    def _published_shape(self, name: str, shape: Any) -> list[int]:
        for what, (here, there) in self.facts["reduced"].items():
            if what.endswith("vocab_size") and "word_embeddings" in name and shape[0] == here:
                return [there, *shape[1:]]
        return list(shape)

    def _published_names(self, name: str) -> list[str]:
        for what, (here, there) in self.facts["reduced"].items():
            prefix = what.split(":")[0]
            blocks = prefix if "resblocks" in prefix else f"{prefix}.encoder.layer"
            if "layers" in what and name.startswith(f"{blocks}.{here - 1}."):
                rest = name.removeprefix(f"{blocks}.{here - 1}.")
                return [f"{blocks}.{number}.{rest}" for number in range(here - 1, there)]
        return [name]

    def file(self, folder: Path) -> Path:
        """A checkpoint with the container of the published file."""
        content: Any = self.tensors()
        for key in reversed(self.facts["container"]):
            content = {"epoch": 3, key: content}
        path = folder / f"{self.name}.pt"
        torch.save(content, path)
        return path

    def load(self, path: Path, recipe: RecipeName = "authors") -> CheckpointModel[Any]:
        model = load_adapter(zoo_card(self.name), path, self.text, recipe=recipe)
        assert isinstance(model, CheckpointModel)
        return model


def stored(path: Path) -> Golden:
    """All arrays of a file."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def from_files(images: np.ndarray, recipe: Recipe) -> Tensor:
    """Pixels (N, C, S, S) by the recipe, from grey images (N, H, W) written as PNG."""
    batch = []
    for number, image in enumerate(images):
        stream = io.BytesIO()
        Image.fromarray(image).save(stream, format="PNG")
        batch.append(torch.from_numpy(pixels_by(stream.getvalue(), f"{number}.png", recipe).array))
    return torch.stack(batch)


def unit(vectors: np.ndarray) -> np.ndarray:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def difference(found: Tensor | np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference over the largest value; with the mean row taken off too, for made rows are nearly equal."""
    ours = found.detach().numpy() if isinstance(found, Tensor) else found
    assert ours.shape == wanted.shape
    said = float(np.abs(ours - wanted).max() / np.abs(wanted).max())
    spread = wanted - wanted.mean(axis=0)
    if len(wanted) < 2 or np.abs(spread).max() < 1e-6 * np.abs(wanted).max():
        return said
    return max(said, float(np.abs(ours - ours.mean(axis=0) - spread).max() / np.abs(spread).max()))


def assert_close(found: Tensor | np.ndarray, wanted: np.ndarray, tolerance: float = 1e-4) -> None:
    if isinstance(found, Tensor):
        assert found.dtype == torch.float32
    assert difference(found, wanted) <= tolerance


def assert_well_behaved(model: CheckpointModel[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Same input, same output; batch mates make no difference; no gradients; half precision stays near."""
    pixels = torch.rand((3, 1, 224, 224), generator=torch.Generator().manual_seed(0))
    texts = ["no edema", "a much longer text about pleural effusion at the left lung base"]
    whole, read = model.encode_image(pixels), model.encode_text(texts)
    assert whole.joint is not None
    for vectors in (*whole.taps.values(), read.joint, model.score(whole, read)):
        assert vectors.dtype == torch.float32
        assert not vectors.requires_grad
    assert not any(part.training for net in model.parts.values() for part in net.modules())
    assert torch.equal(model.encode_image(pixels).joint, whole.joint)  # type: ignore[arg-type]
    alone = model.encode_image(pixels[1:2])
    for tap, vectors in whole.taps.items():
        assert_close(alone.taps[tap], vectors[1:2].numpy(), 1e-5)
    assert_close(model.encode_text(texts[:1]).joint, read.joint[:1].numpy(), 1e-5)
    monkeypatch.setattr(model, "runtime", replace(model.runtime, precision="bfloat16"))
    rough = model.encode_image(pixels[:1]).joint
    assert rough is not None
    assert_close(rough, whole.joint[:1].numpy(), 5e-2)
    assert_close(model.encode_text(texts).joint[:1], read.joint[:1].numpy(), 5e-2)
