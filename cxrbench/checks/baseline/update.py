"""A new baseline from the records there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrbench.analysis.tolerance import CLOSENESS, numerical
from cxrbench.checks.baseline.baseline import Baseline, BaselineCell, entry, merged, write_baseline
from cxrbench.checks.baseline.cell import by_cell
from cxrbench.errors import IntegrityError
from cxrbench.records.cells import newest_record
from cxrbench.records.integrity import faults
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.records.validity import flaws


@dataclass(frozen=True, slots=True)
class Update:
    """What a baseline was made from: its entries, and by reason the cells that were left out."""

    entries: tuple[BaselineCell, ...]
    left_out: Mapping[str, Sequence[str]]


def update(path: Path, out: Path, records: Sequence[Record], kept: Baseline, closeness: float = CLOSENESS) -> Update:
    """Write the newest sound record of every cell into the baseline at `path`, beside the entries `kept`.

    A cell whose input was incomplete or altered is left out. Raises IntegrityError, and writes nothing, if a record is
    not what its predictions say.
    """
    entries, left_out = list[BaselineCell](), dict[str, list[str]]()
    for name, found in sorted(by_cell(records).items()):
        record = newest_record(found)
        if record is None:
            continue
        if reasons := flaws(record):
            left_out.setdefault("; ".join(reasons), []).append(name)
            continue
        if wrong := faults(out, record):
            raise IntegrityError(f"record {record.id} ({name}): {'; '.join(wrong)}. The baseline stays as it was.")
        entries.append(entry(record, numerical(read_cell(out, record), closeness)))
    whole = merged(kept, entries)
    write_baseline(path, whole.values())
    return Update(tuple(whole.values()), left_out)
