"""`cxrbench subgroups`: numbers by sex, age and view."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.cell_choice import CellChoice, about_cells
from cxrbench.cli.options import TheseDraws
from cxrbench.errors import DataError

if TYPE_CHECKING:
    from cxrbench.analysis.subgroups import By, Subgroups
    from cxrbench.records.record import Record


@about_cells("model", "task", "protocol", "shots", "group", "prompts")
def subgroups(
    cells: CellChoice,
    by: Annotated[
        Literal["sex", "age", "view"] | None,
        typer.Option("--by", help="What divides the images. [default: each that is known]"),
    ] = None,
    these_draws: TheseDraws = False,
) -> None:
    """Show measured cells by sex, age band and view (AP, PA).

    With intervals, counts and differences. Age bands: <18, 18–40, 40–60, 60–80, 80+, each from its first year to
    below the next. A class counts in a group with five test patients or images of it in every fold; a group with
    fewer than twenty has no number.
    """
    from cxrbench.records.selection import cell_name
    from cxrbench.reports.sheets import subgroup_sheet

    records = cells.measured.records
    wanted: tuple[By, ...] = (by,) if by else ("sex", "age", "view")
    found: list[tuple[Record, Subgroups]] = []
    unknown: dict[str, dict[str, None]] = {}
    for record in records:
        known = _of(cells.out, record, wanted, these_draws=these_draws)
        found += [(record, groups) for groups in known.values()]
        for attribute in (attribute for attribute in wanted if attribute not in known):
            unknown.setdefault(attribute, {})[record.data.task] = None
    if not found:
        raise DataError(
            f"the predictions of these {len(records)} records tell no image's {' or '.join(wanted)}: the label "
            "tables have no such column, or the records are older than it; run the cells again to find out"
        )
    absent = [f"no image's {attribute} is known: {', '.join(where)}" for attribute, where in unknown.items()]
    data = tuple({"cell": cell_name(record), "groups": groups} for record, groups in found)
    cells.show(data, lambda: [subgroup_sheet(cell_name(r), g, synthetic=r.synthetic) for r, g in found], absent)


def _of(out: Path, record: "Record", wanted: "tuple[By, ...]", *, these_draws: bool) -> "dict[By, Subgroups]":
    """The groups of a record by each attribute that its images are known by."""
    from cxrbench.analysis.subgroups import subgroups as grouped
    from cxrbench.records.predictions import read_cell

    cell = read_cell(out, record)
    known = [attribute for attribute in wanted if any(cell.about.get(attribute, ()))]
    return {attribute: grouped(cell, attribute, these_draws=these_draws) for attribute in known}
