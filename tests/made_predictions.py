"""Records with predictions beside them, for tests of everything that compares cells."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from made_records import made_record

from cxrbench import digest
from cxrbench.bench.predictions import FoldScores, as_parquet
from cxrbench.evaluate.metrics import fold_metrics
from cxrbench.evaluate.summary import SUMMARISED, mean_and_spread
from cxrbench.record import Record, record_path
from cxrbench.record_file import write_record

LABELS = ("Normal", "Pneumonia")


def scored_fold(
    skill: float, seed: int, *, number: int = 0, images: int = 60, classes: int = 2, noise: int | None = None
) -> FoldScores:
    """A fold of so many images a class, all models seeing the same of an image when they share `seed`."""
    labels = np.repeat(np.arange(classes), images)
    seen = np.random.default_rng(seed).normal(size=(len(labels), classes)) + skill * np.eye(classes)[labels]
    own = np.random.default_rng([seed, 1 if noise is None else noise]).normal(size=seen.shape)
    scores = np.exp(seen + 0.5 * own)
    ids = tuple(f"image{i:04d}" for i in range(len(labels)))
    return FoldScores(number, ids, labels, scores / scores.sum(axis=1, keepdims=True))


def written(
    out: Path, model: str, folds: Sequence[FoldScores], patients: Mapping[str, str] | None = None, **changes: Any
) -> Record:
    """A record of these folds below the results folder, its predictions written as a run writes them.

    `about` among the changes says what is known of images: attribute to image to value.
    """
    labels = tuple(changes.get("data__labels", LABELS))
    parquet = as_parquet(folds, labels, {"patient": patients or {}, **changes.pop("about", {})})
    told: list[dict[str, Any]] = [
        {
            "fold": fold.fold,
            "test_rows": len(fold.ids),
            "test_digest": digest.of_lines(fold.ids),
            "metrics": asdict(fold_metrics(fold.scores, fold.labels)),
        }
        for fold in folds
    ]
    summary = {name: mean_and_spread([fold["metrics"][name] for fold in told]) for name in SUMMARISED}
    ident = digest.of_json([model, digest.of_bytes(parquet), repr(sorted(changes.items()))])[:16]
    record = made_record(
        model__name=model,
        folds=told,
        id=ident,
        predictions=f"{ident}.parquet",
        predictions_sha256=digest.of_bytes(parquet),
        **{"summary": summary, "data__partition_digest": digest.of_lines(folds[0].ids), **changes},
    )
    path = write_record(out, record)
    assert path == record_path(out, record.data.task, model, ident)
    path.with_suffix(".parquet").write_bytes(parquet)
    return record
