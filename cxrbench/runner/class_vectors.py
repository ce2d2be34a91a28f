"""Class vectors of a model's texts, and what a record says of the words: for zero-shot and for what learns from it."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.zero_shot import ClassVectors, class_vectors
from cxrbench.records.record import PromptIdentity
from cxrbench.runner.folds import group_labels
from cxrbench.runner.model import BenchModel
from cxrbench.runner.protocol import Cell, FloatArray
from cxrbench.runner.wording import ClassPrompts, Phrases
from cxrbench.specs.settings import Settings
from cxrbench.store import digest

VectorPooling = Literal["embedding", "unit-embedding", "projected-embedding"]


def prompt_rows(
    model: BenchModel, phrases: Phrases, settings: Settings, *, projected: bool
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Vectors (P, d) of all prompts and the class (P,) that owns each; `projected`: before they get unit length."""
    rows = [model.prompt_vectors(prompts, settings, projected=projected) for prompts in phrases.values()]
    return np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(row) for row in rows])


def vector_pooling(model: BenchModel, settings: Settings) -> VectorPooling:
    """How the prompts of a class become its vector: as the model's own zero-shot does it, or the mean of unit vectors.

    The mean is that of models which pool the prompts' scores (for those that take the mean score it says the same), and
    has unit length where `zs.ensemble` is not `released`.
    """
    assert model.card.zero_shot is not None
    pooling = model.card.zero_shot.pooling
    if pooling == "projected-embedding":
        return pooling
    return "unit-embedding" if pooling == "unit-embedding" or settings.ensemble != "released" else "embedding"


def text_vectors(model: BenchModel, phrases: Phrases, settings: Settings, how: VectorPooling) -> FloatArray:
    """One vector per class (C, d) of its prompts."""
    vectors, owner = prompt_rows(model, phrases, settings, projected=how == "projected-embedding")
    mean: ClassVectors = "mean" if how == "embedding" else "renormalised"
    return class_vectors(vectors, owner, len(phrases), mean)


def prompt_identity(
    cell: Cell, settings: Settings, scoring: str, drawn: Sequence[ClassPrompts | None]
) -> PromptIdentity:
    """Which words, or prototypes, stood for the classes of a worded cell; `drawn` are those of each fold."""
    if cell.prompts is None:
        classes = group_labels(cell.data.task, cell.group, settings)
        return PromptIdentity(set="prototypes", digest=digest.of_json(classes), source="prototypes")
    told = [words for words in drawn if words is not None]
    told = told[:1] if all(words == told[0] for words in told) else told
    return PromptIdentity(
        set=cell.prompts.name,
        digest=cell.prompts.digest,
        source="prompts",
        drawn=tuple(dict(words.prompts) for words in told),
        against=tuple(dict(words.against) for words in told if words.against),
        asked=tuple(words.texts for words in told) if scoring == "interaction" else (),
        edition=told[0].edition,
    )
