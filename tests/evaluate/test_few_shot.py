"""Drawn rows: the released draw row for row, and the promises of the draws by hash rank."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.errors import DataError, SpecError
from cxrbench.evaluate.draws import hash_rank_fold, partition_folds, released_fold, usable_rows

TEST_PERCENT = 20


def test_released_draw_is_the_recorded_one(experiment):
    train, test = experiment.table, experiment.test_table
    for number, recorded in enumerate(experiment.facts["folds"]):
        shots = [int(k) for k in recorded["train"]]
        fold = released_fold(train.labels, experiment.n_classes, number, shots, 0 if test else TEST_PERCENT)
        if test is None:
            drawn = train.paths[fold.test]
        else:
            alone = released_fold(test.labels, experiment.n_classes, number, shots=(), test_percent=100)
            drawn = test.paths[alone.test]
        assert drawn.tolist() == recorded["test"]
        for k in shots:
            assert train.paths[fold.train[k]].tolist() == recorded["train"][str(k)], (number, k)


def test_the_draw_is_that_of_the_global_generator_and_leaves_it_alone():
    labels = np.array([0, 1] * 10 + [1] * 7)
    random.seed(3)
    expected = list(range(27))
    random.shuffle(expected)
    state = random.getstate()
    before = random.Random(99).getstate()
    random.setstate(before)
    fold = released_fold(labels, 2, 3, [4], 20)
    assert random.getstate() == before
    assert fold.random_state == state
    zeros = [row for row in expected if labels[row] == 0]
    assert fold.test[:2].tolist() == zeros[:2]
    assert fold.train[4][:4].tolist() == zeros[2:6]


def test_a_short_class_repeats_its_own_rows_after_them_and_moves_the_generator():
    labels = np.repeat([0, 1, 2], [9, 3, 5])
    fold = released_fold(labels, 3, 0, [2, 4], 0)
    rows = fold.train[4]
    assert labels[rows].tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert rows[4:6].tolist() == fold.train[2][2:4].tolist()  # as they were drawn, before the one that is repeated
    assert set(rows[4:7].tolist()) == {9, 10, 11}
    assert rows[7] in {9, 10, 11}
    assert fold.random_state != released_fold(labels, 3, 0, [2], 0).random_state
    assert fold.train[2].tolist() == released_fold(labels, 3, 0, [2], 0).train[2].tolist()


@pytest.mark.parametrize(("percent", "expected"), [(29, 28), (57, 56), (58, 57), (30, 30), (20, 20)])
def test_test_share_is_the_floor_of_a_floating_product(percent, expected):
    labels = np.repeat([0, 1], 100)
    assert len(released_fold(labels, 2, 0, [1], percent).test) == 2 * expected


@given(
    counts=st.lists(st.integers(2, 30), min_size=2, max_size=6),
    fold=st.integers(0, 4),
    percent=st.sampled_from([0, 20, 50]),
)
def test_released_parts_are_disjoint_nested_and_balanced(counts, fold, percent):
    labels = np.repeat(np.arange(len(counts)), counts)
    drawn = released_fold(labels, len(counts), fold, [1, 2, 16], percent)
    for k, rows in drawn.train.items():
        assert not set(rows.tolist()) & set(drawn.test.tolist())
        assert len(set(Counter(labels[rows].tolist()).values())) == 1
        assert set(rows.tolist()) <= set(drawn.train[16].tolist()) or k == 16


def test_a_class_of_one_row_is_refused():
    with pytest.raises(DataError, match="class 1 has exactly one row"):
        released_fold(np.array([0, 0, 1]), 2, 0, [1], 0)


def test_nothing_left_to_train_on_is_refused():
    with pytest.raises(DataError, match="no row left"):
        released_fold(np.repeat([0, 1], 5), 2, 0, [1], 100)


def test_shots_and_shares_outside_their_range_are_refused():
    with pytest.raises(SpecError, match="shots"):
        released_fold(np.repeat([0, 1], 5), 2, 0, [0], 20)
    with pytest.raises(SpecError, match="0 to 100"):
        released_fold(np.repeat([0, 1], 5), 2, 0, [1], 101)


def test_usable_rows_hold_exactly_one_of_the_classes():
    labels = np.array([[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, -1], [0, 0, 1], [1, 0, 1]], dtype=np.int8)
    both = usable_rows(labels, [2, 0])
    assert both.rows.tolist() == [0, 1, 4]
    assert both.labels.tolist() == [1, 0, 0]
    assert usable_rows(labels, [0, 1, 2]).rows.tolist() == [0, 3, 4]


ROWS = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3)), min_size=4, max_size=80)


@given(rows=ROWS, order=st.randoms(use_true_random=False), fold=st.integers(0, 4))
def test_hash_rank_draw_is_free_of_order_nested_and_without_repeats(rows, order, fold):
    ids, labels = [f"i{i}" for i, _ in rows], np.array([i % 3 for i, _ in rows])
    drawn = hash_rank_fold(ids, labels, task="t", fold=fold, shots=[1, 2, 8])
    mixed = list(range(len(ids)))
    order.shuffle(mixed)
    again = hash_rank_fold([ids[i] for i in mixed], labels[mixed], task="t", fold=fold, shots=[1, 2, 8])
    for k in (1, 2, 8):
        names = [ids[row] for row in drawn.train[k]]
        assert names == [ids[mixed[row]] for row in again.train[k]]
        assert len(set(names)) == len(names)
        assert set(names) <= {ids[row] for row in drawn.train[8]}
        for c in set(labels.tolist()):
            distinct = len({name for name, label in zip(ids, labels, strict=True) if label == c})
            assert (labels[drawn.train[k]] == c).sum() == min(k, distinct)


def test_hash_rank_draw_has_the_documented_ranks():
    drawn = hash_rank_fold(list("abcdef"), np.array([0, 0, 0, 1, 1, 1]), task="rsna", fold=2, shots=[2])
    # printf cxrbench:fewshot:v1:rsna:2:a | sha256sum, and so on for b to f
    assert drawn.train[2].tolist() == [0, 1, 5, 4]
    assert drawn.test.tolist() == []
    assert drawn.random_state is None


def test_hash_rank_draw_keeps_every_row_of_a_test_image_out():
    ids, labels = ["a", "b", "a", "c", "d"], np.array([0, 0, 0, 1, 1])
    drawn = hash_rank_fold(ids, labels, task="t", fold=0, shots=[5], test=np.array([0, 3]))
    assert drawn.train[5].tolist() == [1, 4]
    assert drawn.test.tolist() == [0, 3]


@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_partition_covers_once_splits_no_patient_and_ignores_row_order(rows, order):
    ids, labels = [str(i) for i in range(len(rows))], np.array([c for _, c in rows])
    patients = [f"p{p}" for p, _ in rows]
    if len(set(patients)) < 5:
        with pytest.raises(DataError, match="patients"):
            partition_folds(ids, labels, patients, "t")
        return
    parts = partition_folds(ids, labels, patients, "t")
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(rows)))
    owners = [{patients[row] for row in part} for part in parts]
    assert sum(len(o) for o in owners) == len(set(patients))
    mixed = list(range(len(ids)))
    order.shuffle(mixed)
    again = partition_folds([ids[i] for i in mixed], labels[mixed], [patients[i] for i in mixed], "t")
    assert [{ids[r] for r in part} for part in parts] == [{ids[mixed[r]] for r in part} for part in again]


@given(labels=st.lists(st.integers(0, 4), min_size=5, max_size=120))
def test_partition_of_single_rows_is_balanced_in_every_class(labels):
    parts = partition_folds([f"i{n}" for n in range(len(labels))], np.array(labels), None, "t")
    for c in set(labels):
        counts = [(np.array(labels)[part] == c).sum() for part in parts]
        assert max(counts) - min(counts) <= 1


def test_partition_balances_patients_of_several_rows():
    rng = np.random.default_rng(0)
    patients = [f"p{n}" for n in range(960) for _ in range(1 + (n % 24 == 0))]
    labels = rng.permutation(np.repeat(np.arange(5), 200))
    parts = partition_folds([str(n) for n in range(1000)], labels, patients, "chexpert5x200")
    table = np.array([np.bincount(labels[part], minlength=5) for part in parts])
    assert np.abs(table - 40).max() <= 2
