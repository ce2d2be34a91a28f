"""Resamples of the test set as sums: a metric is a function of counts, and counts are linear in the units' weights."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from cxrbench.errors import DataError
from cxrbench.index import IntArray

FloatArray = NDArray[np.floating[Any]]
Draw = Sequence[NDArray[Any]]  # of every stratum, how often each unit (n,) is met in some resamples: (b, n)

BLOCK_CELLS = 4_000_000  # weights and totals held at once: 16 MB each in float32
CACHE_CELLS = 100_000  # draws made at once: larger arrays leave the processor's cache
MOST_OF_BYTE = 255
DENSEST = 32  # zeros multiplied for each number that is none, above which a sparse product is the faster one
_HASH_SEED = 1  # of the random numbers that tell rows apart; any value gives the same counts


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
    would come out too small by that factor. `stratum` (U,) is -1 for units that are not drawn. The draws depend on
    strata, size and generator alone: a statistic has the same values to the bit, whatever others it is asked with.
    Raises DataError for a stratum of one unit. Source: McCarthy and Snowden 1985; Rao and Wu 1988.
    """
    return values(statistics, stratum, draws(stratum, size, rng))


def draws(stratum: IntArray, size: int, rng: np.random.Generator) -> Iterator[Draw]:
    """What `replicates` draws, some resamples at a time. Raises DataError for a stratum of one unit."""
    parts = _strata(stratum)
    for start, stop in _blocks(size, len(stratum)):
        yield [_counts(len(units), stop - start, rng) for units in parts]


def values(statistics: Sequence[Statistic], stratum: IntArray, drawn: Iterable[Draw]) -> NDArray[np.float64]:
    """Values (S, B) of S statistics over units in strata (U,) on what was drawn of these units."""
    product = _Product.of(statistics, _strata(stratum))
    return np.concatenate([product.values(some) for some in drawn], axis=1)


def _strata(stratum: IntArray) -> list[IntArray]:
    """The units of each stratum."""
    parts = [np.flatnonzero(stratum == number) for number in np.unique(stratum[stratum >= 0])]
    for number, units in enumerate(parts):
        if len(units) < 2:
            raise DataError(f"stratum {number} has one unit, so no resample of it can differ")
    return parts


