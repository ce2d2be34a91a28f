"""Many models over the tasks they share: ranks, what tells them apart, and which neighbours nothing does."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.statistics.counts import Metric, statistic
from cxrbench.evaluate.statistics.interval import RESAMPLES
from cxrbench.evaluate.statistics.paired import holm
from cxrbench.evaluate.statistics.ranks import RankTest, rank_intervals, rank_test
from cxrbench.evaluate.statistics.resample import replicates
from cxrbench.evaluate.statistics.uncertainty import Interval
from cxrbench.evaluate.statistics.units import rarest_class, strata
from cxrbench.verdict.cell import cell_interval, seeded
from cxrbench.verdict.compare import ALPHA, cells_difference
from cxrbench.verdict.predictions import ScoredCell, read_cell
from cxrbench.verdict.selection import Selected, Setting, why_not_paired

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Two models that follow each other on a task, the better one first; `p_holm` is over all such pairs."""

    task: str
    better: str
    worse: str
    difference: Interval
    p: float
    p_holm: float

    @property
    def told_apart(self) -> bool:
        """Whether this task's test set shows a difference at 5 % after correction."""
        return self.p_holm < ALPHA


@dataclass(frozen=True, slots=True)
class ControlRow:
    """A negative control's number on each task of the board, None where it has none on the same images."""

    model: str
    values: tuple[Interval | None, ...]


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """Models of one setting, the best average rank first, on the tasks that all of them share.

    Negative controls are no models: they stand apart, without a rank, and no test includes them.

    `values[t][m]` are the intervals; `ranks` follow `models`, its rows and columns too. `rank_intervals` (M, 2) are
    over test units, with the tasks as they are; `ranks` tests over tasks, with the numbers as they are.
    """

    setting: Setting
    variant: str
    synthetic: bool
    metric: Metric
    models: tuple[str, ...]
    tasks: tuple[str, ...]
    values: tuple[tuple[Interval, ...], ...]
    ranks: RankTest
    rank_intervals: FloatArray
    neighbours: tuple[Neighbours, ...]
    refused: Mapping[str, tuple[str, ...]]
    notes: tuple[str, ...]
    controls: tuple[ControlRow, ...] = ()

    @property
    def untold(self) -> float:
        """Share of neighbouring pairs, all tasks together, that cannot be told apart."""
        return sum(not pair.told_apart for pair in self.neighbours) / len(self.neighbours)


def leaderboard(out: Path, selected: Selected, metric: Metric, resamples: int = RESAMPLES) -> Leaderboard:
    """The board of a setting with three models or more, from their predictions below the results folder.

    A task enters if every model but negative controls has a record of the same images. Raises NotApplicableError with
    the reasons below two such tasks or three such models, DataError and IntegrityError for predictions that are gone or
    changed.
    """
    controls = {r.model.name for row in selected.records.values() for r in row.values() if r.control}
    models = tuple(model for model in selected.models if model not in controls)
    if len(models) < 3:
        told = f"there are {len(models)}" + (f", and the controls {', '.join(sorted(controls))}" if controls else "")
        raise NotApplicableError(f"ranks need three models that are no negative controls ({selected.setting}); {told}")
    rows, refused = _shared_rows(out, replace(selected, models=models))
    found = [_resampled(row, metric, resamples) for row in rows]
    ranks = rank_test(np.array([estimates for estimates, _ in found]))
    order = np.argsort(ranks.ranks, kind="stable")
    spans = rank_intervals(np.array([drawn for _, drawn in found])[:, order])
    rows = [[row[place] for place in order] for row in rows]
    first = rows[0][0].record
    return Leaderboard(
        selected.setting,
        first.variant,
        first.synthetic,
        metric,
        tuple(cell.record.model.name for cell in rows[0]),
        tuple(row[0].record.data.task for row in rows),
        tuple(tuple(cell_interval(cell, metric, resamples) for cell in row) for row in rows),
        _ordered(ranks, order),
        spans,
        _neighbours(rows, metric, resamples),
        refused,
        selected.notes,
        tuple(
            ControlRow(
                name,
                tuple(
                    None if cell is None else cell_interval(cell, metric, resamples)
                    for cell in _control_cells(out, selected, name, rows)
                ),
            )
            for name in selected.models
            if name in controls
        ),
    )


def _control_cells(
    out: Path, selected: Selected, name: str, rows: Sequence[Sequence[ScoredCell]]
) -> Iterator[ScoredCell | None]:
    """A negative control's cell on each task of the board; None where it scores other images or none."""
    for row in rows:
        record = selected.records[row[0].record.data.task].get(name)
        cell = None if record is None else read_cell(out, record)
        yield None if cell is None or why_not_paired(row[0], cell) else cell


def _shared_rows(out: Path, selected: Selected) -> tuple[list[list[ScoredCell]], dict[str, tuple[str, ...]]]:
    """The cells of every task that all models share, in the order of models, and the reasons against the others."""
    rows, refused = [], {}
    for task, records in selected.records.items():
        absent = tuple(f"no record of {model}" for model in selected.models if model not in records)
        row = [] if absent else [read_cell(out, records[model]) for model in selected.models]
        reasons = absent or tuple(
            f"{cell.record.model.name}: {reason}" for cell in row[1:] for reason in why_not_paired(row[0], cell)
        )
        if not reasons and rarest_class(row[0].folds)[1] < 2:
            reasons = ("a class has too few test images for any resample",)
        if reasons:
            refused[task] = reasons
        else:
            rows.append(row)
    if len(rows) < 2:
        told = "; ".join(f"{task}: {', '.join(reasons)}" for task, reasons in refused.items())
        raise NotApplicableError(
            f"ranks need two tasks that all of {', '.join(selected.models)} share ({selected.setting}); "
            f"there are {len(rows)}. {told}"
        )
    return rows, refused


def _resampled(row: Sequence[ScoredCell], metric: Metric, resamples: int) -> tuple[list[float], FloatArray]:
    """Estimates (M,) and replicates (M, B) of all models on the same resamples of one task."""
    stratum = strata(row[0].folds)
    found = [statistic(metric, cell.folds, len(stratum)) for cell in row]
    rng = seeded("ranks", metric, *(cell.record.id for cell in row))
    drawn = replicates(found, stratum, resamples, rng)
    if np.isnan([s.estimate for s in found]).any():
        raise DataError(f"{row[0].record.data.task}: {metric} is not defined in every fold, so nothing can be ranked")
    return [s.estimate for s in found], drawn


def _ordered(ranks: RankTest, order: NDArray[np.intp]) -> RankTest:
    return RankTest(
        ranks.ranks[order], ranks.friedman, ranks.p, ranks.nemenyi[np.ix_(order, order)], ranks.critical_difference
    )


def _neighbours(rows: Sequence[Sequence[ScoredCell]], metric: Metric, resamples: int) -> tuple[Neighbours, ...]:
    pairs: list[tuple[ScoredCell, ScoredCell]] = []
    for row in rows:
        values = {c.record.id: np.mean([f.metrics[metric] for f in c.record.folds]) for c in row}
        best_first = sorted(row, key=lambda cell: -values[cell.record.id])
        pairs += itertools.pairwise(best_first)
    found = [cells_difference(a, b, metric, resamples) for a, b in pairs]
    return tuple(
        Neighbours(a.record.data.task, a.record.model.name, b.record.model.name, d.interval, d.p, p_holm)
        for (a, b), d, p_holm in zip(pairs, found, holm([d.p for d in found]), strict=True)
    )
