"""`cxrbench compare A B ...`: is one better than the other, on the same images?"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import (
    Choices,
    Groups,
    Out,
    PromptSets,
    Protocols,
    ShotNumbers,
    Tasks,
    TheseDraws,
    VariantName,
    asked_cells,
    metrics,
    recorded_variant,
    results,
)
from cxrbench.errors import SpecError


def compare(
    models: Annotated[
        list[str],
        typer.Argument(metavar="MODEL...", help="Two measured models, or more to rank them; globs and `all`."),
    ],
    task: Tasks = None,
    protocol: Protocols = None,
    shots: ShotNumbers = None,
    group: Groups = None,
    prompts: PromptSets = None,
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric",
            metavar="NAME",
            help="What is compared: a built-in metric, or one of an installed package; a wrong name lists all. "
            "[default: balanced_accuracy, macro_auroc of multi-label tasks]",
            autocompletion=metrics,
        ),
    ] = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    these_draws: TheseDraws = False,
    synthetic: Annotated[
        bool,
        typer.Option("--synthetic", help="Compare records of synthetic images or weights instead of measured ones."),
    ] = False,
    form: Annotated[
        Literal["terminal", "markdown", "json"], typer.Option("--format", "-f", help="Output format.")
    ] = "terminal",
    as_json: Annotated[bool, typer.Option("--json", help="Short for --format json.")] = False,
    figure: Annotated[
        Path | None,
        typer.Option(
            "--figure", help="Write the critical-difference diagram of three or more models: SVG, PNG or PDF."
        ),
    ] = None,
    out: Out = Path("results"),
) -> None:
    """Compare models on the same images.

    Paired intervals and tests for two, places and ranks for more. They speak of other test images and, where several
    were drawn, of other training images or prompts: what is better is better under other draws too. Everything is
    computed from the records and predictions below --out; no model runs.
    """
    from cxrbench.analysis.by_setting import by_setting
    from cxrbench.analysis.leaderboard import Leaderboard
    from cxrbench.evaluate.metric_table import load_metric
    from cxrbench.reports.comparisons import render
    from cxrbench.reports.figures import checked_path, write_diagram

    if figure is not None:
        checked_path(figure)
    judged = None if metric is None else load_metric(metric)
    records = results(out)
    made = recorded_variant(variant, choice, records)
    asked = asked_cells(made, models, task, group or ["all"], protocol, shots, prompts, synthetic=synthetic)
    told = by_setting(out, records, asked, judged, these_draws=these_draws)
    for reason in told.refused:
        echo(f"cxrbench: {reason}", err=True)
    if figure is not None:
        boards = [board for board in told.found if isinstance(board, Leaderboard)]
        if len(boards) != 1:
            settings = "; ".join(str(part.setting) for part in told.found)
            raise SpecError(
                f"--figure draws one setting of three or more models, and there are {len(boards)} ({settings}); "
                "choose with --protocol, --shots and --prompts"
            )
        write_diagram(boards[0], figure)
    echo(render(told.found, "json" if as_json else form), nl=False)
