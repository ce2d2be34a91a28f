"""`cxrbench check` against the paper: how often it is wrong about a table of equal numbers, and what it finds.

    python -m benchmarks.check_alarms [--tables 500] [--cells 20] [--law NAME ...]

A table has so many cells, each of an encoder of its own that the paper measured as well: on the same images with other
draws, or on another split of that size. Every cell goes through `analysis.against_paper`, as in a check. Features
are normal around the means of classes; a probe knows these means from K images a class, anew in each of five folds.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.analysis.against_paper import MARGIN, difference, judged
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.evaluate.statistics.estimate import Estimate
from cxrbench.evaluate.statistics.interval import Covers, estimate
from cxrbench.evaluate.statistics.shares import ScoredRows

FloatArray = NDArray[np.float64]
Paper = Literal["same images, other draws", "another split of that size"]
PAPERS: tuple[Paper, ...] = ("same images, other draws", "another split of that size")
SHIFTS = (2, 5, 10)  # points
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Law:
    """Test images a class, classes, images a class that a probe is fitted to (None: zero-shot), and their distance."""

    name: str
    images: int
    classes: int
    shots: int | None
    apart: float
    features: int

    @property
    def labels(self) -> NDArray[np.int64]:
        """Of one test set."""
        return np.repeat(np.arange(self.classes), self.images)

    def test_set(self, rng: np.random.Generator) -> FloatArray:
        """Features of its images."""
        return self._means()[self.labels] + rng.normal(size=(len(self.labels), self.features))

    def folds(self, images: FloatArray, rng: np.random.Generator) -> list[ScoredRows]:
        """One draw a fold, or the one wording, on these images."""
        unit = np.arange(len(images))
        return [ScoredRows(unit, self.labels, self._scores(images, rng)) for _ in range(FOLDS if self.shots else 1)]

    def _scores(self, images: FloatArray, rng: np.random.Generator) -> FloatArray:
        means = self._means()
        if self.shots is None:
            means = np.roll(means, 1, axis=1) * 0.2 + means  # words are not quite the classes
        else:
            means = means + rng.normal(size=means.shape) / self.shots**0.5
        return images @ means.T - (means**2).sum(axis=1) / 2

    def _means(self) -> FloatArray:
        return np.eye(self.classes, self.features) * self.apart


LAWS = (
    Law("RSNA, K = 16", 1800, 2, 16, 1.5, 16),
    Law("RSNA, zero-shot", 1800, 2, None, 1.5, 16),
    Law("COVID, K = 16", 500, 4, 16, 1.5, 16),
    Law("NIH-LT, 19 x 15, K = 16", 15, 19, 16, 3.0, 32),
)


def measured(law: Law, folds: Sequence[ScoredRows]) -> Estimate:
    """Balanced accuracy with its error, as of a record."""
    covers: Covers = "one wording" if law.shots is None else "draws"
    return estimate(BALANCED_ACCURACY.shares(folds), BALANCED_ACCURACY.bounds, covers)


def printed(folds: Sequence[ScoredRows]) -> float:
    """The same as the paper prints it: three decimals a fold, four of the mean."""
    values = BALANCED_ACCURACY.shares(folds).values
    return round(float(values.round(3).mean()), 4)


@dataclass(frozen=True, slots=True)
class Cell:
    """What we measure, and what the paper would print in either case."""

    own: Estimate
    papers: dict[Paper, float]

    def difference(self, paper: Paper, shift: float = 0) -> Estimate:
        """Of what stands side by side when the printed number is so many points too high."""
        return difference(self.own, self.papers[paper] + shift / 100)


def cell(law: Law, rng: np.random.Generator) -> Cell:
    """A number that is measured and printed."""
    images, others = law.test_set(rng), law.test_set(rng)
    own, same, other = (law.folds(one, rng) for one in (images, images, others))
    return Cell(
        measured(law, own),
        {"same images, other draws": printed(same), "another split of that size": printed(other)},
    )


@dataclass(frozen=True, slots=True)
class Outcome:
    """One table: whether a true cell was called different, how many agree, and the verdict on one shifted cell."""

    alarm: bool
    agree: float
    shifted: dict[int, str]
    alone: dict[int, str]


def outcome(cells: Sequence[Cell], paper: Paper) -> Outcome:
    """What a check says of a table, and of its first cell when that one is off."""
    equal = [one.difference(paper) for one in cells]
    verdicts = [found.verdict for found in judged(equal)]
    moved = {shift: cells[0].difference(paper, shift) for shift in SHIFTS}
    return Outcome(
        "differs" in verdicts,
        verdicts.count("agrees") / len(verdicts),
        {shift: judged([one, *equal[1:]])[0].verdict for shift, one in moved.items()},
        {shift: judged([one])[0].verdict for shift, one in moved.items()},
    )


def _seen(verdicts: Sequence[dict[int, str]]) -> str:
    """How often each shift is called a difference."""
    return "/".join(f"{sum(one[shift] == 'differs' for one in verdicts) / len(verdicts):.2f}" for shift in SHIFTS)


def row(law: Law, paper: Paper, found: Sequence[Outcome], error: float) -> str:
    """A line of the table."""
    n = len(found)
    seen = [_seen([one.shifted for one in found]), _seen([one.alone for one in found])]
    wrong = sum(one.shifted[round(MARGIN)] == "agrees" for one in found) / n
    return (
        f"| {law.name} | {paper} | {error:.1f} | {sum(one.alarm for one in found) / n:.3f} | {' | '.join(seen)} "
        f"| {np.mean([one.agree for one in found]):.2f} | {wrong:.3f} |"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=500)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--law", action="append", choices=[law.name for law in LAWS])
    asked = parser.parse_args()
    shifts = "/".join(map(str, SHIFTS))
    print(f"{asked.tables} tables of {asked.cells} cells, margin {MARGIN:g} points, shifts of {shifts} points\n")
    print(
        "| cell | the paper has | s.e. | a false alarm in a table | shift found in the table | alone "
        f"| equal cells that agree | a shift of {MARGIN:g} agrees |\n|---|---|---|---|---|---|---|---|"
    )
    for number, law in enumerate(LAWS):
        if law.name not in (asked.law or [one.name for one in LAWS]):
            continue
        rng = np.random.default_rng([number, 10])
        tables = [[cell(law, rng) for _ in range(asked.cells)] for _ in range(asked.tables)]
        error = 100 * float(np.mean([one.own.error for cells in tables for one in cells]))
        for paper in PAPERS:
            print(row(law, paper, [outcome(cells, paper) for cells in tables], error), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
