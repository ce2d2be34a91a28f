"""Measured cells made by hand: sound records with their predictions, for everything that reads a results folder."""

from dataclasses import asdict
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import numpy as np
from made_records import made_record

from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.records.record import Record
from cxrbench.records.scores import FoldScores, as_parquet
from cxrbench.runner.recording import write_cell
from cxrbench.store import digest

CLASSES = ("Normal", "Pneumonia")
METRICS = ("balanced_accuracy", "accuracy", "macro_auroc", "macro_f1", "kappa")


def scores(seed: int = 0, rows: int = 400, errors: int = 60, folds: int = 2) -> list[FoldScores]:
    """Folds of `rows` rows, half of each class, of which the first `errors` are wrong, all by a wide margin."""
    found = []
    for fold in range(folds):
        rng = np.random.default_rng([seed, fold])
        labels = np.arange(rows) % 2
        truth = np.where(np.arange(rows) < errors, -1.0, 1.0) * rng.uniform(0.2, 1.0, rows)
        table = np.where(labels[:, None] == [0, 1], truth[:, None], 0.0).astype(np.float32)
        found.append(FoldScores(fold, tuple(f"image{row:04}" for row in range(rows)), labels, table))
    return found


def write_result(
    out: Path, folds: list[FoldScores] | None = None, patients: dict[str, str] | None = None, **changes: Any
) -> Record:
    """A record whose numbers are those of its predictions, written with them below `out`; `changes` by dotted name."""
    told = scores() if folds is None else folds
    metrics = [asdict(fold_metrics(fold.scores, fold.labels)) for fold in told]
    results = [
        {
            "fold": f.fold,
            "train": [f"training image {f.fold}"],
            "test_rows": len(f.ids),
            "test_digest": digest.of_lines(f.ids),
            "metrics": m,
        }
        for f, m in zip(told, metrics, strict=True)
    ]
    summary = {name: _spread([m[name] for m in metrics]) for name in METRICS}
    labels = changes.get("data__labels", CLASSES)
    known = {"patient": patients or {}}
    content = digest.of_bytes(as_parquet(told, labels, known, ""))
    ident = digest.of_json([changes.get("id", ""), sorted((k, str(v)) for k, v in changes.items()), content])[:16]
    own = {
        "id": ident,
        "folds": results,
        "summary": summary,
        "predictions": f"{ident}.parquet",
    }
    return write_cell(out, made_record(**{**changes, **own}), told, known)


def _spread(values: list[float]) -> dict[str, float | int]:
    return {"mean": fmean(values), "std": pstdev(values), "folds": len(values)}
