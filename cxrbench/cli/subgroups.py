"""`cxrbench subgroups`: numbers by sex, age and view."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cxrbench.cli.options import (
    Choices,
    GroupName,
    Models,
    Out,
    PromptSetName,
    ProtocolName,
    SheetFormat,
    Shots,
    Synthetic,
    Tasks,
    VariantName,
    pairs,
    results,
    words,
)
from cxrbench.errors import DataError

if TYPE_CHECKING:
    from cxrbench.record import Record
    from cxrbench.verdict.subgroups import By, Subgroups


def subgroups(
    by: Annotated[
        Literal["sex", "age", "view"] | None,
        typer.Option("--by", help="What divides the images. [default: each that is known]"),
    ] = None,
    model: Models = None,
    task: Tasks = None,
    protocol: ProtocolName = None,
    shots: Shots = None,
    group: GroupName = "all",
    prompts: PromptSetName = None,
    variant: VariantName = "paper-code",
    choice: Choices = None,
    synthetic: Synthetic = False,
    form: SheetFormat = "terminal",
    out: Out = Path("results"),
) -> None:
    """Show measured cells by sex, age band and view (AP, PA), with intervals, counts and differences.

    Age bands: <18, 18–40, 40–60, 60–80, 80+, each from its first year to below the next. A class counts in a group with
    five test patients or images of it in every fold; a group with fewer than twenty has no number.
    """
    from cxrbench import catalog
    from cxrbench.report.sheets import render, subgroup_sheet
    from cxrbench.verdict.measured import measured, name
    from cxrbench.verdict.selection import Asked

    made = catalog.load_variant(variant).with_choices(pairs(choice, "--set"))
    models, tasks = words(model) or ("all",), words(task) or ("all",)
    asked = Asked(models, made, tasks, group, protocol, shots, prompts, synthetic)
    chosen = measured(results(out), asked)
    wanted: tuple[By, ...] = (by,) if by else ("sex", "age", "view")
    found = [(record, groups) for record in chosen.records for groups in _of(out, record, wanted)]
    if not found:
        raise DataError(
            f"the predictions of these {len(chosen.records)} records tell no image's {' or '.join(wanted)}: the label "
            "tables have no such column, or the records are older than it; run the cells again to find out"
        )
    for note in chosen.notes:
        typer.echo(f"note: {note}", err=True)
    data = tuple({"cell": name(record), "groups": groups} for record, groups in found)
    text = render(data, lambda: [subgroup_sheet(name(r), g, synthetic=r.synthetic) for r, g in found], form)
    typer.echo(text, nl=False)


def _of(out: Path, record: "Record", wanted: "tuple[By, ...]") -> "list[Subgroups]":
    """The groups of a record by each attribute that its images are known by; the others are told on stderr."""
    from cxrbench.verdict.measured import name
    from cxrbench.verdict.predictions import read_cell
    from cxrbench.verdict.subgroups import subgroups as grouped

    cell, found, unknown = read_cell(out, record), [], []
    for attribute in wanted:
        if any(cell.about.get(attribute, ())):
            found.append(grouped(cell, attribute))
        else:
            unknown.append(attribute)
    if unknown:
        typer.echo(f"note: {name(record)}: no image's {', '.join(unknown)} is known", err=True)
    return found
