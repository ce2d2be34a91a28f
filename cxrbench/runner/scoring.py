"""From stored vectors or scores, and the words of a fold, to one score per class."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.zero_shot import ClassVectors, class_scores, class_vectors, scores, standardised
from cxrbench.runner.model import BenchModel
from cxrbench.runner.wording import Phrases, Wording
from cxrbench.specs.settings import Settings

FloatArray = NDArray[np.float32]
Scores = NDArray[np.floating[Any]]


class Readings(Protocol):
    """What the store holds of a cell's images."""

    def vectors(self, tap: str, images: Sequence[str]) -> FloatArray:
        """Vectors (n, dim) of a tap, in the order of the image ids."""
        ...

    def scores(self, words: Wording, images: Sequence[str]) -> FloatArray:
        """The model's own scores (n, P) of all texts of a wording, asked together."""
        ...


def prompt_scores(
    model: BenchModel, view: str, images: Sequence[str], words: Wording, readings: Readings, settings: Settings
) -> Scores:
    """Scores (n, C) of the images for the classes of `words` by a view, pooled and standardised as the card says.

    Where a set puts prompts in pairs, the score for the absence of a class is taken off: the logistic function of the
    difference is the softmax of the pair.
    """
    assert model.card.zero_shot is not None
    if model.card.views[view].scoring == "interaction":
        found = _interaction(model, images, words, readings)
    else:
        vectors, scale = readings.vectors(model.card.views[view].tap, images), model.logit_scale(view)
        found = _cosine(model, vectors, words.prompts, scale, settings)
        if words.against:
            found = found - _cosine(model, vectors, words.against, scale, settings)
    return standardised(found, list(words.prompts)) if model.card.zero_shot.standardised else found


def _interaction(model: BenchModel, images: Sequence[str], words: Wording, readings: Readings) -> Scores:
    assert model.card.zero_shot is not None
    pooling = model.card.zero_shot.pooling
    assert pooling in {"mean", "max"}  # the card's own check
    raw = readings.scores(words, images)

    def pooled(phrases: Phrases) -> Scores:
        places, owner = words.places(phrases)
        return class_scores(raw[:, places], owner, "max" if pooling == "max" else "mean")

    return pooled(words.prompts) - pooled(words.against) if words.against else pooled(words.prompts)


def _cosine(model: BenchModel, images: FloatArray, phrases: Phrases, scale: float, settings: Settings) -> Scores:
    assert model.card.zero_shot is not None
    pooling = model.card.zero_shot.pooling
    projected = pooling == "projected-embedding"
    rows = [model.prompt_vectors(prompts, settings, projected=projected) for prompts in phrases.values()]
    vectors, owner = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    if pooling == "mean" or pooling == "max":  # noqa: PLR1714 - a tuple would not narrow the type
        return class_scores(scores(images, vectors, scale), owner, pooling)
    how: ClassVectors = "mean" if pooling == "embedding" and settings.ensemble == "released" else "renormalised"
    return scores(images, class_vectors(vectors, owner, len(rows), how), scale)
