"""PadChest for pre-training: frontal images with cleaned labels, in its ZIP folders or flat, as PNG or converted."""

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import numpy as np

from cxrbench.data import tables
from cxrbench.data.sources.padchest import LAYOUT, TABLE, entries, locate
from cxrbench.pretrain.corpus.labellers import described_table
from cxrbench.pretrain.corpus.types import CorpusRows, Space, one_hot
from cxrbench.pretrain.corpus.variants import LabelRule, PadChestRule


def rows(root: Path, rule: PadChestRule, space: Space) -> CorpusRows:
    """The rows of the rule's projections in table order, labels cleaned and cut to the label space.

    Rows without a label list, and rows without a patient, are left out and counted. Raises DataError for a label list
    that is none, with the row.
    """
    folder = locate(root)
    path = tables.required(folder, TABLE)
    table = tables.read_table(path, ("ImageID", "PatientID", "Projection", "Labels"))
    tables.distinct(path, table, "ImageID")
    frontal = np.flatnonzero(np.isin(table["Projection"].to_numpy(str), rule.projections)).tolist()
    texts, patients, ids = (table[column].tolist() for column in ("Labels", "PatientID", "ImageID"))
    known = [row for row in frontal if patients[row]]
    labelled = [row for row in known if texts[row]]
    wanted = frozenset(space.names)
    found = [cleaned(entries(texts[row], f"{path}: data row {row + 1}"), rule) & wanted for row in labelled]
    return CorpusRows(
        tuple(ids[row] for row in labelled),
        tuple(patients[row] for row in labelled),
        one_hot(found, space.classes),
        ((),) * len(labelled),
        folder,
        LAYOUT,
        described_table(path),
        {"table": len(table), "frontal": len(frontal), "with patient": len(known), "labelled": len(labelled)},
        tuple(_missing(len(frontal) - len(known), "patient") + _missing(len(known) - len(labelled), "label list")),
    )


def _missing(count: int, what: str) -> list[str]:
    return [f"{count} frontal rows without a {what} are left out"] if count else []


def cleaned(labels: Collection[str], rule: PadChestRule) -> frozenset[str]:
    """The names that the labels stand for: lower case, without blanks at the ends, ignored words and empty strings
    dropped, then by the rules. A label that a rule replaces is looked at by the other rules as it stood.
    """
    plain = {label.lower().strip() for label in labels} - {"", *rule.ignored}
    return frozenset(name for label in plain for name in _meaning(label, rule.rules))


@lru_cache(maxsize=4096)
def _meaning(label: str, rules: tuple[LabelRule, ...]) -> frozenset[str]:
    fitting = [rule for rule in rules if re.search(rule.search, label)]
    replaced = {rule.becomes for rule in fitting if rule.becomes}
    return frozenset((replaced or {label}) | {rule.adds for rule in fitting if rule.adds})
