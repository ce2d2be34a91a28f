"""Coverage of the intervals of retrieval metrics, and the level of their paired test, where the truth is known.

`python -m benchmarks.retrieval_coverage [--times N]` prints the table of docs/retrieval.md. Patients have several
queries each, which succeed with a probability of the patient's own.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage import holds, seeded
from cxrbench.evaluate.metric_table import RECALL_AT_1
from cxrbench.evaluate.retrieval import OF_OWN, QueryRows
from cxrbench.evaluate.statistics.estimate import ALPHA
from cxrbench.evaluate.statistics.interval import estimate, interval
from cxrbench.evaluate.statistics.shares import Shares, means

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class QueryLaw:
    """So many patients with `queries` each in the mean (geometric, one at least); recall@1 is `recall` in truth.

    A patient's own probability is beta with that mean; `alike` is the correlation of two queries of a patient.
    """

    recall: float
    patients: int
    queries: float = 1.0
    alike: float = 0.3

    def draw(self, rng: np.random.Generator, models: int = 1) -> list[QueryRows]:
        """The queries of models that are equally good, on the same patients."""
        sizes = rng.geometric(1 / self.queries, self.patients)
        unit = np.repeat(np.arange(self.patients), sizes)
        more = 1 / self.alike - 1
        chance = rng.beta(self.recall * more, (1 - self.recall) * more, self.patients)[unit]
        return [self._rows(rng, unit, chance) for _ in range(models)]

    def _rows(self, rng: np.random.Generator, unit: NDArray[np.int64], chance: FloatArray) -> QueryRows:
        found = rng.random(len(unit)) < chance
        return QueryRows(unit, OF_OWN, np.column_stack([np.where(found, 1.0, 9.0), np.where(found, 0.1, -0.1)]))


LAWS: Mapping[str, QueryLaw] = {
    "MIMIC test like: 293 patients with 11 studies, recall 0.02": QueryLaw(0.02, 293, 11.0),
    "the same, recall 0.10": QueryLaw(0.10, 293, 11.0),
    "the same, recall 0.50": QueryLaw(0.50, 293, 11.0),
    "1,000 patients with one image, recall 0.05": QueryLaw(0.05, 1000),
    "40 texts, 0.50": QueryLaw(0.50, 40),
    "40 texts, 0.125 (chance)": QueryLaw(0.125, 40),
    "80 images of as many patients, 0.30": QueryLaw(0.30, 80),
}


def covered(law: QueryLaw, found: Shares) -> tuple[bool, float]:
    """Whether the interval holds the truth, and its width."""
    told = interval(estimate(found, (0.0, 1.0), "images"), "patient", found.units, ("images",))
    width = 0.0 if told.low is None or told.high is None else told.high - told.low
    return holds(told, law.recall), width


def simulated(law: QueryLaw, times: int) -> tuple[float, float, float, float]:
    """Coverage by patients, its mean width, coverage of queries taken as independent, level of the paired test."""
    ours, widths, naive, told = list[bool](), list[float](), list[bool](), list[bool]()
    for rng in seeded(f"retrieval {law}", times):
        one, two = law.draw(rng, 2)
        shares = RECALL_AT_1.shares([one])
        held, width = covered(law, shares)
        ours.append(held)
        widths.append(width)
        alone = means([(np.arange(len(one.unit)), (one["rank"] <= 1).astype(np.float64))])
        naive.append(covered(law, alone)[0])
        p = estimate(shares.minus(RECALL_AT_1.shares([two])), (-1.0, 1.0), "images").p()
        told.append(p is not None and p < ALPHA)
    return float(np.mean(ours)), float(np.mean(widths)), float(np.mean(naive)), float(np.mean(told))


def rows(times: int) -> Iterator[Sequence[str]]:
    """The table."""
    yield "law", "**by patients**", "width, points", "queries taken as independent", "paired test of equals at 5 %"
    for name, law in LAWS.items():
        held, width, naive, level = simulated(law, times)
        yield name, f"{held:.3f}", f"{100 * width:.1f}", f"{naive:.3f}", f"{level:.3f}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=2000)
    asked = parser.parse_args()
    for number, row in enumerate(rows(asked.times)):
        print(f"| {' | '.join(row)} |")
        if number == 0:
            print(f"|{'---|' * len(row)}")


if __name__ == "__main__":
    main()
