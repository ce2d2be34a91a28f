"""The table of docs/statistics.md: `python tests/statistics/coverage_table.py`, a few minutes of one core.

Of each law, how often in 1,000 simulations three intervals from the same resamples hold the truth: percentiles, the
normal law on the logit scale, and ours, which is Student's t there for AUROC.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]

from made_laws import FURTHER, HELD  # noqa: E402 - found on the path just set
from made_scores import Law  # noqa: E402

from cxrbench.evaluate.statistics.counts import Metric, statistic  # noqa: E402
from cxrbench.evaluate.statistics.freedom import area_shares, freedom  # noqa: E402
from cxrbench.evaluate.statistics.interval import RANGES, Resampled, around  # noqa: E402
from cxrbench.evaluate.statistics.resample import replicates  # noqa: E402
from cxrbench.evaluate.statistics.units import strata  # noqa: E402

Ends = tuple[float | None, float | None]


def intervals(metric: Metric, law: Law, rng: np.random.Generator, resamples: int) -> list[Ends]:
    """The three intervals of one simulation; None where there is none, which holds no truth."""
    folds = law.draw(rng)
    stratum = strata(folds)
    found = statistic(metric, folds, len(stratum))
    values = replicates([found], stratum, resamples, rng)[0]
    known = freedom(area_shares(folds, len(stratum)), stratum) if metric == "macro_auroc" else float("inf")
    drawn = [Resampled(values, "patient", len(stratum), each) for each in (float("inf"), known)]
    logit, ours = (around(found.estimate, one, RANGES[metric]) for one in drawn)
    low, high = np.nanquantile(values, [0.025, 0.975])
    return [(low, high), (logit.low, logit.high), (ours.low, ours.high)]


def coverage(metric: Metric, law: Law, simulations: int, resamples: int) -> list[float]:
    """The share of simulations in which each of the three holds the truth."""
    rng = np.random.default_rng(11)
    held = np.zeros(3)
    for _ in range(simulations):
        found = intervals(metric, law, rng, resamples)
        held += [low is not None and high is not None and low <= law.truth <= high for low, high in found]
    return [float(share) for share in held / simulations]


def main() -> None:
    """Print the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    asked = parser.parse_args()
    print("| law | percentile | logit, normal | ours |\n|---|---|---|---|")
    for name, (metric, made) in {**HELD, **FURTHER}.items():
        shares = coverage(metric, made(), asked.simulations, asked.resamples)
        print(f"| {name} | {' | '.join(f'{share:.3f}' for share in shares)} |", flush=True)


if __name__ == "__main__":
    main()
