"""What is said of one measured number: against a baseline, the paper, or its own predictions."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field

from cxrbench.records.predictions import ScoredCell
from cxrbench.records.record import Record
from cxrbench.store.schema import Spec

Against = Literal["baseline", "paper", "predictions"]
Verdict = Literal[
    "match", "agrees", "differs", "cannot tell", "not comparable", "missing", "new", "stale", "renamed", "broken"
]
Kind = Literal["exact reproduction", "two measurements"]


@dataclass(frozen=True, slots=True)
class CellVerdict:
    """One cell's verdict. Values are balanced accuracies in percent, None where there is none; `reasons` in words.

    `kind`, `p` and `between` belong to printed numbers: how they are compared, and of two measurements the p of their
    difference after Holm's correction and its 90 % interval in points. `tolerance` is there too the width within which
    two numbers agree: that of arithmetic, or of two measurements the margin.
    """

    against: Against
    cell: str
    verdict: Verdict
    expected: float | None = None
    found: float | None = None
    tolerance: float | None = None
    reasons: tuple[str, ...] = ()
    record: str | None = None
    kind: Kind | None = None
    p: float | None = None
    between: tuple[float, float] | None = None

    @property
    def moved(self) -> float | None:
        """Found minus expected, in points."""
        return None if self.expected is None or self.found is None else self.found - self.expected


def percent(value: float | None) -> float | None:
    """A share as findings have it; None stays None."""
    return None if value is None else 100 * value


def value_of(record: Record) -> float | None:
    """Balanced accuracy (0 to 1), mean over folds, unrounded; None where a fold has none."""
    value = record.summary["balanced_accuracy"]["mean"]
    return None if value is None else float(value)


CLOSENESS = 1e-4  # relative: what adapters promise between machines, from the same pixels
ROUNDING = 1e-9  # of the mean itself


class Tolerance(Spec):
    """How far a repeated number may be from the one before, on the same scale, and where that comes from."""

    width: float = Field(ge=0)
    source: str


def numerical(cell: ScoredCell, closeness: float = CLOSENESS) -> Tolerance:
    """What the balanced accuracy of a repeat may differ by, when scores differ by `closeness` of a fold's largest.

    A row whose class is decided by less than that may fall to either side, and moves the mean over folds by one over
    the rows of its class and the number of folds. Everything else stays where it is.
    """
    close, up, down = 0, 0.0, 0.0
    for fold in cell.folds:
        rows = np.arange(len(fold.labels))
        truth = fold.scores[rows, fold.labels]
        others = fold.scores.astype(np.float64).copy()
        others[rows, fold.labels] = -np.inf
        near = np.abs(truth - others.max(axis=1)) <= 2 * closeness * np.abs(fold.scores).max()
        right = fold.predictions == fold.labels
        sizes = np.bincount(fold.labels, minlength=fold.scores.shape[1])
        weight = 1 / (sizes[fold.labels] * fold.scores.shape[1] * len(cell.folds))
        close += int(near.sum())
        up += float(weight[near & ~right].sum())
        down += float(weight[near & right].sum())
    told = f"numerical: {close} rows are decided by less than {closeness:g} of the largest score"
    return Tolerance(width=max(up, down) + ROUNDING, source=told)


FindingKind = Literal[
    "shared images", "shared patients", "copies", "data sets", "pre-training", "confounding", "prompts", "not known"
]


@dataclass(frozen=True, slots=True)
class Finding:
    """`count` of `total` is what is concerned, None where there is nothing to count; `text` says what it is.

    `scope` tells where: the task, and its split where it depends on one. Kind `not known` says what could not be
    looked at, and why: its absence from the other kinds means nothing.
    """

    kind: FindingKind
    scope: str
    text: str
    count: int | None = None
    total: int | None = None
    source: str = ""

    @property
    def share(self) -> float | None:
        """`count` as a share of `total`."""
        return None if self.count is None or not self.total else self.count / self.total


def counted(findings: Iterable[Finding]) -> list[Finding]:
    """The findings that found something."""
    return [found for found in findings if found.kind != "not known" and found.count != 0]
