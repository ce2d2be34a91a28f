"""OpenCV's INTER_AREA on 8-bit grey, bit for bit, in NumPy: float32 sums in its order, fixed point when enlarging.

Source: the arithmetic of OpenCV 4.10 and 5.0 on x86-64, which agree. Both sides must shrink or stay, or both grow or
stay, as they do where one factor rules both.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

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
