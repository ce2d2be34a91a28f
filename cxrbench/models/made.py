"""Synthetic weights and images: values that follow from a name, a shape and a seed alone, on any machine.

No published checkpoint is part of this project. A checkpoint made by this rule in a published layout has the same
values wherever it is made, so what the authors' code computed on it can be kept as figures and compared. NumPy alone;
the streams of PCG64 are promised to stay as they are.
"""

import math
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEEDS = 1 << 14  # how many are looked through for that of a synthetic checkpoint
FEWEST = 4  # values of a matrix to be told by: fewer might be equal by chance
_START = 4  # values that tell a seed from all others in nearly every case


def fill(name: str, shape: Sequence[int], dtype: str = "float32", seed: int = 0) -> NDArray[Any]:
    """Values (`shape`) of one tensor, of dtype `float32` or `int64`: plausible for what its name says that it is."""
    if dtype == "int64":
        if name.endswith("position_ids"):
            return np.broadcast_to(np.arange(shape[-1], dtype=np.int64), tuple(shape)).copy()
        return np.ones(shape, dtype=np.int64)  # counts of batches seen
    return _scaled(_generator(seed, name).standard_normal(tuple(shape)), name, shape)


def _scaled(noise: NDArray[np.float64], name: str, shape: Sequence[int]) -> NDArray[np.float32]:
    """Noise as the values of a tensor of that name and `shape`, of which it may be the beginning."""
    match (name.endswith("running_var"), len(shape)):
        case True, _:
            made = 1.0 + 0.1 * np.abs(noise)
        case _, 0:
            made = 2.0 + 0.1 * noise  # temperatures
        case _, 1:
            made = 1.0 + 0.05 * noise if name.endswith("weight") else 0.02 * noise  # scales of norms; biases and means
        case _:
            made = noise * (0.05 if "embedding" in name else math.sqrt(1.0 / math.prod(shape[1:])))
    return np.asarray(made, dtype=np.float32)


def is_made(tensors: Mapping[str, NDArray[Any]], seeds: Sequence[int] = range(SEEDS)) -> bool:
    """Whether the smallest matrix among the tensors has the values that this rule gives it with one of the seeds.

    Nobody trains a network to these values: a checkpoint that has them is a made one.
    """
    matrices = [(array.size, name) for name, array in tensors.items() if array.ndim > 1 and array.dtype.kind == "f"]
    matrices = [(size, name) for size, name in matrices if size >= FEWEST]
    if not matrices:
        return False
    _, name = min(matrices)
    found = tensors[name].astype(np.float32)
    start = found.reshape(-1)[:_START]

    def begins(seed: int) -> bool:
        return np.array_equal(start, _scaled(_generator(seed, name).standard_normal(len(start)), name, found.shape))

    return any(np.array_equal(found, fill(name, found.shape, "float32", seed)) for seed in filter(begins, seeds))


def images(count: int, height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Grey pictures (count, height, width): waves and noise; a larger count begins with the same pictures."""
    rng = _generator(seed, "images")
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    return np.stack([_picture(x, y, rng) for _ in range(count)])


def _picture(x: NDArray[Any], y: NDArray[Any], rng: np.random.Generator) -> NDArray[np.uint8]:
    a, b, c, d = rng.uniform(-3, 3, size=4)
    base = 0.5 + 0.25 * np.sin(2 * math.pi * (a * x + b * y)) + 0.2 * np.cos(2 * math.pi * (c * x * y + d))
    return np.clip(255 * base + rng.normal(0, 8, size=base.shape), 0, 255).astype(np.uint8)


def _generator(seed: int, name: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