def _blocks(size: int, rows: int) -> Iterator[tuple[int, int]]:
    step = max(1, BLOCK_CELLS // max(1, rows))
    return ((start, min(start + step, size)) for start in range(0, size, step))


def _counts(n: int, size: int, rng: np.random.Generator) -> NDArray[Any]:
    """How often each of n units is met when n - 1 are drawn, `size` times: (size, n), bytes as long as these do."""
    counts = np.empty((size, n), dtype=np.uint8)
    number, step = np.uint16 if n < 2**16 else np.uint32, max(1, CACHE_CELLS // n)
    for start in range(0, size, step):
        width = min(step, size - start)
        met = rng.integers(0, n, (width, n - 1), dtype=number) + n * np.arange(width)[:, None]
        found = np.bincount(met.ravel(), minlength=n * width).reshape(width, n)
        if counts.dtype == np.uint8 and found.max() > MOST_OF_BYTE:
            counts = counts.astype(np.uint32)
        counts[start : start + width] = found
    return counts


@dataclass(frozen=True, slots=True)
class _Product:
    """Counts of many statistics from the same draws, each distinct count once.

    `dense` has for every stratum the rows (R,) of the totals that its units add to, and what they add (R, n); `rows`
    says for every statistic where its counts are among them. Of a statistic of too many counts for that, `thin` has the
    matrix.
    """

    statistics: Sequence[Statistic]
    parts: Sequence[IntArray]
    dense: Sequence[tuple[IntArray, NDArray[np.float32]]]
    rows: Mapping[int, IntArray]
    thin: Mapping[int, sparse.csr_array]

    @classmethod
    def of(cls, statistics: Sequence[Statistic], parts: Sequence[IntArray]) -> "_Product":
        """The product for some statistics over units in strata."""
        chosen = [place for place, one in enumerate(statistics) if _zeros(one.matrix, parts) < DENSEST]
        others = set(range(len(statistics))) - set(chosen)
        thin = {place: statistics[place].matrix.astype(np.float32) for place in others}
        if not chosen:
            return cls(statistics, parts, (), {}, thin)
        whole = sparse.vstack([statistics[place].matrix for place in chosen], format="csr")
        first, number = _distinct(whole)
        ends = np.cumsum([statistics[place].matrix.shape[0] for place in chosen])
        rows = dict(zip(chosen, np.split(number, ends[:-1]), strict=True))
        return cls(statistics, parts, _by_stratum(whole[first], parts), rows, thin)

    def values(self, drawn: Draw) -> NDArray[np.float64]:
        """Values (S, b) for b draws.

        Sums of whole numbers are exact in any order, so no value depends on how many are computed at once.
        """
        totals, found = self._totals(drawn), np.empty((len(self.statistics), len(drawn[0])))
        for place, rows in self.rows.items():
            found[place] = self.statistics[place].of(totals[rows])
        if self.thin:
            weights = self._weights(drawn)
            for place, matrix in self.thin.items():
                for start, stop in _blocks(weights.shape[1], matrix.shape[0]):
                    part = np.ascontiguousarray(weights[:, start:stop])
                    found[place, start:stop] = self.statistics[place].of(matrix @ part)
        return found

    def _totals(self, drawn: Draw) -> NDArray[np.float64]:
        n_rows = 1 + max((int(rows.max(initial=-1)) for rows, _ in self.dense), default=-1)
        totals = np.zeros((n_rows, len(drawn[0])))
        for counts, (rows, adds) in zip(drawn, self.dense, strict=False):
            totals[rows] += np.multiply(adds @ counts.T.astype(np.float32), _weight(counts), dtype=np.float64)
        return totals

    def _weights(self, drawn: Draw) -> NDArray[np.float32]:
        """Weights (U, b) of all units, 0 for those that are not drawn."""
        weights = np.zeros((self.statistics[0].matrix.shape[1], len(drawn[0])), dtype=np.float32)
        for units, counts in zip(self.parts, drawn, strict=True):
            weights[units] = counts.T * np.float32(_weight(counts))
        return weights


def _weight(counts: NDArray[Any]) -> float:
    n = counts.shape[1]
    return n / (n - 1)


def _zeros(matrix: sparse.csr_array, parts: Sequence[IntArray]) -> float:
    """Fields of the dense blocks for each number that is none."""
    number = np.full(matrix.shape[1], len(parts))
    for place, units in enumerate(parts):
        number[units] = place
    sizes = np.array([*map(len, parts), 0])
    rows = np.repeat(np.arange(matrix.shape[0]), np.diff(matrix.indptr))
    blocks = np.unique(rows * len(sizes) + number[matrix.indices])
    return float(sizes[blocks % len(sizes)].sum()) / max(1, matrix.nnz)


def _distinct(matrix: sparse.csr_array) -> tuple[IntArray, IntArray]:
    """The first of each distinct row, and for every row the number of the one it equals.

    Rows are told apart by a sum of random 64-bit numbers: two of a million differ and agree with chance 1e-8.
    """
    marks = np.random.default_rng(_HASH_SEED).integers(0, 2**64, matrix.shape[1], dtype=np.uint64)
    _, first, number = np.unique(matrix.astype(np.uint64) @ marks, return_index=True, return_inverse=True)
    return first, number


def _by_stratum(matrix: sparse.csr_array, parts: Sequence[IntArray]) -> list[tuple[IntArray, NDArray[np.float32]]]:
    columns, found = matrix.tocsc(), []
    for units in parts:
        own = columns[:, units].tocsr()
        rows = np.flatnonzero(np.diff(own.indptr))
        found.append((rows, own[rows].toarray().astype(np.float32)))
    return found
