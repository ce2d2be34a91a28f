"""Intervals: CPU time of a loop over scikit-learn's metrics over ours, for one cell and for a whole report.

Bootstrap: 10,000 resamples of balanced accuracy, and of macro AUROC, on 4,000 x 19 predictions. The loop takes the
first resamples of ours, each image weighing as often as it was drawn, so that both must give the same values; its time
is scaled from these to all. Report: `cxrbench report` on drawn records of 20 models x 7 tasks x 5 shots, five folds,
everything included (reading, checking, pages, ranks, tests, HTML), in one process. The loop would compute the interval
of each cell alone; it is timed on a few cells and resamples, and scaled to all. Start-up is in neither.
"""

import resource
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.rounds import ROOT, Row, Target, alternated, child, cpu_seconds, ratios

IMAGES, CLASSES, RESAMPLES = 4000, 19, 10_000
LOOPED = {"balanced_accuracy": 100, "macro_auroc": 10}  # resamples that the loop is timed on
CLOSE = {"balanced_accuracy": 1e-12, "macro_auroc": 1e-5}  # counts of an AUROC are added in float32
BOOTSTRAP_TARGETS = {"balanced_accuracy": 30.0, "macro_auroc": 100.0}
MODELS, SHOTS, PER_CLASS, FOLDS = 20, (1, 2, 4, 8, 16), 60, 5
SAMPLED, SAMPLED_RESAMPLES = 14, 20  # cells, about two a task, and resamples that the loop is timed on
REPORT_TARGET = 1000.0
SEED = 1


def bootstrap_rows(rounds: int) -> list[Row]:
    """A row for each metric."""
    found = []
    for metric, looped in LOOPED.items():
        arms = {arm: partial(child, f"resampling:{arm}", metric=metric) for arm in ("loop", "ours")}
        runs = alternated(arms, rounds)
        pairs = zip(runs["loop"][0]["values"], runs["ours"][0]["values"], strict=True)
        apart = max(abs(a - b) for a, b in pairs)
        loop, ours = ([run["cpu"] for run in runs[arm]] for arm in arms)
        note = f"{min(loop):.0f} against {min(ours):.2f} s; loop scaled from {looped} resamples, which differ by "
        note += f"{apart:.0e} at most"
        target = Target(BOOTSTRAP_TARGETS[metric])
        title = f"bootstrap, {metric.replace('_', ' ')}, {IMAGES} x {CLASSES}"
        found.append(Row(title, ratios(loop, ours), target, apart <= CLOSE[metric], note))
    return found


def report_rows(rounds: int) -> list[Row]:
    """One row."""
    with TemporaryDirectory() as folder:
        drawn = child("resampling:write_records", out=folder)
        arms = {arm: partial(child, f"resampling:{arm}", out=folder) for arm in ("sampled_cells", "whole_report")}
        runs = alternated(arms, rounds)
    loop = [run["each"] * drawn["cells"] for run in runs["sampled_cells"]]
    ours = [run["cpu"] for run in runs["whole_report"]]
    first = runs["whole_report"][0]
    note = f"{drawn['cells']} cells, {drawn['rows']} rows; {min(loop) / 3600:.1f} hours against {min(ours):.1f} s, "
    note += f"{first['bytes'] / 1e6:.2f} MB, peak {max(run['peak'] for run in runs['whole_report'])} MiB"
    equal = all(run["apart"] <= CLOSE["balanced_accuracy"] for run in runs["sampled_cells"])
    return [Row("report, 20 models x 7 tasks x 5 shots", ratios(loop, ours), Target(REPORT_TARGET), equal, note)]


def ours(metric: Any) -> dict[str, Any]:
    """Arm: the whole interval, and the values of the first resamples."""
    import numpy as np

    from cxrbench.evaluate.statistics.counts import statistic
    from cxrbench.evaluate.statistics.interval import interval
    from cxrbench.evaluate.statistics.resample import replicates
    from cxrbench.evaluate.statistics.units import strata

    fold: Any = _fold()
    interval(metric, [fold], "image", np.random.default_rng(0), 100)
    call = partial(interval, metric, [fold], "image", np.random.default_rng(SEED), RESAMPLES)
    spent, _ = cpu_seconds(call)
    stratum = strata([fold])
    one = statistic(metric, [fold], len(stratum))
    values = replicates([one], stratum, LOOPED[metric], np.random.default_rng(SEED))[0]
    return {"cpu": spent, "values": values.tolist()}


def loop(metric: str) -> dict[str, Any]:
    """Arm: scikit-learn on the first resamples one by one, its time scaled to all."""
    fold: Any = _fold()
    weights = _weights([fold], LOOPED[metric], SEED)
    score = _scorer(metric)
    score(fold, weights[:, 0])
    spent, values = cpu_seconds(lambda: [score(fold, row) for row in weights.T])
    return {"cpu": spent * RESAMPLES / len(values), "values": values}


