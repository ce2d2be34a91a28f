"""From flagged mentions to one value a finding: the CheXpert labeller's aggregation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from cxrbench.pretrain.labeller.facts import DEVICES, NO_FINDING, phrases

Verdict = Literal["present", "absent", "uncertain"]
Labels = Mapping[str, int | None]  # of all 14 findings: 1 present, 0 absent, -1 uncertain, None not mentioned


@dataclass(frozen=True, slots=True)
class Judged:
    """A mention's finding, its words, and what is said of it."""

    finding: str
    text: str
    verdict: Verdict


def aggregate(found: Sequence[Judged]) -> Labels:
    """The value of each finding over all mentions of a report, in the order of the output.

    Uncertain beside absent is uncertain, even with present beside them; else present wins. No Finding is 1 unless a
    mention of anything but devices is present or uncertain, and then it is blank: also for a report without mentions.
    """
    judged = [*found, *_implied(found)]
    labels: dict[str, int | None] = {NO_FINDING: _nothing_found(judged)}
    for finding in phrases().mention:
        if finding != NO_FINDING:
            labels[finding] = _value({one.verdict for one in judged if one.finding == finding})
    return {finding: labels[finding] for finding in phrases().mention}


def _value(verdicts: set[Verdict]) -> int | None:
    if not verdicts:
        return None
    if verdicts >= {"absent", "uncertain"}:
        return -1
    if "present" in verdicts:
        return 1
    return 0 if verdicts == {"absent"} else -1


def _nothing_found(judged: Sequence[Judged]) -> int | None:
    return None if any(one.finding != DEVICES and one.verdict != "absent" for one in judged) else 1


def _implied(found: Sequence[Judged]) -> list[Judged]:
    return [
        Judged(rule.uncertain, one.text, "uncertain")
        for rule in phrases().implied
        for one in found
        if one.finding == rule.finding and one.text in rule.texts and one.verdict != "absent"
    ]
