"""`cxrbench figure 3`: few-shot curves."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.options import Choices, Models, Out, Synthetic, Tasks, VariantName, pairs, results, words


def figure(
    number: Annotated[
        int, typer.Argument(help="3: linear probes with K = 1, 2, 4, 8, 16 images a class.", min=3, max=3)
    ],
    model: Models = None,
    task: Tasks = None,
    to: Annotated[
        list[Path] | None,
        typer.Option("--to", help="File to write: SVG, PNG or PDF; repeatable. [default: figure3.svg in the results]"),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Draw gaps where a number of shots was not measured.")
    ] = False,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    synthetic: Synthetic = False,
    out: Out = Path("results"),
) -> None:
    """Draw a figure of the paper from records and predictions, with 95 % intervals and what the paper prints beside."""
    from cxrbench import catalog
    from cxrbench.report.few_shot import few_shot
    from cxrbench.report.figures import write_few_shot
    from cxrbench.verdict.figure import checked_path
    from cxrbench.verdict.selection import Asked

    paths = [checked_path(path) for path in to or (out / f"figure{number}.svg",)]
    made = catalog.load_variant(variant).with_choices(pairs(choice, "--set"))
    models, tasks = words(model) or ("all",), words(task) or ("all",)
    asked = Asked(models, made, tasks, protocol="linear-probe", synthetic=synthetic)
    found = few_shot(out, results(out), asked, allow_missing=allow_missing)
    write_few_shot(found, paths)
    for note in found.notes:
        typer.echo(f"note: {note}", err=True)
    typer.echo("\n".join(map(str, paths)))
