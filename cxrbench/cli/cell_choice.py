"""The verbs about measured cells: the options that choose cells are written once, and so is what they lead to."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cxrbench.cli.echo import echo
from cxrbench.cli.options import (
    Choices,
    GroupName,
    Models,
    Out,
    PromptSetName,
    Protocols,
    SheetFormat,
    Shots,
    Synthetic,
    Tasks,
    VariantName,
    Verb,
    command_of,
    recorded_variant,
    results,
    words,
)
from cxrbench.runner.options import read_shots

if TYPE_CHECKING:
    from cxrbench.records.selection import MeasuredCells
    from cxrbench.reports.sheets import Sheet

_Group = Annotated[str, typer.Option("--group", help="Label group.")]
_CHOOSE: dict[str, tuple[Any, Any]] = {
    "model": (Models, None),
    "task": (Tasks, None),
    "protocol": (Protocols, None),
    "shots": (Shots, None),
    "group": (_Group, "all"),
    "prompts": (PromptSetName, None),
}
_ALWAYS: dict[str, tuple[Any, Any]] = {
    "variant": (VariantName, "paper-code"),
    "choice": (Choices, None),
    "synthetic": (Synthetic, False),
    "form": (SheetFormat, "terminal"),
    "out": (Out, Path("results")),
}


@dataclass(frozen=True)
class CellChoice:
    """What was asked about which cells; `protocol` is fixed by a verb that is about one."""

    asked: Mapping[str, Any]
    protocol: str | None

    @property
    def out(self) -> Path:
        """The results folder."""
        return Path(self.asked["out"])

    @property
    def synthetic(self) -> bool:
        """Whether records of synthetic images or weights are meant."""
        return bool(self.asked["synthetic"])

    @cached_property
    def measured(self) -> "MeasuredCells":
        """The newest sound records of the cells; raises SpecError and DataError where there are none."""
        from cxrbench.records.selection import CellFilter, measured

        asked, records = self.asked, results(self.out)
        made = recorded_variant(asked["variant"], asked["choice"], records)
        models, tasks = words(asked["model"]) or ("all",), words(asked["task"]) or ("all",)
        protocol = words(asked.get("protocol")) or self.protocol
        shots = asked.get("shots") and read_shots(asked["shots"], "--shots")
        how = (protocol, shots, asked.get("prompts"), self.synthetic)
        return measured(records, CellFilter(models, made, tasks, asked["group"], *how))

    def show(self, data: object, sheets: "Callable[[], list[Sheet]]", notes: Iterable[str] = ()) -> None:
        """Print the data as JSON or the sheets in the format asked for; notes go to stderr."""
        from cxrbench.reports.sheets import render

        for note in (*self.measured.notes, *notes):
            echo(f"note: {note}", err=True)
        echo(render(data, sheets, self.asked["form"]), nl=False)


def about_cells(*narrowed: str, protocol: str | None = None, group: str | None = "all") -> Callable[[Verb], Verb]:
    """A verb whose first argument `cells` stands for the options that choose cells; `group` is that option's default.

    `narrowed` are the choices that it offers: model, task, protocol, shots, group, prompts.
    """

    def decorated(verb: Verb) -> Verb:
        offered = {name: _CHOOSE[name] for name in narrowed}
        if group is None:
            offered["group"] = (GroupName, None)
        return command_of(verb, offered, _ALWAYS, lambda asked: CellChoice(asked, protocol))

    return decorated
