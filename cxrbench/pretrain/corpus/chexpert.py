"""CheXpert for pre-training: frontal images of the training tables, labels without reports."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxrbench.data import tables
from cxrbench.data.search import has_table, located
from cxrbench.data.sources.chexpert5x200 import LAYOUT, image_id, patient_of
from cxrbench.errors import DataError
from cxrbench.pretrain.corpus.labellers import described_table
from cxrbench.pretrain.corpus.types import CorpusRows, Space
from cxrbench.pretrain.corpus.variants import CheXpertRule

_VALUES = (0.0, 1.0, -1.0)
_VIEWS = ("Frontal", "Lateral")


def locate(root: Path, rule: CheXpertRule) -> Path:
    """The folder with the first of the rule's tables that is anywhere below the root; raises DataError."""
    signs = [has_table(stem) for stem in rule.tables]
    return located(root, "CheXpert", *signs, wanted=" or ".join(f"{stem}.csv" for stem in rule.tables))


def rows(root: Path, rule: CheXpertRule, space: Space) -> CorpusRows:
    """The frontal rows in table order; a class is present where its column has one of the rule's positive values.

    Raises DataError for a table that is not CheXpert's, with the place.
    """
    folder = locate(root, rule)
    path = tables.required(folder, *rule.tables)
    columns = _columns(path, space.names)
    table = tables.read_table(path, ("Path", "Frontal/Lateral", *columns))
    tables.distinct(path, table, "Path")
    tables.one_of(path, table, "Frontal/Lateral", _VIEWS)
    frontal = np.flatnonzero((table["Frontal/Lateral"] == "Frontal").to_numpy())
    labels = np.zeros((len(frontal), len(space.classes)), dtype=np.int8)
    for number, column in zip(space.inside, columns, strict=True):
        values = tables.numbers(path, table, column, _VALUES)[frontal]
        labels[:, number] = np.isin(values, rule.positive)
    paths = table["Path"].tolist()
    ids = tuple(image_id(paths[row]) for row in frontal.tolist())
    return CorpusRows(
        ids,
        tuple(patient_of(name) for name in ids),
        labels,
        ((),) * len(ids),
        folder,
        LAYOUT,
        described_table(path),
        {"table": len(table), "frontal": len(ids)},
        (f"labels from {path.name}",),
    )


def _columns(path: Path, names: Sequence[str]) -> list[str]:
    """The table's spelling of the classes: columns are found by name, since tables order them differently."""
    there = {name.lower(): name for name in tables.header(path)}
    if missing := [name for name in names if name not in there]:
        raise DataError(f"{path}: has no column for {', '.join(missing)}. Is it a label table of CheXpert?")
    return [there[name] for name in names]
