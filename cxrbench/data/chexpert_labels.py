"""CheXpert's labels out of a table (CheXpert, MIMIC-CXR): 1, 0, -1 and blank, and what a split makes of them."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cxrbench.data import tables as csv_tables
from cxrbench.data.uncertain import BLANK, RULES, settled
from cxrbench.store.schema import Spec

if TYPE_CHECKING:
    import pandas as pd

_VALUES = (0.0, 1.0, -1.0)


class UncertainLabels(Spec):
    """The rule for uncertain and blank labels by its name in `cxrbench.data.uncertain`.

    `elsewhere`: the rule for classes that `uncertain` does not name, where it is a rule for some classes alone.
    """

    uncertain: str
    elsewhere: str = ""


def read_labels(path: Path, rows: "pd.DataFrame", columns: tuple[str, ...], how: UncertainLabels) -> NDArray[np.int8]:
    """Labels (n, C) of 1, 0 and UNKNOWN; raises DataError naming row and column of a value that is no label."""
    read = np.stack([csv_tables.numbers(path, rows, column, _VALUES) for column in columns], axis=1)
    values = np.where(np.isnan(read), BLANK, read).astype(np.int8)
    named = RULES[how.uncertain].classes if how.elsewhere and how.uncertain in RULES else {}
    out = np.empty_like(values)
    for rule, own in (
        (how.uncertain, [n for n, column in enumerate(columns) if not how.elsewhere or column in named]),
        (how.elsewhere, [n for n, column in enumerate(columns) if how.elsewhere and column not in named]),
    ):
        if own:
            out[:, own] = settled(values[:, own], [columns[n] for n in own], rule, str(path))
    return out
