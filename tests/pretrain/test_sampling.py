"""Split, texts, masks and schedule against the figures of the released code; order and batches by their promises."""

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_lessons import made_corpus

from cxrbench.errors import DataError
from cxrbench.pretrain.batches import (
    Wording,
    batches,
    described,
    draw_chances,
    masks,
    shares,
    shuffled,
    split,
    text_rng,
)
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.corpus.types import Sentence
from cxrbench.pretrain.loop import Schedule

FIXTURES = Path(__file__).parents[1] / "fixtures/pretrain"
RECIPE: dict[str, Any] = json.loads((FIXTURES / "recipe.json").read_text())
CLASSES = tuple(RECIPE["categories"])
RELEASED = build_config(None, {})


@pytest.mark.parametrize("n", RECIPE["split"])
def test_the_split_equals_the_released_one(n: str) -> None:
    parts, wanted = split(made_corpus(int(n)), RELEASED.data), RECIPE["split"][n]
    assert parts.validation.tolist() == wanted["val"]
    assert parts.train[:20].tolist() == wanted["train_first_20"]
    assert sorted([*parts.train, *parts.validation]) == list(range(int(n)))


@pytest.mark.parametrize("case", range(len(RECIPE["descriptions"])))
def test_texts_equal_the_released_ones(case: int) -> None:
    told = RECIPE["descriptions"][case]
    pairs = zip(told["prompts"], told["prompts_categories"], strict=True)
    sentences = [Sentence(text, tuple(map(CLASSES.index, names))) for text, names in pairs]
    labels = [CLASSES.index(name) for name in told["order"]]
    found = described(sentences, labels, Wording(CLASSES, RELEASED.text), random.Random(told["random_seed"]))
    assert found.text == told["prompt"]
    assert sorted(CLASSES[i] for i in found.categories) == told["prompt_categories"]
    assert found.from_report == bool(told["prompts"])


def test_sentences_are_put_into_lower_case() -> None:
    words = Wording(CLASSES, RELEASED.text)
    assert described([Sentence("No Edema.", ())], [3], words, random.Random(0)).text == "no edema."


def test_masks_are_the_label_spaces() -> None:
    spaces = {name: tuple(map(CLASSES.index, names)) for name, names in RECIPE["label_spaces"].items()}
    corpus = made_corpus(30, classes=CLASSES, spaces=spaces)
    sizes = {told: int(row.sum()) for told, row in zip(corpus.source, masks(corpus), strict=True)}
    assert sizes == {"CHEXPERT": 14, "MIMIC": 14, "PADCHEST": 78}
    mask = masks(corpus)[corpus.source.index("PADCHEST")]
    assert tuple(np.flatnonzero(mask)) == spaces["PADCHEST"]


def test_the_schedule_equals_the_released_one() -> None:
    golden = np.load(FIXTURES / "losses.npz")
    schedule = Schedule(1e-4, int(golden["schedule/iterations_per_epoch"]), int(golden["schedule/warmup_epochs"]))
    found = [schedule.rate(step) for step in range(300)]
    np.testing.assert_allclose(found, golden["schedule/lr"], rtol=1e-14, atol=0)
    assert schedule.rate(9) == schedule.rate(10) == 1e-4
    assert 0.79e-4 < schedule.rate(299) < 0.81e-4
    assert schedule.rate(1000) == schedule.rate(5000) == 0.0
    assert Schedule(1.0, 10, 0).rate(0) == 1.0


def test_by_patient_no_patient_is_on_both_sides() -> None:
    corpus = made_corpus(200)
    parts = split(corpus, RELEASED.data.model_copy(update={"split_by": "patient"}))
    sides = [{(corpus.source[r], corpus.patients[r]) for r in rows} for rows in (parts.train, parts.validation)]
    assert not sides[0] & sides[1]
    assert 5 < len(parts.validation) < 40
    assert sorted([*parts.train, *parts.validation]) == list(range(200))


def test_limits_and_unreadable_rows_come_after_the_split() -> None:
    corpus, readable = made_corpus(261), np.ones(261, bool)
    readable[112] = False  # the first row of the validation part
    data = RELEASED.data.model_copy(update={"train_limit": 200, "validation_limit": 100})
    parts = split(corpus, data, readable)
    assert parts.validation.tolist() == RECIPE["split"]["261"]["val"][1:]
    assert len(parts.train) == 200
    with pytest.raises(DataError, match="5 images leave 5 for training and 0 for validation"):
        split(made_corpus(5), RELEASED.data)


@given(n=st.integers(1, 300), size=st.integers(1, 40), ranks=st.integers(1, 9))
def test_batches_hold_every_image_once_and_every_process_has_one(n: int, size: int, ranks: int) -> None:
    if n < ranks:
        with pytest.raises(DataError):
            batches(n, size, ranks)
        return
    found = batches(n, size, ranks)
    assert [i for part in found for i in range(n)[part]] == list(range(n))
    for part in found:
        counts = shares(len(range(n)[part]), ranks)
        assert min(counts) >= 1
        assert sum(counts) == len(range(n)[part])
        assert max(counts) - min(counts) <= 1
    if ranks == 1:
        assert len(found) == -(-n // size)  # the last batch is kept


def test_draws_depend_on_seed_epoch_and_row_alone() -> None:
    rows = np.arange(50) * 3
    assert sorted(shuffled(rows, 0, 1)) == rows.tolist()
    assert shuffled(rows, 0, 1).tolist() == shuffled(rows, 0, 1).tolist() != shuffled(rows, 0, 2).tolist()
    assert np.array_equal(draw_chances(9, 4, 5, 6), draw_chances(9, 4, 5, 6))
    assert not np.array_equal(draw_chances(9, 4, 5, 6), draw_chances(9, 4, 5, 7))
    sentences = [Sentence(word, ()) for word in "abcde"]
    drawn = [described(sentences, [], Wording((), RELEASED.text), text_rng(0, e, 7)).text for e in range(500)]
    assert min(Counter(drawn).values()) > 60
    assert drawn == [described(sentences, [], Wording((), RELEASED.text), text_rng(0, e, 7)).text for e in range(500)]


def test_orders_and_changes_of_a_seed_are_frozen() -> None:
    """A run must go on, and be repeated, on another version; figures of this one, NumPy's PCG64."""
    assert shuffled(np.arange(20), 0, 0)[:8].tolist() == [4, 19, 6, 2, 13, 16, 3, 11]
    assert draw_chances(3, 4, 0, 0)[0].tolist() == pytest.approx(
        [0.5221571, 0.88973874, 0.99294823, 0.557138], abs=1e-7
    )
    assert text_rng(0, 0, 1).random() == 0.6775248742179935
