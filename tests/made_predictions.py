"""Records with predictions beside them, for tests of everything that compares cells."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from made_records import made_record

from cxrbench.evaluate.metrics import SUMMARISED, fold_metrics, mean_and_spread
from cxrbench.records.record import STATEMENT, Record, record_path, write_record
from cxrbench.records.scores import FoldScores, as_parquet
from cxrbench.runner.recording import write_cell
from cxrbench.store import digest

LABELS = ("Normal", "Pneumonia")


def scored_fold(
    skill: float, seed: int, *, number: int = 0, images: int = 60, classes: int = 2, noise: int | None = None
) -> FoldScores:
    """A fold of so many images per class, all models seeing the same of an image when they share `seed`."""
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
    known = {"patient": patients or {}, **changes.pop("about", {})}
    told: list[dict[str, Any]] = [
        {
            "fold": fold.fold,
            "train": [f"training image {fold.fold}"],
            "test_rows": len(fold.ids),
            "test_digest": digest.of_lines(fold.ids),
            "metrics": asdict(fold_metrics(fold.scores, fold.labels)),
        }
        for fold in folds
    ]
    summary = {name: mean_and_spread([fold["metrics"][name] for fold in told]) for name in SUMMARISED}
    content = digest.of_bytes(as_parquet(folds, labels, known, ""))
    ident = digest.of_json([model, content, repr(sorted(changes.items()))])[:16]
    record = made_record(
        model__name=model,
        folds=told,
        id=ident,
        predictions=f"{ident}.parquet",
        **{"summary": summary, "data__partition_digest": digest.of_lines(folds[0].ids), **changes},
    )
    return write_cell(out, record, folds, known)


def restated(out: Path, record: Record, **changes: Any) -> Record:
    """The record on disk with other fields, as if it had been measured so, its predictions telling of them too."""
    path = record_path(out, record.data.task, record.model.name, record.id)
    table = pq.read_table(path.with_name(record.predictions))
    for file in (path, path.with_name(record.predictions)):
        file.unlink()
    changed = record.model_copy(update=changes)
    place = record_path(out, changed.data.task, changed.model.name, changed.id).with_name(changed.predictions)
    pq.write_table(table.replace_schema_metadata({STATEMENT: changed.statement}), place)
    whole = changed.model_copy(update={"predictions_sha256": digest.of_file(place)})
    write_record(out, whole)
    return whole
