"""The one way to the terminal: what cards, records and file names say cannot steer it."""

import typer

from cxrbench.system.printable import printable


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print the text with its control and bidi characters escaped; line feeds and tabs are kept."""
    typer.echo(printable(str(text)), err=err, nl=nl)
