"""A verdict for every cell against the baseline and against its own predictions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from cxrbench.analysis.cell_verdict import Against, CellVerdict, Verdict, percent, value_of
from cxrbench.checks.baseline.baseline import Baseline, BaselineCell
from cxrbench.checks.baseline.cell import Key, by_cell, digests_of, key_of
from cxrbench.checks.baseline.staleness import Staleness, staleness
from cxrbench.records.cells import newest_record
from cxrbench.records.integrity import faults
from cxrbench.records.record import Record


def against_predictions(out: Path, records: Iterable[Record]) -> list[CellVerdict]:
    """The records whose predictions are not there, are another file, or give other metrics."""
    return [
        CellVerdict("predictions", key_of(record).text, "broken", reasons=found, record=record.id)
        for record in records
        if (found := faults(out, record))
    ]


def against_baseline(baseline: Baseline, records: Sequence[Record]) -> list[CellVerdict]:
    """One finding for each cell of the baseline, then one for each recorded cell that it has not."""
    recorded = by_cell(records)
    expected = {entry.text for entry in baseline.cells}
    added = (newest_record(recorded[name]) for name in sorted(recorded.keys() - expected))
    newcomers = [record for record in added if record is not None]
    kept = (_kept(entry, recorded.get(entry.text, []), records, newcomers) for entry in baseline.cells)
    return [*kept, *map(_new, newcomers)]


def _new(record: Record) -> CellVerdict:
    return CellVerdict("baseline", key_of(record).text, "new", found=percent(value_of(record)), record=record.id)


def _kept(
    entry: BaselineCell, own: Sequence[Record], records: Sequence[Record], newcomers: Sequence[Record]
) -> CellVerdict:
    """The verdict on one cell of the baseline; `own` are its records, `newcomers` those of cells it does not name."""
    name, expected = entry.text, percent(entry.value)
    state = staleness(entry, ((record.model.name, record.data.task) for record in records))
    if state.changed:
        return CellVerdict("baseline", name, "stale", expected, reasons=state.changed)
    best = newest_record([record for record in own if digests_of(record) == entry.digests])
    if best is not None:
        return _compared(entry, best)
    other = newest_record(own)
    if other is not None:
        reasons = _unlike(entry, other)
        return CellVerdict(
            "baseline", name, "not comparable", expected, percent(value_of(other)), None, reasons, other.id
        )
    return _absent(entry, state, newcomers)


def _compared(entry: BaselineCell, record: Record) -> CellVerdict:
    value, width = value_of(record), entry.tolerance.width
    same = value == entry.value or (value is not None and entry.value is not None and abs(value - entry.value) <= width)
    reasons = () if same else tuple(_suspects(entry, record))
    return CellVerdict(
        "baseline",
        entry.text,
        "match" if same else "differs",
        percent(entry.value),
        percent(value),
        100 * width,
        reasons,
        record.id,
    )


def _suspects(entry: BaselineCell, record: Record) -> Iterator[str]:
    """What else is not as it was: it does not excuse a moved number, but it says where to look."""
    yield f"tolerance: {entry.tolerance.source}"
    if record.data.contents_digest != entry.images:
        yield "the images are other bytes"
    if record.code.sources != entry.code:
        yield f"the code is other: {entry.code} then, {record.code.sources} now"
    if record.data.missing or record.data.left_out:
        yield f"{record.data.missing + len(record.data.left_out)} images are missing or unreadable"


def _unlike(entry: BaselineCell, record: Record) -> tuple[str, ...]:
    mark = ("made images or weights",) if record.synthetic != entry.synthetic else ()
    return (*mark, *entry.digests.unlike(digests_of(record)))


def _absent(entry: BaselineCell, state: Staleness, newcomers: Sequence[Record]) -> CellVerdict:
    """No record bears the cell's name: it has another name now, is of no installed name, or was not run."""
    found = next((record for record in newcomers if _is_renamed(entry, record)), None)
    name, expected = entry.text, percent(entry.value)
    if found is not None:
        reason = f"the same weights, split, preprocessing and prompts are recorded as {key_of(found).text}"
        return CellVerdict("baseline", name, "renamed", expected, percent(value_of(found)), None, (reason,), found.id)
    if state.unknown and state.hints:
        reason = f"{' and '.join(state.unknown)}; did you mean {' or '.join(state.hints)}?"
        return CellVerdict("baseline", name, "renamed", expected, reasons=(reason,))
    if state.unknown:
        return CellVerdict(
            "baseline", name, "stale", expected, reasons=(*state.unknown, "and no record bears that name")
        )
    return CellVerdict("baseline", name, "missing", expected, reasons=("no record",))


def _is_renamed(entry: BaselineCell, record: Record) -> bool:
    """Whether a record is the cell under another model's or task's name."""
    other = key_of(record)
    same = all(
        getattr(entry, name) == getattr(other, name) for name in Key.model_fields if name not in ("model", "task")
    )
    return same and digests_of(record) == entry.digests


FAILS: Mapping[Against, frozenset[Verdict]] = {
    "baseline": frozenset({"differs", "not comparable", "missing", "stale", "renamed"}),
    "paper": frozenset({"differs"}),
    "predictions": frozenset({"broken"}),
}


def failed(findings: Iterable[CellVerdict], *, partial: bool) -> list[CellVerdict]:
    """The findings that fail a check; `partial`: cells of the baseline that were not run do not."""
    forgiven = {"missing"} if partial else set()
    return [found for found in findings if found.verdict in FAILS[found.against] - forgiven]
