"""`cxrbench calibration`: whether probabilities can be taken at their word."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.cell_choice import CellChoice, about_cells
from cxrbench.errors import NotApplicableError


@about_cells("model", "task", "protocol", "shots", "group", "prompts")
def calibration(
    cells: CellChoice,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Also draw the reliability curves: SVG, PNG or PDF.")
    ] = None,
) -> None:
    """Show calibration errors, Brier scores and reliability."""
    from cxrbench.analysis.cell import calibrated
    from cxrbench.reports.figures import checked_path, write_reliability
    from cxrbench.reports.sheets import calibration_sheets

    if figure is not None:
        checked_path(figure)
    found = calibrated(cells.out, cells.measured.records)
    if not found.cells:
        raise NotApplicableError("; ".join(found.refused.values()))
    if figure is not None:
        write_reliability(found, figure, synthetic=cells.synthetic)
    cells.show(found, lambda: calibration_sheets(found, synthetic=cells.synthetic))
