"""`cxrbench demo`: everything once, on synthetic data."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.echo import say, warn
from cxrbench.errors import gravest


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

    report = show(out, progress_for(sys.stderr), say)
    for problem in report.problems:
        warn(f"cxrbench: {problem}")
    if report.problems:
        raise typer.Exit(gravest(report.problems))
