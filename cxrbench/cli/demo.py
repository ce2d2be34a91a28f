"""`cxrbench demo`: everything once, on synthetic data."""

from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.echo import say, warn
from cxrbench.errors import gravest

LOG = "demo.log"  # in the folder of the demonstration: what each step said


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that the demo makes.")] = Path("demo"),
) -> None:
    """Train and measure four small encoders on drawn images.

    Draws the seven data sets, trains by four objectives, runs the seven tasks, prints Tables 2 to 4 and writes
    report.html: about four minutes of one core, 260 MB. All is made, and says nothing about any real model.
    """
    from cxrbench.system import cpu

    cpu.prepare()
    from cxrbench.cli.demonstration import demo as show
    from cxrbench.system.progress import progress_for

    out.mkdir(parents=True, exist_ok=True)
    with (out / LOG).open("a", encoding="utf-8", buffering=1) as log:
        report = show(out, progress_for(log), say, lambda line: print(line, file=log))
    say(f"all else that it said: {out / LOG}")
    for problem in report.problems:
        warn(f"cxrbench: {problem}")
    if report.problems:
        raise typer.Exit(gravest(report.problems))
