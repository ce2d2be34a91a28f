"""The measured cells that a question is about: one record each, in the paper's order."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cxrbench.errors import DataError
from cxrbench.records.cells import CellKey, cell_key, cell_name, newest_record
from cxrbench.records.record import Record
from cxrbench.records.selection import Asked, in_order, is_asked, of_variant
from cxrbench.records.validity import flaws
from cxrbench.specs import catalog


@dataclass(frozen=True, slots=True)
class Measured:
    """The newest sound record of every cell, by task, model, group, protocol, shots and prompts, and what to know."""

    records: tuple[Record, ...]
    notes: tuple[str, ...] = field(default=())


def measured(records: Iterable[Record], asked: Asked) -> Measured:
    """The records of the cells asked for, only made or only measured ones, of one variant.

    Raises SpecError for a model or task that was not measured, DataError where no cell is left.
    """
    fitting = of_variant(list(records), asked)
    models = catalog.select(asked.models, sorted({r.model.name for r in fitting}), "measured model")
    tasks = catalog.select(asked.tasks, in_order({r.data.task for r in fitting}), "measured task")
    cells: dict[CellKey, list[Record]] = {}
    for record in fitting:
        if record.model.name in models and record.data.task in tasks and is_asked(record, asked):
            cells.setdefault(cell_key(record), []).append(record)
    if not cells:
        told = {"group": asked.group, "protocol": asked.protocol, "shots": asked.shots, "prompts": asked.prompts}
        words = ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
        raise DataError(
            f"no record of {', '.join(models)} on {', '.join(tasks)} has {words}; `cxrbench run` measures it, or leave "
            "out what narrows the choice"
        )
    chosen = [best for found in cells.values() if (best := newest_record(found))]
    ordered = sorted(chosen, key=lambda r: (tasks.index(r.data.task), models.index(r.model.name), cell_key(r)))
    older = sum(map(len, cells.values())) - len(cells)
    notes = [f"{cell_name(record)}: {flaw}" for record in ordered for flaw in flaws(record)]
    notes += [f"{older} older records of the same cells are not used"] if older else []
    return Measured(tuple(ordered), tuple(notes))
