"""What is known of a number's uncertainty; how it is worked out is `interval`'s matter."""

from dataclasses import dataclass
from typing import Literal

from cxrbench.evaluate.statistics.units import UnitKind


@dataclass(frozen=True, slots=True)
class Interval:
    """A number with its 95 % interval over test units, its training rows taken as they were drawn.

    `error` is the bootstrap's standard error. `low`, `high` and `error` are None where no interval can be given;
    `reason` says why, or what to beware of in one that is given.
    """

    estimate: float | None
    low: float | None
    high: float | None
    error: float | None
    over: UnitKind
    units: int
    resamples: int
    reason: str = ""


FoldRelation = Literal["one fold", "one test set", "separate test sets", "overlapping test sets"]


@dataclass(frozen=True, slots=True)
class FoldSpread:
    """Standard deviation (ddof 0) of a number over folds; not a standard error of its mean.

    Folds with `one test set` differ in their training draws alone; `overlapping test sets` share images, so neither
    kind is a set of independent repetitions.
    """

    std: float | None
    folds: int
    relation: FoldRelation
