"""The predictions beside a record, read back and numbered for the statistics."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, IntegrityError, NotApplicableError
from cxrbench.evaluate.findings import FindingRows
from cxrbench.evaluate.retrieval import QueryRows, values_of
from cxrbench.evaluate.statistics.finding_shares import AnyRows, of_kind
from cxrbench.evaluate.statistics.shares import ScoredRows, UnitKind
from cxrbench.records.record import STATEMENT, FoldResult, Record, predictions_path
from cxrbench.records.scores import ABOUT
from cxrbench.specs import catalog
from cxrbench.specs.task import TaskSpec
from cxrbench.store import digest
from cxrbench.store.sealed import read_regular
from cxrbench.types import UNKNOWN, IntArray, TaskKind


@dataclass(frozen=True, slots=True)
class ScoredCell:
    """A record with its test rows, one entry a fold.

    `units` name the patients, where those of all rows are known, or else the images; `images` all test images. Both are
    sorted, and their numbers are those in `folds` and in `image` (per fold, (n,)). `about` says of every image in
    `images` its sex (F, M), age (whole years) and view (AP, PA), None where the label tables do not tell.
    `statement` is what their record stated when the predictions were written.
    """

    record: Record
    folds: tuple[AnyRows, ...]
    over: UnitKind
    units: tuple[str, ...]
    images: tuple[str, ...]
    image: tuple[IntArray, ...]
    about: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)
    statement: str = ""

    @property
    def kind(self) -> TaskKind:
        """Whether its images have one class each, its labels hold or not by themselves, or it asks queries."""
        return self.record.data.kind

    @property
    def classes_of(self) -> tuple[ScoredRows, ...]:
        """The folds of a single-label task; raises NotApplicableError for those of a multi-label one."""
        found = of_kind(self.folds, ScoredRows)
        if not found:
            raise NotApplicableError(f"{self.record.data.task} is a {self.kind} task: its images have no one class")
        return tuple(found)

    @property
    def findings_of(self) -> tuple[FindingRows, ...]:
        """The folds of a multi-label task; none for those of a single-label one."""
        return tuple(of_kind(self.folds, FindingRows))

    @property
    def queries_of(self) -> tuple[QueryRows, ...]:
        """The folds of a retrieval task; none for those of another."""
        return tuple(of_kind(self.folds, QueryRows))


def read_cell(out: Path, record: Record) -> ScoredCell:
    """The record's predictions below the results folder.

    Raises DataError where the file is gone, IntegrityError where it is not the one that the record was written with.
    """
    path = predictions_path(out, record)
    try:
        content = read_regular(path)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no predictions (there is no such file); run the cell again to write them") from error
    if digest.of_bytes(content) != record.predictions_sha256:
        raise IntegrityError(
            f"{path}: is not the file that record {record.id} names: its digest differs. Delete both and run again."
        )
    import pyarrow as pa

    try:
        return _scored(record, content)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
        raise IntegrityError(f"{path}: holds no predictions of this record: {str(error)[:200]}") from error


def _scored(record: Record, content: bytes) -> ScoredCell:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file, rows = pq.ParquetFile(pa.BufferReader(content)), sum(fold.test_rows for fold in record.folds)
    if file.metadata.num_rows != rows:
        raise ValueError(f"{file.metadata.num_rows} rows, and the record's folds have {rows}")
    table = file.read(use_threads=False)  # threads cost more than such files take
    names = values_of(record.data.group) if record.data.kind == "retrieval" else record.data.labels
    classes, truths = [f"score: {name}" for name in names], _TRUTHS[record.data.kind](record.data.labels)
    absent = {"fold", "image", *truths, *classes} - set(table.column_names)
    if absent:
        raise ValueError(f"has no column {', '.join(sorted(absent))}")
    column = {name: table[name].to_numpy() for name in ("fold", *classes)}
    labels = np.zeros((len(table), len(truths)), np.int64)
    for place, name in enumerate(truths):
        labels[:, place] = table[name].fill_null(UNKNOWN).to_numpy()
    images, image = _numbered(table["image"])
    known = "patient" in table.column_names and table["patient"].null_count == 0
    units, unit = _numbered(table["patient"]) if known else (images, image)
    scores = np.stack([column[name] for name in classes], axis=1)
    places = [np.flatnonzero(column["fold"] == fold.fold) for fold in record.folds]
    return ScoredCell(
        record,
        tuple(
            _rows(record, fold, unit[rows], labels[rows], scores[rows])
            for rows, fold in zip(places, record.folds, strict=True)
        ),
        "patient" if known else "text" if record.data.group == "a-text-to-image" else "image",
        units,
        images,
        tuple(image[rows] for rows in places),
        {name: _of_images(table[name].to_pylist(), image) for name in ABOUT[1:] if name in table.column_names},
        (table.schema.metadata or {}).get(STATEMENT, b"").decode("ascii", "replace"),
    )


_TRUTHS: Mapping[TaskKind, Callable[[Sequence[str]], list[str]]] = {
    "single-label": lambda labels: ["label"],
    "multi-label": lambda labels: [f"label: {label}" for label in labels],
    "retrieval": lambda labels: [],
}


def _rows(
    record: Record, fold: FoldResult, unit: IntArray, labels: IntArray, scores: NDArray[np.floating[Any]]
) -> AnyRows:
    """The rows of a fold as its kind of task has them."""
    if record.data.kind == "retrieval":
        return QueryRows(unit, values_of(record.data.group), scores.astype(np.float64))
    if record.data.kind == "single-label":
        return ScoredRows(unit, labels[:, 0], scores)
    return FindingRows(unit, labels, scores, fold.thresholds)


def _of_images(values: list[str | None], image: IntArray) -> tuple[str | None, ...]:
    """The value of each image, from those of its rows, which are alike."""
    return tuple(values[row] for row in np.unique(image, return_index=True)[1])


def _numbered(column: Any) -> tuple[tuple[str, ...], IntArray]:
    """Sorted distinct names of a column, and the place of each row's among them."""
    coded = column.combine_chunks().dictionary_encode()
    names = coded.dictionary.to_pylist()
    order = sorted(range(len(names)), key=names.__getitem__)
    place = np.empty(len(names), np.int64)
    place[order] = np.arange(len(names))
    return tuple(names[number] for number in order), place[coded.indices.to_numpy()]


