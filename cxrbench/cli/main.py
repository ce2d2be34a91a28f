"""The program `cxrbench`: its verbs, and errors as help instead of tracebacks."""

import errno
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from cxrbench.cli import (
    audit,
    cache,
    calibration,
    check,
    compare,
    data,
    demo,
    doctor,
    encode,
    export,
    figure,
    lists,
    pretrain,
    prompts,
    report,
    run,
    subgroups,
    table,
    task,
    validate,
    weights,
)
from cxrbench.cli.echo import echo, print_problem, steady_streams, warn
from cxrbench.errors import EXIT_CODES, SEVERAL, CxrBenchError, RunError
from cxrbench.system.contained import contained, reason_of

_INTERRUPTED = 130
_KEPT = "cxrbench: interrupted; finished work is kept, and the same command goes on (`pretrain run` with --resume)"

_BUG = "an error that was not expected"
EPILOG = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()) + ". " + SEVERAL


class _Verbs(TyperGroup):
    """Keeps from Typer what it would leave with 1 for, which means a finding."""

    def invoke(self, ctx: Any) -> Any:
        """See `TyperGroup.invoke`; what Typer would take for its own is contained first.

        EOFError, EPIPE, and a SystemExit of whatever runs below: Typer's own come from above.
        """
        try:
            return super().invoke(ctx)
        except (EOFError, SystemExit) as error:
            failed = contained(error, _BUG)
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            failed = contained(error, _BUG)
        raise failed


app = typer.Typer(
    cls=_Verbs,
    name="cxrbench",
    help="Exact, repeatable comparison of chest X-ray encoders: zero-shot and linear probe on seven data sets.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # as markup, Rich would swallow every [default: ...], and it truncates at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("encode")(encode.encode)
app.command("status")(encode.status)
app.command("models")(lists.models)
app.command("tasks")(lists.tasks)
app.command("protocols")(lists.protocols)
app.command("info")(lists.info)
app.add_typer(table.app, name="table")
app.command("figure")(figure.figure)
app.command("subgroups")(subgroups.subgroups)
app.command("prompts")(prompts.prompts)
app.command("calibration")(calibration.calibration)
app.command("compare")(compare.compare)
app.command("export")(export.export)
app.command("check")(check.check)
app.command("validate")(validate.validate)
app.command("audit")(audit.audit)
app.command("report")(report.report)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)
app.add_typer(pretrain.app, name="pretrain")
app.add_typer(data.app, name="data")
app.add_typer(task.app, name="task")
app.add_typer(cache.app, name="cache")
app.add_typer(weights.app, name="weights")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        echo(version("cxrbench"))
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; an error becomes one message on stderr and its exit code, and a bug a log file, too."""
    with steady_streams() as lost:
        code = _code()
    with steady_streams():  # the other stream may be as lost
        for line in lost:
            warn(f"cxrbench: {line}")
    sys.exit(code or (RunError.exit_code if lost else 0))


def _code() -> int:
    """What the command leaves with; its message is printed by then."""
    try:
        app()
    except SystemExit as stop:
        if stop.code == _INTERRUPTED:  # what Typer makes of Ctrl-C
            warn(_KEPT)
        if isinstance(stop.code, str):
            warn(stop.code)
        return stop.code if isinstance(stop.code, int) else RunError.exit_code * (stop.code is not None)
    except CxrBenchError as error:
        return print_problem(error).exit_code
    except OSError as error:
        warn(f"cxrbench: {reason_of(error)}; finished work is kept")
        return RunError.exit_code
    except BaseException as error:
        return print_problem(contained(error, _BUG)).exit_code
    return 0
