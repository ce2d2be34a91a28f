"""Labelled report sentences of MIMIC-CXR studies: from the user's table, or made from the reports by a labeller."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cxrbench.data import tables
from cxrbench.data.listing import is_folder
from cxrbench.data.reports import STUDY, Headings, report_layout, report_text, sections
from cxrbench.data.sources.base import Disk, met
from cxrbench.errors import DataError
from cxrbench.pretrain.corpus.labellers import SUPPLY, VALUES, NamedLabeller, answers, described_table
from cxrbench.pretrain.corpus.types import Sentence, Space

_LIST_NUMBER = re.compile(r"(?:(?<=\s)|^)\(?(\d{1,2})[.)]\s+(?=[A-Z])")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9_])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:dr|drs|mr|mrs|ms|prof|st|vs|no|fig|approx|ca|cf|e\.g|i\.e|etc|resp|a\.m|p\.m|[A-Z])\.$",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]{2}")


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a section, in order; the numbers 1, 2, 3 of a list are dropped, and so is what holds no word.

    A sentence ends at a full stop, exclamation or question mark before a blank and a capital, digit or blank-out
    (`___`); not after an abbreviation or initial, and not within a number.
    """
    found = [sentence for item in _items(" ".join(text.split())) for sentence in _split(item.strip())]
    return tuple(sentence for sentence in found if _LETTERS.search(sentence))


def _items(text: str) -> Iterator[str]:
    """The items of numbered lists, and what stands before them; a list begins with 1 where a sentence may begin."""
    begin, expected = 0, 1
    for mark in _LIST_NUMBER.finditer(text):
        number, before = int(mark[1]), text[: mark.start()].rstrip()
        if (number == 1 and (not before or before[-1] in ".!?:;")) or number == expected > 1:
            yield text[begin : mark.start()]
            begin, expected = mark.end(), number + 1
    yield text[begin:]


def _split(line: str) -> Iterator[str]:
    begin = 0
    for gap in _END.finditer(line):
        before = line[begin : gap.start()].rstrip("\"')]")
        if _ABBREVIATION.search(before):
            continue
        yield line[begin : gap.end()].strip()
        begin = gap.end()
    if line[begin:].strip():
        yield line[begin:].strip()


def report_sentences(report: str, headings: Headings) -> tuple[str, ...]:
    """The distinct sentences of the wanted sections, section after section; empty if the report has none."""
    return tuple(dict.fromkeys(s for part in sections(report, headings).values() for s in sentences(part)))


TABLE = "labels_individual_sentences"
_STUDY_COLUMNS = ("study_id", "study", "patient")


@dataclass(frozen=True, slots=True)
class Told:
    """Study number to its sentences, in order; a study without a sentence is absent. `by`: who labelled them."""

    sentences: Mapping[str, tuple[Sentence, ...]]
    by: str
    notes: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)


def from_table(path: Path, space: Space) -> Told:
    """A row a sentence: the study (`s50414267` or its number), the sentence, and a column for each finding.

    1 is present; 0, -1 and blank are not. Rows without a sentence are left out and counted. Raises DataError for a
    study that is none and for a value that is no label, with the row.
    """
    header = tables.header(path)
    study = next((name for name in _STUDY_COLUMNS if name in header), None)
    index = dict(zip(space.names, space.inside, strict=True))
    columns = [name for name in header if name.lower() in index]
    if study is None or not columns:
        raise DataError(f"{path}: needs a column {' or '.join(_STUDY_COLUMNS)} and columns of findings. {SUPPLY}")
    table = tables.read_table(path, (study, "sentences", *columns))
    present = np.stack([tables.numbers(path, table, column, VALUES) == 1 for column in columns], axis=1)
    order = np.array([index[column.lower()] for column in columns])
    found: dict[str, list[Sentence]] = {}
    blank = 0
    for number, (name, text) in enumerate(zip(table[study], table["sentences"], strict=True)):
        who = STUDY.fullmatch(name)
        if who is None:
            raise DataError(f"{path}: data row {number + 1}: {study} is {name!r}, not a study such as s50414267.")
        if not text:
            blank += 1
            continue
        found.setdefault(who[1], []).append(Sentence(text, tuple(sorted(order[present[number]].tolist()))))
    notes = (f"{path.name}: {blank} rows without a sentence are left out",) if blank else ()
    counts = {"sentences": len(table) - blank}
    return Told({who: tuple(told) for who, told in found.items()}, described_table(path), notes, counts)


@dataclass(frozen=True, slots=True)
class RawReports:
    """Reports below `root` (`.../p10/p10000032/s50414267.txt`, or in the study's folder) and who labels them.

    `cache` may keep the folder's listing.
    """

    root: Path
    labeller: NamedLabeller
    headings: Headings
    cache: Path | None = None


def from_reports(raw: RawReports, subjects: Mapping[str, str], space: Space) -> Told:
    """The sentences of findings and impression of the studies in `subjects` (study to subject), labelled.

    Studies without a report, reports without such a section and sentences that the labeller does not know are left out
    and counted. Raises DataError where no report is found, where one is no text, and where no sentence is labelled.
    """
    files = report_files(raw.root, subjects, raw.cache)
    split = {study: report_sentences(report_text(path), raw.headings) for study, path in files.items()}
    told = {study: split[study] for study in subjects if split.get(study)}
    meaning = _labelled(list(dict.fromkeys(s for sentences in told.values() for s in sentences)), raw, space)
    kept = {study: tuple(meaning[s] for s in sentences if s in meaning) for study, sentences in told.items()}
    total = sum(map(len, told.values()))
    counts = {
        "studies": len(subjects),
        "with report": len(files),
        "with findings or impression": len(told),
        "sentences": total,
        "labelled sentences": sum(map(len, kept.values())),
    }
    if not counts["labelled sentences"]:
        raise DataError(f"the labeller knows none of the {total} sentences below {raw.root}. {SUPPLY}")
    notes = tuple(
        f"{lost} {what} are left out"
        for lost, what in (
            (len(subjects) - len(files), "studies without a report"),
            (len(files) - len(told), "reports without findings or impression"),
            (total - counts["labelled sentences"], "sentences that the labeller does not know"),
        )
        if lost
    )
    return Told({study: told for study, told in kept.items() if told}, raw.labeller.by, notes, counts)


def report_files(root: Path, subjects: Mapping[str, str], cache: Path | None) -> dict[str, Path]:
    """The report of each study in `subjects` (study to subject) that has one below `root`; `cache` may keep a listing.

    Raises DataError where there is no folder, and no report of any of them in it.
    """
    if not is_folder(root):
        raise DataError(f"{root}: there is no such folder. Point --reports at the unpacked mimic-cxr-reports.zip.")
    found = met(list(subjects), Disk(root, root, report_layout(subjects), cache))
    if not found.paths:
        raise DataError(f"{root}: holds no report of the {len(subjects)} studies. Unpack mimic-cxr-reports.zip.")
    return {study: found.home / path for study, path in found.paths.items()}


def _labelled(texts: Sequence[str], raw: RawReports, space: Space) -> dict[str, Sentence]:
    index = dict(zip(space.names, space.inside, strict=True))
    found = {}
    for text, answer in zip(texts, answers(raw.labeller, texts), strict=True):
        if answer is None:
            continue
        if strange := answer - index.keys():
            raise DataError(f"the labeller names {sorted(strange)[0]!r}; known are: {', '.join(space.names)}")
        found[text] = Sentence(text, tuple(sorted(index[name] for name in answer)))
    return found
