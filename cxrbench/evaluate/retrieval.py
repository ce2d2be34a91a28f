"""How well queries find what they ask for: ranks and precisions out of blocks of similarities, and their metrics."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.types import IntArray, own_report

FloatArray = NDArray[np.floating[Any]]
BoolArray = NDArray[np.bool_]

AT = (1, 5, 10, 50)  # of the first so many candidates a share is told
OWN_AT = (1, 5, 10)
OF_CLASS = (*(f"precision_at_{k}" for k in AT), "margin")  # what predictions hold of each query that asks for a class
OF_OWN = ("rank", "margin")  # and of each that asks for its own counterpart
_CELLS = 1 << 22  # similarities that are in memory at once
_COLUMNS = 1 << 12  # candidates that are brought to double precision at once


def values_of(form: str) -> tuple[str, ...]:
    """The names of what predictions hold of each query of a group of a retrieval task."""
    return OF_OWN if own_report(form) else OF_CLASS


@dataclass(frozen=True, slots=True)
class Found:
    """What each query came to: `values` (n, V) under `names`, and how many candidates are right (n,).

    `rank` is that of the best right candidate, 1 is first; `margin` is the best right similarity less the best wrong
    one: above 0 exactly where the first candidate is right.
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    right: IntArray


def similarities(queries: FloatArray, pool: FloatArray) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Dot products of queries (n, d) with a pool (m, d) in double precision: some queries, and theirs (b, m).

    Equal candidates have equal similarities, to the last bit. No more than some 2^22 numbers are held at once.
    """
    distinct, place = np.unique(pool, axis=0, return_inverse=True)
    place, rows = place.reshape(-1), max(1, _CELLS // len(pool))
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows].astype(np.float64)
        found = np.empty((len(block), len(distinct)))
        for first in range(0, len(distinct), _COLUMNS):
            part = slice(first, first + _COLUMNS)
            found[:, part] = block @ distinct[part].astype(np.float64).T
        yield slice(start, start + len(block)), found[:, place]


def own_ranks(queries: FloatArray, wanted: IntArray, pool: FloatArray, owner: IntArray) -> Found:
    """The rank of each query's own candidates, of which the best counts; a tie with another counts against the query.

    Query q wants the candidates whose `owner` (m,) is `wanted[q]` (n,). Raises DataError for a query that wants none or
    all of them.
    """

    def right(part: slice) -> BoolArray:
        found: BoolArray = wanted[part, None] == owner[None, :]
        return found

    values, counts = np.empty((len(queries), 2)), np.empty(len(queries), np.int64)
    for part, found in similarities(queries, pool):
        own = right(part)
        best, others = _best(found, own)
        values[part, 0] = 1 + (np.where(own, -np.inf, found) >= best[:, None]).sum(axis=1)
        values[part, 1], counts[part] = best - others, own.sum(axis=1)
    return Found(OF_OWN, values, counts)


def precisions(queries: FloatArray, pool: FloatArray, right: Callable[[slice], BoolArray]) -> Found:
    """The share of right ones among the first 1, 5, 10 and 50 candidates; of equal ones the wrong come first.

    `right` gives, for some queries, which candidates are right (b, m). Raises DataError for a pool of fewer than 50,
    and for a query of which no candidate is right, or all are.
    """
    if len(pool) < max(AT):
        raise DataError(f"{len(pool)} candidates cannot be ranked to the {max(AT)}th")
    values, counts = np.empty((len(queries), len(OF_CLASS))), np.empty(len(queries), np.int64)
    for part, found in similarities(queries, pool):
        good = right(part)
        best, others = _best(found, good)
        order = np.lexsort((good, -found), axis=1)[:, : max(AT)]
        first = np.take_along_axis(good, order, axis=1).cumsum(axis=1)
        values[part] = np.column_stack([*(first[:, k - 1] / k for k in AT), best - others])
        counts[part] = good.sum(axis=1)
    return Found(OF_CLASS, values, counts)


def _best(found: NDArray[np.float64], right: BoolArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The highest similarity (b,) of a right candidate and of a wrong one."""
    if not right.any(axis=1).all() or right.all(axis=1).any():
        raise DataError("a query of which no candidate is right, or of which all are, can be asked nothing")
    return np.where(right, found, -np.inf).max(axis=1), np.where(right, -np.inf, found).max(axis=1)


