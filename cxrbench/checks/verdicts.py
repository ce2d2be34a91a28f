"""A verdict for every cell against the baseline and against its own predictions."""

import difflib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from cxrbench.analysis.against_paper import Against, CellVerdict, Verdict, percent, value_of
from cxrbench.checks.baseline import Baseline, BaselineCell, CellKey, by_cell, digests_of, key_of
from cxrbench.errors import SpecError
from cxrbench.records.integrity import faults
from cxrbench.records.record import Record
from cxrbench.records.selection import newest_record
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard
from cxrbench.specs.card_facts import recipe_for
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec
from cxrbench.store.atomic import write_atomically

PROTOTYPES = "prototypes"


@dataclass(frozen=True, slots=True)
class Staleness:
    """`changed`: facts of a name that are others now. `unknown`: names that no installed fact file has.

    `hints`: the nearest names there are, of records or of the installation. A user's own card, task or prompt set is
    unknown too, so an unknown name alone says nothing as long as a record bears it.
    """

    changed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    hints: tuple[str, ...] = field(default=())


def staleness(cell: BaselineCell, recorded: Iterable[tuple[str, str]]) -> Staleness:
    """How a cell of the baseline stands to this installation; `recorded` are the (model, task) names of records."""
    pairs = list(recorded)
    names = {
        "model": (cell.model, [*catalog.card_files(), *(model for model, _ in pairs)]),
        "task": (cell.task, [*catalog.task_files(), *(task for _, task in pairs)]),
    }
    known = {"model": catalog.card_files(), "task": catalog.task_files()}
    gone = [what for what, (name, _) in names.items() if name not in known[what]]
    hints = [near for what in gone for near in _near(*names[what])]
    return Staleness(
        tuple(_changed(cell)),
        tuple(f"there is no {what} {names[what][0]!r} here" for what in gone),
        tuple(hints),
    )


def _near(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, sorted(set(known) - {name}), n=2, cutoff=0.6)


def _changed(cell: BaselineCell) -> Iterator[str]:
    digests = cell.digests
    task, card, variant = _task(cell.task), _card(cell.model), _variant(cell.variant)
    prompts = _prompts(cell.prompts) if cell.prompts and cell.prompts != PROTOTYPES else None
    if task is not None and cell.split not in task.splits:
        yield f"task {cell.task} has no split {cell.split!r} any more"
    if variant is not None and variant.digest != digests.variant:
        yield f"the variant {cell.variant} is another now"
    if prompts is not None and prompts.digest != digests.prompts:
        yield f"the prompt set {cell.prompts} is another now"
    if card is not None and card.weights.sha256 not in (None, cell.published):
        yield f"the card {cell.model} names other weights now"
    if card is not None and task is not None and variant is not None:
        recipe = recipe_for(card, variant.settings, task.released_polarity)[1]
        if recipe.digest != digests.preprocessing:
            yield f"the card {cell.model} and the variant {cell.variant} preprocess otherwise now"


@cache
def _card(name: str) -> ModelCard | None:
    return catalog.load_card(name) if name in catalog.card_files() else None


@cache
def _task(name: str) -> TaskSpec | None:
    return catalog.load_task(name) if name in catalog.task_files() else None


@cache
def _prompts(name: str) -> PromptSet | None:
    return catalog.load_prompts(name) if name in catalog.prompt_files() else None


@cache
def _variant(name: str) -> Variant | None:
    """The bundle of that name with the choices that stand behind its plus sign; None where this installation has none.

    A choice that no longer exists gives None too: then there is no such variant.
    """
    bundle, _, changes = name.partition("+")
    if bundle not in catalog.variant_files():
        return None
    try:
        pairs = dict(change.split("=", 1) for change in changes.split(",") if change)
        return catalog.chosen_variant(bundle, pairs)
    except SpecError:
        return None


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
    mark = ("synthetic images or weights",) if record.synthetic != entry.synthetic else ()
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
        getattr(entry, name) == getattr(other, name) for name in CellKey.model_fields if name not in ("model", "task")
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


Format = Literal["table", "markdown", "junit", "json"]
BY_SUFFIX: dict[str, Format] = {".txt": "table", ".md": "markdown", ".xml": "junit", ".json": "json"}
SOUND: frozenset[Verdict] = frozenset({"match", "agrees"})
QUIET: Mapping[Against, frozenset[Verdict]] = {
    "baseline": SOUND,
    "paper": SOUND | {"not comparable", "cannot tell"},
    "predictions": SOUND,
}
HEAD = ("against", "cell", "verdict", "expected", "found", "moved", "tolerance", "why")


