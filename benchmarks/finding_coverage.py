"""Coverage of the intervals of multi-label tasks, and levels of their paired tests, where the truth is known.

`python -m benchmarks.finding_coverage [--times N] [--speed]` prints the tables of docs/statistics.md. Labels go
together, patients have several images, and training draws vary (`tests/made_findings.py` has the law). `--speed` times
an interval of 25,596 images and 14 findings against a bootstrap of scikit-learn's `roc_auc_score` instead.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from benchmarks.coverage import holds, seeded, share, these_draws
from benchmarks.rounds import ROOT
from cxrbench.analysis.cell import measurement
from cxrbench.evaluate.findings import FindingRows
from cxrbench.evaluate.metric_table import MACRO_AUROC
from cxrbench.evaluate.statistics.estimate import ALPHA
from cxrbench.records.predictions import ScoredCell

sys.path.insert(0, str(ROOT / "tests"))
from made_findings import FindingLaw
from made_means import cell_of

NIH = (0.13, 0.04, 0.18, 0.24, 0.07, 0.06, 0.02, 0.10, 0.07, 0.04, 0.04, 0.02, 0.04, 0.004)
COMPETITION = (0.31, 0.30, 0.06, 0.16, 0.21)
LAWS: Mapping[str, FindingLaw] = {
    "NIH14-like, 700 patients with 4 images": FindingLaw(NIH, 700, images=4),
    "NIH14-like, 2,800 patients with one image": FindingLaw(NIH, 2800),
    "CheXpert test, 5 findings, 500 patients": FindingLaw(COMPETITION, 500),
    "CheXpert validation, 5 findings, 202 patients": FindingLaw(COMPETITION, 202),
    "the same, one draw": FindingLaw(COMPETITION, 202, folds=1, moved=0.0),
    "one finding, 90 of 300": FindingLaw((0.3,), 300),
    "14 findings of which some have 8 of 500": FindingLaw((0.3, 0.2, 0.1, *(0.016,) * 11), 500),
    "strongly correlated labels, 200 patients with 3 images": FindingLaw(COMPETITION, 200, images=3, together=0.8),
    "a third of the labels unknown": FindingLaw(COMPETITION, 500, unknown=0.33),
    "strong model (0.95), 500 patients": FindingLaw(COMPETITION, 500, strength=2.33),
}
Rows = Iterator[Sequence[str]]


def intervals(times: int) -> Rows:
    """Coverage of macro AUROC over draws."""
    yield "law", "narrow, of other draws", "**ours, of other draws**", "mean width, points"
    for name, law in LAWS.items():
        truth, found = law.truth(), []
        for rng in seeded(name, times):
            told = measurement(_cell(law, law.draw(rng)[0]), MACRO_AUROC)
            wide = told.interval
            found.append((holds(these_draws(told).interval, truth), holds(wide, truth), _width(wide.low, wide.high)))
        narrow, ours, width = zip(*found, strict=True)
        yield name, share(narrow), share(ours), f"{100 * np.mean(width):.1f}"


def _width(low: float | None, high: float | None) -> float:
    return (high or np.nan) - (low or 0.0)


def _cell(law: FindingLaw, folds: Sequence[FindingRows]) -> ScoredCell:
    return cell_of("rsna", folds, over="patient" if law.images > 1 else None)


def pairs(times: int) -> Rows:
    """How often two models are told apart, equal ones and ones that differ."""
    yield "law", "**ours, alike**", "1 point apart", "3 points apart"
    for name, law in LAWS.items():
        told = []
        for points in (0.0, 0.01, 0.03):
            more, apart = law.stronger(points) if points else 0.0, []
            for rng in seeded(name, max(1, times // (4 if points else 1))):
                one, two = (measurement(_cell(law, folds), MACRO_AUROC) for folds in law.draw(rng, (0.0, more)))
                apart.append((two.minus(one).p() or 1.0) < ALPHA)
            told.append(share(apart))
        yield name, *told


def speed() -> None:
    """One interval of 25,596 images and 14 findings against resampling with scikit-learn, one thread each."""
    from sklearn.metrics import roc_auc_score

    law = replace(LAWS["NIH14-like, 2,800 patients with one image"], patients=25_596, folds=1, moved=0.0)
    cell = _cell(law, law.draw(np.random.default_rng(0))[0])
    (fold,) = cell.folds
    began = time.process_time()
    found = measurement(cell, MACRO_AUROC).interval
    ours = time.process_time() - began
    rng, began, once = np.random.default_rng(0), time.process_time(), 20
    for _ in range(once):
        rows = rng.integers(0, len(fold.labels), len(fold.labels))
        np.mean([roc_auc_score(fold.labels[rows, c], fold.scores[rows, c]) for c in range(14)])
    theirs = (time.process_time() - began) * 1000 / once
    print(f"25,596 x 14, {found.low:.4f} to {found.high:.4f}: {ours:.3f} s CPU; 1,000 resamples {theirs:.1f} s")
    print(f"{theirs / ours:.0f} times")


def main(words: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=2000)
    parser.add_argument("--only", nargs="*", choices=["intervals", "pairs"], default=["intervals", "pairs"])
    parser.add_argument("--speed", action="store_true")
    asked = parser.parse_args(words)
    if asked.speed:
        speed()
        return 0
    for name in asked.only:
        for number, row in enumerate({"intervals": intervals, "pairs": pairs}[name](asked.times)):
            print(f"| {' | '.join(row)} |", flush=True)
            if not number:
                print(f"|{'---|' * len(row)}")
        print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
