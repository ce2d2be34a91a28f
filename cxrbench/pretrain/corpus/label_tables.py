"""Reports with the labels that a table of the user's gives them, to hold the rule labeller against."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from cxrbench.data import tables
from cxrbench.data.reports import Headings, report_text, sections
from cxrbench.errors import DataError
from cxrbench.pretrain.corpus.labellers import TEXT_COLUMNS, VALUES, described_table, text_column
from cxrbench.pretrain.corpus.sentences import report_files
from cxrbench.pretrain.labeller.agreement import Agreement, agreements
from cxrbench.pretrain.labeller.facts import NAME, facts_digest, phrases
from cxrbench.pretrain.labeller.rules import label

SectionRule = Literal["impression-or-findings", "impression", "findings", "findings-and-impression", "whole"]
OWN_TEXT = "the text that stands in the table"


@dataclass(frozen=True, slots=True)
class Compared:
    """The rule labeller beside a table: whose it is, which text was read, how many reports, and those left out."""

    table: str
    rules: str
    read: str
    reports: int
    left_out: int
    findings: tuple[Agreement, ...]

    def to_json(self) -> dict[str, object]:
        """All figures as plain values."""
        told = {"table": self.table, "rules": self.rules, "read": self.read, "reports": self.reports}
        return {**told, "left_out": self.left_out, "findings": [one.to_json() for one in self.findings]}


@dataclass(frozen=True, slots=True)
class RawText:
    """Raw MIMIC-CXR reports below `root`, and which sections of them are read; `cache` may keep a listing."""

    root: Path
    rule: SectionRule
    headings: Headings
    cache: Path | None = None


def compare(path: Path, raw: RawText | None) -> Compared:
    """Label every report of a table by the rules, and count how often both say the same.

    The table has a column of text (see `TEXT_COLUMNS`), or study_id and subject_id of reports in `raw`; and a column
    for each finding, with 1, 0, -1 or blank. Reports without the wanted section are left out.
    Raises DataError for a table that is none of these, and where no report is left.
    """
    known = {finding.lower(): finding for finding in phrases().mention}
    columns = {name: known[name.lower()] for name in tables.header(path) if name.lower() in known}
    text = text_column(path)
    if not columns or (text is None and raw is None):
        raise DataError(
            f"{path}: needs columns of findings such as {next(iter(phrases().mention))!r}, and a column of text "
            f"({', '.join(TEXT_COLUMNS)}); or study_id and subject_id, with the reports named by --reports."
        )
    texts = _texts(path, text, raw)
    theirs = [values for values, told in zip(_values(path, columns), texts, strict=True) if told is not None]
    ours = [label(told) for told in texts if told is not None]
    if not ours:
        raise DataError(f"{path}: none of its {len(texts)} reports has a text to label.")
    read = OWN_TEXT if text is not None or raw is None else raw.rule
    rules = f"{NAME} (facts {facts_digest()[:12]})"
    return Compared(described_table(path), rules, read, len(ours), len(texts) - len(ours), agreements(theirs, ours))


def _values(path: Path, columns: Mapping[str, str]) -> list[dict[str, int | None]]:
    table = tables.read_table(path, tuple(columns))
    found = {finding: tables.numbers(path, table, column, VALUES) for column, finding in columns.items()}
    order = [finding for finding in phrases().mention if finding in found]
    return [
        {finding: None if np.isnan(found[finding][row]) else int(found[finding][row]) for finding in order}
        for row in range(len(table))
    ]


def _texts(path: Path, text: str | None, raw: RawText | None) -> list[str | None]:
    """The text of each row, None where there is none."""
    if text is not None:
        return [told or None for told in tables.read_table(path, (text,))[text].tolist()]
    assert raw is not None
    table = tables.read_table(path, ("study_id", "subject_id"))
    tables.distinct(path, table, "study_id")
    studies = table["study_id"].tolist()
    files = report_files(raw.root, dict(zip(studies, table["subject_id"].tolist(), strict=True)), raw.cache)
    return [_read(report_text(files[study]), raw) if study in files else None for study in studies]


def _read(report: str, raw: RawText) -> str | None:
    """What of a report is labelled by the rule; None if it has no such section."""
    if raw.rule == "whole":
        return report
    found = sections(report, raw.headings)
    if raw.rule == "findings-and-impression":
        return " ".join(found[kind] for kind in ("findings", "impression") if kind in found) or None
    wanted = ("impression", "findings") if raw.rule == "impression-or-findings" else (raw.rule,)
    return next((found[kind] for kind in wanted if kind in found), None)
