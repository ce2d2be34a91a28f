"""`cxrbench audit`: what could make a number look too good."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import (
    Choices,
    DataRoot,
    Out,
    VariantName,
    chosen_tasks,
    chosen_variant,
    data_places,
    results,
    words,
)

if TYPE_CHECKING:
    from cxrbench.specs.settings import Variant
    from cxrbench.specs.task import TaskSpec

FOUND = 1  # the exit code of a strict audit that found something


def audit(
    task: Annotated[
        list[str] | None, typer.Option("--task", "-t", help="Tasks: names, globs or files. [default: all]")
    ] = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="Splits by name, or all that a task has. [default: the variant's]"),
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model", "-m", metavar="CARD", help="Card of a model of your own; what `pretrain` left beside it is read."
        ),
    ] = None,
    images: Annotated[
        bool, typer.Option("--images", help="Also read every image and look for copies under other names.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Reading threads for --images.")] = 1,
    data_root: DataRoot = None,
    out: Out = Path("results"),
    form: Annotated[
        Literal["table", "markdown", "json"], typer.Option("--format", "-f", help="Output format.")
    ] = "table",
    report: Annotated[
        list[Path] | None, typer.Option("--report", help="Also write a file: .txt, .md or .json; repeatable.")
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 if anything was found.")] = False,
) -> None:
    """Look for what could make a number too good.

    Shared patients and images, pre-training on a task's source, sources that give the class away, unequal prompts.
    Label tables suffice; what they cannot tell is listed as such.
    """
    from cxrbench.analysis.against_paper import counted
    from cxrbench.checks.audit import AuditMaterial, render, write
    from cxrbench.checks.audit import audit as audited
    from cxrbench.specs import catalog

    tasks = chosen_tasks(task)
    made = chosen_variant(variant, choice, [spec.name for spec in tasks])
    own = tuple(catalog.load_card(name) for name in words(model))
    material = AuditMaterial(
        tasks=tasks,
        splits=_splits(tasks, words(split), made),
        variant=made,
        cards=(*(catalog.load_card(name) for name in catalog.card_files()), *own),
        own=own,
        records=tuple(results(out)) if out.is_dir() else (),
        data=data_places(data_root, list(catalog.task_files())),
        images=images,
        workers=workers,
    )
    findings = audited(material)
    for path in report or ():
        write(path, findings)
    echo(render(findings, form), nl=False)
    if strict and counted(findings):
        raise typer.Exit(FOUND)


def _splits(tasks: "Sequence[TaskSpec]", asked: Sequence[str], made: "Variant") -> Mapping[str, tuple[str, ...]]:
    """The splits of each task, the variant's own first; raises SpecError for a name that no task has."""
    from cxrbench.specs import catalog

    known = {name: None for task in tasks for name in task.splits}
    chosen = catalog.select(asked, known, "split") if asked else []
    found = {}
    for task in tasks:
        own = made.splits.get(task.name)
        wanted = [name for name in task.splits if name in chosen] if asked else [own] if own else list(task.splits)
        if "all" in asked:
            wanted = [name for name in wanted if name != "phantom"]
        found[task.name] = tuple(sorted(wanted, key=lambda name, own=own: name != own))  # type: ignore[misc]
    return found
