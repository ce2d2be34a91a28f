"""Labelled report sentences of MIMIC-CXR studies: from the user's table, or made from the reports by a labeller."""

import importlib
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from cxrbench.data import tables
from cxrbench.data.listing import is_folder
from cxrbench.data.reports import STUDY, Headings, report_layout, report_text, sections
from cxrbench.data.sources.base import Disk, met
from cxrbench.errors import CxrBenchError, DataError, SpecError
from cxrbench.pretrain.corpus.types import Sentence, Space
from cxrbench.system.contained import PASSING

_VALUES = (0.0, 1.0, -1.0)
_TEXT_COLUMNS = ("sentences", "sentence", "text")
SUPPLY = (
    "Supply labels_individual_sentences.csv (columns patient or study_id, sentences, and the 14 observations) beside "
    "the MIMIC-CXR-JPG tables; or the reports with a labeller: a table of sentences (columns sentences and the 14 "
    "observations, as CheXbert or CheXpert's labeller write them), or package.module:function of your own."
)


class Labeller(Protocol):
    """Sentences in, findings out."""

    def __call__(self, sentences: Sequence[str]) -> Sequence[Collection[str] | None]:
        """For each sentence the findings that it states to be present (any letter case), or None if it is unknown."""


class TableLabeller:
    """Looks sentences up in a table, letter case and white space aside."""

    def __init__(self, findings: Mapping[str, frozenset[str]]) -> None:
        self._findings = findings

    def __call__(self, sentences: Sequence[str]) -> Sequence[frozenset[str] | None]:
        """See `Labeller`; None for sentences that the table does not hold."""
        return [self._findings.get(plain(sentence)) for sentence in sentences]


def plain(sentence: str) -> str:
    """The form in which sentences are compared: single blanks, lower case."""
    return " ".join(sentence.split()).lower()


def table_labeller(path: Path, names: Sequence[str]) -> TableLabeller:
    """A labeller from a user's table with columns for (some of) the named findings; 1 is present, 0, -1 and blank not.

    Raises DataError if there is no column of sentences or of findings, or if one sentence is labelled in two ways.
    """
    header = tables.header(path)
    text = next((name for name in header if name.lower() in _TEXT_COLUMNS), None)
    columns = [name for name in header if name.lower() in set(names)]
    if text is None or not columns:
        raise DataError(f"{path}: needs a column {' or '.join(_TEXT_COLUMNS)} and columns such as {names[0]}.")
    table = tables.read_table(path, (text, *columns))
    sentences = [plain(sentence) for sentence in table[text]]
    present = np.stack([tables.numbers(path, table, column, _VALUES) == 1 for column in columns], axis=1)
    lowered = np.array([column.lower() for column in columns])
    found = [frozenset(lowered[row].tolist()) for row in present]
    tables.agreeing(path, sentences, found, "findings")
    return TableLabeller(dict(zip(sentences, found, strict=True)))


def labeller(name: str, names: Sequence[str]) -> Labeller:
    """A labeller by the path of a table (.csv, .csv.gz) or by `package.module:function`.

    Raises SpecError for what is neither, or cannot be imported, and says what could be supplied.
    """
    if name.endswith((".csv", ".csv.gz")):
        return table_labeller(Path(name), names)
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if module and attribute else None
    except (ImportError, AttributeError) as error:
        raise SpecError(f"labeller {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise SpecError(f"labeller {name!r} is neither a table (.csv) nor package.module:function. {SUPPLY}")
    made: Labeller = found
    return made


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
    """Study number to its sentences, in order; a study without a sentence is absent."""

    sentences: Mapping[str, tuple[Sentence, ...]]
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
    present = np.stack([tables.numbers(path, table, column, _VALUES) == 1 for column in columns], axis=1)
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
    return Told({who: tuple(told) for who, told in found.items()}, notes, {"sentences": len(table) - blank})


@dataclass(frozen=True, slots=True)
class RawReports:
    """Reports below `root` (`.../p10/p10000032/s50414267.txt`, or in the study's folder) and who labels them.

    `cache` may keep the folder's listing.
    """

    root: Path
    labeller: Labeller
    headings: Headings
    cache: Path | None = None


def from_reports(raw: RawReports, subjects: Mapping[str, str], space: Space) -> Told:
    """The sentences of findings and impression of the studies in `subjects` (study to subject), labelled.

    Studies without a report, reports without such a section and sentences that the labeller does not know are left out
    and counted. Raises DataError where no report is found, where one is no text, and where no sentence is labelled.
    """
    if not is_folder(raw.root):
        raise DataError(f"{raw.root}: there is no such folder. Point --reports at the unpacked mimic-cxr-reports.zip.")
    found = met(list(subjects), Disk(raw.root, raw.root, report_layout(subjects), raw.cache))
    if not found.paths:
        raise DataError(f"{raw.root}: holds no report of the {len(subjects)} studies. Unpack mimic-cxr-reports.zip.")
    split = {
        study: report_sentences(report_text(found.home / path), raw.headings) for study, path in found.paths.items()
    }
    told = {study: split[study] for study in subjects if split.get(study)}
    meaning = _labelled(list(dict.fromkeys(s for sentences in told.values() for s in sentences)), raw, space)
    kept = {study: tuple(meaning[s] for s in sentences if s in meaning) for study, sentences in told.items()}
    total = sum(map(len, told.values()))
    counts = {
        "studies": len(subjects),
        "with report": len(found.paths),
        "with findings or impression": len(told),
        "sentences": total,
        "labelled sentences": sum(map(len, kept.values())),
    }
    if not counts["labelled sentences"]:
        raise DataError(f"the labeller knows none of the {total} sentences below {raw.root}. {SUPPLY}")
    notes = tuple(
        f"{lost} {what} are left out"
        for lost, what in (
            (len(subjects) - len(found.paths), "studies without a report"),
            (len(found.paths) - len(told), "reports without findings or impression"),
            (total - counts["labelled sentences"], "sentences that the labeller does not know"),
        )
        if lost
    )
    return Told({study: sentences for study, sentences in kept.items() if sentences}, notes, counts)


def _labelled(texts: Sequence[str], raw: RawReports, space: Space) -> dict[str, Sentence]:
    index = dict(zip(space.names, space.inside, strict=True))
    answers = _answers(raw.labeller, texts)
    if len(answers) != len(texts):
        raise DataError(f"the labeller gave {len(answers)} answers for {len(texts)} sentences")
    found = {}
    for text, answer in zip(texts, answers, strict=True):
        if answer is None:
            continue
        if strange := answer - index.keys():
            raise DataError(f"the labeller names {sorted(strange)[0]!r}; known are: {', '.join(space.names)}")
        found[text] = Sentence(text, tuple(sorted(index[name] for name in answer)))
    return found


def _answers(who: Labeller, texts: Sequence[str]) -> Sequence[frozenset[str] | None]:
    """What the labeller says, in lower case; raises DataError that names it for whatever its own code raises."""
    try:
        return [None if told is None else frozenset(str(name).lower() for name in told) for told in who(texts)]
    except (CxrBenchError, *PASSING):
        raise
    except BaseException as error:
        name = getattr(who, "__qualname__", type(who).__qualname__)
        raise DataError(
            f"the labeller {name} failed over {len(texts)} sentences: {type(error).__name__}: {str(error)[:200]}. Mend "
            "it, or give a table of sentences."
        ) from error
