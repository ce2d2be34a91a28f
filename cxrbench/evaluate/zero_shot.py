"""Zero-shot scores from image and class vectors."""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import SpecError
from cxrbench.index import IntArray

FloatArray = NDArray[np.floating[Any]]
Float32Array = NDArray[np.float32]
ClassVectors = Literal["mean", "renormalised"]


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


def _check_owner(owner: IntArray, n_prompts: int, n_classes: int) -> None:
    if owner.shape != (n_prompts,):
        raise SpecError(f"{n_prompts} prompts, but owners of shape {owner.shape}")
    counts = np.bincount(owner, minlength=n_classes)
    if not n_classes or len(counts) > n_classes or not counts.all():
        bad = np.flatnonzero(counts == 0).tolist()
        raise SpecError(f"every one of {n_classes} classes needs a prompt; none for class {bad or 'any'}")
