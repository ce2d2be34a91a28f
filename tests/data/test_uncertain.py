"""What uncertain and blank labels count as, by each named rule."""

import numpy as np
import pytest

from cxrbench.data.uncertain import BLANK, RULES, UNCERTAIN, settled
from cxrbench.errors import DataError, SpecError

COLUMNS = ("No Finding", "Atelectasis", "Cardiomegaly", "Support Devices")
VALUES = np.array(
    [[1, BLANK, BLANK, BLANK], [BLANK, UNCERTAIN, UNCERTAIN, 1], [BLANK, 0, 1, BLANK], [BLANK, 1, 0, 0]], np.int8
)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("zeros", [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]),
        ("ones", [[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 1, 0], [0, 1, 0, 0]]),
        ("ignore", [[1, 0, 0, 0], [0, -1, -1, 1], [0, 0, 1, 0], [0, 1, 0, 0]]),
        ("mgca", [[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 1, 0], [0, 1, 0, 0]]),
        ("torchxrayvision", [[1, 0, 0, -1], [-1, -1, -1, 1], [-1, 0, 1, -1], [-1, 1, 0, 0]]),
    ],
)
def test_each_rule(rule: str, expected: list[list[int]]) -> None:
    before = VALUES.copy()
    assert settled(VALUES, COLUMNS, rule, "t.csv").tolist() == expected
    assert (before == VALUES).all()


def test_what_a_rule_says_nothing_of_is_refused_with_its_place() -> None:
    with pytest.raises(DataError, match=r"^t.csv: data row 2: No Finding is blank, .*'refuse'"):
        settled(VALUES, COLUMNS, "refuse", "t.csv")
    strange = np.array([[0, 0], [0, UNCERTAIN]], np.int8)
    with pytest.raises(DataError, match=r"^t.csv: data row 2: Pneumonia is uncertain \(-1\), .*'mgca'.* zeros"):
        settled(strange, ("Edema", "Pneumonia"), "mgca", "t.csv")


def test_an_unknown_rule_names_those_there_are() -> None:
    with pytest.raises(SpecError, match=", ".join(RULES)):
        settled(VALUES, COLUMNS, "guess", "t.csv")
