"""Bilinear resize of a grey array in float64, as torch.nn.functional.interpolate does it, in NumPy alone.

`literal` is the oracle: whole weight matrices on a picture that is already on its final scale. `quick` gives the same
after a cast to float32: without antialiasing it gathers the four neighbours of each output pixel and maps only them to
the final scale, with antialiasing it multiplies bands of few rows and scales last (weights sum to 1).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cxrbench.images.grey import FloatArray, ValueArray


@dataclass(frozen=True, slots=True)
class Tone:
    """`first` maps values of any type to float64; `last` is affine and elementwise."""

    first: Callable[[ValueArray], FloatArray]
    last: Callable[[FloatArray], FloatArray]

    def literal(self, values: ValueArray) -> FloatArray:
        """Both steps on every pixel."""
        return self.last(self.first(values))


def over_255() -> Tone:
    """v / 255, whatever the depth."""
    return Tone(lambda values: values.astype(np.float64), lambda small: small / 255.0)


def over_255_negated() -> Tone:
    """(255 - v) / 255."""
    return Tone(lambda values: 255.0 - values.astype(np.float64), lambda small: small / 255.0)


def stretched(low: float, high: float) -> Tone:
    """Least value to 0, greatest to 255, then / 255."""
    return Tone(lambda values: values.astype(np.float64) - low, lambda small: small / (high - low) * 255.0 / 255.0)


def stretched_negated(low: float, high: float) -> Tone:
    """255 minus the stretched value, then / 255; 255 - x has few digits left near 0, so no step is put off."""

    def first(values: ValueArray) -> FloatArray:
        return (255.0 - (values.astype(np.float64) - low) / (high - low) * 255.0) / 255.0

    return Tone(first, lambda small: small)


def window(low: float, high: float) -> Tone:
    """`low` to 0, `high` to 1, values outside clipped."""
    return Tone(lambda values: np.clip(values.astype(np.float64), low, high) - low, lambda small: small / (high - low))


IndexArray = NDArray[np.intp]
BAND = 8  # output rows a product: a wider band multiplies more zeros, a narrower one makes more calls
PRODUCT = 1 << 17  # multiplications a product: BLAS stays in the calling thread


@dataclass(frozen=True, slots=True)
class Taps:
    """Without antialiasing: output i is (1 - weight[i]) * input[near[i]] + weight[i] * input[far[i]]."""

    near: IndexArray  # (n,)
    far: IndexArray  # (n,)
    weight: FloatArray  # (n,)


@dataclass(frozen=True, slots=True)
class Band:
    """With antialiasing: outputs `out` are `weights` (len(out), len(source)) times the inputs `source`."""

    out: slice
    source: slice
    weights: FloatArray


@lru_cache(maxsize=256)
def taps(before: int, after: int) -> Taps:
    """Neighbours and weights of `after` outputs over `before` inputs; pixel centres, edges repeated."""
    at = np.maximum((np.arange(after) + 0.5) * (before / after) - 0.5, 0.0)
    near = at.astype(np.intp)
    return Taps(near, np.minimum(near + 1, before - 1), at - near)


def matrix(before: int, after: int, antialias: bool) -> FloatArray:
    """(after, before) weights; a triangle as wide as the reduction with antialiasing, else two neighbours a row."""
    weights = np.zeros((after, before))
    if not antialias:
        ends, rows = taps(before, after), np.arange(after)
        np.add.at(weights, (rows, ends.near), 1.0 - ends.weight)
        np.add.at(weights, (rows, ends.far), ends.weight)
        return weights
    scale = before / after
    support = max(scale, 1.0)
    for row in range(after):
        centre = scale * (row + 0.5)
        first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), before)
        triangle = np.maximum(1.0 - np.abs((np.arange(first, last) - centre + 0.5) / support), 0.0)
        weights[row, first:last] = triangle / triangle.sum()
    return weights


@lru_cache(maxsize=256)
def bands(before: int, after: int) -> tuple[Band, ...]:
    """The antialiasing matrix cut into bands of `BAND` rows without their zero columns."""
    weights = matrix(before, after, antialias=True)
    found = []
    for first in range(0, after, BAND):
        rows = weights[first : first + BAND]
        used = np.flatnonzero(rows.any(axis=0))
        source = slice(int(used[0]), int(used[-1]) + 1)
        found.append(Band(slice(first, first + len(rows)), source, np.ascontiguousarray(rows[:, source])))
    return tuple(found)


def literal(values: ValueArray, height: int, width: int, antialias: bool, tone: Tone) -> FloatArray:
    """(H, W) stored values to (height, width) float64 on the tone's scale: scale first, then whole matrices."""
    scaled = tone.literal(values)
    down = matrix(values.shape[0], height, antialias)
    across = matrix(values.shape[1], width, antialias)
    return down @ scaled @ across.T


def quick(values: ValueArray, height: int, width: int, antialias: bool, tone: Tone) -> FloatArray:
    """The same as `literal`, within rounding of float64."""
    if values.shape == (height, width):
        return tone.literal(values)
    return _banded(values, height, width, tone) if antialias else _gathered(values, height, width, tone)


def _gathered(values: ValueArray, height: int, width: int, tone: Tone) -> FloatArray:
    down, across = taps(values.shape[0], height), taps(values.shape[1], width)
    rows = np.stack([down.near, down.far], axis=1).ravel()
    columns = np.stack([across.near, across.far], axis=1).ravel()
    corners = tone.literal(values.take(rows, axis=0).take(columns, axis=1))
    pairs = corners[:, 0::2] * (1.0 - across.weight) + corners[:, 1::2] * across.weight
    right = down.weight[:, None]
    return pairs[0::2] * (1.0 - right) + pairs[1::2] * right


def _banded(values: ValueArray, height: int, width: int, tone: Tone) -> FloatArray:
    tall = np.empty((height, values.shape[1]))
    for band in bands(values.shape[0], height):
        rows = tone.first(values[band.source])
        step = max(PRODUCT // band.weights.size, 1)
        for left in range(0, rows.shape[1], step):
            part = slice(left, left + step)
            np.matmul(band.weights, rows[:, part], out=tall[band.out, part])
    small = np.empty((height, width))
    for band in bands(values.shape[1], width):
        step = max(PRODUCT // band.weights.size, 1)
        for top in range(0, height, step):
            part = slice(top, top + step)
            np.matmul(tall[part, band.source], band.weights.T, out=small[part, band.out])
    return tone.last(small)
