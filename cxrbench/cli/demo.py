"""`cxrbench demo`: everything once, on made data."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder for everything that the demo makes.")] = Path("demo"),
) -> None:
    """Draw phantom data sets, pre-train four small encoders, run the seven tasks, print Tables 2 to 4, all made."""
    from cxrbench import cpu

    cpu.prepare()
    from cxrbench.demo.show import demo as show
    from cxrbench.progress import progress_for

    report = show(out, progress_for(sys.stderr), typer.echo)
    for problem in report.problems:
        typer.echo(f"cxrbench: {problem}", err=True)
    if report.problems:
        raise typer.Exit(report.problems[0].exit_code)
