"""`cxrbench demo`: everything once, on made data."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from cxrbench.cli.echo import echo


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that the demo makes.")] = Path("demo"),
) -> None:
    """Train and measure four small encoders on drawn images.

    Draws the seven data sets, trains by four objectives, runs the seven tasks, prints Tables 2 to 4 and writes
    report.html: about four minutes of one core, 260 MB. All is made, and says nothing about any real model.
    """
    from cxrbench import cpu

    cpu.prepare()
    from cxrbench.demo.show import demo as show
    from cxrbench.progress import progress_for

    report = show(out, progress_for(sys.stderr), echo)
    for problem in report.problems:
        echo(f"cxrbench: {problem}", err=True)
    if report.problems:
        raise typer.Exit(report.problems[0].exit_code)
