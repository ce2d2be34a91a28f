"""The simulation of false alarms: what it draws goes through the judging code, and equal numbers raise few."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def alarms() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module("benchmarks.check_alarms")


@pytest.mark.parametrize("paper", ["same images, other draws", "another split of that size"])
def test_tables_of_equal_numbers_seldom_differ_and_a_wide_shift_is_found(alarms: ModuleType, paper: str) -> None:
    rng, law = np.random.default_rng(1), alarms.LAWS[-1]
    found = [alarms.outcome([alarms.cell(law, rng) for _ in range(5)], paper) for _ in range(60)]
    assert sum(one.alarm for one in found) <= 6  # 3 expected at most
    assert sum(one.alone[10] == "differs" for one in found) >= 48
    assert sum(one.shifted[10] == "agrees" for one in found) == 0
