"""Radiology reports as text: findings and impression, and their sentences."""

import re
from collections.abc import Iterator, Mapping
from itertools import zip_longest

Headings = Mapping[str, tuple[str, ...]]  # kind of section to the headings that open one

_HEADING = re.compile(r"^[ \t]*(?P<name>[A-Z][A-Z0-9 ,/&()'-]*[A-Z)])[ \t]*:", re.MULTILINE)
_LIST_NUMBER = re.compile(r"(?:(?<=\s)|^)\(?(\d{1,2})[.)]\s+(?=[A-Z])")
_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]*[A-Z0-9_])")
_ABBREVIATION = re.compile(
    r"(?:^|[\s(])(?:dr|drs|mr|mrs|ms|prof|st|vs|no|fig|approx|ca|cf|e\.g|i\.e|etc|resp|a\.m|p\.m|[A-Z])\.$",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]{2}")


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
