"""How often intervals, tests and boards are right where the truth is known: Markdown tables for docs/statistics.md.

`python -m benchmarks.coverage [--only NAME ...] [--times N]` simulates cells by known laws, hands them to the
statistics as they read records with predictions, and counts. `disk` goes the whole way: records and predictions in a
results folder, `compare` and `leaderboard`. Seeds are fixed, so equal code prints equal tables. In 2,000 simulations
the standard error of a share near 0.95 is 0.005.
"""

import argparse
import itertools
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks.rounds import ROOT
from cxrbench.analysis.cell import Measurement, covered, measurement
from cxrbench.analysis.compare import compare
from cxrbench.analysis.leaderboard import leaderboard
from cxrbench.analysis.means import Weighted, mean_interval
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC, MACRO_F1, Metric
from cxrbench.evaluate.statistics.estimate import ALPHA, Estimate
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.evaluate.statistics.paired import not_worse, places
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import ScoredCell
from cxrbench.records.selection import CellFilter, select
from cxrbench.specs import catalog

sys.path.insert(0, str(ROOT / "tests"))
from made_means import cell_of
from made_predictions import written
from made_scores import Law, Probes, judged, many_normals, recalls, two_normals

TIMES = 2000
BALANCED = BALANCED_ACCURACY
AREA = MACRO_AUROC
Rows = Iterator[Sequence[str]]


def seeded(name: str, times: int) -> Iterator[np.random.Generator]:
    """A generator for each simulation of a law, by its name."""
    return (np.random.default_rng([zlib.crc32(name.encode()), number]) for number in range(times))


def holds(interval: Interval, truth: float) -> bool:
    """Whether an interval holds the truth; one that is not given does not."""
    return interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high


def share(found: Sequence[bool]) -> str:
    """As it is printed."""
    return f"{np.mean(found):.3f}"


@dataclass(frozen=True)
class Drawn:
    """One simulation: the cells of a mean (one of a cell), and what its number would be on all images, these draws."""

    cells: Sequence[ScoredCell]
    here: Callable[[], float]


@dataclass(frozen=True)
class DrawLaw:
    """A mean over cells whose draws vary: how it is drawn, and the truth over draws."""

    metric: Metric
    draw: Callable[[np.random.Generator], Drawn]
    truth: Callable[[], float]


MANY = 20  # times the test images on which the probes of a simulation are judged, where that is not exact
JUDGED = 4  # of so many simulations one: it takes longer than all else


def of_probes(law: Probes, metric: Metric = BALANCED, kind: str = "probe") -> DrawLaw:
    """The cell of one law of probes."""

    def draw(rng: np.random.Generator) -> Drawn:
        ((folds, probes),) = law.draw(rng)
        return Drawn(
            [_cell(law, folds, kind)], lambda: float(law.worth(metric, probes, rng, MANY * sum(law.sizes)).mean())
        )

    return DrawLaw(metric, draw, lambda: law.truth(metric))


def _cell(law: Probes, folds: Sequence[ScoredRows], kind: str = "probe", task: str = "rsna") -> ScoredCell:
    return cell_of(task, folds, kind=kind, over="patient" if law.images > 1 else None)  # type: ignore[arg-type]


def of_tasks(laws: Mapping[str, Probes]) -> DrawLaw:
    """The mean over tasks without a common image."""

    def draw(rng: np.random.Generator) -> Drawn:
        found = [(task, law, law.draw(rng)[0]) for task, law in laws.items()]

        def here() -> float:
            return float(
                np.mean([law.worth(BALANCED, own, rng, MANY * sum(law.sizes)).mean() for _, law, (_, own) in found])
            )

        return Drawn([_cell(law, folds, task=task) for task, law, (folds, _) in found], here)

    return DrawLaw(BALANCED, draw, lambda: float(np.mean([law.truth(BALANCED) for law in laws.values()])))


def of_patients_in_two_tasks(law: Probes) -> DrawLaw:
    """The mean over two tasks that show the same patients, half of the images of each, with training images apart."""

    def draw(rng: np.random.Generator) -> Drawn:
        both = replace(law, folds=2 * law.folds)
        ((folds, probes),) = both.draw(rng)
        cells = []
        for number, task in enumerate(("rsna", "nih_lt")):
            rows = np.arange(len(folds[0].labels)) % 2 == number
            own = [
                ScoredRows(fold.unit[rows], fold.labels[rows], fold.scores[rows])
                for fold in folds[number * law.folds : (number + 1) * law.folds]
            ]
            cells.append(cell_of(task, own, {int(unit): f"{unit:08}" for unit in folds[0].unit}))
        return Drawn(cells, lambda: float(law.worth(BALANCED, probes, rng).mean()))

    return DrawLaw(BALANCED, draw, lambda: law.truth(BALANCED))


