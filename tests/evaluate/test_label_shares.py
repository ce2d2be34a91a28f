"""Shares of a training part: how many rows each rule gives, and what our own promises."""

import hashlib
import math
from fractions import Fraction
from typing import get_args

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.errors import DataError
from cxrbench.evaluate.label_shares import ShareRule, share_draws, share_rows

OURS = "hash-rank-v1"
RULES: tuple[ShareRule, ...] = get_args(ShareRule)


def rows_of(rule: ShareRule, shots: str, n: int, fold: int = 0, labels: object = None) -> list[int]:
    own = np.arange(n) % 2 if labels is None else np.asarray(labels)
    return share_rows(rule, shots, [f"i{row}" for row in range(n)], own, task="t", fold=fold).tolist()


@pytest.mark.parametrize(
    ("rule", "n", "shots", "count"),
    [
        ("benchx", 12_000, "1%", 120),  # VinDr-CXR, whose lists have so many
        ("benchx", 12_000, "10%", 1_200),
        (OURS, 12_000, "1%", 120),
        (OURS, 78_468, "1%", 785),  # ChestX-ray14 of the CheXNet line
        (OURS, 78_468, "10%", 7_847),
        ("mgca", 78_468, "1%", 785),
        ("mgca", 78_468, "10%", 7_847),
        ("cxr-clip", 78_468, "10%", 7_847),
        ("mavl", 78_468, "1%", 784),  # rounds down
        ("mavl", 78_468, "10%", 7_846),
    ],
)
def test_counts_of_frames_that_studies_used(rule: ShareRule, n: int, shots: str, count: int) -> None:
    labels = (np.random.default_rng(0).random((n, 14)) < 0.03).astype(int) if n == 12_000 else None
    found = rows_of(rule, shots, n, labels=labels)
    assert len(found) == len(set(found)) == count and min(found) >= 0 and max(found) < n


def test_published_rules_are_the_calls_that_they_name() -> None:
    frame = pd.DataFrame({"Path": [f"p{row}" for row in range(700)]}, index=range(3, 703))
    assert rows_of("mgca", "1%", 700) == (frame.sample(frac=0.01, random_state=42).index - 3).tolist()
    assert rows_of("cxr-clip", "10%", 700) == (frame.sample(frac=0.1, random_state=1).index - 3).tolist()
    np.random.seed(98)
    assert rows_of("mavl", "10%", 700) == np.random.choice(700, int(0.1 * 700), replace=False).tolist()


def test_benchx_keeps_the_shares_of_classes_or_of_images_that_show_anything() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    assert np.bincount(labels[rows_of("benchx", "10%", 1000, labels=labels)]).tolist() == [60, 30, 10]
    findings = np.zeros((1000, 3), np.int64)
    findings[:200, 1], findings[100:300, 2], findings[300:, 0] = 1, 1, -1
    chosen = findings[rows_of("benchx", "10%", 1000, labels=findings)]
    assert (chosen == 1).any(axis=1).sum() == 30


@given(ids=st.lists(st.integers(0, 80), min_size=1, max_size=120), fold=st.integers(0, 4))
def test_our_shares_are_nested_rounded_up_once_an_image_and_free_of_order(ids: list[int], fold: int) -> None:
    names, labels = [f"i{number}" for number in ids], np.zeros(len(ids), np.int64)
    distinct, before = len(set(names)), set[str]()
    for shots in ("0.1%", "1%", "7%", "10%", "33.3%", "99.9%"):
        rows = share_rows(OURS, shots, names, labels, task="t", fold=fold)
        drawn = [names[row] for row in rows]
        assert len(set(drawn)) == len(drawn) == math.ceil(Fraction(shots[:-1]) * distinct / 100) >= 1
        assert set(drawn) >= before and all(names.index(name) == row for name, row in zip(drawn, rows, strict=True))
        mixed = share_rows(OURS, shots, names[::-1], labels, task="t", fold=fold)
        assert [names[::-1][row] for row in mixed] == drawn
        before = set(drawn)


def test_our_ranks_are_the_documented_ones_and_folds_differ() -> None:
    ranks = sorted(range(40), key=lambda n: hashlib.sha256(f"cxrbench:share:v1:t:2:i{n}".encode()).hexdigest())
    assert rows_of(OURS, "25%", 40, fold=2) == ranks[:10]
    assert rows_of(OURS, "25%", 40, fold=1) != ranks[:10]


@pytest.mark.parametrize("rule", RULES)
def test_all_is_every_row_in_table_order_once_whatever_the_rule(rule: ShareRule) -> None:
    assert rows_of(rule, "all", 9) == list(range(9))
    assert share_draws(rule, "all") == 1
    assert share_draws(rule, "1%") == (5 if rule == OURS else 1)


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != OURS])
def test_a_share_that_comes_to_nothing_says_which_rule_gives_one(rule: ShareRule) -> None:
    with pytest.raises(DataError, match=r"fewshot\.share"):
        rows_of(rule, "0.1%", 20)
