"""What is said of one measured number: against a baseline, the paper, or its own predictions."""

from dataclasses import dataclass
from typing import Literal

from cxrbench.records.record import Record

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
