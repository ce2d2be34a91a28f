"""A small supervised encoder in the official unimodal layout, trained for about a minute on phantom radiographs.

Masked binary cross-entropy between the cosine of image and class prototypes, scaled by a learned temperature, and the
14 CheXpert labels (the paper's unimodal objective). Findings that the labels do not name keep a random prototype.
"""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from cxrbench import facts
from cxrbench.adapters.dlilp import Vocabulary
from cxrbench.data.images import read_bytes
from cxrbench.data.pixels import pixels
from cxrbench.recipe import Canvas
from cxrbench.schema import read_toml

FloatArray = NDArray[np.float32]

_FIRST_LABEL = "No Finding"  # the first of the 14 label columns of CheXpert's tables
_LOG_SCALE, _HIGHEST_LOG_SCALE = math.log(1 / 0.07), 4.6052


@dataclass(frozen=True, slots=True)
class Training:
    """Numbers of the training run."""

    epochs: int = 8
    batch_size: int = 32
    learning_rate: float = 1e-3
    dimension: int = 512
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Corpus:
    """Images (n, 1, s, s) float32 and 0/1 labels (n, 14) with their names."""

    images: FloatArray
    labels: FloatArray
    names: tuple[str, ...]


def corpus(root: Path, recipe: Canvas) -> Corpus:
    """The frontal images of a CheXpert-shaped folder with its table of 0/1 labels (`train_visualCheXbert.csv`)."""
    with (root / "train_visualCheXbert.csv").open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["Frontal/Lateral"] == "Frontal"]
    columns = list(rows[0])
    names = tuple(columns[columns.index(_FIRST_LABEL) :])
    images = [_image(root.parent / row["Path"], recipe) for row in rows]
    labels = np.array([[float(row[name] or 0) for name in names] for row in rows], np.float32)
    return Corpus(np.stack(images), labels, names)


def _image(path: Path, recipe: Canvas) -> FloatArray:
    return pixels(read_bytes(path), path.name, [recipe])[0].array


class Unimodal(nn.Module):
    """ResNet-18, a projection without bias, class prototypes and a temperature, named as in the official layout."""

    def __init__(self, n_classes: int, dimension: int) -> None:
        from torchvision.models import resnet18

        super().__init__()
        self.trunk = resnet18(weights=None)
        self.trunk.fc = nn.Identity()
        self.projection = nn.Linear(512, dimension, bias=False)
        self.prototypes = nn.Parameter(torch.randn(n_classes, dimension) / math.sqrt(dimension))
        self.log_scale = nn.Parameter(torch.tensor(_LOG_SCALE))

    def forward(self, images: Tensor) -> Tensor:
        """Logits (n, classes) of images (n, 1, s, s)."""
        vectors = normalize(self.projection(self.trunk(images.expand(-1, 3, -1, -1))), dim=1)
        scale = self.log_scale.clamp(0, _HIGHEST_LOG_SCALE).exp()
        return scale * vectors @ normalize(self.prototypes, dim=1).T

    def checkpoint(self) -> dict[str, Tensor]:
        """Its tensors by the names of the official unimodal file."""
        trunk = {f"vision_model.model.{name}": tensor for name, tensor in self.trunk.state_dict().items()}
        return {
            "class_prototypes": self.prototypes.detach(),
            "logit_scale": self.log_scale.detach(),
            **trunk,
            "vision_model.projection_head_vision.projection.weight": self.projection.weight.detach(),
        }


def categories() -> tuple[str, ...]:
    """The 85 category names of the official prototypes, in their order."""
    return read_toml(facts.folder("model_zoo") / "dlilp_vocabulary.toml", Vocabulary).categories


def trained(data: Corpus, how: Training) -> dict[str, Tensor]:
    """The checkpoint after training; the same numbers for the same seed on one machine."""
    torch.manual_seed(how.seed)
    model = Unimodal(len(categories()), how.dimension)
    known = [categories().index(name.lower()) for name in data.names]
    images, labels = torch.from_numpy(data.images), torch.from_numpy(data.labels)
    optimiser = torch.optim.AdamW(model.parameters(), lr=how.learning_rate, weight_decay=1e-5)
    steps = how.epochs * math.ceil(len(images) / how.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, how.learning_rate, total_steps=steps)
    order = torch.Generator().manual_seed(how.seed)
    for _ in range(how.epochs):
        for rows in torch.randperm(len(images), generator=order).split(how.batch_size):
            batch = _augmented(images[rows], order)
            loss = binary_cross_entropy_with_logits(model(batch)[:, known], labels[rows])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
    return model.checkpoint()


def _augmented(images: Tensor, rng: torch.Generator) -> Tensor:
    """Brightness and contrast changed a little, image by image; no flip, since the heart has a side."""
    shape = (len(images), 1, 1, 1)
    contrast = 1 + 0.3 * (torch.rand(shape, generator=rng) - 0.5)
    brightness = 0.2 * (torch.rand(shape, generator=rng) - 0.5)
    return (images * contrast + brightness).clamp(0, 1)


def card_text(name: str, weights: str, recipe: Canvas, taps: Sequence[tuple[str, int]]) -> str:
    """A model card for the checkpoint, marked as made."""
    widths = "\n".join(f"{tap} = {width}" for tap, width in taps)
    return f'''name = "{name}"
title = "Unimodal, ResNet-18, trained on phantom radiographs"
adapter = "cxrbench.adapters.dlilp:DLILP"
pretraining = ["phantom"]
licence = "same as cxrbench"
source = "made by `cxrbench demo`"
synthetic = true

[options]
strategy = "unimodal"
vocabulary = "dlilp_vocabulary.toml"

[weights]
files = ["{weights}"]
where = "beside this card, written by `cxrbench demo`"

[recipes.reality-check]
size = {recipe.size}

[taps]
{widths}

[zero_shot]
default = "label"
pooling = "embedding"

[zero_shot.views.label]
tap = "joint"
classes = "prototypes"
'''
