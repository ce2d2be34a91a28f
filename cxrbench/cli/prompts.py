"""`cxrbench prompts`: how much of a zero-shot number is wording."""

from pathlib import Path

import typer

from cxrbench.cli.options import (
    Choices,
    GroupName,
    Models,
    Out,
    SheetFormat,
    Synthetic,
    Tasks,
    VariantName,
    pairs,
    results,
    words,
)


def prompts(
    model: Models = None,
    task: Tasks = None,
    group: GroupName = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    synthetic: Synthetic = False,
    form: SheetFormat = "terminal",
    out: Out = Path("results"),
) -> None:
    """Show how zero-shot numbers spread over prompt sets and over single prompts (`cxrbench run --prompts all`)."""
    from cxrbench import catalog
    from cxrbench.report.sheets import prompt_sheets, render
    from cxrbench.verdict.measured import measured
    from cxrbench.verdict.prompt_spread import prompt_spreads
    from cxrbench.verdict.selection import Asked

    made = catalog.load_variant(variant).with_choices(pairs(choice, "--set"))
    models, tasks = words(model) or ("all",), words(task) or ("all",)
    asked = Asked(models, made, tasks, group, "zero-shot", synthetic=synthetic)
    chosen = measured(results(out), asked)
    found = prompt_spreads(out, chosen.records)
    for note in chosen.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(render(tuple(found), lambda: prompt_sheets(found, synthetic=synthetic), form), nl=False)