def write_records(out: str) -> dict[str, Any]:
    """The drawn records, as tests make them."""
    sys.path.insert(0, str(ROOT / "tests"))
    from made_board import write_board  # type: ignore[import-not-found]

    from cxrbench import catalog

    models, tasks = list(catalog.card_files())[:MODELS], list(catalog.task_files())
    size = {"shots": SHOTS, "prompts": (), "images": PER_CLASS, "folds": FOLDS}
    records = write_board(Path(out), models, tasks, **size)
    return {"cells": len(records), "rows": sum(fold.test_rows for record in records for fold in record.folds)}


def whole_report(out: str) -> dict[str, Any]:
    """Arm: everything that `cxrbench report` does, after its libraries are imported by a small one."""
    from cxrbench.html.page import report
    from cxrbench.html.render import render
    from cxrbench.html.work import Work
    from cxrbench.verdict.integrity import found_results

    def whole(some: slice, resamples: int) -> int:
        found = found_results(Path(out))
        work = Work(Path(out), resamples)
        return len(render(report(work, replace(found, records=found.records[some]), None)).encode())

    whole(slice(None, None, 100), 100)
    spent, size = cpu_seconds(lambda: whole(slice(None), RESAMPLES))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"cpu": spent, "bytes": size, "peak": peak}


def sampled_cells(out: str) -> dict[str, Any]:
    """Arm: scikit-learn on the predictions of some cells; seconds of one cell, scaled to all resamples.

    `apart` is by how much its values differ from ours on the same resamples.
    """
    import numpy as np

    from cxrbench.evaluate.statistics.counts import statistic
    from cxrbench.evaluate.statistics.resample import replicates
    from cxrbench.evaluate.statistics.units import strata
    from cxrbench.verdict.integrity import read_results
    from cxrbench.verdict.predictions import read_cell

    records = sorted(
        read_results(Path(out), Path(out) / "cache").records, key=lambda record: (record.data.task, record.id)
    )
    chosen = records[:: len(records) // SAMPLED]
    score, total, apart = _scorer("balanced_accuracy"), 0.0, 0.0
    for record in chosen:
        cell = read_cell(Path(out), record)
        weights = _weights(cell.folds, SAMPLED_RESAMPLES, SEED)
        call = partial(_each, score, cell.folds, weights)
        spent, values = cpu_seconds(call)
        total += spent * RESAMPLES / SAMPLED_RESAMPLES
        stratum = strata(cell.folds)
        one = statistic("balanced_accuracy", cell.folds, len(stratum))
        exact = replicates([one], stratum, SAMPLED_RESAMPLES, np.random.default_rng(SEED))[0]
        apart = max(apart, float(np.abs(exact - values).max()))
    return {"each": total / len(chosen), "apart": apart}


def _each(score: Callable[..., float], folds: Any, weights: Any) -> list[float]:
    """The mean over folds on each resample."""
    return [sum(score(fold, row[fold.unit]) for fold in folds) / len(folds) for row in weights.T]


def _fold() -> Any:
    """Drawn predictions; one image a unit."""
    import numpy as np

    from cxrbench.evaluate.statistics.units import ScoredRows

    draw = np.random.default_rng(0)
    labels = draw.integers(0, CLASSES, IMAGES)
    scores = draw.normal(size=(IMAGES, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    return ScoredRows(np.arange(IMAGES), labels, scores.astype(np.float32))


def _weights(folds: Any, resamples: int, seed: int) -> Any:
    """What every unit weighs in the resamples that a seed gives (U, B): the counts of a statistic that counts units."""
    import numpy as np
    from scipy import sparse

    from cxrbench.evaluate.statistics.resample import Statistic, replicates
    from cxrbench.evaluate.statistics.units import strata

    stratum, seen = strata(folds), []

    def of(counts: Any) -> Any:
        seen.append(counts)
        return counts[0]

    every = Statistic(sparse.csr_array(sparse.identity(len(stratum), dtype=np.int64, format="csr")), of)
    replicates([every], stratum, resamples, np.random.default_rng(seed))
    size = np.bincount(stratum)[stratum][:, None]
    return np.rint(np.concatenate(seen, axis=1) * (size - 1) / size) * size / (size - 1)


def _scorer(metric: str) -> Callable[..., float]:
    """Scikit-learn's metric of a fold with weights of its rows."""
    import numpy as np
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    if metric == "balanced_accuracy":
        return lambda fold, weights: float(
            balanced_accuracy_score(fold.labels, fold.predictions, sample_weight=weights)
        )
    return lambda fold, weights: float(
        roc_auc_score(np.eye(fold.scores.shape[1])[fold.labels], fold.scores, average="macro", sample_weight=weights)
    )
