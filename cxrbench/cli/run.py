"""`cxrbench run`: models x tasks x protocols."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cxrbench.cli.echo import say, warn, warn_of_files
from cxrbench.cli.options import AskedRequest, names_request
from cxrbench.errors import gravest

if TYPE_CHECKING:
    from cxrbench.runner.request import Request


@names_request()
def run(
    asked: AskedRequest,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be computed, what is cached, what is missing.")
    ] = False,
) -> None:
    """Measure models on tasks.

    Every image is decoded and encoded once, then every cell is scored from the store. The same command goes on after a
    kill; several jobs may share --out and --cache.
    """
    from cxrbench.system import cpu

    cpu.prepare()
    from cxrbench.runner.request import build_request

    request = build_request(asked.models, asked.tasks, asked.options)
    if dry_run:
        _forecast(request)
    else:
        _run(request)


def _run(request: "Request") -> None:
    from cxrbench.runner.run import run as measure
    from cxrbench.system.progress import progress_for

    report = measure(request, progress_for(sys.stderr), say)
    warn_of_files("left out", report.unreadable)
    warn_of_files("missing", report.missing)
    for problem in report.problems:
        warn(f"cxrbench: {problem}")
    for name in report.failed:
        warn(f"failed: {name}")
    say(
        f"{len(report.records)} cells ({report.cached} recorded before, {len(report.skipped)} not applicable, "
        f"{len(report.problems)} problems); {report.decoded} images decoded, {report.encoded} encoded, "
        f"{len(report.unreadable)} unreadable, {len(report.missing)} missing; "
        f"records in {request.places.out / 'records'}"
    )
    if report.problems:
        raise typer.Exit(gravest(report.problems))
    if not report.records:
        warn("cxrbench: nothing was measured")
        raise typer.Exit(2 if report.skipped else 5)


def _forecast(request: "Request") -> None:
    from cxrbench.runner.run import forecast

    told = forecast(request)
    for name in told.cells:
        say(f"{'recorded' if name in told.cached else 'to compute'}: {name}")
    for name, (stored, waiting) in told.images.items():
        say(f"images of {name}: {stored} in the store, {waiting} to encode")
    for name, reason in told.skipped.items():
        say(f"not applicable: {name}: {reason.partition(';')[0]}")
    for problem in told.problems:
        say(f"missing: {problem}")
    if told.problems:
        raise typer.Exit(gravest(told.problems))
    if told.skipped and not told.cells:
        warn("cxrbench: nothing would be measured")
        raise typer.Exit(2)
