"""Flat rows as data frames, as HTML tables for a notebook, and as one long CSV or Parquet file (docs/export.md)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np

from cxrbench.analysis.compare import Comparison
from cxrbench.analysis.paper_tables import TableView
from cxrbench.analysis.rows import HARMONIC, CellFacts, CellRow, Value, beware, cell_row, values
from cxrbench.errors import SpecError
from cxrbench.evaluate.metric_table import TABLE
from cxrbench.evaluate.retrieval import RANKS, QueryRows
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.record import Record
from cxrbench.reports.comparisons import interval_text, percent
from cxrbench.reports.tables import flat
from cxrbench.runner.options import read_shots
from cxrbench.specs.paper import MISSING
from cxrbench.store.atomic import written_whole
from cxrbench.types import UNKNOWN, shots_in_words

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

NUMBERS = (*TABLE, *RANKS, HARMONIC)  # the metrics of a frame of cells
_ABOUT_INTERVALS: Mapping[str, type] = {"covers": str, "units": int, "over": str, "beware": str}
_PANDAS = {str: "string", int: "Int64", float: "float64", bool: "boolean"}


def column_types(row: type) -> dict[str, type]:
    """The fields of a dataclass with the type of each: str, int, float or bool; None may stand for all of them."""
    hints = get_type_hints(row)
    return {
        f.name: next(kind for kind in (*get_args(hints[f.name]), hints[f.name]) if kind is not None)
        for f in fields(row)
    }


def cell_columns() -> dict[str, type]:
    """The columns of a frame of cells: facts, each number with the ends of its interval, and what these speak of."""
    numbers = [f"{name}{end}" for name in NUMBERS for end in ("", "_low", "_high")]
    return {**column_types(CellFacts), **dict.fromkeys(numbers, float), **_ABOUT_INTERVALS}


def cell_frame(rows: Iterable[CellRow]) -> "pd.DataFrame":
    """One row a cell, with the columns of `cell_columns`; numbers 0 to 1, kappa -1 to 1, missing ones NA."""
    return frame([_flat(row) for row in rows], cell_columns())


def frame(rows: Sequence[Sequence[Any]], columns: Mapping[str, type]) -> "pd.DataFrame":
    """Rows under typed columns; None becomes NA."""
    import pandas as pd

    by_column = list(zip(*rows, strict=True)) or [()] * len(columns)
    return pd.DataFrame(
        {
            name: pd.Series(list(values), dtype=_PANDAS[kind])
            for (name, kind), values in zip(columns.items(), by_column, strict=True)
        }
    )


def _flat(row: CellRow) -> tuple[Any, ...]:
    found: list[Any] = list(astuple(row.facts))
    for name in NUMBERS:
        number = row.numbers.get(name)
        found += [None] * 3 if number is None else [number.mean, *_ends(number.interval)]
    known = [number.interval for number in row.numbers.values() if number.interval is not None]
    told = known[0] if known else None
    return (*found, *((None,) * 3 if told is None else (told.words, told.units, told.over)), beware(row))


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return (None, None) if interval is None else (interval.low, interval.high)


_INTERVAL: Mapping[str, type] = {"": float, "_low": float, "_high": float}
PAIR_COLUMNS: Mapping[str, type] = {
    **dict.fromkeys(("protocol", "group", "prompts", "variant", "metric", "a", "b", "task"), str),
    "shots": str,
    "synthetic": bool,
    **{f"{side}{end}": kind for side in ("value_a", "value_b", "difference") for end, kind in _INTERVAL.items()},
    "covers": str,
    "units": int,
    "over": str,
    **dict.fromkeys(("p", "p_holm", "resolvable", "p_mcnemar"), float),
    **dict.fromkeys(("better", "beware", "row_order_a", "row_order_b"), str),
}


def pair_frame(found: Iterable[Comparison]) -> "pd.DataFrame":
    """One row a setting and task, and one without a task for the mean of the differences; numbers 0 to 1.

    `p` is that of the task alone, `p_holm` corrected over the tasks of the setting; `better` goes by the latter.
    `row_order_a` and `row_order_b` say what another order of the training images changes, where it changes decisions.
    """
    lines = [line for one in found for line in _pair_lines(one)]
    return frame([[line.get(name) for name in PAIR_COLUMNS] for line in lines], PAIR_COLUMNS)


def _pair_lines(found: Comparison) -> Iterator[dict[str, Any]]:
    how = found.setting
    facts: dict[str, Any] = {"protocol": how.protocol, "group": how.group, "prompts": how.prompts}
    facts |= {"shots": None if how.shots is None else str(how.shots)}
    facts |= {"variant": found.variant, "metric": found.metric.name, "synthetic": found.synthetic}
    facts |= {"a": found.a, "b": found.b}
    for task in found.tasks:
        yield {
            **facts,
            "task": task.task,
            **_three("value_a", task.a.interval),
            **_three("value_b", task.b.interval),
            **_difference(task.difference),
            "p": task.p,
            "p_holm": task.p_holm,
            "resolvable": task.resolvable,
            "p_mcnemar": None if task.mcnemar is None else task.mcnemar.p,
            "better": {"a": found.a, "b": found.b, "undecided": None}[task.verdict],
            "row_order_a": task.a.row_order or None,
            "row_order_b": task.b.row_order or None,
        }
    if len(found.tasks) > 1:
        yield {**facts, **_difference(found.mean), "p": found.mean_p}


def _difference(told: Interval) -> dict[str, Any]:
    about = {"covers": told.words, "units": told.units, "over": told.over, "beware": told.reason or None}
    return {**_three("difference", told), **about}


def _three(name: str, told: Interval) -> dict[str, float | None]:
    return {name: told.estimate, f"{name}_low": told.low, f"{name}_high": told.high}


_NUMBERS_OF_TABLES = ("published", "measured", "difference", "low", "high", "fold_std")


def table_frame(view: TableView) -> "pd.DataFrame":
    """One row a cell of a table: printed, measured and their difference in percent, interval and spread 0 to 1."""
    entries = flat(view)
    columns = {name: float if name in _NUMBERS_OF_TABLES else str for name in entries[0]}
    rows = [[_typed(value, columns[name]) for name, value in entry.items()] for entry in entries]
    return frame(rows, columns)


def _typed(value: str | None, kind: type) -> Any:
    return None if value is None else kind(value)


CELLS_HEAD = ("model", "task", "protocol", "balanced accuracy", "macro AUROC", "paper", "marks")


def cell_lines(rows: Iterable[CellRow]) -> list[list[str]]:
    """What a notebook shows of cells, under `CELLS_HEAD`: percent with 95 % intervals, and what is to be known."""
    return [_line(row) for row in rows]


def _line(row: CellRow) -> list[str]:
    facts = row.facts
    how = [
        facts.protocol,
        "" if facts.shots is None else shots_in_words(read_shots(facts.shots, "shots")),
        facts.prompts or "",
    ]
    marks = ["synthetic" if facts.synthetic else "", "control" if facts.control else ""]
    marks += ["vectors from a file" if facts.given else "", facts.doubts or ""]
    return [
        facts.model,
        facts.task if facts.group == "all" else f"{facts.task} ({facts.group})",
        ", ".join(filter(None, how)),
        _shown(row, "balanced_accuracy"),
        _shown(row, "macro_auroc"),
        MISSING if facts.published_percent is None else f"{facts.published_percent:.2f}",
        "; ".join(filter(None, marks)),
    ]


def _shown(row: CellRow, metric: str) -> str:
    number = row.numbers.get(metric)
    if number is None or number.mean is None:
        return MISSING
    return percent(number.mean) if number.interval is None else interval_text(number.interval)


def html_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], notes: Iterable[str] = ()) -> str:
    """A table with its title above and notes below; whatever the texts hold is shown as it stands."""
    body = "".join(f"<tr>{_cells(row, 'td')}</tr>" for row in rows)
    below = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return (
        f"<p><b>{escape(title)}</b></p><table><thead><tr>{_cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"
        + (f"<ul>{below}</ul>" if below else "")
    )


def _cells(texts: Iterable[str], tag: str) -> str:
    return "".join(f'<{tag} style="text-align: left">{escape(text)}</{tag}>' for text in texts)


ROWS = 1 << 17  # of a chunk, and of a row group of Parquet, at most
_FORMATS = (".csv", ".parquet")
CELL_COLUMNS: Mapping[str, type] = {**column_types(CellFacts), **column_types(Value)}
SCORE_COLUMNS: Mapping[str, type] = {
    "record": str,
    "fold": int,
    "image": str,
    "label": str,
    "class": str,
    "holds": int,
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
    """Write a row for each cell, fold, image and class; returns the rows written. Raises what `write_cells` does.

    Of a retrieval task there is a row for each query and each value that it came to.
    """
    return _written(path, SCORE_COLUMNS, (table for r in records for table in score_tables(read_cell(out, r))))


def score_tables(cell: ScoredCell) -> Iterator["pa.Table"]:
    """The scores of each fold under `SCORE_COLUMNS`, rows in the order of the predictions, classes in the record's.

    What a query of a retrieval task came to stands under the name of the value, which holds of no image.
    """
    import pyarrow as pa

    queries = cell.queries_of
    names = pa.array(queries[0].names if queries else cell.record.data.labels, pa.string())
    images = pa.array(cell.images, pa.string())
    for result, rows, image in zip(cell.record.folds, cell.folds, cell.image, strict=True):
        count, classes = rows.scores.shape
        total = count * classes
        truth = rows.labels if isinstance(rows, ScoredRows) else None
        if isinstance(rows, QueryRows):
            holds = np.full((count, classes), UNKNOWN)
        else:
            holds = rows.labels if truth is None else np.equal.outer(truth, np.arange(classes)).astype(np.int64)
        columns = [
            pa.repeat(pa.scalar(cell.record.id), total),
            pa.repeat(pa.scalar(result.fold, pa.int64()), total),
            images.take(pa.array(np.repeat(image, classes))),
            pa.nulls(total, pa.string()) if truth is None else names.take(pa.array(np.repeat(truth, classes))),
            names.take(pa.array(np.tile(np.arange(classes), count))),
            pa.array(holds.reshape(-1), pa.int64(), mask=holds.reshape(-1) == UNKNOWN),
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
