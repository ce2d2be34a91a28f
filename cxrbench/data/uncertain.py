"""What becomes of labels that are uncertain (-1) or blank: rules by name, since papers differ in them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError, SpecError
from cxrbench.types import UNKNOWN

UNCERTAIN, BLANK = -1, -2  # in the values that a rule is given
Settled = Literal["positive", "negative", "unknown", "refused"]
_VALUE: Mapping[str, int] = {"positive": 1, "negative": 0, "unknown": UNKNOWN}


@dataclass(frozen=True, slots=True)
class Rule:
    """What an `uncertain` label and a `blank` one count as; `classes` say what uncertain ones of a class count as.

    `unknown` leaves a row out of its class alone. `normal`: the class whose rows, where it holds, have every blank
    label counted as negative, whatever `blank` says, except labels of the classes `never_normal`.
    """

    uncertain: Settled
    blank: Settled = "negative"
    classes: Mapping[str, Settled] = field(default_factory=dict)
    normal: str | None = None
    never_normal: tuple[str, ...] = ()


# U-Zeros, U-Ones, U-Ignore: Irvin et al., CheXpert (2019), section 3. MGCA and torchxrayvision: their released code.
RULES: Mapping[str, Rule] = {
    "refuse": Rule("refused", "refused"),
    "zeros": Rule("negative"),
    "ones": Rule("positive"),
    "ignore": Rule("unknown"),
    "mgca": Rule(
        "refused",
        classes={
            "Atelectasis": "positive",
            "Cardiomegaly": "negative",
            "Consolidation": "negative",
            "Edema": "positive",
            "Pleural Effusion": "positive",
        },
    ),
    "torchxrayvision": Rule("unknown", "unknown", normal="No Finding", never_normal=("Support Devices",)),
}


def settled(values: NDArray[np.integer], columns: Sequence[str], rule: str, where: str) -> NDArray[np.int8]:
    """Labels (n, C) of 1, 0 and UNKNOWN from table values (n, C) of 1, 0, UNCERTAIN and BLANK.

    `columns` (C,) are spelt as in the table. Raises SpecError for a rule that does not exist, DataError that begins
    with `where` (the file) for a value that the rule refuses, with its data row and column.
    """
    if rule not in RULES:
        raise SpecError(f"there is no rule {rule!r} for uncertain labels; known are: {', '.join(RULES)}")
    how, out = RULES[rule], np.array(values, dtype=np.int8)
    for place, column in enumerate(columns):
        for value, outcome in ((UNCERTAIN, how.classes.get(column, how.uncertain)), (BLANK, how.blank)):
            rows = values[:, place] == value
            if value == BLANK and how.normal in columns and column not in how.never_normal:
                normal = rows & (values[:, list(columns).index(str(how.normal))] == 1)
                out[normal, place], rows = 0, rows & ~normal
            if outcome == "refused" and rows.any():
                word = "blank" if value == BLANK else "uncertain (-1)"
                raise DataError(
                    f"{where}: data row {int(rows.argmax()) + 1}: {column} is {word}, and the rule {rule!r} says "
                    f"nothing of it. Choose another: {', '.join(name for name in RULES if name != rule)}."
                )
            out[rows, place] = _VALUE.get(outcome, 0)
    return out
