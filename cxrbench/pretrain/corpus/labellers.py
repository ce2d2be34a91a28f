"""Which findings a sentence states: the user's own table, or the user's own program. No labeller ships with cxrbench.

The labellers of the literature (CheXpert's, NegBio, CheXbert) need parsers or weights that have to be fetched and
agreed to, and are not kept as packages; what they wrote is taken from a table instead.
"""

import importlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from cxrbench.data import tables
from cxrbench.errors import DataError, SpecError

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


def from_table(path: Path, names: Sequence[str]) -> TableLabeller:
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
        return from_table(Path(name), names)
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute) if module and attribute else None
    except (ImportError, AttributeError) as error:
        raise SpecError(f"labeller {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise SpecError(f"labeller {name!r} is neither a table (.csv) nor package.module:function. {SUPPLY}")
    made: Labeller = found
    return made