def render(findings: Sequence[CellVerdict], form: Format, *, partial: bool) -> str:
    """All findings in one of the formats, ending in a line feed; `partial` as in `failed`."""
    if form == "junit":
        return as_junit(findings, partial=partial)
    if form == "json":
        return as_json(findings, partial=partial)
    told = [found for found in findings if _is_told(found, form)]
    style = {"table": "simple", "markdown": "github"}[form]
    return f"{summary(findings, partial=partial)}\n" + (f"\n{_grid(told, style)}\n" if told else "")


def write(path: Path, findings: Sequence[CellVerdict], *, partial: bool) -> None:
    """The findings as a file whose suffix says the format; raises SpecError for another suffix."""
    if path.suffix not in BY_SUFFIX:
        raise SpecError(f"--report {path}: the name must end in {', '.join(BY_SUFFIX)}")
    write_atomically(path, render(findings, BY_SUFFIX[path.suffix], partial=partial).encode())


def summary(findings: Sequence[CellVerdict], *, partial: bool) -> str:
    """One line: whether the check passes, and how many cells have which verdict against what."""
    counts = Counter((found.against, _verdict(found)) for found in findings)
    told = ", ".join(f"{against} {verdict} {count}" for (against, verdict), count in sorted(counts.items()))
    bad = len(failed(findings, partial=partial))
    return f"check {'failed in ' + str(bad) + ' cells' if bad else 'passed'}: {told or 'nothing to check'}"


def _verdict(found: CellVerdict) -> str:
    """The verdict, and of an agreement with the paper what it means."""
    if found.verdict != "agrees":
        return found.verdict
    return "agrees as a repeat" if found.kind == "exact reproduction" else f"agrees within {found.tolerance:g} points"


def _is_told(found: CellVerdict, form: Format) -> bool:
    """Printed cells that nobody measured are counted only; Markdown leaves out what stayed as it was."""
    if found.against == "paper" and found.verdict == "missing":
        return False
    return form != "markdown" or found.verdict not in QUIET[found.against]


def _grid(findings: Sequence[CellVerdict], style: str) -> str:
    from tabulate import tabulate

    rows = [
        (
            found.against,
            found.cell,
            _verdict(found),
            _number(found.expected),
            _number(found.found),
            _number(found.moved, sign=True),
            _number(found.tolerance),
            "; ".join(found.reasons),
        )
        for found in findings
    ]
    return tabulate(
        rows, HEAD, tablefmt=style, disable_numparse=True, colalign=("left",) * 3 + ("right",) * 4 + ("left",)
    )


def _number(value: float | None, *, sign: bool = False) -> str:
    """Percent with four decimals: two more than a table shows, so that a small move is seen."""
    if value is None:
        return "–"
    return f"{value:+.4f}" if sign else f"{value:.4f}"


def as_junit(findings: Sequence[CellVerdict], *, partial: bool) -> str:
    """A suite for each thing compared with, a case for each cell: failed, skipped (no verdict either way) or passed."""
    from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

    bad, xml = failed(findings, partial=partial), JUnitXml("cxrbench check")
    for against in dict.fromkeys(found.against for found in findings):
        suite = TestSuite(f"cxrbench check: {against}")
        for found in (found for found in findings if found.against == against):
            case = TestCase(found.cell, classname=f"cxrbench.{against}")
            message = f"{found.verdict}: expected {_number(found.expected)}, found {_number(found.found)}"
            if found in bad:
                kind = Error if found.verdict == "broken" else Failure
                case.result = [kind(f"{message}; {'; '.join(found.reasons)}", found.verdict)]
            elif found.verdict not in SOUND:
                case.result = [Skipped("; ".join((found.verdict, *found.reasons)))]
            suite.add_testcase(case)
        xml.add_testsuite(suite)
    xml.update_statistics()
    text: bytes = xml.tostring()
    return text.decode() + "\n"


def as_json(findings: Sequence[CellVerdict], *, partial: bool) -> str:
    """`passed`, counts by what was compared with and verdict, and every finding; values in percent, unrounded."""
    counts: dict[str, dict[str, int]] = {}
    for found in findings:
        own = counts.setdefault(found.against, {})
        own[found.verdict] = own.get(found.verdict, 0) + 1
    body = {
        "passed": not failed(findings, partial=partial),
        "counts": counts,
        "findings": [asdict(found) | {"moved": found.moved} for found in findings],
    }
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
