"""`cxrbench table frequency`: zero-shot accuracy of classes beside how often pre-training saw them."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.options import (
    Choices,
    GroupName,
    Models,
    Out,
    PromptSetName,
    SheetFormat,
    Synthetic,
    Tasks,
    VariantName,
    pairs,
    results,
    words,
)


def frequency(
    corpus: Annotated[Path, typer.Argument(help="Finding frequencies of the pre-training corpus (JSON).")],
    model: Models = None,
    task: Tasks = None,
    group: GroupName = "all",
    prompts: PromptSetName = None,
    same: Annotated[
        list[str] | None,
        typer.Option("--same", metavar="CLASS=FINDING", help="A class under the corpus's name for it; repeatable."),
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Also draw it: SVG, PNG or PDF.")] = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    synthetic: Synthetic = False,
    form: SheetFormat = "terminal",
    out: Out = Path("results"),
) -> None:
    """Show each class's zero-shot recall beside its share of the pre-training images, with their rank correlation.

    CORPUS is the file `frequencies.json` that `cxrbench pretrain` writes.
    """
    from cxrbench import catalog
    from cxrbench.pretrain.frequencies import read
    from cxrbench.report.figures import write_frequency
    from cxrbench.report.frequency import frequency as beside
    from cxrbench.report.sheets import frequency_sheet, render
    from cxrbench.verdict.figure import checked_path
    from cxrbench.verdict.measured import measured
    from cxrbench.verdict.selection import Asked

    if figure is not None:
        checked_path(figure)
    made = catalog.load_variant(variant).with_choices(pairs(choice, "--set"))
    models, tasks = words(model) or ("all",), words(task) or ("all",)
    asked = Asked(models, made, tasks, group, "zero-shot", None, prompts, synthetic)
    shares = {name: found.share for name, found in read(corpus).all.of_images.items()}
    chosen = measured(results(out), asked)
    views = tuple(beside(record, shares, pairs(same, "--same")) for record in chosen.records)
    if figure is not None:
        write_frequency(views, figure, synthetic=synthetic)
    for note in chosen.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo(render(views, lambda: [frequency_sheet(v, synthetic=synthetic) for v in views], form), nl=False)
