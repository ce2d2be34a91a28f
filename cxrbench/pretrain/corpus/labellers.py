"""Who says which findings a sentence states: rules, a user's table, or a function of a package."""

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cxrbench.data import tables
from cxrbench.errors import CxrBenchError, DataError, SpecError
from cxrbench.pretrain.labeller.facts import NAME, facts_digest
from cxrbench.pretrain.labeller.rules import RuleLabeller
from cxrbench.store import digest
from cxrbench.system.contained import PASSING

VALUES = (0.0, 1.0, -1.0)  # of a finding in a table: absent, present, uncertain; blank is not mentioned
# Columns of text, in lower case, and whose tables have them.
TEXT_COLUMNS: Mapping[str, str] = {
    "sentences": "",
    "sentence": "",
    "text": "",
    "reports": "the CheXpert labeller",
    "report impression": "CheXbert",
}
RULES, RULES_MENTIONED = "rules", "rules-mentioned"
SUPPLY = (
    "Supply labels_individual_sentences.csv (columns patient or study_id, sentences, and the 14 observations) beside "
    "the MIMIC-CXR-JPG tables; or the reports with a labeller: `--labeller rules` needs nothing more, a table of "
    "sentences (a column sentences and the 14 observations) may be one that CheXbert or CheXpert's labeller wrote, or "
    "name package.module:function of your own."
)


class Labeller(Protocol):
    """Sentences in, findings out."""

    def __call__(self, sentences: Sequence[str]) -> Sequence[Collection[str] | None]:
        """For each sentence the findings that it states to be present (any letter case), or None if it is unknown."""


@dataclass(frozen=True, slots=True)
class NamedLabeller:
    """A labeller, and who that is, in the words that a corpus keeps."""

    label: Labeller
    by: str


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


def text_column(path: Path) -> str | None:
    """The first column of a table that holds text, as it is spelt there; None if there is none."""
    return next((name for name in tables.header(path) if name.lower() in TEXT_COLUMNS), None)


def table_labeller(path: Path, names: Sequence[str]) -> TableLabeller:
    """A labeller from a user's table with columns for (some of) the named findings; 1 is present, 0, -1 and blank not.

    Raises DataError if there is no column of sentences or of findings, or if one sentence is labelled in two ways.
    """
    text = text_column(path)
    columns = [name for name in tables.header(path) if name.lower() in set(names)]
    if text is None or not columns:
        raise DataError(f"{path}: needs a column {' or '.join(TEXT_COLUMNS)} and columns such as {names[0]}.")
    table = tables.read_table(path, (text, *columns))
    sentences = [plain(sentence) for sentence in table[text]]
    present = np.stack([tables.numbers(path, table, column, VALUES) == 1 for column in columns], axis=1)
    lowered = np.array([column.lower() for column in columns])
    found = [frozenset(lowered[row].tolist()) for row in present]
    tables.agreeing(path, sentences, found, "findings")
    return TableLabeller(dict(zip(sentences, found, strict=True)))


def described_table(path: Path) -> str:
    """A table of labels by name and content; and whose form it has, where its columns tell."""
    whose = TEXT_COLUMNS.get((text_column(path) or "").lower(), "")
    form = f", in the form of {whose}" if whose else ""
    return f"the table {path.name}{form} (SHA-256 {digest.of_file(path)[:12]})"


def labeller(name: str, names: Sequence[str]) -> NamedLabeller:
    """`rules`, `rules-mentioned`, the path of a table (.csv, .csv.gz), or `package.module:function`.

    With `rules-mentioned`, sentences that mention no finding are left out. Raises SpecError for what is none of these,
    or cannot be imported, and says what could be supplied.
    """
    if name in (RULES, RULES_MENTIONED):
        how = ", without sentences that mention no finding" if name == RULES_MENTIONED else ""
        return NamedLabeller(
            RuleLabeller(names, mentioned=name == RULES_MENTIONED), f"{NAME} (facts {facts_digest()[:12]}){how}"
        )
    if name.endswith((".csv", ".csv.gz")):
        return NamedLabeller(table_labeller(Path(name), names), described_table(Path(name)))
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if module and attribute else None
    except (ImportError, AttributeError) as error:
        raise SpecError(f"labeller {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise SpecError(
            f"labeller {name!r} is none of {RULES}, {RULES_MENTIONED}, a table (.csv) and package.module:function. "
            f"{SUPPLY}"
        )
    made: Labeller = found
    return NamedLabeller(made, name)


def answers(who: NamedLabeller, texts: Sequence[str]) -> Sequence[frozenset[str] | None]:
    """What the labeller says of each text, in lower case.

    Raises DataError that names it for whatever its own code raises, and for another number of answers.
    """
    try:
        found = [None if told is None else frozenset(str(name).lower() for name in told) for told in who.label(texts)]
    except (CxrBenchError, *PASSING):
        raise
    except BaseException as error:
        name = getattr(who.label, "__qualname__", type(who.label).__qualname__)
        raise DataError(
            f"the labeller {name} failed over {len(texts)} sentences: {type(error).__name__}: {str(error)[:200]}. Mend "
            "it, or give a table of sentences."
        ) from error
    if len(found) != len(texts):
        raise DataError(f"the labeller gave {len(found)} answers for {len(texts)} sentences")
    return found
