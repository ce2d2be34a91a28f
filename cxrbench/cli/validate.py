"""`cxrbench validate`: whether contributed records may enter a results repository."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cxrbench.cli.echo import echo
from cxrbench.errors import IntegrityError


def validate(
    folder: Annotated[Path, typer.Argument(help="A results folder: `records` lies in it.")] = Path("results"),
    form: Annotated[
        Literal["table", "markdown", "json"], typer.Option("--format", "-f", help="Output format.")
    ] = "table",
) -> None:
    """Say whether contributed records may enter.

    Each file below `records` is held to the schema, its checksum and its predictions, to the names of this
    installation, and to what may be published. Exit code 4 if a file is refused, 0 with notes or without.
    """
    from cxrbench.checks.contributed import contribution, render

    found = contribution(folder)
    echo(render(found, form), nl=False)
    if found.refused:
        raise typer.Exit(IntegrityError.exit_code)
