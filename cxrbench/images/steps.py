"""Stepped recipes: the published models' own integer arithmetic and resizing, then float32 at the very end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.errors import ImageError
from cxrbench.images.grey import PIXEL_LIMIT, FloatArray, Grey, ValueArray, value_range
from cxrbench.specs.recipe import Crop, CropSquare, MinMax, Pad, PadSquare, Resample, Resize, Step, Steps, Stretch

ByteArray = NDArray[np.uint8]
EPSILON = 1e-3  # a box edge nearer than this to a pixel's edge leaves that pixel out
FIXED = 2048  # weights of the enlargement are multiples of 1 / FIXED


def area(picture: ByteArray, height: int, width: int) -> ByteArray:
    """(H, W) uint8 to (height, width) uint8."""
    rows, columns = picture.shape
    if (rows, columns) == (height, width):
        return picture
    if height > rows or width > columns:
        return _enlarged(picture, height, width)
    if rows % height == 0 and columns % width == 0:
        return _in_blocks(picture, rows // height, columns // width)
    return _shrunk(picture, height, width)


def _in_blocks(picture: ByteArray, down: int, across: int) -> ByteArray:
    """Whole boxes: integer sums; 2 x 2 is rounded half up, all others half to even."""
    height, width = picture.shape[0] // down, picture.shape[1] // across
    total = picture.reshape(height, down, width, across).sum(axis=(1, 3), dtype=np.int32)
    if (down, across) == (2, 2):
        return ((total + 2) >> 2).astype(np.uint8)
    return np.rint(total.astype(np.float32) * np.float32(1.0 / (down * across))).astype(np.uint8)


@lru_cache(maxsize=256)
def _boxes(before: int, after: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """First source pixel of each output (after,), and the weights (taps, after), in order and padded with zeros."""
    scale = 1.0 / (after / before)
    first, weights = np.zeros(after, np.intp), np.zeros((int(np.ceil(scale)) + 2, after), np.float32)
    for i in range(after):
        start, end = i * scale, i * scale + scale
        width = min(scale, before - start)
        last = min(int(np.floor(end)), before - 1)
        inner = min(int(np.ceil(start)), last)
        shares = [(inner - start) / width] if inner - start > EPSILON else []
        first[i] = inner - len(shares)
        shares += [1.0 / width] * (last - inner)
        if end - last > EPSILON:
            shares.append(min(end - last, 1.0, width) / width)
        weights[: len(shares), i] = shares
    used = int(np.flatnonzero(weights.any(axis=1))[-1]) + 1
    return first, weights[:used]


def _shrunk(picture: ByteArray, height: int, width: int) -> ByteArray:
    """Rows first, then columns, each a running float32 sum over the box."""
    first, weights = _boxes(picture.shape[1], width)
    wide = np.zeros((picture.shape[0], width), np.float32)
    for tap, share in enumerate(weights):
        wide += picture.take(np.minimum(first + tap, picture.shape[1] - 1), axis=1) * share
    first, weights = _boxes(picture.shape[0], height)
    small = np.zeros((height, width), np.float32)
    for tap, share in enumerate(weights):
        small += wide.take(np.minimum(first + tap, picture.shape[0] - 1), axis=0) * share[:, None]
    return np.clip(np.rint(small), 0, 255).astype(np.uint8)


def _neighbours(before: int, after: int) -> tuple[NDArray[np.intp], NDArray[np.int64], NDArray[np.int64]]:
    """Near source pixel and the two fixed-point weights of each output."""
    place, scale, back = np.arange(after), 1.0 / (after / before), after / before
    near = np.floor(place * scale).astype(np.intp)
    far_share = ((place + 1) - (near + 1) * back).astype(np.float32)
    far_share = np.where(far_share <= 0, np.float32(0), far_share - np.floor(far_share))
    far_share = np.where(near >= before - 1, np.float32(0), far_share)
    near = np.minimum(near, before - 1)
    one, fixed = np.float32(1), np.float32(FIXED)
    return near, np.rint((one - far_share) * fixed).astype(np.int64), np.rint(far_share * fixed).astype(np.int64)


def _enlarged(picture: ByteArray, height: int, width: int) -> ByteArray:
    """Linear between neighbours, rows then columns, with the truncations of OpenCV's vector code."""
    rows, columns = picture.shape
    wide = picture.astype(np.int64)
    near, here, there = _neighbours(columns, width)
    wide = wide[:, near] * here + wide[:, np.minimum(near + 1, columns - 1)] * there
    near, here, there = _neighbours(rows, height)
    upper, lower = wide[near] >> 4, wide[np.minimum(near + 1, rows - 1)] >> 4
    total = ((upper * here[:, None]) >> 16) + ((lower * there[:, None]) >> 16)
    return np.clip((total + 2) >> 2, 0, 255).astype(np.uint8)


FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
CUBIC = -0.75  # the slope that torch takes; Pillow takes -0.5


