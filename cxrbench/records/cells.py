"""Which records measure one cell, how the cell is named, and which of its records counts."""

from collections.abc import Callable, Iterable, Sequence

from cxrbench.records.record import Record
from cxrbench.records.validity import flaws

CellKey = tuple[str, str, str, str, int, str, str]
PROTOTYPES = "prototypes"


def prompt_set(record: Record) -> str | None:
    """The name of its prompt set, `prototypes` for class vectors of the model's own, None for a probe."""
    return None if record.prompts is None else record.prompts.set


def cell_key(record: Record) -> CellKey:
    """What makes two records measurements of one cell, within a variant."""
    how = record.protocol
    words = prompt_set(record) or ""
    return record.data.task, record.model.name, record.data.group, how.protocol, how.shots or 0, words, how.view or ""


def cell_name(record: Record) -> str:
    """The cell in words, such as `clip_cm, rsna (base), linear-probe, K = 16`."""
    how, data = record.protocol, record.data
    task = data.task if data.group == "all" else f"{data.task} ({data.group})"
    shots = f"K = {how.shots}" if how.shots else ""
    return ", ".join(filter(None, [record.model.name, task, how.protocol, shots, prompt_set(record)]))


def newest_record(records: Iterable[Record], flaws_of: Callable[[Record], Sequence[str]] = flaws) -> Record | None:
    """Of several records of a cell the one that counts: the newest without a flaw, or else the newest; None of none.

    Of two that were begun in one second it is the one of the higher id, so that every table shows the same.
    """
    return max(records, key=lambda record: (not flaws_of(record), record.runtime.started, record.id), default=None)
