"""Whether a mention is present, absent or uncertain: triggers with a direction, a reach and words that end it.

The original parses each sentence and matches patterns over the graph; this is a table of words instead, so labels
differ. How far, `cxrbench pretrain labels` measures on a table of the original's labels.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from cxrbench.pretrain.labeller.facts import Kind, Trigger, triggers
from cxrbench.pretrain.labeller.mentions import Mention
from cxrbench.pretrain.labeller.verdict import Judged, Verdict

Span = tuple[int, int]
_VERDICTS: tuple[tuple[Kind, Verdict], ...] = (
    ("unsure first", "uncertain"),
    ("negated", "absent"),
    ("unsure", "uncertain"),
)
_LIST = re.compile(r",[^,]*\b(?:and|or)\b")  # a comma after which a list goes on
_HANGING = re.compile(r"(?:\b(?:and|or|with|without|of|in|a|an|the|now)|,)\s*$")  # what follows belongs to other words
_ADVERBS = r"(?:\s+(?!and\b|or\b)[\w-]+){0,3}\s*$"


@dataclass(frozen=True, slots=True)
class _Rule:
    """A trigger with its words and ends compiled."""

    told: Trigger
    words: re.Pattern[str]
    ends: re.Pattern[str]


def judge(sentence: str, found: Sequence[Mention]) -> tuple[Judged, ...]:
    """What a cleaned sentence says of each of its mentions, in their order."""
    if sentence.startswith(triggers().opening):
        return tuple(Judged(one.finding, one.text, "absent") for one in found)
    hits = [(rule, hit) for rule in _rules() for hit in _hits(rule, sentence)]
    return tuple(Judged(one.finding, one.text, _verdict(one, found, sentence, hits)) for one in found)


def _verdict(one: Mention, found: Sequence[Mention], sentence: str, hits: Sequence[tuple[_Rule, Span]]) -> Verdict:
    for kind, verdict in _VERDICTS:
        if any(rule.told.kind == kind and _holds(rule, hit, one, found, sentence) for rule, hit in hits):
            return verdict
    return "present"


def _hits(rule: _Rule, sentence: str) -> list[Span]:
    spans = [match.span() for match in rule.words.finditer(sentence)]
    if rule.told.kind != "negated" or not spans:
        return spans
    void = [match.span() for match in _nothing().finditer(sentence)]
    return [s for s in spans if not any(s[0] < end and start < s[1] and s[1] <= end for start, end in void)]


def _holds(rule: _Rule, hit: Span, one: Mention, found: Sequence[Mention], sentence: str) -> bool:
    told = rule.told
    if told.only and not any(text in one.text for text in told.only):
        return False
    if told.side == "within":
        return hit[0] < one.end and one.start < hit[1]
    if told.side == "before":
        return _reaches(rule, hit, one, sentence)
    if told.side == "after":
        return _said_of(rule, hit, one, sentence)
    if told.side == "between":
        sides = {other.start >= hit[1] for other in found if _near(rule, hit, other, sentence)}
        return len(sides) == 2 and _near(rule, hit, one, sentence)
    return _near(rule, hit, one, sentence)


def _near(rule: _Rule, hit: Span, one: Mention, sentence: str) -> bool:
    if hit[1] <= one.start:
        return _reaches(rule, hit, one, sentence)
    return one.end <= hit[0] and _open(rule, _rest(sentence[one.end : hit[0]]))


def _reaches(rule: _Rule, hit: Span, one: Mention, sentence: str) -> bool:
    """Whether words before a mention speak of it."""
    return hit[1] <= one.start and _open(rule, sentence[hit[1] : one.start])


def _said_of(rule: _Rule, hit: Span, one: Mention, sentence: str) -> bool:
    """Whether words after a mention speak of it: with one verb right before them, or none."""
    if hit[0] < one.end:
        return False
    gap = _rest(sentence[one.end : hit[0]])
    subject = _predicate().sub("", gap)
    if subject == gap and _HANGING.search(gap):
        return False
    listed = "," not in subject or (rule.told.lists and _LIST.search(subject) is not None)
    return listed and not _verb().search(subject) and _open(rule, subject)


def _open(rule: _Rule, gap: str) -> bool:
    reach = rule.told.reach
    return rule.ends.search(gap) is None and (reach is None or len(re.findall(r"[\w-]+", gap)) <= reach)


def _rest(gap: str) -> str:
    """What follows the word that a mention ends in."""
    return re.sub(r"^[\w-]+", "", gap)


@cache
def _rules() -> tuple[_Rule, ...]:
    ends = triggers().ends
    return tuple(_Rule(one, _whole(one.words), _whole((*ends, *one.ends))) for one in triggers().trigger)


@cache
def _nothing() -> re.Pattern[str]:
    return _whole(triggers().nothing)


@cache
def _verb() -> re.Pattern[str]:
    return _whole(triggers().verbs)


@cache
def _predicate() -> re.Pattern[str]:
    """A verb at the end of a gap, and up to three words after it."""
    return re.compile(f"(?<!\\w)(?:{'|'.join(triggers().verbs)})(?!\\w){_ADVERBS}")


def _whole(words: Iterable[str]) -> re.Pattern[str]:
    """Any of the words, with no letter or digit on either side of those that begin or end in one."""
    return re.compile(
        "|".join(f"(?<!\\w)(?:{word})(?!\\w)" if word[0] not in ",;" else f"(?:{word})" for word in words)
    )
