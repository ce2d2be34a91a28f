"""The one way to the terminal: what cards, records and file names say cannot steer it."""

from collections.abc import Mapping
from pathlib import Path

import typer

from cxrbench.errors import CxrBenchError
from cxrbench.system.contained import Logbook
from cxrbench.system.printable import printable


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print the text with its control and bidi characters escaped; line feeds and tabs are kept."""
    typer.echo(printable(str(text)), err=err, nl=nl)


_SHOWN = 20  # files of one kind that are named


def say(line: str) -> None:
    """Print a line."""
    echo(line)


def warn(line: str) -> None:
    """Print a line on stderr."""
    echo(line, err=True)


def told(problem: CxrBenchError) -> CxrBenchError:
    """The problem, once it was printed on stderr, and its traceback, if it has one, put into a log in the cache."""
    from cxrbench.specs.paths import default_cache

    Logbook(default_cache() / "logs").enter(problem)
    warn(f"cxrbench: {problem}")
    return problem


def warn_of_files(what: str, files: Mapping[Path, str]) -> None:
    """Name some files on stderr with the reason for each, and say how many more there are."""
    for path, reason in list(files.items())[:_SHOWN]:
        warn(f"{what}: {path}: {reason.removeprefix(f'{path}: ')}")
    if len(files) > _SHOWN:
        warn(f"{what}: {len(files) - _SHOWN} more; the records list them")
