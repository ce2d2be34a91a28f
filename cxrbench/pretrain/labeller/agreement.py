"""How far two labellings of the same reports agree, finding by finding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrbench.evaluate.metrics import cohens_kappa
from cxrbench.types import IntArray

VALUES: tuple[int | None, ...] = (1, 0, -1, None)
WORDS = ("present", "absent", "uncertain", "not mentioned")  # of VALUES
_BLANK = VALUES.index(None)


@dataclass(frozen=True, slots=True)
class Agreement:
    """Of one finding: `counts` (4, 4) of reports by the table's value (rows) and the rules' (columns), as `VALUES`."""

    finding: str
    counts: IntArray

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa over the four values; None where chance alone agrees fully."""
        return cohens_kappa(self.counts)

    @property
    def f1_mention(self) -> float | None:
        """F1 of whether the finding is mentioned, the table as the truth; None where nobody mentions it."""
        both = int(self.counts[:_BLANK, :_BLANK].sum())
        return _f1(both, int(self.counts[:_BLANK].sum()), int(self.counts[:, :_BLANK].sum()))

    def f1(self, value: int) -> float | None:
        """F1 of one value (1, 0 or -1), the table as the truth; None where nobody gives it."""
        at = VALUES.index(value)
        return _f1(int(self.counts[at, at]), int(self.counts[at].sum()), int(self.counts[:, at].sum()))

    def to_json(self) -> dict[str, Any]:
        """All figures as plain values."""
        return {
            "finding": self.finding,
            "kappa": self.kappa,
            "f1_mention": self.f1_mention,
            "f1_negation": self.f1(0),
            "f1_uncertainty": self.f1(-1),
            "f1_positive": self.f1(1),
            "values": list(WORDS),
            "counts": self.counts.tolist(),
        }


def agreements(
    table: Sequence[Mapping[str, int | None]], rules: Sequence[Mapping[str, int | None]]
) -> tuple[Agreement, ...]:
    """Of each finding that the table's rows have, in their order; both sides are of the same reports."""
    findings = list(table[0]) if table else []
    counts = {finding: np.zeros((len(VALUES), len(VALUES)), np.int64) for finding in findings}
    for theirs, ours in zip(table, rules, strict=True):
        for finding in findings:
            counts[finding][VALUES.index(theirs[finding]), VALUES.index(ours[finding])] += 1
    return tuple(Agreement(finding, counts[finding]) for finding in findings)


def _f1(both: int, first: int, second: int) -> float | None:
    return 2 * both / (first + second) if first + second else None
