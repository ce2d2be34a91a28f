"""A verdict for every cell: what a finding is, and those against the baseline and the cell's own predictions."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxrbench.records.cells import newest_record
from cxrbench.records.integrity import faults
from cxrbench.records.record import Record
from cxrbench.regression.baseline import Baseline, BaselineCell
from cxrbench.regression.cell import Key, by_cell, digests_of, key_of, value_of
from cxrbench.regression.staleness import Staleness, staleness

Against = Literal["baseline", "paper", "predictions"]
Verdict = Literal[
    "match", "agrees", "differs", "cannot tell", "not comparable", "missing", "new", "stale", "renamed", "broken"
]
Kind = Literal["exact reproduction", "two measurements"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One cell's verdict. Values are balanced accuracies in percent, None where there is none; `reasons` in words.

    `kind`, `p` and `between` belong to printed numbers: how they are compared, and of two measurements the p of their
    difference after Holm's correction and its 90 % interval in points. `tolerance` is there too the width within which
    two numbers agree: that of arithmetic, or of two measurements the margin.
    """

    against: Against
    cell: str
    verdict: Verdict
    expected: float | None = None
    found: float | None = None
    tolerance: float | None = None
    reasons: tuple[str, ...] = ()
    record: str | None = None
    kind: Kind | None = None
    p: float | None = None
    between: tuple[float, float] | None = None

    @property
    def moved(self) -> float | None:
        """Found minus expected, in points."""
        return None if self.expected is None or self.found is None else self.found - self.expected


def percent(value: float | None) -> float | None:
    """A share as findings have it; None stays None."""
    return None if value is None else 100 * value


def against_predictions(out: Path, records: Iterable[Record]) -> list[Finding]:
    """The records whose predictions are not there, are another file, or give other metrics."""
    return [
        Finding("predictions", key_of(record).text, "broken", reasons=found, record=record.id)
        for record in records
        if (found := faults(out, record))
    ]


def against_baseline(baseline: Baseline, records: Sequence[Record]) -> list[Finding]:
    """One finding for each cell of the baseline, then one for each recorded cell that it has not."""
    recorded = by_cell(records)
    expected = {entry.text for entry in baseline.cells}
    added = (newest_record(recorded[name]) for name in sorted(recorded.keys() - expected))
    newcomers = [record for record in added if record is not None]
    kept = (_kept(entry, recorded.get(entry.text, []), records, newcomers) for entry in baseline.cells)
    return [*kept, *map(_new, newcomers)]


def _new(record: Record) -> Finding:
    return Finding("baseline", key_of(record).text, "new", found=percent(value_of(record)), record=record.id)


def _kept(
    entry: BaselineCell, own: Sequence[Record], records: Sequence[Record], newcomers: Sequence[Record]
) -> Finding:
    """The verdict on one cell of the baseline; `own` are its records, `newcomers` those of cells it does not name."""
    name, expected = entry.text, percent(entry.value)
    state = staleness(entry, ((record.model.name, record.data.task) for record in records))
    if state.changed:
        return Finding("baseline", name, "stale", expected, reasons=state.changed)
    best = newest_record([record for record in own if digests_of(record) == entry.digests])
    if best is not None:
        return _compared(entry, best)
    other = newest_record(own)
    if other is not None:
        reasons = _unlike(entry, other)
        return Finding("baseline", name, "not comparable", expected, percent(value_of(other)), None, reasons, other.id)
    return _absent(entry, state, newcomers)


def _compared(entry: BaselineCell, record: Record) -> Finding:
    value, width = value_of(record), entry.tolerance.width
    same = value == entry.value or (value is not None and entry.value is not None and abs(value - entry.value) <= width)
    reasons = () if same else tuple(_suspects(entry, record))
    return Finding(
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


def _absent(entry: BaselineCell, state: Staleness, newcomers: Sequence[Record]) -> Finding:
    """No record bears the cell's name: it has another name now, is of no installed name, or was not run."""
    found = next((record for record in newcomers if _is_renamed(entry, record)), None)
    name, expected = entry.text, percent(entry.value)
    if found is not None:
        reason = f"the same weights, split, preprocessing and prompts are recorded as {key_of(found).text}"
        return Finding("baseline", name, "renamed", expected, percent(value_of(found)), None, (reason,), found.id)
    if state.unknown and state.hints:
        reason = f"{' and '.join(state.unknown)}; did you mean {' or '.join(state.hints)}?"
        return Finding("baseline", name, "renamed", expected, reasons=(reason,))
    if state.unknown:
        return Finding("baseline", name, "stale", expected, reasons=(*state.unknown, "and no record bears that name"))
    return Finding("baseline", name, "missing", expected, reasons=("no record",))


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


def failed(findings: Iterable[Finding], *, partial: bool) -> list[Finding]:
    """The findings that fail a check; `partial`: cells of the baseline that were not run do not."""
    forgiven = {"missing"} if partial else set()
    return [found for found in findings if found.verdict in FAILS[found.against] - forgiven]
