"""`cxrbench run`: models x tasks x protocols."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cxrbench.cli import options
from cxrbench.cli.echo import say, warn, warn_of_files
from cxrbench.cli.options import (
    BatchSize,
    Cache,
    Choices,
    DataRoot,
    Device,
    MeasuredModels,
    Out,
    Precision,
    TextEncoder,
    VariantName,
    WeightsFrom,
    Workers,
    data_places,
    numbers,
    pairs,
    weights_places,
    words,
)
from cxrbench.errors import gravest

if TYPE_CHECKING:
    from cxrbench.runner.request import Request


def run(
    model: MeasuredModels,
    task: Annotated[
        list[str],
        typer.Option(
            "--task",
            "-t",
            help="Tasks: names, globs, all, or task files; repeatable.",
            autocompletion=options.tasks,
        ),
    ],
    protocol: Annotated[
        list[str] | None,
        typer.Option(
            "--protocol",
            "-p",
            help="zero-shot, linear-probe, those of installed packages, or all; default the first two.",
            autocompletion=options.protocols,
        ),
    ] = None,
    shots: Annotated[
        list[str] | None,
        typer.Option("--shots", "-k", help="Training images per class, such as 1,2,4,8,16; default 16."),
    ] = None,
    group: Annotated[
        list[str] | None, typer.Option("--group", "-g", help="Label groups: all, base, new, ...; default every one.")
    ] = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    prompts: Annotated[
        list[str] | None,
        typer.Option(
            "--prompts",
            help="Prompt sets: names, description, ensemble (default: these three), a TOML file; authors: the sets of "
            "each model's own authors; all: both.",
        ),
    ] = None,
    data_root: DataRoot = None,
    weights: WeightsFrom = None,
    text_encoder: TextEncoder = None,
    device: Device = "auto",
    precision: Precision = "float32",
    batch_size: BatchSize = 32,
    workers: Workers = 0,
    out: Out = Path("results"),
    cache: Cache = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Score what is there when images have no file; recorded.")
    ] = False,
    max_unreadable: Annotated[
        float,
        typer.Option(
            "--max-unreadable",
            min=0,
            max=1,
            help="Share of a cell's scored or training images that may be unreadable; one always may.",
        ),
    ] = 0.05,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume", help="Reuse records of equal cells, or measure them again from stored vectors."
        ),
    ] = True,
    rehash: Annotated[
        bool, typer.Option("--rehash", help="Read every image's bytes again; new content is encoded anew.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be computed, what is cached, what is missing.")
    ] = False,
) -> None:
    """Measure models on tasks.

    Every image is decoded and encoded once, then every cell is scored from the store. The same command goes on after a
    kill; several jobs may share --out and --cache.
    """
    from cxrbench.specs import catalog
    from cxrbench.system import cpu

    cpu.prepare()
    from cxrbench.runner.request import Engine, Places, Request
    from cxrbench.specs.paths import default_cache

    request = Request(
        models=words(model),
        tasks=words(task),
        protocols=words(protocol) or catalog.PAPERS_PROTOCOLS,
        shots=numbers(shots or ["16"], "--shots"),
        groups=words(group) or ("*",),
        variant=variant,
        choices=pairs(choice, "--set"),
        prompts=words(prompts) or tuple(catalog.prompt_files()),
        places=Places(
            data=data_places(data_root, list(catalog.task_files())),
            weights=weights_places(weights, list(catalog.card_files())),
            text_encoder=text_encoder,
            out=out,
            cache=cache or default_cache(),
        ),
        engine=Engine(device, precision, batch_size, workers),
        allow_missing=allow_missing,
        max_unreadable=max_unreadable,
        resume=resume,
        rehash=rehash,
    )
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
