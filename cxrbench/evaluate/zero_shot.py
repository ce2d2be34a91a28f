"""Zero-shot scores from image and class vectors."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import RunError, SpecError
from cxrbench.types import IntArray

FloatArray = NDArray[np.floating[Any]]
Float32Array = NDArray[np.float32]
ClassVectors = Literal["mean", "renormalised"]
Pooling = Literal["mean", "max"]


def class_vectors(embeddings: FloatArray, owner: IntArray, n_classes: int, how: ClassVectors) -> Float32Array:
    """One vector per class (C, d) from unit vectors of prompts (P, d); `owner` (P,) gives each prompt's class.

    `mean` is not of unit length, as in the released code: classes with varied prompts get shorter vectors.
    `renormalised` brings it back to unit length. Raises SpecError if a class owns no prompt.
    """
    _check_owner(owner, len(embeddings), n_classes)
    member = (owner == np.arange(n_classes)[:, None]).astype(np.float64)
    means = member @ np.asarray(embeddings, dtype=np.float64) / member.sum(axis=1, keepdims=True)
    if how == "renormalised":
        means /= np.linalg.norm(means, axis=1, keepdims=True)
    return means.astype(np.float32)


def scores(images: FloatArray, classes: FloatArray, scale: float) -> Float32Array:
    """Raw logits (N, C) in float32: unit image vectors (N, d) times class vectors (C, d) times exp(logit scale).

    No softmax: in the released code one is computed and overwritten.
    """
    return (images.astype(np.float32) @ classes.astype(np.float32).T) * np.float32(scale)


def class_scores(scores: FloatArray, owner: IntArray, how: Pooling) -> FloatArray:
    """One score per class from one score per prompt: (N, P) to (N, C), same scale, higher is likelier.

    `owner` (P,) gives each prompt's class, 0 to C - 1. Raises SpecError if a class owns no prompt.
    Source: the pooling each paper's own code uses; the model's card says which.
    """
    n_classes = int(owner.max()) + 1 if len(owner) else 0
    _check_owner(owner, scores.shape[1], n_classes)
    pooled = [scores[:, owner == c] for c in range(n_classes)]
    if how == "max":
        return np.stack([p.max(axis=1) for p in pooled], axis=1)
    return np.stack([p.mean(axis=1, dtype=np.float64) for p in pooled], axis=1).astype(scores.dtype)


def standardised(scores: FloatArray, classes: Sequence[str]) -> FloatArray:
    """Each class's scores (N, C) minus their mean over the N images, over their population standard deviation.

    One image alone stays as it is. Raises RunError where a class has the same score for all images, which nothing can
    be divided by. Source: GLoRIA's released zero-shot classification, done once over the test set.
    """
    if len(scores) < 2:
        return scores
    constant = scores.max(axis=0) == scores.min(axis=0)  # their computed deviation need not be exactly 0
    if flat := [name for name, still in zip(classes, constant, strict=True) if still]:
        raise RunError(
            f"class {', '.join(flat)}: all {len(scores)} test images have the same score, so it cannot be standardised "
            "(its spread is 0). Either the weights or the prompts of the class say nothing of the image, or the images "
            "are all alike; see them unstandardised with a copy of the card that has zero_shot.standardised = false."
        )
    exact = scores.astype(np.float64)
    return ((exact - exact.mean(axis=0)) / exact.std(axis=0)).astype(scores.dtype)


def _check_owner(owner: IntArray, n_prompts: int, n_classes: int) -> None:
    if owner.shape != (n_prompts,):
        raise SpecError(f"{n_prompts} prompts, but owners of shape {owner.shape}")
    counts = np.bincount(owner, minlength=n_classes)
    if not n_classes or len(counts) > n_classes or not counts.all():
        bad = np.flatnonzero(counts == 0).tolist()
        raise SpecError(f"every one of {n_classes} classes needs a prompt; none for class {bad or 'any'}")


Slots = Sequence[Sequence[str]]
Prompts = dict[str, tuple[str, ...]]
RELEASED_SLOTS = 3  # further lists of a class (location, of COVID and Normal) are never used by the released code


@dataclass(frozen=True, slots=True)
class PromptTerms:
    """Term lists of classes. Those of `order` with more than `above` combinations enter with `size` drawn ones."""

    slots: Mapping[str, Slots]
    order: tuple[str, ...] = ()
    above: int = 100
    size: int = 100


def combinations(slots: Slots) -> tuple[str, ...]:
    """All combinations of the first three lists, the first changing slowest; lower case, runs of blanks reduced.

    Equal prompts stay: a list may name a term twice.
    """
    joined = (" ".join(terms) for terms in itertools.product(*slots[:RELEASED_SLOTS]))
    return tuple(" ".join(text.lower().split()) for text in joined)


def plain_combinations(slots: Slots) -> tuple[str, ...]:
    """All combinations of all lists, the first changing slowest, joined by one blank each and otherwise untouched.

    Empty terms leave their blanks, and equal prompts stay: some models count characters, and some count prompts.
    """
    return tuple(" ".join(terms) for terms in itertools.product(*slots))


def released_prompts(terms: PromptTerms, random_state: object) -> Prompts:
    """The prompts of every class with terms in one fold of the released code.

    `random_state` is the state of a `random.Random` that the fold's draw left on the training table
    (`Fold.random_state`). The classes of `order` are drawn in that order whatever the task's classes are, so a task's
    prompts do not depend on which classes it has. Raises SpecError where `order` names a class without terms, or one
    outside of `order` has too many combinations. Source: protocol facts, section 4.
    """
    rng = random.Random()
    rng.setstate(random_state)  # type: ignore[arg-type]
    prompts = {name: combinations(slots) for name, slots in terms.slots.items()}
    large = {name for name, texts in prompts.items() if len(texts) > terms.above}
    if stray := sorted((set(terms.order) - prompts.keys()) | (large - set(terms.order))):
        raise SpecError(
            f"prompt sampling: {', '.join(stray)} must stand both in the order and in the terms; "
            f"classes with more than {terms.above} combinations need a place in the order"
        )
    for name in terms.order:
        if name in large:
            prompts[name] = tuple(rng.sample(prompts[name], terms.size))
    return prompts


def all_prompts(terms: PromptTerms) -> Prompts:
    """All distinct combinations of every class with terms, in their order; nothing is drawn."""
    return {name: tuple(dict.fromkeys(combinations(slots))) for name, slots in terms.slots.items()}
