"""Scores of test rows as Parquet: what every later statistic is computed from, without a GPU.

Measuring a cell uses this module alone of the room, so that code which reads records decides no record's id.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.evaluate.findings import Chosen, PerFinding
from cxrbench.records.record import STATEMENT
from cxrbench.types import UNKNOWN

ABOUT = ("patient", "sex", "age", "view")  # of an image, where the label tables tell


@dataclass(frozen=True, slots=True)
class FoldScores:
    """Scores (n, C) of one fold's test rows, in the precision they were made in, with their ids and labels.

    Labels are class numbers (n,), or (n, C) of 1, 0 and UNKNOWN in a multi-label task, where `thresholds` are those of
    the findings. Of a retrieval task the rows are queries without a label (n, 0), and scores (n, V) are what each came
    to under the names `values`.
    """

    fold: int
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    scores: NDArray[np.floating[Any]]
    thresholds: Mapping[Chosen, PerFinding] = field(default_factory=dict)
    values: tuple[str, ...] = ()


def as_parquet(
    folds: Sequence[FoldScores], classes: Sequence[str], known: Mapping[str, Mapping[str, str]], statement: str
) -> bytes:
    """Columns fold, image, label, those of `ABOUT`, then one score column a class, named after it; rows in fold order.

    Of a multi-label task there is a label column a finding, null where it is not known; of a retrieval task there is
    none, an image is that of the query, or the name of a text that asks, and a score column is what queries came to.

    `known` says what is known of images, by column and image id; the rest is null. `statement` is the record's, so that
    the predictions say whose they are. The bytes depend on all of this alone: no time stamp enters.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    images = [image for fold in folds for image in fold.ids]
    columns = {
        "fold": pa.array(np.repeat([f.fold for f in folds], [len(f.ids) for f in folds]), pa.int16()),
        "image": pa.array(images, pa.string()),
    }
    labels = np.concatenate([fold.labels for fold in folds])
    if labels.ndim == 1:
        columns |= {"label": pa.array(labels, pa.int16())}
    elif not folds[0].values:
        columns |= {
            f"label: {name}": pa.array(labels[:, i], pa.int8(), mask=labels[:, i] == UNKNOWN)
            for i, name in enumerate(classes)
        }
    columns |= {name: pa.array([known.get(name, {}).get(i) for i in images], pa.string()) for name in ABOUT}
    scores = np.concatenate([fold.scores for fold in folds])
    columns |= {f"score: {name}": pa.array(scores[:, i]) for i, name in enumerate(folds[0].values or classes)}
    out = io.BytesIO()
    pq.write_table(pa.table(columns, metadata={STATEMENT: statement}), out, compression="zstd")
    return out.getvalue()
