"""`cxrbench table N`: measured beside published."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrbench.cli.options import Cache, Choices, DataRoot, Out, VariantName, data_places, pairs


def table(
    number: Annotated[
        int, typer.Argument(help="1 sizes; 2 base and new; 3 COVID prompts; 4 linear probing.", min=1, max=4)
    ],
    variant: VariantName = "paper-code",
    choice: Choices = None,
    form: Annotated[
        Literal["terminal", "markdown", "latex", "csv", "json"], typer.Option("--format", "-f", help="Output format.")
    ] = "terminal",
    synthetic: Annotated[
        bool, typer.Option("--synthetic", help="Show records of made images or weights instead of measured ones.")
    ] = False,
    data_root: DataRoot = None,
    out: Out = Path("results"),
    cache: Cache = None,
) -> None:
    """Print a table of the paper with the cells measured here, and their difference."""
    from cxrbench import catalog

    made = catalog.load_variant(variant).with_choices(pairs(choice, "--set"))
    if number == 1:
        from cxrbench.bench.request import default_cache
        from cxrbench.report.table1 import sizes

        roots = data_places(data_root, list(catalog.task_files()))
        typer.echo(sizes(made, roots, cache or default_cache(), form), nl=False)
        return
    from cxrbench.published import published_table
    from cxrbench.record import read_records
    from cxrbench.report.render import render
    from cxrbench.report.view import table_view

    found, foreign = read_records(out)
    if foreign:
        typer.echo(f"{foreign} files in {out / 'records'} are no records of this version and were left out", err=True)
    records = [record for record in found if record.variant_digest == made.digest]
    typer.echo(render(table_view(published_table(number), records, made.name, synthetic=synthetic), form), nl=False)
