"""`cxrbench calibration`: whether probabilities can be taken at their word."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.options import (
    Choices,
    GroupName,
    Models,
    Out,
    PromptSetName,
    ProtocolName,
    SheetFormat,
    Shots,
    Synthetic,
    Tasks,
    VariantName,
    pairs,
    results,
    words,
)
from cxrbench.errors import NotApplicableError


def calibration(
    model: Models = None,
    task: Tasks = None,
    protocol: ProtocolName = None,
    shots: Shots = None,
    group: GroupName = "all",
    prompts: PromptSetName = None,
    figure: Annotated[
        Path | None, typer.Option("--figure", help="Also draw the reliability curves: SVG, PNG or PDF.")
    ] = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    synthetic: Synthetic = False,
    form: SheetFormat = "terminal",
    out: Out = Path("results"),
) -> None:
    """Show expected calibration errors, Brier scores and reliability of measured cells."""
    from cxrbench import catalog
    from cxrbench.report.figures import write_reliability
    from cxrbench.report.sheets import calibration_sheets, render
    from cxrbench.verdict.calibrated import calibrated
    from cxrbench.verdict.figure import checked_path
    from cxrbench.verdict.measured import measured
    from cxrbench.verdict.selection import Asked

    if figure is not None:
        checked_path(figure)
    made = catalog.load_variant(variant).with_choices(pairs(choice, "--set"))
    models, tasks = words(model) or ("all",), words(task) or ("all",)
    asked = Asked(models, made, tasks, group, protocol, shots, prompts, synthetic)
    chosen = measured(results(out), asked)
    found = calibrated(out, chosen.records)
    if not found.cells:
        raise NotApplicableError("; ".join(found.refused.values()))
    if figure is not None:
        write_reliability(found, figure, synthetic=synthetic)
    for note in chosen.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(render(found, lambda: calibration_sheets(found, synthetic=synthetic), form), nl=False)