def two(n: int, shots: float, **how: Any) -> Probes:
    """Two classes of so many test images."""
    return Probes((n, n), shots, **how)


def five(shots: float, **how: Any) -> Probes:
    """Five classes of 40 test images, drawn anew for each fold from 200 of each class."""
    return Probes((40,) * 5, shots, **{"gain": 2.0, "pool": 200, **how})


def nineteen(shots: float) -> Probes:
    """Nineteen classes of 15."""
    return Probes((15,) * 19, shots, dims=32, gain=3.0)


LONG_TAIL = (300, 100, 50, 20, 10, 5, 3, 2)
WORDED = 1 / 0.48**2, 1 / 0.62**2  # noise of class vectors by which one prompt draw has a deviation of 5 points
PROMPTED = two(1050, WORDED[0], gain=1.0), Probes((40,) * 5, WORDED[1], gain=2.0)
THREE_TASKS = {"chexpert5x200": replace(five(4), pool=0), "siim": two(300, 4), "vindr": Probes((50,) * 3, 4)}

DRAWN_LAWS: Mapping[str, DrawLaw] = {
    **{f"RSNA-like, 2 x 1,800, K = {k}": of_probes(two(1800, k)) for k in (1, 4, 16)},
    **{f"COVID-like, 4 x 500, K = {k}": of_probes(Probes((500,) * 4, k)) for k in (1, 16)},
    **{f"5x200, other test folds, K = {k}": of_probes(five(k)) for k in (1, 4, 16)},
    **{f"NIH-LT-like, 19 x 15, K = {k}": of_probes(nineteen(k)) for k in (1, 16)},
    **{f"AUROC, 2 x 1,800, K = {k}": of_probes(two(1800, k), AREA) for k in (1, 16)},
    "five prompt draws, 2 x 1,050": of_probes(PROMPTED[0], kind="zero-shot"),
    "five prompt draws, 5 x 40": of_probes(PROMPTED[1], kind="zero-shot"),
    "one wording, 2 x 1,050": of_probes(replace(PROMPTED[0], folds=1), kind="zero-shot"),
    "one wording, 5 x 40": of_probes(replace(PROMPTED[1], folds=1), kind="zero-shot"),
    "100 patients a class with 4 images, K = 4": of_probes(two(100, 4, images=4, alike=0.5)),
    "AUROC, 100 patients a class with 4 images, K = 4": of_probes(two(100, 4, images=4, alike=0.5), AREA),
    "unequal classes, 1,000 + 150 + 40, K = 4": of_probes(Probes((1000, 150, 40), 4)),
    "long tail, 8 classes of 300 to 2, K = 4": of_probes(Probes(LONG_TAIL, 4, gain=2.5)),
    "AUROC, 19 x 15, K = 4": of_probes(nineteen(4), AREA),
    "macro F1, 5 x 100, K = 4": of_probes(Probes((100,) * 5, 4, gain=2.0), MACRO_F1),
    "mean over three tasks, K = 4": of_tasks(THREE_TASKS),
    "mean over two tasks of the same 150 patients, K = 4": of_patients_in_two_tasks(two(75, 4, images=4, alike=0.5)),
}


def intervals(times: int) -> Rows:
    """Coverage where draws vary."""
    yield "law", "narrow, of these draws", "narrow, of other draws", "**ours, of other draws**", "mean width, points"
    for name, law in DRAWN_LAWS.items():
        truth, found, judged_here = law.truth(), [], list[bool]()
        for number, rng in enumerate(seeded(name, times)):
            drawn = law.draw(rng)
            measured = [measurement(cell, law.metric) for cell in drawn.cells]
            wide, narrow = _interval(measured), _interval([these_draws(one) for one in measured])
            width = (wide.high or np.nan) - (wide.low or 0)
            found.append((holds(narrow, truth), holds(wide, truth), width))
            if number % JUDGED == 0:
                judged_here.append(holds(narrow, drawn.here()))
        *held, width = zip(*found, strict=True)
        yield name, share(judged_here), *map(share, held), f"{100 * np.nanmean(width):.1f}"


def these_draws(found: Measurement) -> Measurement:
    """The same measurement, speaking of these draws alone."""
    return replace(found, covers=covered(found.cell.record, these_draws=True))


def _interval(found: Sequence[Measurement]) -> Interval:
    return found[0].interval if len(found) == 1 else mean_interval([Weighted(one, 1 / len(found)) for one in found])


