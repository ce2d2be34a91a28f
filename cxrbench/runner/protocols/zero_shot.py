"""Zero-shot as a protocol: images scored against a fold's prompts, or class vectors of the model's own."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import RunError
from cxrbench.evaluate.findings import finding_metrics
from cxrbench.evaluate.metrics import balanced_accuracy
from cxrbench.evaluate.zero_shot import class_scores, scores, standardised
from cxrbench.records.record import ProtocolIdentity
from cxrbench.runner.checks import finite_scale
from cxrbench.runner.class_vectors import prompt_identity, prompt_rows, text_vectors, vector_pooling
from cxrbench.runner.folds import IdFold, group_labels
from cxrbench.runner.measure import FoldExtra, fold_scores, measured
from cxrbench.runner.model import BenchModel
from cxrbench.runner.protocol import Basis, Cell, FloatArray, Measured, Protocol, Readings
from cxrbench.runner.wording import ClassPrompts, Phrases
from cxrbench.specs.card import ModelCard
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Settings
from cxrbench.types import Shots

Scores = NDArray[np.floating[Any]]


def prompt_scores(
    model: BenchModel,
    view: str,
    images: Sequence[str],
    words: ClassPrompts,
    readings: Readings,
    settings: Settings,
    *,
    standardise: bool = True,
) -> Scores:
    """Scores (n, C) of the images for the classes of `words` by a view, pooled and standardised as the card says.

    Without `standardise` they stay as they are: findings are judged each by itself, and that orders no images anew.

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
    return standardised(found, list(words.prompts)) if standardise and model.card.zero_shot.standardised else found


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
    if pooling == "mean" or pooling == "max":  # noqa: PLR1714 - a tuple would not narrow the type
        vectors, owner = prompt_rows(model, phrases, settings, projected=False)
        return class_scores(scores(images, vectors, scale), owner, pooling)
    return scores(images, text_vectors(model, phrases, settings, vector_pooling(model, settings)), scale)


def single_prompts(
    model: BenchModel, view: str, folds: Sequence[tuple[IdFold, ClassPrompts]], readings: Readings, settings: Settings
) -> tuple[float | None, ...]:
    """The main metric with one prompt per class, mean over folds: draw j takes every class's prompt j.

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
    return [_main_number(one, fold.test[1], classes) for one in found.transpose(1, 0, 2)]


def _main_number(scores: Scores, labels: NDArray[np.int64], classes: Sequence[str] | None) -> float | None:
    """Balanced accuracy of scores (n, C), first standardised where their `classes` are named; macro AUROC of findings.

    Source of the choice: `metric_table.main_metric`.
    """
    if labels.ndim == 2:
        return finding_metrics(scores, labels).macro_auroc
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


class ZeroShot(Protocol):
    """No training image; a model takes part by a text side or by prototypes."""

    name = "zero-shot"
    source = "Silva-Rodríguez et al., IPMI 2025; each model's authors"
    worded = True

    def combinations(
        self, model: BenchModel, group: str, shots: Sequence[Shots], sets: Sequence[PromptSet], settings: Settings
    ) -> Iterable[tuple[Shots | None, PromptSet | None]]:
        """One cell for each prompt set, or one where the view of the group scores by prototypes."""
        if model.card.zero_shot is None:
            return []
        view = model.card.view(group, settings.dlilp_head)
        return [(None, prompts) for prompts in sets] if view.classes == "prompts" else [(None, None)]

    def why_none(self, card: ModelCard) -> str:
        """Without a text or label side there is none; nor without a prompt set that was asked for."""
        none = card.zero_shot is None
        return "neither a text nor a label side" if none else "its card names no prompt set of its authors"

    def part(self, cell: Cell, settings: Settings) -> str:
        """`test`, or `train` where the released commands score a model on it."""
        how = cell.model.card.zero_shot
        released = None if how is None else how.released_parts.get(cell.data.task.name)
        return released if released and settings.covid_part == "train" else "test"

    def measure(self, cell: Cell, basis: Basis, readings: Readings) -> Measured:
        """Each fold scored by its words, or by class vectors of the model's own."""
        model, settings = cell.model, basis.settings
        labels = group_labels(cell.data.task, cell.group, settings)
        name = model.card.view_name(cell.group, settings.dlilp_head)
        view, how = model.card.views[name], model.card.zero_shot
        assert how is not None  # it has a view
        scale = finite_scale(cell, name)
        multi_label = cell.data.task.kind == "multi-label"
        standardise = how.standardised and not multi_label  # which orders no finding's images anew
        distinct = _distinct(basis.folds, basis.words, whole=settings.resplit != "released")
        predictions = []
        for fold, words in distinct:
            if words is None:
                scored = scores(readings.vectors(view.tap, fold.scored), model.prototypes(labels), scale)
            else:
                scored = prompt_scores(model, name, fold.scored, words, readings, settings, standardise=not multi_label)
            predictions.append(fold_scores(cell, fold, scored, len(labels)))
        worded = any(words is not None for _, words in distinct)
        paired = any(words is not None and words.against for _, words in distinct)
        probable = not multi_label or paired  # of one finding, a score alone has nothing to be weighed against
        protocol = ProtocolIdentity(
            protocol=self.name,
            view=name,
            tap=view.tap,
            part=basis.part,
            logit_scale=scale,
            scoring=view.scoring,
            pooling=how.pooling if worded else None,
            standardised=standardise and worded,
            scores="other" if (standardise and worded) or view.scoring == "interaction" or not probable else "logits",
        )
        prompts = prompt_identity(cell, settings, view.scoring, [words for _, words in distinct])
        worded_folds = [(fold, words) for fold, words in distinct if words is not None]
        found = measured(cell, settings, protocol, predictions, [FoldExtra() for _ in predictions], prompts)
        return replace(found, single_prompts=single_prompts(model, name, worded_folds, readings, settings))


def _distinct(
    folds: Sequence[IdFold], drawn: Sequence[ClassPrompts | None], *, whole: bool
) -> list[tuple[IdFold, ClassPrompts | None]]:
    """Folds that differ in test images or prompts. Equal ones are scored once; disjoint parts are scored together."""
    if len({fold.test[0] for fold in folds}) > 1 and whole and all(words == drawn[0] for words in drawn):
        ids = tuple(image for fold in folds for image in fold.test[0])
        joined = IdFold(0, {}, (ids, np.concatenate([fold.test[1] for fold in folds])), None)
        return [(joined, drawn[0])]
    first = (folds[0].test[0], drawn[0])
    if all((fold.test[0], words) == first for fold, words in zip(folds, drawn, strict=True)):
        return [(folds[0], drawn[0])]
    return list(zip(folds, drawn, strict=True))