def eight_bit(grey: Grey) -> ByteArray:
    """(H, W) uint8: `low` to 0, `high` to 255, rounded half to even, values outside clipped."""
    if grey.values.dtype == np.uint8 and (grey.low, grey.high) == (0.0, 255.0):
        return grey.values
    return _mapped(grey.values, lambda values: np.rint(_clipped(values, grey.low, grey.high) * 255.0))


def min_max(grey: Grey) -> ByteArray:
    """(H, W) uint8: least value shown to 0, greatest to 255, cut; a picture of one value is black."""
    least, greatest = value_range(np.clip(value_range(grey.values), grey.low, grey.high))
    return _mapped(grey.values, lambda values: _clipped(values, least, greatest) * 255.0)


def stretched_by_opencv(values: ValueArray, least: float, greatest: float) -> ByteArray:
    """Values as uint8: `least` to 0, `greatest` to 255, in the arithmetic of OpenCV's normalize."""
    slope = 255 / (greatest - least)
    factor, summand = (float(np.float32(number)) for number in (slope, -least * slope))

    def to_byte(wide: FloatArray) -> FloatArray:
        exact = np.clip(wide, least, greatest) * factor + summand  # float64 holds product and sum of float32 numbers
        return np.clip(np.rint(exact.astype(np.float32)), 0, 255)

    return _mapped(values, to_byte)


def stretch(grey: Grey) -> ByteArray:
    """(H, W) uint8: see `stretched_by_opencv`, of what is shown."""
    return stretched_by_opencv(grey.values, *value_range(np.clip(value_range(grey.values), grey.low, grey.high)))


def _clipped(values: FloatArray, low: float, high: float) -> FloatArray:
    return (np.clip(values, low, high) - low) / (high - low)


def _mapped(values: ValueArray, to_byte: Callable[[FloatArray], FloatArray]) -> ByteArray:
    """An elementwise map of float64 to 0..255, cut to uint8; through a table where that is less work."""
    if values.dtype.kind not in "iu" or values.dtype.itemsize > 2 or values.size < 1 << 16:
        return to_byte(values.astype(np.float64)).astype(np.uint8)
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    codes = np.arange(np.iinfo(unsigned).max + 1).astype(unsigned)
    table = to_byte(codes.view(values.dtype).astype(np.float64)).astype(np.uint8)
    return table[np.ascontiguousarray(values).view(unsigned)]


def first_picture(grey: Grey, step: Step, *, dicom: bool) -> ByteArray:
    """What the first step starts from, or makes where it is a min-max or stretch."""
    match step:
        case MinMax():
            return min_max(grey)
        case Stretch() if not dicom:
            return stretch(grey)
    return eight_bit(grey)


def after(step: Step, picture: ByteArray) -> ByteArray:
    """The picture after a step; raises ImageError for pictures so oblong that nothing or far too much would be left."""
    height, width = picture.shape
    match step:
        case PadSquare():
            return _padded(picture, max(height, width, step.least))
        case Resize():
            return _resized(picture, *fitted(height, width, step), step)
        case Pad():
            return _padded(picture, step.size)
        case Crop():
            top, left = (_half(side - step.size, step.rest) for side in (height, width))
            return picture[top : top + step.size, left : left + step.size]
        case CropSquare():
            side = min(height, width)
            top, left = height // 2 - side // 2, width // 2 - side // 2
            return picture[top : top + side, left : left + side]
    return picture


def _half(rest: int, rounded: Literal["even", "down"]) -> int:
    return round(rest / 2) if rounded == "even" else rest // 2


def fitted(height: int, width: int, step: Resize) -> tuple[int, int]:
    """Height and width that a resize gives; raises ImageError if a side would be 0 or the picture too large."""
    size, shorter, longer = step.size, min(height, width), max(height, width)
    match step.to:
        case "exact":
            sides = [size, size]
        case "shorter":
            sides = [size if side == shorter else int(size * side / shorter) for side in (height, width)]
        case "longer":
            cut = [int(side * (size / longer)) for side in (height, width)]
            sides = [size, cut[1]] if height >= width else [cut[0], size]
        case "longer-cut":
            sides = [int(side * (size / longer)) for side in (height, width)]
    if min(sides) < 1 or sides[0] * sides[1] > PIXEL_LIMIT:
        raise ImageError(
            f"{width} x {height} pixels would become {sides[1]} x {sides[0]} by the resize to {size}: too oblong for "
            "this recipe. Leave it out."
        )
    return sides[0], sides[1]


def _resized(picture: ByteArray, height: int, width: int, step: Resize) -> ByteArray:
    if step.filter == "area":
        return area(picture, height, width)
    return np.asarray(Image.fromarray(picture).resize((width, height), FILTERS[step.filter]))


def _padded(picture: ByteArray, side: int) -> ByteArray:
    height, width = picture.shape
    if (height, width) == (side, side):
        return picture
    if side * side > PIXEL_LIMIT:
        raise ImageError(f"{width} x {height} pixels are too oblong for a square of {side}. Leave it out.")
    square = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = picture
    return square


