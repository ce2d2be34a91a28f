"""Zero-shot scores from image and class vectors."""

from collections.abc import Sequence
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
