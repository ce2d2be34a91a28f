"""Arithmetic of vectors that protocols share, in float64 but where said; images are read a block at a time."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Float32Array = NDArray[np.float32]
Float64Array = NDArray[np.float64]
ROWS = 256  # images of a block, which a processor's cache holds in float64
CELLS = 1 << 24  # products of a block at the most, where vectors are very many
SUMMED = 128  # dimensions of which float32 takes the sum at a time, since longer sums are off by more
FAR = 1e12  # lengths beyond it, or below its inverse, are measured in float64: float32 might not hold their squares


def lengths(vectors: FloatArray) -> Float64Array:
    """Euclidean lengths (n,) of vectors (n, d)."""
    found: Float64Array = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return found


def unit(vectors: FloatArray) -> Float64Array:
    """The vectors (n, d) at unit length; zero ones stay zero."""
    exact = vectors.astype(np.float64)
    size = lengths(exact)
    return exact / np.where(size > 0, size, 1.0)[:, None]


def _rows(vectors: FloatArray) -> int:
    """How many images a block has."""
    return max(1, min(ROWS, CELLS // max(1, len(vectors))))


def product_blocks(images: FloatArray, vectors: Float64Array) -> Iterator[tuple[slice, Float64Array, Float64Array]]:
    """Some images (m, d) at a time: their rows, dot products (r, k) with vectors (k, d), and their lengths (r,).

    What is yielded is overwritten by the next block.
    """
    across = np.ascontiguousarray(vectors.T)
    rows = _rows(vectors)
    space, found = np.empty((rows, images.shape[1])), np.empty((rows, len(vectors)))
    for first in range(0, len(images), rows):
        some = images[first : first + rows]
        block, dots = space[: len(some)], found[: len(some)]
        np.copyto(block, some)
        np.matmul(block, across, out=dots)
        squares = block[:, None, :] @ block[:, :, None]  # in half the time that einsum takes
        yield slice(first, first + len(some)), dots, np.sqrt(squares[:, 0, 0])


def products(images: FloatArray, vectors: Float64Array) -> tuple[Float64Array, Float64Array]:
    """Dot products (m, k) of images (m, d) with vectors (k, d), and the lengths (m,) of the images."""
    found, size = np.empty((len(images), len(vectors))), np.empty(len(images))
    for rows, dots, own in product_blocks(images, vectors):
        found[rows], size[rows] = dots, own
    return found, size


def cosine_blocks32(images: FloatArray, vectors: FloatArray) -> Iterator[tuple[slice, Float32Array]]:
    """Some images (m, d) at a time: their rows and cosines (r, k) with vectors (k, d), 0 where either is zero.

    Products are float32, as those of zero-shot scores are, where vectors are many: a cosine is off by less than 1e-6,
    and so far at most it depends on the image's place in its block. What is yielded is overwritten by the next one.
    """
    across = np.ascontiguousarray(unit(vectors).astype(np.float32).T)
    rows = _rows(vectors)
    found, space = np.empty((2, rows, len(vectors)), np.float32)
    parts = [slice(at, at + SUMMED) for at in range(0, len(across), SUMMED)]
    for first in range(0, len(images), rows):
        block = images[first : first + rows].astype(np.float32, copy=False)
        size = np.sqrt(sum(np.einsum("ij,ij->i", block[:, part], block[:, part]) for part in parts))[:, None]
        if not ((size > 1 / FAR) & (size < FAR)).all():
            block, size = unit(images[first : first + rows]).astype(np.float32), np.ones_like(size)
        dots, more = found[: len(block)], space[: len(block)]
        dots[:] = 0
        for part in parts:
            dots += np.matmul(block[:, part], across[part], out=more)
        dots /= size
        yield slice(first, first + len(block)), dots


def cosines(images: FloatArray, vectors: FloatArray) -> Float64Array:
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
