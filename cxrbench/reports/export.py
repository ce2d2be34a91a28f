"""Cells and scores as one long table in a file, CSV or Parquet, written in chunks; docs/export.md tells the columns."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cxrbench.analysis.rows import CellFacts, Value, cell_row, values
from cxrbench.errors import SpecError
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.record import Record
from cxrbench.reports.frames import column_types
from cxrbench.store.atomic import written_whole

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 1 << 17  # of a chunk, and of a row group of Parquet, at most
_FORMATS = (".csv", ".parquet")

CELL_COLUMNS: Mapping[str, type] = {**column_types(CellFacts), **column_types(Value)}
SCORE_COLUMNS: Mapping[str, type] = {
    "record": str,
    "fold": int,
    "image": str,
    "label": str,
    "class": str,
    "score": float,
}


def checked_target(path: Path) -> Path:
    """The path; raises SpecError for an ending that is neither CSV nor Parquet, or a folder."""
    if path.suffix.lower() not in _FORMATS:
        raise SpecError(f"{path}: a table ends in {' or '.join(_FORMATS)}; name such a file with --to")
    if path.is_dir():
        raise SpecError(f"{path}: is a folder; name a file with --to")
    return path


def write_cells(path: Path, out: Path, records: Iterable[Record]) -> int:
    """Write a row for each cell, metric and fold, and one for all folds with the interval; returns the rows written.

    Raises SpecError as `checked_target` does, DataError and IntegrityError for predictions below `out` that are gone or
    changed: what stood at `path` is then as it was.
    """
    return _written(path, CELL_COLUMNS, (_cell_table(out, record) for record in records))


def write_scores(path: Path, out: Path, records: Iterable[Record]) -> int:
    """Write a row for each cell, fold, image and class; returns the rows written. Raises what `write_cells` does."""
    return _written(path, SCORE_COLUMNS, (table for r in records for table in score_tables(read_cell(out, r))))


def score_tables(cell: ScoredCell) -> Iterator["pa.Table"]:
    """The scores of each fold under `SCORE_COLUMNS`, rows in the order of the predictions, classes in the record's."""
    import pyarrow as pa

    names, images = pa.array(cell.record.data.labels, pa.string()), pa.array(cell.images, pa.string())
    for result, rows, image in zip(cell.record.folds, cell.folds, cell.image, strict=True):
        count, classes = rows.scores.shape
        total = count * classes
        columns = [
            pa.repeat(pa.scalar(cell.record.id), total),
            pa.repeat(pa.scalar(result.fold, pa.int64()), total),
            images.take(pa.array(np.repeat(image, classes))),
            names.take(pa.array(np.repeat(rows.labels, classes))),
            names.take(pa.array(np.tile(np.arange(classes), count))),
            pa.array(rows.scores.reshape(-1).astype(np.float64)),
        ]
        yield pa.Table.from_arrays(columns, schema=_schema(SCORE_COLUMNS))


def _cell_table(out: Path, record: Record) -> "pa.Table":
    import pyarrow as pa

    row = cell_row(out, record)
    facts = astuple(row.facts)
    lines = [(*facts, *astuple(value)) for value in values(row)]
    return pa.Table.from_pylist([dict(zip(CELL_COLUMNS, line, strict=True)) for line in lines], _schema(CELL_COLUMNS))


def _schema(columns: Mapping[str, type]) -> "pa.Schema":
    import pyarrow as pa

    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    return pa.schema([(name, kinds[kind]) for name, kind in columns.items()])


def _written(path: Path, columns: Mapping[str, type], tables: Iterable["pa.Table"]) -> int:
    import pyarrow.csv
    import pyarrow.parquet

    checked_target(path)
    opened: Mapping[str, Callable[..., Any]] = {
        ".csv": pyarrow.csv.CSVWriter,
        ".parquet": pyarrow.parquet.ParquetWriter,
    }
    total = 0
    with written_whole(path) as made, opened[path.suffix.lower()](str(made), _schema(columns)) as writer:
        for chunk in _chunks(tables):
            writer.write_table(chunk, ROWS)
            total += chunk.num_rows
    return total


def _chunks(tables: Iterable["pa.Table"]) -> Iterator["pa.Table"]:
    """The same rows in tables of at most `ROWS`, small ones joined."""
    import pyarrow as pa

    waiting, count = list["pa.Table"](), 0
    for table in tables:
        for start in range(0, table.num_rows, ROWS):
            part = table.slice(start, ROWS)
            if count + part.num_rows > ROWS:
                yield pa.concat_tables(waiting)
                waiting, count = [], 0
            waiting.append(part)
            count += part.num_rows
    if waiting:
        yield pa.concat_tables(waiting)
