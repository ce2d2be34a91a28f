"""The rule labeller after CheXpert: a report or a sentence to 14 values, and as a labeller of a corpus."""

from collections.abc import Collection, Sequence
from functools import lru_cache

from cxrbench.pretrain.labeller.mentions import clean, mentions, sentences
from cxrbench.pretrain.labeller.scopes import judge
from cxrbench.pretrain.labeller.verdict import Judged, Labels, aggregate


def judged(report: str) -> tuple[Judged, ...]:
    """Every mention of a report with what is said of it, sentence by sentence."""
    return tuple(one for sentence in sentences(clean(report)) for one in _of_sentence(sentence))


def label(report: str) -> Labels:
    """The values of a report as one text; of an empty one, No Finding alone is 1."""
    return aggregate(judged(report))


@lru_cache(maxsize=1 << 17)  # reports repeat themselves
def _of_sentence(sentence: str) -> tuple[Judged, ...]:
    found = mentions(sentence)
    return judge(sentence, found) if found else ()


class RuleLabeller:
    """Labels sentences of a corpus, each as a report of its own; only what is present counts, as DLILP does.

    So a sentence that mentions nothing, such as "Comparison is made to ...", is No Finding; with `mentioned` it is
    unknown instead, and left out. `names`: the findings (lower case) that the corpus knows.
    """

    def __init__(self, names: Collection[str], *, mentioned: bool = False) -> None:
        self._names, self._mentioned = frozenset(names), mentioned

    def __call__(self, sentences: Sequence[str]) -> list[frozenset[str] | None]:
        """For each sentence the findings that are present, in lower case; None where it is left out."""
        return [self._present(sentence) for sentence in sentences]

    def _present(self, sentence: str) -> frozenset[str] | None:
        found = judged(sentence)
        if self._mentioned and not found:
            return None
        return self._names & {finding.lower() for finding, value in aggregate(found).items() if value == 1}