@dataclass(frozen=True, slots=True)
class QueryRows:
    """One fold's queries: unit (n,) numbers the patient, image or text of each, scores (n, V) are what it came to.

    `names` (V,) are `OF_CLASS` or `OF_OWN`. A unit has the same number in every fold.
    """

    unit: IntArray
    names: tuple[str, ...]
    scores: NDArray[np.float64]

    def __post_init__(self) -> None:
        checked(self.names, self.scores)
        if self.unit.shape != (len(self.scores),) or self.unit.min() < 0:
            raise DataError(f"units {self.unit.shape} do not number the {len(self.scores)} queries from 0 on")
        for name in ("unit", "scores"):  # a metric that writes into them would spoil those after it
            held = getattr(self, name).view()
            held.setflags(write=False)
            object.__setattr__(self, name, held)

    def at(self, rows: IntArray | BoolArray) -> "QueryRows":
        """Some of the queries."""
        return QueryRows(self.unit[rows], self.names, self.scores[rows])

    def __getitem__(self, name: str) -> NDArray[np.float64]:
        """What each query (n,) came to under a name; raises KeyError for one that there is not."""
        if name not in self.names:
            raise KeyError(name)
        found: NDArray[np.float64] = self.scores[:, self.names.index(name)]
        return found


def checked(names: Sequence[str], values: NDArray[np.float64]) -> None:
    """Nothing, or DataError: values (n, V) are none that queries can come to."""
    if tuple(names) not in (OF_CLASS, OF_OWN) or values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(f"values {values.shape} under {', '.join(names)} are not what queries come to")
    if not len(values):
        raise DataError("there are no queries to judge: the test part is empty. Look at the report of `data verify`.")
    if not np.isfinite(values).all():
        rows = np.flatnonzero(~np.isfinite(values).all(axis=1))
        raise DataError(f"{len(rows)} queries have values that are not finite, the first is query {rows[0]}")
    own = values[:, : len(names) - 1]  # without the margin
    low, high = (1, np.inf) if tuple(names) == OF_OWN else (0, 1)
    if (own < low).any() or (own > high).any():
        raise DataError(f"ranks begin with 1 and precisions are shares; there are others under {', '.join(names[:-1])}")


@dataclass(frozen=True, slots=True)
class ClassMetrics:
    """Means over queries that ask for a class, on the 0..1 scale, unrounded.

    `precision_at_K` is the share of right ones among the first K candidates, `hit_at_K` the share of queries of which
    any of these is right.
    """

    precision_at_1: float
    precision_at_5: float
    precision_at_10: float
    precision_at_50: float
    hit_at_1: float
    hit_at_5: float
    hit_at_10: float


@dataclass(frozen=True, slots=True)
class OwnMetrics:
    """Of queries that ask for their own counterpart: the share with it among the first K, and its ranks, 1 at best."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    median_rank: float
    mean_rank: float


QueryMetrics = ClassMetrics | OwnMetrics
RANKS = ("median_rank", "mean_rank")  # lower is better: reported beside the metrics, in no board and no comparison


def recalled(rows: QueryRows, at: int) -> NDArray[np.float64]:
    """1 for each query (n,) whose own candidate is among the first `at`, else 0."""
    return (rows["rank"] <= at).astype(np.float64)


def precise(rows: QueryRows, at: int) -> NDArray[np.float64]:
    """The share (n,) of right ones among the first `at`."""
    return rows[f"precision_at_{at}"]


def hit(rows: QueryRows, at: int) -> NDArray[np.float64]:
    """1 for each query (n,) of which any of the first `at` is right, else 0."""
    return (precise(rows, at) > 0).astype(np.float64)


def query_metrics(rows: QueryRows) -> QueryMetrics:
    """Metrics of one fold's queries."""
    if rows.names == OF_OWN:
        found = {f"recall_at_{at}": float(recalled(rows, at).mean()) for at in OWN_AT}
        return OwnMetrics(**found, median_rank=float(np.median(rows["rank"])), mean_rank=float(rows["rank"].mean()))
    shares = {f"precision_at_{at}": float(precise(rows, at).mean()) for at in AT}
    return ClassMetrics(**shares, **{f"hit_at_{at}": float(hit(rows, at).mean()) for at in OWN_AT})


def summarised_queries(form: str) -> tuple[str, ...]:
    """The metrics of which records of such a group hold the mean."""
    return tuple(field.name for field in fields(OwnMetrics if own_report(form) else ClassMetrics))
