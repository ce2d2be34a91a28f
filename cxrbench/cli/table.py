"""`cxrbench table`: cells as asked for; `1|2|3|4`: beside published; `frequency`: beside pre-training; `transfer`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.cell_choice import CellChoice, about_cells
from cxrbench.cli.echo import echo
from cxrbench.cli.options import (
    Cache,
    Choices,
    DataRoot,
    Groups,
    Models,
    Out,
    PromptSets,
    Protocols,
    Several,
    ShotNumbers,
    Synthetic,
    Tasks,
    TheseDraws,
    VariantName,
    asked_cells,
    chosen_variant,
    data_places,
    metrics,
    pairs,
    recorded_variant,
    results,
    trained_tasks,
    words,
)
from cxrbench.errors import SpecError

if TYPE_CHECKING:
    from cxrbench.records.record import Record
    from cxrbench.specs.settings import Variant


@about_cells("model", "task", "group", "prompts", protocol="zero-shot")
def frequency(
    cells: CellChoice,
    corpus: Annotated[Path, typer.Argument(help="Finding frequencies of the pre-training corpus (JSON).")],
    same: Annotated[
        list[str] | None,
        typer.Option("--same", metavar="CLASS=FINDING", help="A class under the corpus's name for it; repeatable."),
    ] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Also draw it: SVG, PNG or PDF.")] = None,
) -> None:
    """Show recall beside how often pre-training saw a class.

    Zero-shot recall and share of the pre-training images of each class, with their rank correlation. CORPUS is the
    file `frequencies.json` in the folder of a `cxrbench pretrain run`.
    """
    from cxrbench.analysis.frequency import frequency as beside
    from cxrbench.pretrain.frequencies import read
    from cxrbench.reports.figures import checked_path, write_frequency
    from cxrbench.reports.sheets import frequency_sheet

    if figure is not None:
        checked_path(figure)
    shares = {name: found.share for name, found in read(corpus).all.of_images.items()}
    views = tuple(beside(record, shares, pairs(same, "--same")) for record in cells.measured.records)
    if figure is not None:
        write_frequency(views, figure, synthetic=cells.synthetic)
    cells.show(views, lambda: [frequency_sheet(view, synthetic=cells.synthetic) for view in views])


Form = Annotated[
    Literal["terminal", "markdown", "latex", "csv", "json"], typer.Option("--format", "-f", help="Output format.")
]
app = typer.Typer(
    no_args_is_help=True,
    invoke_without_command=True,
    help="Print measured cells, and the paper's Tables 1 to 4.",
)
app.command("frequency")(frequency)

IntervalsOption = Annotated[
    bool, typer.Option("--intervals/--no-intervals", help="Intervals and standings from predictions, or neither.")
]


@app.callback()
def of_cells(
    context: typer.Context,
    task: Tasks = None,
    model: Models = None,
    protocol: Protocols = None,
    shots: ShotNumbers = None,
    group: Groups = None,
    prompts: PromptSets = None,
    metric: Annotated[
        Several,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="Metrics, as of `compare --metric`. [default: each task's main one]",
            autocompletion=metrics,
        ),
    ] = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    form: Form = "terminal",
    synthetic: Synthetic = False,
    intervals: IntervalsOption = True,
    these_draws: TheseDraws = False,
    out: Out = Path("results"),
) -> None:
    """Print measured cells, and the paper's Tables 1 to 4.

    With options alone, any tasks and models, your own too: a row a model, a column a task, group, protocol, K and
    metric. With a number, a table of the paper beside what it prints. Options of a table of the paper stand behind its
    number.
    """
    if context.invoked_subcommand is not None:
        sources = {name: context.get_parameter_source(name) for name in context.params}
        given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
        if given:
            raise SpecError(
                f"options of `table {context.invoked_subcommand}` stand behind it, not before: {', '.join(given)}"
            )
        return
    from cxrbench.analysis.cell_table import cell_table
    from cxrbench.evaluate.metric_table import load_metric
    from cxrbench.reports.tables import render

    judged = [load_metric(name) for name in dict.fromkeys(words(metric))]
    found = results(out)
    made = recorded_variant(variant, choice, found)
    asked = asked_cells(made, model, task, group or ["all"], protocol, shots, prompts, synthetic=synthetic)
    view = cell_table(out, found, asked, judged, intervals=intervals, these_draws=these_draws)
    echo(render(view, form), nl=False)


@app.command("1")
def sizes(
    variant: VariantName = "paper-code",
    choice: Choices = None,
    form: Form = "terminal",
    data_root: DataRoot = None,
    cache: Cache = None,
) -> None:
    """Print Table 1, sizes of the data sets.

    As the variant splits what is on this disk, beside the printed ones.
    """
    from cxrbench.reports.tables import sizes as told
    from cxrbench.specs import catalog
    from cxrbench.specs.paths import default_cache

    made = chosen_variant(variant, choice)
    roots = data_places(data_root, list(catalog.task_files()))
    echo(told(made, roots, cache or default_cache(), form), nl=False)


@app.command("multilabel")
def multi_label(
    variant: VariantName = "paper-code",
    choice: Choices = None,
    form: Form = "terminal",
    everything: Annotated[
        bool, typer.Option("--all", help="Also the published numbers that stand in no column, with the reason.")
    ] = False,
    synthetic: Synthetic = False,
    intervals: IntervalsOption = True,
    these_draws: TheseDraws = False,
    out: Out = Path("results"),
) -> None:
    """Print multi-label tasks beside published numbers.

    Zero-shot macro AUROC, a column a task and group. A published number stands beside a measured one only where list,
    labels and average agree; ‡ marks those that nobody has read where they were first printed. JSON has all of them.
    """
    from cxrbench.analysis.multilabel import multilabel
    from cxrbench.reports.published import render

    found = results(out)
    made = recorded_variant(variant, choice, found)
    _tell_others(found, made, out, synthetic=synthetic)
    told = multilabel(out, found, made, synthetic=synthetic, intervals=intervals, these_draws=these_draws)
    echo(render(told, form, everything=everything), nl=False)


@app.command("transfer")
def transfer(
    task: Tasks = None,
    trained_on: Annotated[
        Several, typer.Option("--trained-on", help="Rows: tasks that were trained on. [default: each measured]")
    ] = None,
    model: Models = None,
    protocol: Protocols = None,
    shots: ShotNumbers = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="Metric. [default: each task's main one]", autocompletion=metrics)
    ] = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    form: Form = "terminal",
    synthetic: Synthetic = False,
    intervals: IntervalsOption = True,
    these_draws: TheseDraws = False,
    out: Out = Path("results"),
) -> None:
    """Print what was trained on one task and scored on another.

    A row is the task trained on, a column the one scored, over the labels that both have (docs/transfer.md), with
    chance beside it; the diagonal is each task's own probe. § marks pairs that may hold the same images or patients.
    """
    from cxrbench.analysis.transfer import TransferAsked, transfer_views
    from cxrbench.evaluate.metric_table import load_metric
    from cxrbench.reports.tables import render_all

    found = results(out)
    made = recorded_variant(variant, choice, found)
    asked = asked_cells(made, model, task, ["each"], protocol, shots, None, synthetic=synthetic)
    judged = None if metric is None else load_metric(metric)
    how = TransferAsked(trained_tasks(trained_on, found), judged, intervals, these_draws)
    echo(render_all(transfer_views(out, found, asked, how), form), nl=False)


def _tell_others(found: "list[Record]", variant: "Variant", out: Path, *, synthetic: bool) -> None:
    """Say on stderr why a table will show nothing measured, and which option shows what there is."""
    from cxrbench.specs.settings import choosing

    if any(record.synthetic == synthetic and record.variant_digest == variant.digest for record in found):
        return
    kind = "synthetic" if synthetic else "measured"
    there = sorted({choosing(record.variant) + " --synthetic" * record.synthetic for record in found})
    instead = f"; there are records for {', '.join(there)}" if there else "; `cxrbench run` writes records"
    echo(f"note: no {kind} record of {variant.name} in {out / 'records'}{instead}", err=True)


def _paper(number: int, about: str) -> Callable[..., None]:
    """The command of one table of measured cells."""

    def table(
        variant: VariantName = "paper-code",
        choice: Choices = None,
        form: Form = "terminal",
        synthetic: Annotated[
            bool,
            typer.Option("--synthetic", help="Show records of synthetic images or weights instead of measured ones."),
        ] = False,
        intervals: IntervalsOption = True,
        these_draws: TheseDraws = False,
        out: Out = Path("results"),
    ) -> None:
        from cxrbench.analysis.paper_tables import measured_view
        from cxrbench.reports.tables import render
        from cxrbench.specs.paper import published_table

        found = results(out)
        made = recorded_variant(variant, choice, found)
        _tell_others(found, made, out, synthetic=synthetic)
        how = {"synthetic": synthetic, "intervals": intervals, "these_draws": these_draws}
        echo(render(measured_view(published_table(number), found, made, out, **how), form), nl=False)

    table.__doc__ = (
        f"Print Table {number}, {about}.\n\n"
        "Cells measured here, their intervals, and the difference from the paper.\n\n"
        "† marks models pre-trained on the collection that the task's images are from."
    )
    return table


for _number, _about in ((2, "base and new classes"), (3, "COVID by prompts"), (4, "linear probing")):
    app.command(str(_number))(_paper(_number, _about))
