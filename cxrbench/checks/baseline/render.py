"""Findings as text: a table, Markdown of what changed for a pull request, JUnit XML and JSON."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from cxrbench.analysis.cell_verdict import Against, CellVerdict, Verdict
from cxrbench.checks.baseline.verdicts import failed
from cxrbench.errors import SpecError
from cxrbench.store.atomic import write_atomically

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