def namespace(task: str, over: UnitKind) -> str:
    """What the names of a task's units belong to: patients to their collection, images to their task alone.

    Tasks of one namespace name a patient alike.
    """
    known = _task(task)
    collection = None if known is None or over != "patient" else known.patients.collection
    return f"task {task}" if collection is None else f"patients of {collection}"


def taken_as_independent(over: Mapping[str, UnitKind]) -> tuple[str, ...]:
    """What to know of a mean over these tasks, by what is drawn of each: its interval takes some for independent.

    Empty where no two of them hold images of one collection.
    """
    strange = [task for task in over if _task(task) is None]
    unclear = [f"where the images of {_listed(strange)} are from is not known here: taken as independent"]
    return (*_kin(over), *(unclear if strange and len(over) > 1 else ()))


def _kin(over: Mapping[str, UnitKind]) -> Iterator[str]:
    pools: dict[str, list[str]] = {}
    for name, task in ((name, _task(name)) for name in over):
        for origin in () if task is None else task.origins:
            if origin.shares == "images" and name not in pools.setdefault(origin.pool, []):
                pools[origin.pool].append(name)
    for pool, tasks in pools.items():
        joined = [task for task in tasks if namespace(task, over[task]) == f"patients of {pool}"]
        if len(tasks) > 1:
            yield f"{_listed(tasks)} hold images of one collection ({pool}){_told(joined, tasks)}"


def _told(joined: Sequence[str], tasks: Sequence[str]) -> str:
    joined = joined if len(joined) > 1 else ()
    apart = [task for task in tasks if task not in joined]
    first = f": patients of {_listed(joined)} are drawn together" if joined else ""
    if not apart:
        return first
    return (
        f"{first}; no id says which images of {_listed(apart)} are of the same patients, so they are taken as "
        "independent, and intervals of means may be too short"
    )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]])) if names else ""


@cache
def _task(name: str) -> TaskSpec | None:
    return catalog.known_task(name)