@dataclass(frozen=True)
class PairLaw:
    """Two models of the same images: how cells with a true difference (B minus A) are drawn."""

    metric: Metric
    draw: Callable[[np.random.Generator, float], tuple[ScoredCell, ScoredCell]]


def encoders(law: Probes, metric: Metric = BALANCED) -> PairLaw:
    """Two encoders that are exchangeable but for the gain that makes the difference."""
    grid = law.gain * np.linspace(1, 1.5, 5)
    worth = list[float]()

    def draw(rng: np.random.Generator, edge: float) -> tuple[ScoredCell, ScoredCell]:
        if edge and not worth:
            worth.extend(law.truth(metric, gain) for gain in grid)
        other = float(np.interp(worth[0] + edge, worth, grid)) if edge else law.gain
        a, b = (_cell(law, folds) for folds, _ in law.draw(rng, (law.gain, other)))
        return a, b

    return PairLaw(metric, draw)


def traded(sizes: Sequence[int], jitter: float) -> PairLaw:
    """A knows the one class at 0.9 and the other at 0.7, B the other way round; recalls move by so much from draw to
    draw."""
    labels = np.repeat([0, 1], sizes)

    def draw(rng: np.random.Generator, edge: float) -> tuple[ScoredCell, ScoredCell]:
        seen, cells = rng.random(len(labels)), []
        for known in ((0.9, 0.7), (0.7 + edge, 0.9 + edge)):
            own = np.where(rng.random(len(labels)) < 0.5, seen, rng.random(len(labels)))
            moved = [np.clip(known + jitter * rng.normal(size=2), 0, 1) for _ in range(5 if jitter else 1)]
            cells.append(cell_of("rsna", [judged(labels, own < recall[labels], 2) for recall in moved]))
        return cells[0], cells[1]

    return PairLaw(BALANCED, draw)


PAIR_LAWS: Mapping[str, PairLaw] = {
    "RSNA-like, 2 x 1,800, K = 1": encoders(two(1800, 1)),
    "RSNA-like, 2 x 1,800, K = 16": encoders(two(1800, 16)),
    "5x200, other test folds, K = 1": encoders(five(1)),
    "5x200, other test folds, K = 16": encoders(five(16)),
    "NIH-LT-like, 19 x 15, K = 4": encoders(nineteen(4)),
    "AUROC, 2 x 1,800, K = 4": encoders(two(1800, 4), AREA),
    "AUROC, 60 + 540, K = 16": encoders(Probes((60, 540), 16), AREA),
    "100 patients a class with 4 images, K = 4": encoders(two(100, 4, images=4, alike=0.5)),
    "40 patients a class with 4 images, one draw": encoders(two(40, 1e6, folds=1, images=4, alike=0.7)),
    "traded recalls, 150 + 150, one draw": traded((150, 150), 0),
    "traded recalls, 300 + 60, one draw": traded((300, 60), 0),
    "traded recalls, 150 + 150, five draws": traded((150, 150), 0.03),
}


