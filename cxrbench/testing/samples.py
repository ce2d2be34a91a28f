"""What an adapter is tried on: made pictures through the card's own recipe, and prompts from the package's facts."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cxrbench.errors import SpecError
from cxrbench.images.pixels import pixels_by
from cxrbench.models import made
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.specs.recipe import Recipe

_TASK, _PROMPTS = "chexpert5x200", "names"  # findings that every chest X-ray model was trained to know
_PICTURES, _HEIGHT, _WIDTH = 3, 320, 260


@dataclass(frozen=True, slots=True)
class Samples:
    """What to try a model on.

    `pixels` (N, 1 or 3, S, S) float32, at least 3 images; `texts`, at least 2, of different lengths, or none, which
    leaves the text side out; `classes` that a label side is asked for. Raises SpecError for fewer.
    """

    pixels: Tensor
    texts: tuple[str, ...] = ()
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.pixels) < 3 or len(self.texts) == 1:
            raise SpecError("a check needs at least 3 images, and at least 2 texts or none")


def samples(card: ModelCard, recipe: RecipeName = "reality-check") -> Samples:
    """Three made pictures through one of the card's recipes; the findings of CheXpert 5x200 as classes and prompts."""
    classes = catalog.load_task(_TASK).classes
    template = catalog.load_prompts(_PROMPTS).template
    assert template is not None
    texts = tuple(template.replace("{class}", name.lower()) for name in classes)
    return Samples(through(card.recipe(recipe), made.images(_PICTURES, _HEIGHT, _WIDTH)), texts, classes)


def through(recipe: Recipe, pictures: Iterable[NDArray[Any]]) -> Tensor:
    """Pixels (N, C, S, S) that a recipe makes of 8-bit grey pictures (H, W), each as a PNG file."""
    arrays = []
    for number, picture in enumerate(pictures):
        stream = io.BytesIO()
        Image.fromarray(np.asarray(picture)).save(stream, format="PNG")
        arrays.append(pixels_by(stream.getvalue(), f"made picture {number}", recipe).array)
    return torch.from_numpy(np.stack(arrays))
