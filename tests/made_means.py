"""Cells drawn from known laws, without files: what the statistics read from records and predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any, Literal

import numpy as np
from made_records import made_record
from numpy.typing import NDArray

from cxrbench.analysis.cell import measurement
from cxrbench.analysis.means import Mean, Weighted
from cxrbench.evaluate.findings import FindingRows
from cxrbench.evaluate.metric_table import TABLE, Metric
from cxrbench.evaluate.statistics.finding_shares import AnyRows
from cxrbench.evaluate.statistics.shares import UnitKind
from cxrbench.records.predictions import ScoredCell
from cxrbench.records.record import Record

Kind = Literal["probe", "zero-shot"]
ZERO_SHOT = {"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits", "logit_scale": 20.0}


@cache
def record_of(task: str, folds: int, kind: Kind = "probe", draws: int = 0) -> Record:
    """A record with so many folds, of which each has its own training images, or prompts, unless `draws` says fewer.

    Its own metrics are not those of any predictions.
    """
    draws = draws or folds
    fold = {"test_rows": 1, "test_digest": "d" * 64, "metrics": dict.fromkeys(TABLE, 0.5)}
    told = [{**fold, "fold": k, "train": [f"training image {k % draws}"]} for k in range(folds)]
    if kind == "probe":
        return made_record(data__task=task, folds=told)
    words = [{"Normal": (f"normal {k}",), "Pneumonia": (f"pneumonia {k}",)} for k in range(draws)]
    prompts: dict[str, Any] = {"set": "names", "digest": "1" * 64, "source": "prompts", "drawn": words}
    told = [{**one, "train": []} for one in told]
    return made_record(data__task=task, folds=told, protocol=ZERO_SHOT, prompts=prompts)


@cache
def _image_names(task: str, images: int) -> tuple[str, ...]:
    return tuple(f"{task}{number:06}" for number in range(images))


def cell_of(
    task: str,
    folds: Sequence[AnyRows],
    names: Mapping[int, str] | None = None,
    *,
    kind: Kind = "probe",
    draws: int = 0,
    over: UnitKind | None = None,
) -> ScoredCell:
    """A cell of a task from its rows; `names` of its patients by their number, where they are known."""
    used = np.flatnonzero(np.bincount(np.concatenate([fold.unit for fold in folds])))
    own = _image_names(task, len(used)) if names is None else tuple(names[int(place)] for place in used)
    order = np.arange(len(used)) if names is None else np.argsort(own)
    place: NDArray[np.int64] = np.empty(int(used.max()) + 1, dtype=np.int64)
    place[used[order]] = np.arange(len(used))
    moved = tuple(replace(fold, unit=place[fold.unit]) for fold in folds)
    units = own if names is None else tuple(own[k] for k in order)
    labels = tuple(f"class {number}" for number in range(folds[0].scores.shape[1]))
    record = record_of(task, len(folds), kind, draws)
    task_kind = "multi-label" if isinstance(folds[0], FindingRows) else "single-label"
    data = record.data.model_copy(update={"labels": labels, "kind": task_kind})
    record = record.model_copy(update={"data": data})
    known: UnitKind = over or ("image" if names is None else "patient")
    return ScoredCell(record, moved, known, units, units, tuple(fold.unit for fold in moved))


def mean_of(cells: Sequence[ScoredCell], metric: Metric, *, these_draws: bool = False) -> Mean:
    """The unweighted mean."""
    return [Weighted(measurement(cell, metric, these_draws=these_draws), 1 / len(cells)) for cell in cells]
