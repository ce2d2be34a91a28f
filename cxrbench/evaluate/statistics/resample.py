"""Resamples of the test set as sums: a metric is a function of counts, and counts are linear in the units' weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cxrbench.errors import DataError
from cxrbench.index import IntArray

FloatArray = NDArray[np.floating[Any]]

BLOCK_CELLS = 4_000_000  # weights and totals held at once: 16 MB each in float32
CACHE_CELLS = 100_000  # draws made at once: larger arrays leave the processor's cache and take three times as long
FEW_GROUPS = 1 / 20  # below this share of distinct units, multinomial counts are drawn faster than single units
_HASH_SEED = 1  # of the random numbers that tell columns apart; any value gives the same groups


@dataclass(frozen=True, slots=True)
class Statistic:
    """A metric that depends on the test set through counts alone.

    `matrix` (K, U) of whole numbers is what each unit adds to each of K counts; `of` takes counts (K, B) to B values,
    NaN where undefined.
    """

    matrix: sparse.csr_array
    of: Callable[[FloatArray], FloatArray]

    @property
    def estimate(self) -> float:
        """The value on the test set as it is, NaN where undefined."""
        ones = np.ones((self.matrix.shape[1], 1))
        return float(self.of(self.matrix.astype(np.float64) @ ones)[0])


def replicates(
    statistics: Sequence[Statistic], stratum: IntArray, size: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Values (S, size) of S statistics on the same `size` resamples, so that their differences are paired.

    In a stratum of n units n - 1 are drawn with replacement and weigh n / (n - 1): with n drawn, the spread of a mean
    would come out too small by that factor. `stratum` (U,) is -1 for units that are not drawn. Units that add the same
    to every count are drawn together, which changes no distribution. Raises DataError for a stratum of one unit.
    Source: McCarthy and Snowden 1985; Rao and Wu 1988.
    """
    group, first = _alike([s.matrix for s in statistics], stratum)
    parts = [(s.matrix[:, first].astype(np.float32).tocsr(), s.of) for s in statistics]
    rows = max(len(first), *(s.matrix.shape[0] for s in statistics))
    values = np.empty((len(statistics), size))
    for start, stop in _blocks(size, rows):
        weights = _drawn(group, stratum, len(first), stop - start, rng)
        for place, (matrix, of) in enumerate(parts):
            values[place, start:stop] = of(matrix @ weights)
    return values


def _blocks(size: int, rows: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_CELLS // max(1, rows))
    return ((start, min(start + step, size)) for start in range(0, size, step))


def _alike(matrices: Sequence[sparse.csr_array], stratum: IntArray) -> tuple[IntArray, IntArray]:
    """The group (U,) of each unit, -1 where not drawn, and the first unit (G,) of each group; groups lie in a stratum.

    Columns are told apart by a sum of random 64-bit numbers: two of a million differ and agree with chance 1e-8.
    """
    rng = np.random.default_rng(_HASH_SEED)
    total = np.zeros(len(stratum), dtype=np.uint64)
    for matrix in matrices:
        marks = rng.integers(0, 2**64, matrix.shape[0], dtype=np.uint64)
        total += matrix.astype(np.uint64).T @ marks
    used = np.flatnonzero(stratum >= 0)
    order = used[np.lexsort((total[used], stratum[used]))]
    new = (np.diff(total[order], prepend=0) != 0) | (np.diff(stratum[order], prepend=-1) != 0)
    new[:1] = True
    group = np.full(len(stratum), -1, dtype=np.int64)
    group[order] = np.cumsum(new) - 1
    return group, order[new]


def _drawn(
    group: IntArray, stratum: IntArray, n_groups: int, size: int, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Weights (G, size) of all groups in `size` resamples."""
    weights = np.empty((n_groups, size), dtype=np.float32)
    for number in np.unique(stratum[stratum >= 0]):
        members = group[stratum == number]
        if len(members) < 2:
            raise DataError(f"stratum {number} has one unit, so no resample of it can differ")
        low, high = members.min(), members.max() + 1
        counts = _counts(members - low, high - low, size, rng)
        weights[low:high] = counts * np.float32(len(members) / (len(members) - 1))
    return weights


def _counts(members: IntArray, n_groups: int, size: int, rng: np.random.Generator) -> NDArray[Any]:
    """How often each group (G,) is met when all members but one are drawn, `size` times: (G, size)."""
    n = len(members)
    if n_groups < n * FEW_GROUPS:
        return rng.multinomial(n - 1, np.bincount(members) / n, size).T
    step = max(1, CACHE_CELLS // n)
    number = np.uint16 if n < 2**16 else np.uint32
    counts = np.empty((n_groups, size), dtype=np.int64)
    for start in range(0, size, step):
        width = min(step, size - start)
        met = np.take(members * width, rng.integers(0, n, (n - 1, width), dtype=number))
        met += np.arange(width)
        found = np.bincount(met.ravel(), minlength=n_groups * width)
        counts[:, start : start + width] = found.reshape(n_groups, width)
    return counts