def normalise(planes: Sequence[ByteArray], recipe: Steps) -> NDArray[np.float32]:
    """(C, size, size) float32 in float32 arithmetic, as the authors' tensors have it; C is 1 where channels are equal.

    `planes`: one (size, size) for all channels, or one for each of three. The sums of a `resample` are taken in float64
    and rounded once.
    """
    planes = [planes[c % len(planes)] for c in range(len(recipe.mean))]
    tables = [
        (_scaled(plane, recipe.divisor) - np.float32(m)) / np.float32(s)
        for plane, m, s in zip(planes, recipe.mean, recipe.std, strict=True)
    ]
    array = np.stack([table.take(plane) for table, plane in zip(tables, planes, strict=True)])
    return array if recipe.resample is None else np.stack([_resampled(plane, recipe.resample) for plane in array])


def _scaled(plane: ByteArray, divisor: Literal[1, 255, "own-range"]) -> NDArray[np.float32]:
    """What the 256 levels of a plane become (256,) before mean and std."""
    levels = np.arange(256, dtype=np.float32)
    if divisor != "own-range":
        return levels / np.float32(divisor)
    least, greatest = int(plane.min()), int(plane.max())
    if least == greatest:
        raise ImageError("what is left of the picture has one value alone, and no range to be stretched. Leave it out.")
    scaled = levels / np.float32(255)
    return (scaled - scaled[least]) / (scaled[greatest] - scaled[least])


def _resampled(plane: NDArray[np.float32], how: Resample) -> NDArray[np.float32]:
    """(H, W) to (size, size), by four neighbours each way, edges repeated, no antialiasing; or smoothed and linear."""
    if how.filter == "smoothed-linear":
        return _smoothed(plane, how.size)
    near, weights = _cubic(plane.shape[0], how.size)
    tall = sum(plane[rows].astype(np.float64) * share[:, None] for rows, share in zip(near, weights, strict=True))
    near, weights = _cubic(plane.shape[1], how.size)
    small = sum(np.asarray(tall)[:, columns] * share for columns, share in zip(near, weights, strict=True))
    return np.asarray(small, np.float32)


def _smoothed(plane: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """(H, W) to (size, size) as scikit-image's `resize` with mode "constant" has it."""
    from scipy import ndimage

    factors = [side / size for side in plane.shape]
    sigma = [max(0.0, (factor - 1) / 2) for factor in factors]
    smooth = ndimage.gaussian_filter(plane, sigma, mode="grid-constant") if any(sigma) else plane
    small = ndimage.zoom(smooth, [1 / factor for factor in factors], order=1, mode="grid-constant", grid_mode=True)
    return np.asarray(np.clip(small, plane.min(), plane.max()), np.float32)


@lru_cache(maxsize=64)
def _cubic(before: int, size: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Source pixels (4, size) and their weights (4, size); pixel centres, as align_corners=False has them.

    Places are rounded to float32 and weights computed in it, as torch does (with a fused multiply-add): between black
    and white float64 would be off by up to 1e-4.
    """
    scale, slope = float(np.float32(before / size)), np.float32(CUBIC)
    at = ((np.arange(size) + 0.5) * scale - 0.5).astype(np.float32)
    base = np.floor(at)
    away = at - base
    inner = np.stack([away, 1 - away])
    outer = inner + 1
    close = ((slope + 2) * inner - (slope + 3)) * inner * inner + 1
    far = ((slope * outer - 5 * slope) * outer + 8 * slope) * outer - 4 * slope
    pixels = np.clip(base.astype(np.intp) + np.arange(-1, 3)[:, None], 0, before - 1)
    return pixels, np.stack([far[0], close[0], close[1], far[1]])


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
    for row in range(after):
        first, triangle = _triangle(before, after, row)
        weights[row, first : first + len(triangle)] = triangle
    return weights


def _triangle(before: int, after: int, row: int) -> tuple[int, FloatArray]:
    """The first input that a row of the antialiasing matrix uses, and the weights from there on."""
    scale = before / after
    support, centre = max(scale, 1.0), scale * (row + 0.5)
    first, last = max(int(centre - support + 0.5), 0), min(int(centre + support + 0.5), before)
    triangle = np.maximum(1.0 - np.abs((np.arange(first, last) - centre + 0.5) / support), 0.0)
    return first, triangle / triangle.sum()


@lru_cache(maxsize=256)
def bands(before: int, after: int) -> tuple[Band, ...]:
    """The antialiasing matrix cut into bands of `BAND` rows without their zero columns."""
    found = []
    for first in range(0, after, BAND):
        rows = [_triangle(before, after, row) for row in range(first, min(first + BAND, after))]
        left, right = min(start for start, _ in rows), max(start + len(own) for start, own in rows)
        weights = np.zeros((len(rows), right - left))
        for row, (start, own) in enumerate(rows):
            weights[row, start - left : start - left + len(own)] = own
        used = np.flatnonzero(weights.any(axis=0))
        source = slice(left + int(used[0]), left + int(used[-1]) + 1)
        cut = np.ascontiguousarray(weights[:, used[0] : used[-1] + 1])
        found.append(Band(slice(first, first + len(rows)), source, cut))
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
