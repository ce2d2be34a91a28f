"""Data of one's own: a table of labels (CSV, TSV, Parquet), and images anywhere, as the task file says."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import any_table, joining, own_labels, own_split
from cxrbench.data import tables as text_tables
from cxrbench.data.listing import is_folder
from cxrbench.data.sources.base import LabelledParts, assembled, told
from cxrbench.errors import DataError, SpecError
from cxrbench.specs.own_data import PARTS, ColumnSplit, CsvData, RatioSplit
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Findings, Partition, Table

if TYPE_CHECKING:
    import pandas as pd

_ATTRIBUTES = ("sex", "age", "view")
_AGAIN = "the image is in an earlier row"


def locate(root: Path) -> Path:
    """The data root itself; DataError where there is none."""
    if not is_folder(root):
        raise DataError(f"{root}: there is no such folder. Name the folder of the table as `root`, or by --data-root.")
    return root


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts of a split from the task's tables; rows of a part are in the order of their ids.

    Raises DataError for a table that does not hold what the task file says, and a class without images.
    """
    labelled = read_parts(folder, task, split)
    _require_classes(folder, task, labelled.parts)
    return labelled


def read_parts(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """As `tables`, whatever parts and classes have no image."""
    data = _described(task)
    spec = task.split(split)
    column = spec.parameters(ColumnSplit) if spec.rule == "column" else None
    sheets = [_read(folder / data.table, folder, task, column)]
    if data.test_table is not None:
        sheets.append(_read(folder / data.test_table, folder, task, None))
        _refuse_common(sheets)
        sheets[1].parts = np.full(len(sheets[1].ids), "test", dtype=object)
    first = sheets[0]
    if column is not None:
        first.parts = own_split.by_column(first.path, first.split, column)
    else:
        units = first.ids if first.patients is None else first.patients
        first.parts = own_split.by_shares(units, first.labels, spec.parameters(RatioSplit))
    if data.test_table is not None and "test" in first.parts:
        raise SpecError(
            f"task {task.name}, split {split}: rows of {data.table} are test images, and so is {data.test_table}. "
            "Let the split give the first table no part `test`."
        )
    return _labelled(task, sheets, column)


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`."""
    folder, data = locate(root), _described(task)
    labelled = tables(folder, task, split)
    wanted = list(dict.fromkeys(name for part in labelled.parts.values() for name in part.ids))
    images = Path(os.path.normpath(folder / data.images))
    bases = dict.fromkeys([folder, *((folder / table).parent for table in (data.table, data.test_table) if table)])
    found = joining.join(wanted, joining.Places(images, tuple(bases)), cache, survey)
    missing = tuple(name for name in wanted if name not in found.paths)
    if len(missing) == len(wanted):
        raise DataError(
            f"{folder / data.table}: column {data.image!r} names no file in {images} or beside the table; the first "
            f"would be {wanted[0]!r}. Say as `images` in the section [csv] of the task where they lie."
        )
    findings = Findings(
        missing=tuple(sorted(missing)),
        extra=joining.extra_files(found.listed, labelled.known) if survey else (),
        notes=(
            *found.notes,
            *joining.near_notes(missing, found.listed),
            *(f"{name}: this could not be read" for name in found.listed.unreadable),
        ),
    )
    return assembled(task, split, labelled, found.paths, findings, (folder / data.table).parent)


def _described(task: TaskSpec) -> CsvData:
    if task.csv is None:
        raise SpecError(f"task {task.name}: source 'csv' needs a section [csv]")
    return task.csv


@dataclass(slots=True)
class _OwnTable:
    """One table's rows that are used: `labels` (n, C), `parts` (n,), "" for those of no part; all others are counted.

    `known`: the ids of all rows. `split` (n,): the cells of the column that says the part; empty without one.
    """

    path: Path
    ids: list[str]
    labels: NDArray[np.int8]
    patients: list[str] | None
    split: list[str]
    parts: NDArray[np.object_]
    known: frozenset[str]
    left_out: Counter[str]
    attributes: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]


def _read(path: Path, root: Path, task: TaskSpec, column: ColumnSplit | None) -> _OwnTable:
    data = _described(task)
    about = {name: own for name in _ATTRIBUTES if (own := getattr(data, name)) is not None}
    others = [one for one in (data.patient, column.column if column else None) if one is not None]
    rows = any_table.read_columns(path, (data.image, *own_labels.columns_of(task, data), *others, *about.values()))
    ids = _ids(path, rows[data.image].tolist(), root)
    marked = own_labels.label_rows(path, rows, task, data)
    reasons = marked.reasons
    if data.patient is not None:
        _leave_out_unknown(path, rows, data, reasons)
    _leave_out_repeats(path, ids, rows, marked, [*others, *about.values()])
    kept = np.flatnonzero(reasons == "")
    at = kept.tolist()
    return _OwnTable(
        path,
        [ids[row] for row in at],
        marked.labels[kept],
        _picked(rows, data.patient, at) if data.patient is not None else None,
        _picked(rows, column.column, at) if column is not None else [],
        np.full(len(at), "", dtype=object),
        frozenset(ids),
        Counter(reason for reason in reasons.tolist() if reason),
        {name: told(name, ids, rows[own]) for name, own in about.items()},
        marked.notes,
    )


def _picked(rows: "pd.DataFrame", column: str, at: Sequence[int]) -> list[str]:
    values = rows[column].tolist()
    return [values[row] for row in at]


def _ids(path: Path, values: Sequence[str], root: Path) -> list[str]:
    """Paths with `/` on every system; those below the data root are relative to it."""
    start = f"{root.as_posix()}/"
    ids = [value.replace("\\", "/").removeprefix("./").removeprefix(start) for value in values]
    if "" in ids:
        raise DataError(f"{path}: data row {ids.index('') + 1} names no image.")
    text_tables.check_ids(path, ids)
    return ids


def _leave_out_unknown(path: Path, rows: "pd.DataFrame", data: CsvData, reasons: NDArray[np.object_]) -> None:
    blank = (rows[data.patient].to_numpy() == "") & (reasons == "")
    if blank.any() and "patient" not in data.drop:
        raise DataError(
            f"{path}: data row {int(blank.argmax()) + 1}: {data.patient} is blank, so nobody knows whose image it is. "
            'Fill it in, leave such rows out with a count by drop = ["patient"], or take `patient` out of the task.'
        )
    reasons[blank] = own_labels.REASONS["patient"]


def _leave_out_repeats(
    path: Path, ids: Sequence[str], rows: "pd.DataFrame", marked: own_labels.LabelledRows, columns: Sequence[str]
) -> None:
    """Rows of an image that an earlier row has; DataError where the two do not say the same."""
    if len(set(ids)) == len(ids):
        return
    said = [reason or row.tobytes() for reason, row in zip(marked.reasons.tolist(), marked.labels, strict=True)]
    _require_agreeing(path, ids, said, "labels")
    for column in columns:
        text_tables.agreeing(path, ids, rows[column].tolist(), column)
    seen = set[str]()
    for row, name in enumerate(ids):
        if name in seen and not marked.reasons[row]:
            marked.reasons[row] = _AGAIN
        seen.add(name)


def _require_agreeing(path: Path, ids: Sequence[str], said: Sequence[object], what: str) -> None:
    first: dict[str, int] = {}
    for row, name in enumerate(ids):
        if said[first.setdefault(name, row)] != said[row]:
            raise DataError(
                f"{path}: rows contradict each other: {name} has other {what} in data row {row + 1} than in data row "
                f"{first[name] + 1}. An image has one row, or several that say the same."
            )


def _refuse_common(sheets: Sequence[_OwnTable]) -> None:
    if common := sorted(set(sheets[0].ids) & set(sheets[1].ids)):
        raise DataError(
            f"{sheets[1].path}: {len(common)} of its images are in {sheets[0].path} too, such as {common[0]}; none may "
            "train and be scored."
        )


def _labelled(task: TaskSpec, sheets: Sequence[_OwnTable], column: ColumnSplit | None) -> LabelledParts:
    left_out = sum((sheet.left_out for sheet in sheets), Counter[str]())
    for sheet in sheets:
        if nowhere := Counter(value for value, part in zip(sheet.split, sheet.parts, strict=False) if not part):
            left_out.update({f"{column.column if column else ''} is {value!r}": n for value, n in nowhere.items()})
    parts = _parts(task, sheets)
    notes = tuple(note for sheet in sheets for note in sheet.notes)
    if all(part.patients is not None for part in parts.values()):
        notes += own_split.share_patients({name: part.patients or () for name, part in parts.items()})
    return LabelledParts(
        parts,
        frozenset[str]().union(*(sheet.known for sheet in sheets)),
        notes=notes,
        attributes={
            name: {image: value for sheet in sheets for image, value in sheet.attributes.get(name, {}).items()}
            for name in _ATTRIBUTES
        },
        left_out=dict(left_out),
    )


def _parts(task: TaskSpec, sheets: Sequence[_OwnTable]) -> dict[str, Table]:
    """The parts that have rows, each in the order of its ids: the tables' own order decides nothing."""
    ids = [name for sheet in sheets for name in sheet.ids]
    labels = np.concatenate([sheet.labels for sheet in sheets])
    part_of = np.concatenate([sheet.parts for sheet in sheets])
    patients = [who for sheet in sheets for who in sheet.patients or ()]
    order = own_split.order_of(ids)
    parts = {}
    for name in PARTS:
        rows = order[part_of[order] == name]
        at = rows.tolist()
        if at:
            known = tuple(patients[row] for row in at) if patients else None
            parts[name] = Table(tuple(ids[row] for row in at), labels[rows], task.classes, known)
    return parts


def _require_classes(folder: Path, task: TaskSpec, parts: Mapping[str, Table]) -> None:
    """DataError for a class of a single-label task without an image, and for a part that must be there."""
    data = _described(task)
    table = " and ".join(str(folder / name) for name in (data.table, data.test_table) if name)
    for name in ("test",) if task.kind == "multi-label" else ("train", "test"):
        if name not in parts:
            raise DataError(f"{table}: the split gives the part {name} no image. Look at its rule and its params.")
    if task.kind == "multi-label":
        return
    for label in task.labels:
        empty = [name for name in ("train", "test") if not parts[name].counts[label.name]]
        if empty:
            where = f"column {data.label!r}, class {label.column!r}" if data.label else f"column {label.column!r}"
            raise DataError(
                f"{table}: {' and '.join(empty)} have no image of class {label.name} ({where}). Take it out of the "
                "task's labels, spell it as the table does, or choose another split."
            )
