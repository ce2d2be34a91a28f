"""Findings as text: a table, Markdown and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from cxrbench.analysis.finding import Finding, counted
from cxrbench.errors import SpecError
from cxrbench.store.atomic import write_atomically
from cxrbench.store.sealed import with_checksum

Format = Literal["table", "markdown", "json"]
BY_SUFFIX: dict[str, Format] = {".txt": "table", ".md": "markdown", ".json": "json"}
HEAD = ("kind", "where", "count", "of", "share", "what")
WIDTH = 90  # characters of the last column of a table


def render(findings: Sequence[Finding], form: Format) -> str:
    """All findings in one of the formats, ending in a line feed; what counts nothing is left to JSON."""
    if form == "json":
        return as_json(findings)
    told, unknown = counted(findings), [found for found in findings if found.kind == "not known"]
    title = f"{len(told)} findings, {len(unknown)} questions that this data cannot answer"
    blocks = [title, *(_grid(part, form) for part in (told, unknown) if part)]
    return "\n\n".join(blocks) + "\n"


def write(path: Path, findings: Sequence[Finding]) -> None:
    """The findings as a file whose suffix says the format; raises SpecError for another suffix."""
    if path.suffix not in BY_SUFFIX:
        raise SpecError(f"--report {path}: the name must end in {', '.join(BY_SUFFIX)}")
    write_atomically(path, render(findings, BY_SUFFIX[path.suffix]).encode())


def _grid(findings: Sequence[Finding], form: Format) -> str:
    from tabulate import tabulate

    rows = [
        (
            found.kind,
            found.scope,
            "" if found.count is None else str(found.count),
            "" if found.total is None else str(found.total),
            "" if found.share is None else f"{100 * found.share:.1f} %",
            found.text + (f" ({found.source})" if found.source else ""),
        )
        for found in findings
    ]
    aligned = ("left", "left", "right", "right", "right", "left")
    if form == "markdown":
        return tabulate(rows, HEAD, tablefmt="github", disable_numparse=True, colalign=aligned)
    widths = [None] * 5 + [WIDTH]
    return tabulate(rows, HEAD, tablefmt="simple", disable_numparse=True, colalign=aligned, maxcolwidths=widths)


def as_json(findings: Sequence[Finding]) -> str:
    """Every finding, also those that count nothing, with its share."""
    body = with_checksum({"findings": [asdict(found) | {"share": found.share} for found in findings]})
    return json.dumps(body, indent=1, ensure_ascii=False) + "\n"
