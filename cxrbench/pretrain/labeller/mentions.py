"""Report text to sentences, sentences to mentions: the stages of the CheXpert labeller that need no parser."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from cxrbench.pretrain.labeller.facts import phrases

_SLASH = re.compile(r"(?<=[a-z])/(?=[a-z])")
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_GAP = re.compile(r"(?<=[.!?])\s+(?=\S)")
_NUMBER = re.compile(r"\s*\(?\d{1,2}\.")
_ABBREVIATED = re.compile(r"(?:^|[\s(])(?:dr|drs|mr|mrs|ms|prof|st|vs|fig|approx|ca|cf|etc|resp|[a-z])\.$")


def clean(report: str) -> str:
    """The report as the labeller reads it: lower case, one line, printable ASCII.

    "and/or" and a slash between letters become "or"; a blank follows each stop and comma, so "4.5 cm" is "4. 5 cm".
    """
    text = _SLASH.sub(" or ", report.lower().replace("and/or", "or")).replace("..", ".")
    text = " ".join(text.replace(".", ". ").replace(",", ", ").split())
    return _UNPRINTABLE.sub("", text.replace(". .", "."))


def sentences(text: str) -> tuple[str, ...]:
    """The sentences of a cleaned text, without blanks at their ends.

    One ends at a stop, exclamation or question mark before a blank; not after an abbreviation, a single letter, or the
    number of a list at its own beginning. The original asks a trained splitter instead.
    """
    found, begin = [], 0
    for gap in _GAP.finditer(text):
        before = text[begin : gap.start()]
        if not _NUMBER.fullmatch(before) and not _ABBREVIATED.search(before):
            found.append(before.strip())
            begin = gap.end()
    return tuple(sentence for sentence in (*found, text[begin:].strip()) if sentence)


@dataclass(frozen=True, slots=True)
class Mention:
    """Characters `start` to `end` of a sentence that name a finding."""

    finding: str
    text: str
    start: int
    end: int


def mentions(sentence: str) -> tuple[Mention, ...]:
    """All hits of all findings' phrases in a cleaned sentence, by place; overlapping ones count each."""
    found = []
    for finding, (named, voiding) in _searched().items():
        hits = [Mention(finding, phrase, at, at + len(phrase)) for phrase in named for at in _places(phrase, sentence)]
        if not hits:
            continue
        void = [(at, at + len(phrase)) for phrase in voiding for at in _places(phrase, sentence)]
        found += [hit for hit in hits if not any(hit.start < end and start < hit.end for start, end in void)]
    return tuple(sorted(found, key=lambda hit: (hit.start, hit.end)))


@cache
def _searched() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    return {finding: (named, phrases().voiding(finding)) for finding, named in phrases().mention.items()}


def _places(phrase: str, sentence: str) -> Iterator[int]:
    at = sentence.find(phrase)
    while at >= 0:
        yield at
        at = sentence.find(phrase, at + len(phrase))
