"""The program `cxrbench`: its verbs, and errors as help instead of tracebacks."""

import errno
import sys
from typing import Annotated

import typer

from cxrbench.cli import (
    audit,
    cache,
    calibration,
    check,
    compare,
    data,
    demo,
    doctor,
    figure,
    lists,
    pretrain,
    prompts,
    report,
    run,
    subgroups,
    table,
    weights,
)
from cxrbench.errors import CxrBenchError, RunError

_INTERRUPTED = 130
_KEPT = "cxrbench: interrupted; finished work is kept, and the same command goes on (`pretrain run` with --resume)"

EXIT_CODES = """
Exit codes: 0 done; 1 a moved number (check) or a finding (audit --strict); 2 usage (an unknown name, option, card or
setting); 3 data missing (images, label tables, weights); 4 integrity (bytes that are not what a digest or layout
promises); 5 a run that failed; 6 a pre-training that SIGTERM stopped after a checkpoint.
"""

app = typer.Typer(
    name="cxrbench",
    help="Exact, repeatable comparison of chest X-ray encoders: zero-shot and linear probe on seven data sets.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # as markup, Rich would swallow every [default: ...], and it truncates at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("models")(lists.models)
app.command("tasks")(lists.tasks)
app.command("info")(lists.info)
app.add_typer(table.app, name="table")
app.command("figure")(figure.figure)
app.command("subgroups")(subgroups.subgroups)
app.command("prompts")(prompts.prompts)
app.command("calibration")(calibration.calibration)
app.command("compare")(compare.compare)
app.command("check")(check.check)
app.command("audit")(audit.audit)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.add_typer(pretrain.app, name="pretrain")
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("cxrbench"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; an error of ours becomes one message on stderr and its exit code."""
    try:
        app()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:  # what Typer makes of Ctrl-C
            typer.echo(_KEPT, err=True)
        raise
    except CxrBenchError as error:
        typer.echo(f"cxrbench: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        typer.echo(f"cxrbench: {_told(error)}; finished work is kept", err=True)
        sys.exit(RunError.exit_code)


def _told(error: OSError) -> str:
    """What the system says, of which file, and what to do about a place that takes no file."""
    where = f"{error.filename}: " if error.filename else ""
    said = f"{where}{error.strerror or error}"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{said}; make room, or name other folders by --out, --cache (embeddings) or TMPDIR"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return f"{said}; name a folder that can be written by --out, --cache or the option that named this one"
    return said