def pairs(times: int) -> Rows:
    """How often p is below 0.05 between models that are alike, and between such as differ."""
    yield "law", "narrow, alike", "**ours, alike**", "3 points apart", "6 points apart", "p against interval"
    for name, law in PAIR_LAWS.items():
        found: dict[float, list[tuple[bool, bool, bool]]] = {}
        for edge in (0.0, 0.03, 0.06):
            found[edge] = [
                _pair(law, *law.draw(rng, edge)) for rng in seeded(name, max(1, times // (4 if edge else 2)))
            ]
        told = {edge: list(zip(*rows, strict=True)) for edge, rows in found.items()}
        against = sum(sum(rows[2]) for rows in told.values())
        yield name, share(told[0.0][0]), *(share(rows[1]) for rows in told.values()), f"{against}"


def _pair(law: PairLaw, a: ScoredCell, b: ScoredCell) -> tuple[bool, bool, bool]:
    """Whether the narrow and the wide test tell them apart, and whether the wide p contradicts its interval."""
    one, two = (measurement(cell, law.metric) for cell in (b, a))
    narrow, wide = these_draws(one).minus(these_draws(two)), one.minus(two)
    ends, apart = wide.ends(), (wide.p() or 1.0) < ALPHA
    left_out = ends is not None and not ends[0] <= 0 <= ends[1]
    return (narrow.p() or 1.0) < ALPHA, apart, apart != left_out


SPARSE_LAWS: Mapping[str, tuple[Metric, Law]] = {
    **{f"200 + {n}, recalls 0.8": (BALANCED, recalls((200, n), (0.8, 0.8))) for n in (1, 2, 5, 8, 15)},
    "200 + 5, recalls 0.9 and 0.5": (BALANCED, recalls((200, 5), (0.9, 0.5))),
    "200, 200, 100, 30, 8, recalls 0.8": (BALANCED, recalls((200, 200, 100, 30, 8), (0.8,) * 5)),
    "2 x 15, recalls 0.945": (BALANCED, recalls((15, 15), (0.945,) * 2)),
    "2 x 15, recalls 0.99": (BALANCED, recalls((15, 15), (0.99,) * 2)),
    "19 x 15, recalls 0.5": (BALANCED, recalls((15,) * 19, (0.5,) * 19)),
    "5 x 40, recalls 0.8": (BALANCED, recalls((40,) * 5, (0.8,) * 5)),
    "2 x 1,000, recalls 0.94": (BALANCED, recalls((1000, 1000), (0.94,) * 2)),
    "AUROC 0.80, 300 + 300": (AREA, two_normals(300, 300, 0.80)),
    "AUROC 0.97, 300 + 300": (AREA, two_normals(300, 300, 0.97)),
    "AUROC 0.80, 15 + 285": (AREA, two_normals(15, 285, 0.80)),
    "AUROC 0.95, 15 + 285": (AREA, two_normals(15, 285, 0.95)),
    "AUROC 0.90, 5 + 295": (AREA, two_normals(5, 295, 0.90)),
    "AUROC 0.80, 2 + 200": (AREA, two_normals(2, 200, 0.80)),
    "AUROC 0.80, 19 x 15": (AREA, many_normals((15,) * 19, 0.80)),
    "AUROC 0.70, 300, 100, 50, 20, 10, 5, 3, 2": (AREA, many_normals(LONG_TAIL, 0.70)),
    "AUROC 0.90, 300, 100, 50, 20, 10, 5, 3, 2": (AREA, many_normals(LONG_TAIL, 0.90)),
}


def sparse(times: int) -> Rows:
    """Coverage where a class has few images, of one draw."""
    yield "law", "coverage", "mean width, points", "warned", "without interval"
    for name, (metric, law) in SPARSE_LAWS.items():
        found = [measurement(cell_of("rsna", law.draw(rng)), metric).interval for rng in seeded(name, times)]
        given = [one for one in found if one.low is not None]
        width = np.mean([(one.high or 0) - (one.low or 0) for one in given])
        warned = share(["few test images" in one.reason for one in found])
        yield (
            name,
            share([holds(one, law.truth) for one in found]),
            f"{100 * width:.1f}",
            warned,
            f"{len(found) - len(given)}",
        )


def perfect(times: int) -> Rows:
    """Intervals where every image is right."""
    yield "all right", "balanced accuracy", "AUROC"
    for title, sizes in (
        ("2 x 15", (15, 15)),
        ("2 x 100", (100,) * 2),
        ("2 x 1,000", (1000,) * 2),
        ("5 x 40", (40,) * 5),
    ):
        labels = np.repeat(np.arange(len(sizes)), sizes)
        cell = cell_of("rsna", [judged(labels, np.ones(len(labels), dtype=bool), len(sizes))])
        found = (measurement(cell, metric).interval for metric in (BALANCED, AREA))
        yield title, *(f"{100 * (one.low or 0):.1f} to {100 * (one.high or 0):.1f}" for one in found)


def boards(times: int) -> Rows:
    """Coverage of true places and of the true best."""
    yield "models", "apart, points", "test images", "all places held", "places each, mean", "best held", "in bold, mean"
    for models, gap, (classes, n) in itertools.product((4, 10, 20), (0.0, 0.01, 0.03), ((5, 40), (2, 1000))):
        name = f"board {models} {gap} {classes} {n}"
        labels = np.repeat(np.arange(classes), n)
        worth = 0.9 - gap * np.arange(models)
        found = [_board(_alike_images(labels, classes, worth, rng), worth) for rng in seeded(name, max(1, times // 4))]
        held, size, best, bold = zip(*found, strict=True)
        title = f"{100 * gap:.0f}" if gap else "equal"
        told = share(held), f"{np.mean(size):.1f}", share(best), f"{np.mean(bold):.1f}"
        yield f"{models}", title, f"{classes} x {n:,}", *told


def _alike_images(
    labels: NDArray[np.int64], classes: int, worth: NDArray[np.float64], rng: np.random.Generator
) -> dict[str, ScoredCell]:
    """Models of these accuracies, alike in which images are hard (correlation 0.5 of a normal score)."""
    hard, cells = rng.normal(size=len(labels)), {}
    for number, chance in enumerate(worth):
        score = np.sqrt(0.5) * (hard + rng.normal(size=len(labels)))
        cells[f"m{number:02}"] = cell_of("rsna", [judged(labels, score < ndtri(chance), classes)])
    return cells


def _board(cells: Mapping[str, ScoredCell], worth: NDArray[np.float64]) -> tuple[bool, float, bool, int]:
    found = {model: measurement(cell, BALANCED) for model, cell in cells.items()}
    every: dict[tuple[str, str], Estimate] = {
        (a, b): found[a].minus(found[b]) for a, b in itertools.combinations(cells, 2)
    }
    told, bold = places(every, list(cells)), not_worse(every, list(cells))
    ends = [told.of[model] for model in cells]
    held = all(
        low <= 1 + (worth > own).sum() and high >= (worth >= own).sum()
        for (low, high), own in zip(ends, worth, strict=True)
    )
    return held, float(np.mean([high - low + 1 for low, high in ends])), "m00" in bold, len(bold)


def disk(times: int) -> Rows:
    """The whole way: two tasks, three encoders (two alike, one 5 points worse), five draws, records and predictions."""
    law = Probes((200, 200), 4)
    rows = {"coverage of a cell": [], "coverage of a model's mean": [], "coverage of a pair's difference": []}
    rows |= {"two that are alike told apart (mean, p)": [], "5 points told apart (mean, p)": []}
    rows |= {"all places of the board held": [], "best held": []}
    found: dict[str, list[bool]] = rows
    grid = np.linspace(1.1, 1.5, 5)
    worse = float(np.interp(law.truth(BALANCED) - 0.05, [law.truth(BALANCED, gain) for gain in grid], grid))
    truth = dict(zip("abc", (law.truth(BALANCED), law.truth(BALANCED), law.truth(BALANCED, worse)), strict=True))
    for rng in seeded("disk", max(1, times // 8)):
        with TemporaryDirectory() as folder:
            _through_files(Path(folder), law, (law.gain, law.gain, worse), truth, rng, found)
    yield "promise", "measured", "of"
    for name, values in found.items():
        yield name, share(values), f"{len(values):,}"


def _through_files(
    out: Path,
    law: Probes,
    gains: Sequence[float],
    truth: Mapping[str, float],
    rng: np.random.Generator,
    found: Mapping[str, list[bool]],
) -> None:
    from cxrbench.records.scores import FoldScores

    ids = tuple(f"image{number:05}" for number in range(len(law.labels)))
    for task in ("siim", "vindr"):
        for model, (folds, _) in zip("abc", law.draw(rng, gains), strict=True):
            written(out, model, [FoldScores(k, ids, f.labels, f.scores) for k, f in enumerate(folds)], data__task=task)
    records, variant = read_results(out, out).records, catalog.load_variant("paper-code")
    cell, mean, difference, alike, apart, held, best = found.values()
    for other, told in (("b", alike), ("c", apart)):
        (chosen,) = select(records, CellFilter(("a", other), variant))
        pair = compare(out, chosen, BALANCED)
        told.append((pair.mean_p or 1.0) < ALPHA)
        difference += [holds(task.difference, truth["a"] - truth[other]) for task in pair.tasks]
    (chosen,) = select(records, CellFilter(("all",), variant))
    board = leaderboard(out, chosen, BALANCED)
    worth = np.array([truth[model] for model in board.models])
    ends = [board.places.of[model] for model in board.models]
    held.append(
        all(lo <= 1 + (worth > w).sum() and hi >= (worth >= w).sum() for (lo, hi), w in zip(ends, worth, strict=True))
    )
    best.append("a" in board.best_mean)
    mean += [holds(one, truth[model]) for model, one in zip(board.models, board.means, strict=True)]
    cell += [holds(one, truth[model]) for row in board.values for model, one in zip(board.models, row, strict=True)]


TABLES: Mapping[str, Callable[[int], Rows]] = {
    "intervals": intervals,
    "pairs": pairs,
    "sparse": sparse,
    "perfect": perfect,
    "boards": boards,
    "disk": disk,
}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=tuple(TABLES), default=tuple(TABLES), help="some of the tables")
    parser.add_argument(
        "--times",
        type=int,
        default=TIMES,
        help="simulations of each law, of pairs half, of boards a quarter, of files an eighth as many",
    )
    asked = parser.parse_args()
    for name in asked.only:
        print(f"\n{name}\n", flush=True)
        for number, row in enumerate(TABLES[name](asked.times)):
            print(f"| {' | '.join(row)} |", flush=True)
            if not number:
                print("|---" * len(row) + "|", flush=True)


if __name__ == "__main__":
    main()
