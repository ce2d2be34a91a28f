"""How much of a zero-shot number is wording: every prompt of a set by itself."""

from collections.abc import Sequence
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import RunError
from cxrbench.evaluate.metrics import balanced_accuracy
from cxrbench.evaluate.zero_shot import scores, standardised
from cxrbench.runner.folds import IdFold
from cxrbench.runner.model import BenchModel
from cxrbench.runner.scoring import Readings, Scores
from cxrbench.runner.wording import Phrases, Wording
from cxrbench.specs.settings import Settings


def single_prompts(
    model: BenchModel, view: str, folds: Sequence[tuple[IdFold, Wording]], readings: Readings, settings: Settings
) -> tuple[float | None, ...]:
    """Balanced accuracy with one prompt a class, mean over folds: draw j takes every class's prompt j.

    A class with fewer prompts begins again, so there are as many draws as the largest class has prompts, and each
    prompt is in one. Empty where no class has a choice; None where a class has no image in a fold, or where scores that
    are to be standardised are all equal. Folds may have drawn different prompts, but equally many.
    """
    found = [_of_fold(model, view, fold, words, readings, settings) for fold, words in folds]
    return tuple(None if None in draw else fmean(draw) for draw in zip(*found, strict=True))


def _of_fold(
    model: BenchModel, view: str, fold: IdFold, words: Wording, readings: Readings, settings: Settings
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


def _columns(words: Wording, phrases: Phrases, draws: int) -> NDArray[np.int64]:
    """Column numbers (draws, C) of the prompts of each draw."""
    places, owner = words.places(phrases)
    own = [places[owner == number] for number in range(len(phrases))]
    return np.array([[places[draw % len(places)] for places in own] for draw in range(draws)])


def _logits(
    model: BenchModel, view: str, images: Sequence[str], words: Wording, readings: Readings, settings: Settings
) -> Scores:
    """Logits (n, P) of every text of the wording."""
    known = model.card.views[view]
    if known.scoring == "interaction":
        return readings.scores(words, images)
    sides = (texts for side in (words.prompts, words.against) for texts in side.values())
    vectors = np.concatenate([model.prompt_vectors(texts, settings) for texts in sides])
    return scores(readings.vectors(known.tap, images), vectors, model.logit_scale(view))
