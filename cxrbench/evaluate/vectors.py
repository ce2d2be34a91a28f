"""Arithmetic of vectors that protocols share, in float64; images come as float32 and are read a block at a time."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Float64Array = NDArray[np.float64]
BLOCK = 1 << 17  # entries of a block of images: 1 MiB in float64


def lengths(vectors: FloatArray) -> Float64Array:
    """Euclidean lengths (n,) of vectors (n, d)."""
    found: Float64Array = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return found


def unit(vectors: FloatArray) -> Float64Array:
    """The vectors (n, d) at unit length; zero ones stay zero."""
    exact = vectors.astype(np.float64)
    size = lengths(exact)
    return exact / np.where(size > 0, size, 1.0)[:, None]


def products(images: FloatArray, vectors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Dot products (m, k) of images (m, d) with vectors (k, d), and the lengths (m,) of the images."""
    found, size = np.empty((len(images), len(vectors))), np.empty(len(images))
    across = np.ascontiguousarray(vectors.T)
    rows = max(32, len(vectors), BLOCK // max(1, images.shape[1]))
    for first in range(0, len(images), rows):
        block = images[first : first + rows].astype(np.float64)
        np.matmul(block, across, out=found[first : first + rows])
        size[first : first + rows] = np.einsum("ij,ij->i", block, block)
    return found, np.sqrt(size)


def cosines(images: FloatArray, vectors: Float64Array) -> Float64Array:
    """Cosines (m, k) of images (m, d) with vectors (k, d); 0 where either is zero."""
    found, size = products(images, unit(vectors))
    found /= np.where(size > 0, size, 1.0)[:, None]
    return found


def sums_by_class(features: FloatArray, labels: NDArray[np.int64], n_classes: int) -> Float64Array:
    """The sum (C, d) of the features (n, d) of each class; zero for one without."""
    member = (labels == np.arange(n_classes)[:, None]).astype(np.float64)
    return member @ features.astype(np.float64)


def softmax(logits: Float64Array, axis: int = -1) -> Float64Array:
    """Probabilities along an axis."""
    found: Float64Array = np.exp(logits - logits.max(axis=axis, keepdims=True))
    found /= found.sum(axis=axis, keepdims=True)
    return found
