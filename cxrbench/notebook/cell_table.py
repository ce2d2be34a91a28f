"""Measured cells as a data frame and as a table, for whatever holds records."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from cxrbench.records.record import Record

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
