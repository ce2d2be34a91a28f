"""From stored vectors or scores, and the words of a fold, to one score per class."""

from collections.abc import Sequence
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import RunError
from cxrbench.evaluate.metrics import balanced_accuracy
from cxrbench.evaluate.zero_shot import ClassVectors, class_scores, class_vectors, scores, standardised
from cxrbench.runner.folds import IdFold
from cxrbench.runner.model import BenchModel
from cxrbench.runner.protocol import FloatArray, Readings
from cxrbench.runner.wording import ClassPrompts, Phrases
from cxrbench.specs.settings import Settings

Scores = NDArray[np.floating[Any]]


def prompt_scores(
    model: BenchModel, view: str, images: Sequence[str], words: ClassPrompts, readings: Readings, settings: Settings
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


def _interaction(model: BenchModel, images: Sequence[str], words: ClassPrompts, readings: Readings) -> Scores:
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


def single_prompts(
    model: BenchModel, view: str, folds: Sequence[tuple[IdFold, ClassPrompts]], readings: Readings, settings: Settings
) -> tuple[float | None, ...]:
    """Balanced accuracy with one prompt per class, mean over folds: draw j takes every class's prompt j.

    A class with fewer prompts begins again, so there are as many draws as the largest class has prompts, and each
    prompt is in one. Empty where no class has a choice; None where a class has no image in a fold, or where scores that
    are to be standardised are all equal. Folds may have drawn different prompts, but equally many.
    """
    found = [_of_fold(model, view, fold, words, readings, settings) for fold, words in folds]
    return tuple(None if None in draw else fmean(draw) for draw in zip(*found, strict=True))


def _of_fold(
    model: BenchModel, view: str, fold: IdFold, words: ClassPrompts, readings: Readings, settings: Settings
) -> list[float | None]:
    draws = max(len(texts) for side in (words.prompts, words.against) for texts in side.values() or [()])
    if draws < 2:
        return []
    raw = _logits(model, view, fold.test[0], words, readings, settings)
    present = _columns(words, words.prompts, draws)
    found = raw[:, present]
    if words.against:
        found = found - raw[:, _columns(words, words.against, draws)]
    how = model.card.zero_shot
    classes = list(words.prompts) if how is not None and how.standardised else None
    return [_balanced(one, fold.test[1], classes) for one in found.transpose(1, 0, 2)]


def _balanced(scores: Scores, labels: NDArray[np.int64], classes: Sequence[str] | None) -> float | None:
    """Balanced accuracy of scores (n, C), first standardised where their `classes` are named."""
    try:
        return balanced_accuracy(scores if classes is None else standardised(scores, classes), labels)
    except RunError:
        return None


def _columns(words: ClassPrompts, phrases: Phrases, draws: int) -> NDArray[np.int64]:
    """Column numbers (draws, C) of the prompts of each draw."""
    places, owner = words.places(phrases)
    own = [places[owner == number] for number in range(len(phrases))]
    return np.array([[places[draw % len(places)] for places in own] for draw in range(draws)])


def _logits(
    model: BenchModel, view: str, images: Sequence[str], words: ClassPrompts, readings: Readings, settings: Settings
) -> Scores:
    """Logits (n, P) of every text of the wording."""
    known = model.card.views[view]
    if known.scoring == "interaction":
        return readings.scores(words, images)
    sides = (texts for side in (words.prompts, words.against) for texts in side.values())
    vectors = np.concatenate([model.prompt_vectors(texts, settings) for texts in sides])
    return scores(readings.vectors(known.tap, images), vectors, model.logit_scale(view))
