"""The records below a results folder, as a sequence that shows itself as a table and warns of what was left out."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, overload

from cxrbench.errors import CxrBenchWarning
from cxrbench.records.integrity import Results, read_results
from cxrbench.records.record import Record
from cxrbench.records.selection import counting
from cxrbench.specs import catalog
from cxrbench.specs.paths import default_cache
from cxrbench.specs.settings import Variant

if TYPE_CHECKING:
    import pandas as pd

    from cxrbench.analysis.rows import CellRow

_SHOWN = 50  # cells that a notebook shows


class CellTable:
    """Rows of records below a results folder, each worked out when it is first shown."""

    def __init__(self, out: Path, records: Sequence[Record]) -> None:
        self.out, self.records = out, records
        self._rows: dict[str, CellRow] = {}

    def rows(self) -> "Iterator[CellRow]":
        """The row of each record, in their order."""
        from cxrbench.analysis.rows import cell_row

        for record in self.records:
            if record.id not in self._rows:
                self._rows[record.id] = cell_row(self.out, record)
            yield self._rows[record.id]

    def frame(self) -> "pd.DataFrame":
        """One row a cell; see `reports.frames.cell_columns`."""
        from cxrbench.reports.frames import cell_frame

        return cell_frame(self.rows())

    def html(self, title: str, notes: Sequence[str]) -> str:
        """The first cells as a table, in percent with 95 % intervals."""
        from cxrbench.evaluate.statistics.interval import covering
        from cxrbench.reports.frames import CELLS_HEAD, cell_lines, html_table

        rows = list(islice(self.rows(), _SHOWN))
        more = len(self.records) - len(rows)
        known = [(r.facts.task, n.interval) for r in rows for n in r.numbers.values() if n.interval is not None]
        own = [f"in percent; brackets are 95 % intervals: {covering(known)}"] if known else []
        own += [f"{more} more cells: to_dataframe() has them all"] if more else []
        return html_table(title, CELLS_HEAD, cell_lines(rows), [*own, *notes])


TOLD = 5  # problems that a warning names


def warn(text: str) -> None:
    """Warn at the line of the caller's that called into this package, every time and not only the first."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "cxrbench":
        frame = frame.f_back
    warnings.warn_explicit(text, CxrBenchWarning, frame.f_code.co_filename, frame.f_lineno, registry={})


def warn_of(head: str, told: Sequence[str], rest: str) -> None:
    """One warning of several problems: their count in `head`, the first of them, and where the `rest` is found."""
    more = [f"... and {len(told) - TOLD} more: {rest}"] if len(told) > TOLD else []
    warn("\n- ".join([head, *told[:TOLD], *more]))


class Records(Sequence[Record]):
    """The records that count below a results folder, one a cell.

    `left_out` says by place what does not hold and why; `foreign` counts files of other versions, `older` the records
    that newer or sounder ones of the same cells replace.
    """

    def __init__(
        self, out: Path, records: Sequence[Record], left_out: dict[str, str], foreign: int, older: int
    ) -> None:
        self.out, self.left_out, self.foreign, self.older = out, left_out, foreign, older
        self._records = tuple(records)

    def __len__(self) -> int:
        return len(self._records)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> "Records": ...
    def __getitem__(self, place: int | slice) -> "Record | Records":
        if isinstance(place, slice):
            return self._of(self._records[place])
        return self._records[place]

    def _of(self, records: Sequence[Record]) -> "Records":
        return Records(self.out, records, self.left_out, self.foreign, self.older)

    def __repr__(self) -> str:
        told = [f"{len(self)} cells in {self.out / 'records'}"]
        told += [f"{len(self.left_out)} records left out"] if self.left_out else []
        told += [f"{self.foreign} files of other versions"] if self.foreign else []
        told += [f"{self.older} older records of the same cells not used"] if self.older else []
        return f"<{'; '.join(told)}>"

    def _repr_html_(self) -> str:
        return self._cells.html(repr(self)[1:-1], list(self.left_out.values())[:TOLD])

    def to_dataframe(self) -> "pd.DataFrame":
        """One row a cell with its numbers, intervals and all that made it; docs/export.md tells the columns."""
        return self._cells.frame()

    def predictions(self, place: int) -> "pd.DataFrame":
        """The scores of one cell: a row for each fold, image and class, as `cxrbench export --predictions` has them.

        Raises DataError and IntegrityError for predictions that are gone or changed.
        """
        import pyarrow as pa

        from cxrbench.records.predictions import read_cell
        from cxrbench.reports.frames import score_tables

        found: pd.DataFrame = pa.concat_tables(score_tables(read_cell(self.out, self[place]))).to_pandas()
        return found

    @cached_property
    def _cells(self) -> CellTable:
        return CellTable(self.out, self._records)


def load_records(folder: Path) -> Records:
    """The records that count below a results folder; warns of those that do not hold."""
    found = sound_records(folder)
    chosen = counting(found.records)
    return Records(folder, chosen, dict(found.left_out), found.foreign, len(found.records) - len(chosen))


def sound_records(folder: Path) -> Results:
    """All records that hold; warns of those that do not."""
    found = read_results(folder, default_cache())
    if found.left_out:
        head = f"{len(found.left_out)} records in {folder / 'records'} do not hold and are left out:"
        warn_of(head, list(found.left_out.values()), "`load_records(...).left_out`")
    if found.foreign:
        warn(f"{found.foreign} files in {folder / 'records'} are of another version and are left out")
    return found


def recorded_variant(name: str, choices: Mapping[str, str], records: Sequence[Record]) -> Variant:
    """`catalog.chosen_variant`; every task that was recorded may get a split."""
    return catalog.chosen_variant(name, choices, {record.data.task for record in records})
