"""Radiology reports of MIMIC-CXR as files: where they lie, how they are read, and their sections."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from cxrbench.data.listing import is_file
from cxrbench.data.search import folders
from cxrbench.data.sources.base import Disk, LabelledParts, Layout, Tree
from cxrbench.errors import DataError, SpecError
from cxrbench.specs.task import TaskSpec
from cxrbench.store.sealed import DamagedError, read_regular

if TYPE_CHECKING:
    import pandas as pd

STUDY = re.compile(r"s?(\d+)(?:\.txt)?")
_LONGEST_REPORT = 1 << 24  # bytes; those of MIMIC-CXR have some thousands
Section = Literal["findings", "impression"]
Headings = Mapping[str, tuple[str, ...]]  # kind of section to the headings that open one
_HEADING = re.compile(r"^[ \t]*(?P<name>[A-Z][A-Z0-9 ,/&()'-]*[A-Z)])[ \t]*:", re.MULTILINE)


def sections(report: str, headings: Headings) -> dict[str, str]:
    """The wanted sections of a report, as far as it has them, with white space made single blanks.

    A heading is a line's beginning in capitals with a colon; one that is not wanted ends the section before it.
    Several sections of one kind are joined in order.
    """
    told = {heading: kind for kind, names in headings.items() for heading in names}
    found: dict[str, list[str]] = {}
    for name, body in _parts(report.replace("\r\n", "\n").replace("\r", "\n")):
        kind = told.get(" ".join(name.split()))
        text = " ".join(body.split())
        if kind and text:
            found.setdefault(kind, []).append(text)
    return {kind: " ".join(found[kind]) for kind in headings if kind in found}


def _parts(report: str) -> Iterator[tuple[str, str]]:
    headings = list(_HEADING.finditer(report))
    for heading, following in zip_longest(headings, headings[1:]):
        yield heading["name"], report[heading.end() : following.start() if following else len(report)]


def report_layout(subjects: Mapping[str, str]) -> Layout:
    """How reports `p10/p10000032/s50414267.txt` meet their studies, of which `subjects` gives the patient."""

    def key(path: str) -> str | None:
        name = path.rpartition("/")[2]
        who = STUDY.fullmatch(name)
        return who[1] if who and name.endswith(".txt") else None

    def below(study: str) -> str:
        return f"p{subjects[study][:2]}/p{subjects[study]}/s{study}.txt"

    return Layout(key=key, names=lambda study: (study,), tree=Tree(re.compile(r"p\d\d"), below))


def report_text(path: Path) -> str:
    """A report, UTF-8 or Latin-1; raises DataError, with its name, for what is no text."""
    try:
        data = read_regular(path, _LONGEST_REPORT)
    except (FileNotFoundError, DamagedError) as error:
        raise DataError(f"{path}: {getattr(error, 'reason', 'is gone')}. Get a fresh copy of the report.") from error
    if b"\0" in data:
        raise DataError(f"{path}: is no text: it holds zero bytes. Get a fresh copy of the report.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


@dataclass(frozen=True, slots=True)
class StudyTexts:
    """The wanted sections of studies as one text each, and how many studies have no report, or no such section."""

    texts: Mapping[str, str]
    without_report: int
    without_section: int

    @property
    def left_out(self) -> dict[str, int]:
        """Studies that can take no part, by the reason."""
        told = {"their studies have no report": self.without_report, "no wanted section": self.without_section}
        return {reason: count for reason, count in told.items() if count}


def study_texts(
    places: Sequence[Path], subjects: Mapping[str, str], headings: Headings, wanted: Sequence[str]
) -> StudyTexts:
    """The texts of the studies in `subjects` (study to patient), from reports at or below the places, the first first.

    A text is the wanted kinds of sections in their order, as far as a report has them, with single blanks.
    Raises DataError where no report is there, and for a report that is no text.
    """
    files = _files(places, subjects)
    if not files:
        raise DataError(
            f"{places[-1]}: there is no report of the {len(subjects)} studies there or below (looked for as "
            "p10/p10000032/s50414267.txt). With PhysioNet credentials, download mimic-cxr-reports.zip of MIMIC-CXR and "
            "unpack it there."
        )
    texts = dict[str, str]()
    for study, path in files.items():
        told = sections(report_text(path), headings)
        if text := " ".join(told[kind] for kind in wanted if kind in told):
            texts[study] = text
    return StudyTexts(texts, len(subjects) - len(files), len(files) - len(texts))


def _files(places: Sequence[Path], subjects: Mapping[str, str]) -> dict[str, Path]:
    """The report of each study, at or below the places, the first of which comes first."""
    tree = report_layout(subjects).tree
    assert tree is not None
    homes = dict.fromkeys(
        found.path for place in places for found in folders(place) if any(map(tree.top.fullmatch, found.names))
    )
    below = {study: tree.below(study) or "" for study in subjects}
    files = {
        study: next((home / name for home in homes if is_file(home / name)), None) for study, name in below.items()
    }
    return {study: path for study, path in files.items() if path is not None}


def with_reports(
    labelled: LabelledParts, images: "pd.DataFrame", wanted: Sequence[str], task: TaskSpec, disk: Disk
) -> LabelledParts:
    """The part `test` with the text of each image's study, `wanted` sections of its report; see `study_texts`.

    `images` are rows of the split table. Images of studies without a text are left out, and counted.
    """
    part = labelled.parts["test"]
    rows = images.set_index("dicom_id").loc[list(part.ids)]
    studies, subjects = rows["study_id"].tolist(), rows["subject_id"].tolist()
    places = [disk.folder, disk.root]
    found = study_texts(places, dict(zip(studies, subjects, strict=True)), headings_of(task), wanted)
    kept = [row for row, study in enumerate(studies) if study in found.texts]
    if not kept:
        raise DataError(f"{disk.root}: no report of the {len(studies)} studies has {' or '.join(wanted)}")
    told = replace(part.at(np.array(kept)), texts=tuple(found.texts[studies[row]] for row in kept))
    return replace(
        labelled,
        parts={"test": told},
        left_out={**labelled.left_out, **found.left_out},
        about_texts={
            "sections": " and ".join(wanted) + (", as far as a report has them" if len(wanted) > 1 else ""),
            "studies_without_report": found.without_report,
            "reports_without_section": found.without_section,
        },
    )


def headings_of(task: TaskSpec) -> Headings:
    """The kinds of sections by the headings that open one, out of the task's options."""
    told = task.options.get("headings")
    if not isinstance(told, Mapping) or not {"findings", "impression"} <= told.keys():
        raise SpecError(f"task {task.name}: its options name no headings of findings and impression")
    return {str(kind): tuple(map(str, names)) for kind, names in told.items()}
