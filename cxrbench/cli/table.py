"""`cxrbench table 1|2|3|4`: measured beside published; `table frequency`: beside what pre-training saw."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrbench.cli.frequency import frequency
from cxrbench.cli.options import Cache, Choices, DataRoot, Out, VariantName, data_places, pairs, results

Form = Annotated[
    Literal["terminal", "markdown", "latex", "csv", "json"], typer.Option("--format", "-f", help="Output format.")
]

app = typer.Typer(no_args_is_help=True, help="Print a table of the paper, or zero-shot beside finding frequencies.")
app.command("frequency")(frequency)


@app.command("1")
def sizes(
    variant: VariantName = "paper-code",
    choice: Choices = None,
    form: Form = "terminal",
    data_root: DataRoot = None,
    cache: Cache = None,
) -> None:
    """Print Table 1: sizes of the data sets as the variant splits them, beside the printed ones."""
    from cxrbench import catalog
    from cxrbench.bench.request import default_cache
    from cxrbench.report.table1 import sizes as told

    made = catalog.load_variant(variant).with_choices(pairs(choice, "--set"))
    roots = data_places(data_root, list(catalog.task_files()))
    typer.echo(told(made, roots, cache or default_cache(), form), nl=False)


def _paper(number: int, about: str) -> Callable[..., None]:
    """The command of one table of measured cells."""

    def table(
        variant: VariantName = "paper-code",
        choice: Choices = None,
        form: Form = "terminal",
        synthetic: Annotated[
            bool, typer.Option("--synthetic", help="Show records of made images or weights instead of measured ones.")
        ] = False,
        intervals: Annotated[
            bool,
            typer.Option("--intervals/--no-intervals", help="Intervals and standings from predictions, or neither."),
        ] = True,
        out: Out = Path("results"),
    ) -> None:
        from cxrbench import catalog
        from cxrbench.published import published_table
        from cxrbench.report.render import render
        from cxrbench.report.view import table_view

        made = catalog.load_variant(variant).with_choices(pairs(choice, "--set"))
        records = [record for record in results(out) if record.variant_digest == made.digest]
        printed = published_table(number)
        view = table_view(printed, records, made.name, synthetic=synthetic)
        if intervals and records:
            from cxrbench.report.certainty import with_intervals

            view = with_intervals(view, printed, records, out)
        typer.echo(render(view, form), nl=False)

    table.__doc__ = (
        f"Print Table {number}, {about}: cells measured here, their intervals, and the difference from the paper.\n\n"
        "† marks models pre-trained on the collection that the task's images are from."
    )
    return table


for _number, _about in ((2, "base and new classes"), (3, "COVID by prompts"), (4, "linear probing")):
    app.command(str(_number))(_paper(_number, _about))
