"""Tables 2 to 4, measured beside printed, as `cxrbench table` shows them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cxrbench.analysis.paper_tables import TableView, measured_view
from cxrbench.notebook.records import recorded_variant, sound_records, warn
from cxrbench.records.record import Record
from cxrbench.reports.frames import html_table, table_frame
from cxrbench.reports.tables import head_of, notes, render, sections
from cxrbench.specs.paper import published_table

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class PaperTable:
    """One table of the paper with the measured cells; `view` holds its rows and cells."""

    view: TableView

    def __repr__(self) -> str:
        return render(self.view, "terminal")

    def _repr_html_(self) -> str:
        view, found = self.view, sections(self.view)
        titles = [f"Table {view.number}. {view.title}, {view.source}", *[""] * (len(found) - 1)]
        below = [*[()] * (len(found) - 1), notes(view)]
        return "".join(
            html_table(": ".join(filter(None, (title, name))), head_of(view), lines, told)
            for title, (name, lines), told in zip(titles, found, below, strict=True)
        )

    def to_dataframe(self) -> "pd.DataFrame":
        """One row a cell, averages too; see `reports.frames.table_frame`."""
        return table_frame(self.view)


def table(
    number: int, folder: Path, variant: str, choices: Mapping[str, str], *, synthetic: bool, these_draws: bool
) -> PaperTable:
    """The table from records and predictions below a results folder; warns where it shows nothing measured.

    Raises SpecError for another number or variant.
    """
    printed, found = published_table(number), sound_records(folder).records
    chosen = recorded_variant(variant, choices, found)
    if not any(record.synthetic == synthetic and record.variant_digest == chosen.digest for record in found):
        warn(_nothing(found, chosen.name, folder, synthetic=synthetic))
    return PaperTable(measured_view(printed, found, chosen, folder, synthetic=synthetic, these_draws=these_draws))


def _nothing(found: Sequence[Record], variant: str, folder: Path, *, synthetic: bool) -> str:
    """Why a table shows nothing measured, and which arguments show what there is."""
    kind = "synthetic" if synthetic else "measured"
    there = sorted({f"variant={r.variant!r}" + ", synthetic=True" * r.synthetic for r in found})
    instead = f"there are records for {'; '.join(there)}" if there else "`cxrbench.run` writes records"
    return f"no {kind} record of {variant} in {folder / 'records'}; {instead}"
