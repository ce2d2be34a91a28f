"""Draws by name: SS-Text's three row for row, what they promise, and what is no draw."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.errors import DataError, SpecError
from cxrbench.evaluate.draws import Draw, Pool, drawn_rows, hash_rank_fold, load_draw, released_fold
from cxrbench.specs import catalog
from cxrbench.types import IntArray

GOLDEN = np.load(Path(__file__).parent.parent / "fixtures" / "protocols" / "few_shot_draws.npz")
SS_TEXT = ("standard", "relaxed", "realistic")
CASES = [name.removesuffix("/index") for name in GOLDEN.files if name.endswith("/index")]


def pool(labels: Sequence[int] | IntArray, n_classes: int | None = None) -> Pool:
    values = np.asarray(labels, np.int64)
    return Pool([f"i{row}" for row in range(len(values))], values, n_classes or int(values.max()) + 1, "t")


def test_the_recorded_cases_are_all_eighteen() -> None:
    assert len(CASES) == 18 and {case.split("/")[1] for case in CASES} == set(SS_TEXT)


@pytest.mark.parametrize("case", CASES)
def test_ss_texts_draws_are_those_of_its_code_in_their_order(case: str) -> None:
    classes, name, shots = case.split("/")
    draw, k = load_draw(name), int(shots.removeprefix("k"))
    found = drawn_rows(draw, pool(GOLDEN[f"{classes}/pool_labels"]), int(GOLDEN[f"{case}/fold"]), [1, 4, 16])
    assert found[k].tolist() == GOLDEN[f"{case}/index"].tolist()


def test_a_realistic_draw_leaves_classes_out_and_the_others_do_not() -> None:
    labels = GOLDEN["c19/pool_labels"]
    there = {name: len(np.unique(labels[GOLDEN[f"c19/{name}/k1/index"]])) for name in SS_TEXT}
    assert there["standard"] == there["relaxed"] == 19 > there["realistic"]


COUNTS = st.lists(st.integers(0, 60), min_size=2, max_size=9).filter(any)


@given(counts=COUNTS, fold=st.integers(0, 19), k=st.integers(1, 20))
def test_ss_texts_draws_repeat_nothing_and_take_no_more_than_k_a_class_on_average(
    counts: list[int], fold: int, k: int
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    there = np.flatnonzero(counts)
    for name in SS_TEXT:
        rows = drawn_rows(load_draw(name), pool(labels, len(counts)), fold, [k])[k]
        drawn = np.bincount(labels[rows], minlength=len(counts))
        assert len(set(rows.tolist())) == len(rows) <= k * len(there)
        if name == "standard":
            assert drawn.tolist() == [min(k, count) for count in counts]
        if name == "relaxed":
            assert (drawn[there] > 0).all()


@given(counts=COUNTS, fold=st.integers(0, 4), asked=st.lists(st.integers(1, 9), min_size=1, unique=True))
def test_no_k_depends_on_the_others_that_are_asked_for(counts: list[int], fold: int, asked: list[int]) -> None:
    labels = np.repeat(np.arange(len(counts)), [count + 2 for count in counts])
    for name in catalog.draw_points():
        together = drawn_rows(load_draw(name), pool(labels), fold, asked)
        assert list(together) == asked
        for k in asked:
            assert together[k].tolist() == drawn_rows(load_draw(name), pool(labels), fold, [k])[k].tolist(), name


def test_the_papers_draw_and_ours_are_draws_as_any() -> None:
    own = pool(np.random.default_rng(0).integers(0, 3, 90))
    assert (load_draw("released").folds, load_draw("standard").folds) == (5, 20)
    assert [load_draw(name).equal for name in catalog.draw_points()] == [True, True, True, False, False]
    for fold in range(2):
        old = released_fold(own.labels, 3, fold, [2, 4], 0).train
        new = drawn_rows(load_draw("released"), own, fold, [2, 4])
        ranked = hash_rank_fold(own.ids, own.labels, task="t", fold=fold, shots=[2, 4]).train
        ours = drawn_rows(load_draw("hash-rank-v1"), own, fold, [2, 4])
        for k in (2, 4):
            assert new[k].tolist() == old[k].tolist() and ours[k].tolist() == ranked[k].tolist()


class Given(Draw):
    name = "given"

    def __init__(self, rows: Mapping[int, object]) -> None:
        self._rows = rows

    def rows(self, pool: Pool, fold: int, shots: Sequence[int]) -> Mapping[int, IntArray]:
        return self._rows  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ({1: [0, 4]}, "rows 0 to 4 of a pool of 4"),
        ({1: [-1, 2]}, "rows -1 to 2 of a pool of 4"),
        ({1: [0.0, 1.0]}, "no list of row numbers"),
        ({1: []}, "no list of row numbers"),
        ({2: [0]}, "no list of row numbers"),
        ({1: [[0], [1]]}, "no list of row numbers"),
        ({1: [True, False]}, "no list of row numbers"),
    ],
)
def test_rows_that_cannot_be_are_refused_with_the_draws_name(rows: Mapping[int, object], told: str) -> None:
    with pytest.raises(DataError, match=f"draw given, fold 3, K = 1: gave {told}"):
        drawn_rows(Given(rows), pool([0, 0, 1, 1]), 3, [1])


def test_an_unknown_draw_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean realistic"):
        load_draw("realistc")
    with pytest.raises(SpecError, match=r"no draw \(setting fewshot.draw\) 'relaxt'; did you mean relaxed"):
        catalog.chosen_variant("paper-code", {"fewshot.draw": "relaxt"})
    assert catalog.chosen_variant("paper-code", {"fewshot.draw": "relaxed"}).settings.draw == "relaxed"
