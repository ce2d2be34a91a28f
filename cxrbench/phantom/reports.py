"""Made-up radiology reports that say what is drawn, sentence by sentence with labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np

from cxrbench.store.schema import Spec, read_toml

Values = Mapping[str, float]
NO_FINDING = "No Finding"
_CLEAR: Values = MappingProxyType({NO_FINDING: 1.0})


class Phrases(Spec):
    """The sentences of reports.toml."""

    degrees: tuple[str, ...]
    opening: tuple[str, ...]
    clear: tuple[str, ...]
    histories: tuple[str, ...]
    present: Mapping[str, tuple[str, ...]]
    absent: Mapping[str, tuple[str, ...]]
    unsure: Mapping[str, tuple[str, ...]]


@cache
def phrases() -> Phrases:
    """All sentences."""
    return read_toml(Path(__file__).with_name("reports.toml"), Phrases)


@dataclass(frozen=True, slots=True)
class ReportSentence:
    """One sentence and the labels that it alone gives: 1, 0 or -1; what is not named is not mentioned."""

    text: str
    labels: Values


@dataclass(frozen=True, slots=True)
class RadiologyReport:
    """The sentences of one report's findings and impression."""

    history: str
    findings: tuple[ReportSentence, ...]
    impression: tuple[ReportSentence, ...]

    @property
    def sentences(self) -> tuple[ReportSentence, ...]:
        """All labelled sentences in the order of the text."""
        return self.findings + self.impression

    @property
    def labels(self) -> Values:
        """The study's labels: the strongest word on each finding (1 over -1 over 0)."""
        rank = {1.0: 2, -1.0: 1, 0.0: 0}
        found: dict[str, float] = {}
        for sentence in self.sentences:
            for name, value in sentence.labels.items():
                found[name] = max(found.get(name, 0.0), value, key=rank.__getitem__)
        if any(value != 0 and name not in {NO_FINDING, "Support Devices"} for name, value in found.items()):
            found.pop(NO_FINDING, None)
        return found

    def text(self, study: str) -> str:
        """The report as a file, under the usual headings."""
        body, end = (" ".join(s.text for s in part) for part in (self.findings, self.impression))
        return (
            " " * 33 + "FINAL REPORT\n"
            f" EXAMINATION:  CHEST RADIOGRAPH, {study}\n \n INDICATION:  {self.history}\n \n"
            f" FINDINGS: \n \n {body}\n \n IMPRESSION: \n \n {end}\n"
        )


def report(
    findings: Sequence[str], sides: Mapping[str, str], unsure: bool, rng: np.random.Generator
) -> RadiologyReport:
    """A report on the findings (CheXpert labels, or No Finding); `sides` are those drawn, `unsure` adds a doubt."""
    words = phrases()
    present = [f for f in findings if f != NO_FINDING]
    body = [ReportSentence(_pick(words.opening, rng), _CLEAR)]
    body += [_told(finding, sides, rng) for finding in present]
    quiet = [name for name in words.absent if name not in present]
    for name in rng.permutation(quiet)[: int(rng.integers(1, 4))]:
        body.append(ReportSentence(_pick(words.absent[str(name)], rng), {str(name): 0.0, NO_FINDING: 1.0}))
    doubts = [name for name in words.unsure if name not in present]
    if unsure and doubts:
        name = _pick(doubts, rng)
        body.append(ReportSentence(_pick(words.unsure[name], rng), {name: -1.0}))
    end = [_told(finding, sides, rng) for finding in present] or [ReportSentence(_pick(words.clear, rng), _CLEAR)]
    return RadiologyReport(_pick(words.histories, rng), tuple(body), tuple(end))


def _told(finding: str, sides: Mapping[str, str], rng: np.random.Generator) -> ReportSentence:
    words = phrases()
    text = _pick(words.present[finding], rng).format(
        side=sides.get(finding, "bilateral"), degree=_pick(words.degrees, rng)
    )
    return ReportSentence(text[0].upper() + text[1:], {finding: 1.0})


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]
