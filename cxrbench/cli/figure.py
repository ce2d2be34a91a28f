"""`cxrbench figure 3`: few-shot curves."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import (
    Choices,
    Models,
    Out,
    PromptSets,
    Several,
    ShotNumbers,
    Synthetic,
    Tasks,
    TheseDraws,
    VariantName,
    asked_cells,
    metrics,
    protocols,
    recorded_variant,
    results,
)
from cxrbench.errors import SpecError


def figure(
    number: Annotated[int, typer.Argument(help="3: protocols over the images per class, K.")],
    model: Models = None,
    task: Tasks = None,
    protocol: Annotated[
        Several,
        typer.Option(
            "--protocol",
            "-p",
            help="Protocols beside each other; repeatable, globs; zero-shot is a level. [default: linear-probe]",
            autocompletion=protocols,
        ),
    ] = None,
    shots: ShotNumbers = None,
    group: Annotated[str, typer.Option("--group", "-g", help="Label group.")] = "all",
    prompts: PromptSets = None,
    metric: Annotated[
        str | None, typer.Option("--metric", metavar="NAME", help="As of `compare --metric`.", autocompletion=metrics)
    ] = None,
    to: Annotated[
        list[Path] | None,
        typer.Option("--to", help="File to write: SVG, PNG or PDF; repeatable. [default: figure3.svg in the results]"),
    ] = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    these_draws: TheseDraws = False,
    synthetic: Synthetic = False,
    out: Out = Path("results"),
) -> None:
    """Draw the few-shot curves (Figure 3) of what was measured.

    From records and predictions, with 95 % intervals for other test images and training images, and what the paper
    prints beside. A line joins the numbers of shots that were measured; negative controls are grey. Of several
    protocols or prompt sets, colour tells models apart, and marker and dashes the protocols.
    """
    from cxrbench.analysis.few_shot_curves import few_shot
    from cxrbench.evaluate.metric_table import load_metric
    from cxrbench.reports.figures import checked_path, write_few_shot

    if number != 3:
        raise SpecError(f"Figure 3 is the only one that is drawn from records, not {number}")
    paths = [checked_path(path) for path in to or (out / f"figure{number}.svg",)]
    judged = None if metric is None else load_metric(metric)
    records = results(out)
    made = recorded_variant(variant, choice, records)
    asked = asked_cells(made, model, task, [group], protocol or ["linear-probe"], shots, prompts, synthetic=synthetic)
    found = few_shot(out, records, asked, judged, these_draws=these_draws)
    write_few_shot(found, paths)
    for note in found.notes:
        echo(f"note: {note}", err=True)
    echo("\n".join(map(str, paths)))
