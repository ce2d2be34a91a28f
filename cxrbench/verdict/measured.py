"""The measured cells that a question is about: one record each, in the paper's order."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from cxrbench import catalog
from cxrbench.comparable import flaws
from cxrbench.errors import DataError
from cxrbench.record import Record
from cxrbench.verdict.selection import Asked, in_order, is_asked, of_variant, prompt_set

Key = tuple[str, str, str, str, int, str, str]


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
    cells: dict[Key, list[Record]] = {}
    for record in fitting:
        if record.model.name in models and record.data.task in tasks and is_asked(record, asked):
            cells.setdefault(key(record), []).append(record)
    if not cells:
        told = {"group": asked.group, "protocol": asked.protocol, "shots": asked.shots, "prompts": asked.prompts}
        words = ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)
        raise DataError(
            f"no record of {', '.join(models)} on {', '.join(tasks)} has {words}; `cxrbench run` measures it, or leave "
            "out what narrows the choice"
        )
    chosen = {cell: newest_sound(found) for cell, found in cells.items()}
    ordered = sorted(chosen.values(), key=lambda r: (tasks.index(r.data.task), models.index(r.model.name), key(r)))
    older = sum(map(len, cells.values())) - len(cells)
    notes = [f"{name(record)}: {flaw}" for record in ordered for flaw in flaws(record)]
    notes += [f"{older} older records of the same cells are not used"] if older else []
    return Measured(tuple(ordered), tuple(notes))


def key(record: Record) -> Key:
    """What makes two records measurements of one cell, within a variant."""
    how = record.protocol
    words = prompt_set(record) or ""
    return record.data.task, record.model.name, record.data.group, how.protocol, how.shots or 0, words, how.view or ""


def newest_sound(records: Iterable[Record]) -> Record:
    """Of several records of a cell the newest without a flaw, or else the newest."""
    return max(records, key=lambda record: (not flaws(record), record.runtime.started, record.id))


def name(record: Record) -> str:
    """The cell in words, such as `clip_cm, rsna (base), linear-probe, K = 16`."""
    how, data = record.protocol, record.data
    words = prompt_set(record)
    task = data.task if data.group == "all" else f"{data.task} ({data.group})"
    told = [record.model.name, task, how.protocol, f"K = {how.shots}" if how.shots else "", words or ""]
    return ", ".join(filter(None, told))
