"""Intervals: CPU time of a bootstrap over scikit-learn's metrics over ours, for one cell and for a whole report.

Intervals: balanced accuracy, and macro AUROC, on 4,000 x 19 predictions. The bootstrap draws images within their class
and is timed on some resamples; its time is scaled to 1,000. Both must give the same standard error within 6 %, the
bootstrap's from 300 resamples. Report: `cxrbench report` on drawn records of 20 models x 7 tasks x 5 shots, five folds,
everything included (reading, checking, pages, places, tests, HTML), in one process. The bootstrap would give the
interval of each cell alone; it is timed on a few cells and resamples, and scaled to all. Start-up is in neither.
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

IMAGES, CLASSES, RESAMPLES = 4000, 19, 1000
LOOPED = {"balanced_accuracy": 100, "macro_auroc": 20}  # resamples that the bootstrap is timed on
CHECKED, CLOSE = 300, 0.06  # resamples for its standard error, which so many give to 4 %
REPEATED = 20  # of our interval, which is over before a clock ticks
INTERVAL_TARGETS = {"balanced_accuracy": 300.0, "macro_auroc": 300.0}
MODELS, SHOTS, PER_CLASS, FOLDS = 20, (1, 2, 4, 8, 16), 60, 5
SAMPLED, SAMPLED_RESAMPLES = 14, 20  # cells, about two a task, and resamples that the bootstrap is timed on
REPORT_TARGET = 100.0
EQUAL = 1e-12
SEED = 1


def interval_rows(rounds: int) -> list[Row]:
    """A row for each metric."""
    found = []
    for metric, looped in LOOPED.items():
        arms = {arm: partial(child, f"intervals:{arm}", metric=metric) for arm in ("loop", "ours")}
        runs = alternated(arms, rounds)
        error = child("intervals:bootstrapped", metric=metric)["error"]
        apart = abs(error / runs["ours"][0]["error"] - 1)
        loop, ours = ([run["cpu"] for run in runs[arm]] for arm in arms)
        note = f"{min(loop):.1f} s against {1000 * min(ours):.1f} ms; bootstrap scaled from {looped} resamples; "
        note += f"standard errors differ by {100 * apart:.1f} %"
        target = Target(INTERVAL_TARGETS[metric])
        title = f"interval, {metric.replace('_', ' ')}, {IMAGES} x {CLASSES}"
        found.append(Row(title, ratios(loop, ours), target, apart <= CLOSE, note))
    return found


def report_rows(rounds: int) -> list[Row]:
    """One row."""
    with TemporaryDirectory() as folder:
        drawn = child("intervals:write_records", out=folder)
        arms = {arm: partial(child, f"intervals:{arm}", out=folder) for arm in ("sampled_cells", "whole_report")}
        runs = alternated(arms, rounds)
    loop = [run["each"] * drawn["cells"] for run in runs["sampled_cells"]]
    ours = [run["cpu"] for run in runs["whole_report"]]
    first = runs["whole_report"][0]
    note = f"{drawn['cells']} cells, {drawn['rows']} rows; {min(loop) / 3600:.2f} hours against {min(ours):.1f} s, "
    note += f"{first['bytes'] / 1e6:.2f} MB, peak {max(run['peak'] for run in runs['whole_report'])} MiB"
    equal = all(run["apart"] <= EQUAL for run in runs["sampled_cells"])
    return [Row("report, 20 models x 7 tasks x 5 shots", ratios(loop, ours), Target(REPORT_TARGET), equal, note)]


def ours(metric: str) -> dict[str, Any]:
    """Arm: the interval, and its standard error."""
    from cxrbench.evaluate.metric_table import TABLE
    from cxrbench.evaluate.statistics.interval import estimate

    fold, row = _fold(), TABLE[metric]

    def interval() -> Any:
        found = estimate(row.shares([fold]), row.bounds, "images")
        return found.ends(), found.error

    interval()
    spent, found = cpu_seconds(lambda: [interval() for _ in range(REPEATED)])
    return {"cpu": spent / REPEATED, "error": found[0][1]}


def loop(metric: str) -> dict[str, Any]:
    """Arm: scikit-learn on resamples one by one, its time scaled to all."""
    fold, score = _fold(), _scorer(metric)
    resamples(score, [fold], 2)
    spent, _ = cpu_seconds(lambda: resamples(score, [fold], LOOPED[metric]))
    return {"cpu": spent * RESAMPLES / LOOPED[metric]}


def bootstrapped(metric: str) -> dict[str, Any]:
    """The standard error by the bootstrap."""
    import numpy as np

    return {"error": float(np.std(resamples(_scorer(metric), [_fold()], CHECKED), ddof=1))}


def write_records(out: str) -> dict[str, Any]:
    """The drawn records, as tests make them."""
    sys.path.insert(0, str(ROOT / "tests"))
    from made_board import write_board  # type: ignore[import-not-found]

    from cxrbench.specs import catalog

    models, tasks = list(catalog.card_files())[:MODELS], list(catalog.task_files())
    size = {"shots": SHOTS, "prompts": (), "images": PER_CLASS, "folds": FOLDS}
    records = write_board(Path(out), models, tasks, **size)
    return {"cells": len(records), "rows": sum(fold.test_rows for record in records for fold in record.folds)}


def whole_report(out: str) -> dict[str, Any]:
    """Arm: everything that `cxrbench report` does, after its libraries are imported by a small one."""
    from cxrbench.records.integrity import found_results
    from cxrbench.reports.html.chapters import ReportWork
    from cxrbench.reports.html.page import report
    from cxrbench.reports.html.render import render

    def whole(some: slice) -> int:
        found = found_results(Path(out))
        return len(render(report(ReportWork(Path(out)), replace(found, records=found.records[some]), None)).encode())

    whole(slice(None, None, 100))
    spent, size = cpu_seconds(lambda: whole(slice(None)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {"cpu": spent, "bytes": size, "peak": peak}


def sampled_cells(out: str) -> dict[str, Any]:
    """Arm: scikit-learn on the predictions of some cells; seconds of one cell, scaled to all resamples.

    `apart` is by how much its values differ from ours.
    """
    from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
    from cxrbench.records.integrity import read_results
    from cxrbench.records.predictions import read_cell

    records = sorted(
        read_results(Path(out), Path(out) / "cache").records, key=lambda record: (record.data.task, record.id)
    )
    chosen = records[:: len(records) // SAMPLED]
    score, total, apart = _scorer("balanced_accuracy"), 0.0, 0.0
    for record in chosen:
        folds = read_cell(Path(out), record).folds
        spent, _ = cpu_seconds(partial(resamples, score, folds, SAMPLED_RESAMPLES))
        total += spent * RESAMPLES / SAMPLED_RESAMPLES
        whole = sum(score(fold.labels, fold.scores) for fold in folds) / len(folds)
        apart = max(apart, abs(whole - BALANCED_ACCURACY.shares(folds).value))
    return {"each": total / len(chosen), "apart": apart}


def resamples(score: Callable[..., float], folds: Any, times: int) -> list[float]:
    """The mean over folds on each resample of the units, drawn within the class that most of their rows carry."""
    import numpy as np

    from cxrbench.evaluate.statistics.shares import strata

    draw, stratum = np.random.default_rng(SEED), strata(folds)
    members = [np.flatnonzero(stratum == number) for number in np.unique(stratum[stratum >= 0])]
    rows = [np.split(np.argsort(f.unit, kind="stable"), np.cumsum(np.bincount(f.unit))[:-1]) for f in folds]
    found = []
    for _ in range(times):
        units = np.concatenate([draw.choice(own, len(own)) for own in members])
        taken = [np.concatenate([of_unit[u] for u in units if u < len(of_unit)]) for of_unit in rows]
        found.append(sum(score(f.labels[own], f.scores[own]) for f, own in zip(folds, taken, strict=True)) / len(folds))
    return found


def _fold() -> Any:
    """Drawn predictions; one image a unit."""
    import numpy as np

    from cxrbench.evaluate.statistics.shares import ScoredRows

    draw = np.random.default_rng(0)
    labels = draw.integers(0, CLASSES, IMAGES)
    scores = draw.normal(size=(IMAGES, CLASSES)) + 1.5 * np.eye(CLASSES)[labels]
    return ScoredRows(np.arange(IMAGES), labels, scores.astype(np.float32))


def _scorer(metric: str) -> Callable[..., float]:
    """Scikit-learn's metric of labels and scores."""
    import numpy as np
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    if metric == "balanced_accuracy":
        return lambda labels, scores: float(balanced_accuracy_score(labels, scores.argmax(axis=1)))
    return lambda labels, scores: float(roc_auc_score(np.eye(scores.shape[1])[labels], scores, average="macro"))
