"""Prompts drawn from term lists, word for word as the released code drew them."""

import random

import pytest

from cxrbench.errors import SpecError
from cxrbench.evaluate.draws import released_fold
from cxrbench.evaluate.zero_shot import PromptTerms, all_prompts, combinations, released_prompts
from cxrbench.specs import paths
from cxrbench.specs.prompts import read_prompts


@pytest.fixture(scope="module")
def terms() -> PromptTerms:
    prompts = read_prompts(paths.folder("tasks") / "prompts" / "ensemble.toml")
    assert prompts.sample is not None
    slots = {name: t.slots for name, t in prompts.terms.items()}
    return PromptTerms(slots, prompts.sample.order, prompts.sample.above, prompts.sample.size)


def test_released_prompts_are_the_recorded_ones(experiment, terms):
    percent = 0 if experiment.test_table else 20
    for number, recorded in enumerate(experiment.facts["prompts"]):
        for shots in ([], [1], [2], [4], [8], [16]):
            fold = released_fold(experiment.table.labels, experiment.n_classes, number, shots, percent)
            drawn = released_prompts(terms, fold.random_state)
            assert {name: list(drawn.get(name, (name.lower(),))) for name in recorded} == recorded


def test_combinations_are_nested_lower_case_and_without_runs_of_blanks():
    slots = (("", "Mild"), ("a", "b"), ("", "at the  base"), ("never", "used"))
    assert combinations(slots) == (
        "a", "a at the base", "b", "b at the base", "mild a", "mild a at the base", "mild b", "mild b at the base"
    )  # fmt: skip


def test_only_large_classes_are_drawn_and_the_order_decides():
    many = (tuple("abcdef"), tuple("uvwxyz"), tuple("123"))  # 108
    state = random.Random(5).getstate()
    terms = PromptTerms({"X": many, "Y": many, "Z": (("one",), ("two",), ("",))}, ("Y", "X"))
    drawn = released_prompts(terms, state)
    rng = random.Random(5)
    assert list(drawn["Y"]) == rng.sample(combinations(many), 100)
    assert list(drawn["X"]) == rng.sample(combinations(many), 100)
    assert drawn["Z"] == ("one two",)


def test_all_prompts_are_distinct_and_complete(terms):
    everything = all_prompts(terms)
    assert {name: len(texts) for name, texts in everything.items()} == {
        name: len(set(combinations(slots))) for name, slots in terms.slots.items()
    }
    assert len(everything["Pneumonia"]) == 360
    assert len(everything["Pleural Effusion"]) == 54
    assert sum("pneumonia" not in text for text in everything["Pneumonia"]) == 288


@pytest.mark.parametrize("order", [(), ("X", "Unknown")])
def test_an_order_that_does_not_fit_the_terms_is_refused(order):
    terms = PromptTerms({"X": (("a", "b"), ("c", "d"), ("e",))}, order, above=3, size=2)
    with pytest.raises(SpecError, match="prompt sampling"):
        released_prompts(terms, random.Random(0).getstate())
