"""`cxrbench export`: all that was measured as one long table."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import Out, results
from cxrbench.errors import DataError


def export(
    to: Annotated[
        Path | None,
        typer.Option(
            "--to", help="File to write: CSV or Parquet. [default: cells.csv or predictions.parquet in the results]"
        ),
    ] = None,
    predictions: Annotated[
        bool, typer.Option("--predictions", help="Write scores: a row for each cell, fold, image and class.")
    ] = False,
    out: Out = Path("results"),
) -> None:
    """Write all measured cells as one long table.

    A row for each cell, metric and fold, and one for all folds with its 95 % interval; of several records of a cell the
    newest sound one. docs/export.md tells the columns.
    """
    from cxrbench.records.selection import counting
    from cxrbench.reports.frames import checked_target, write_cells, write_scores

    path = checked_target(to or out / ("predictions.parquet" if predictions else "cells.csv"))
    found = counting(results(out))
    if not found:
        raise DataError(
            f"there is no record in {out / 'records'}; `cxrbench run` writes records; --out says where they are"
        )
    rows = (write_scores if predictions else write_cells)(path, out, found)
    made = sum(record.synthetic for record in found)
    if made:
        echo(
            f"note: {made} of {len(found)} cells are of synthetic images or weights, no results: `synthetic`", err=True
        )
    echo(f"{path}: {rows} rows of {len(found)} cells")
