"""PadChest's label strings: the traps of the table, as published and as meant."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.data.sources.padchest import entries
from cxrbench.errors import DataError, SpecError
from cxrbench.pretrain.corpus.padchest import cleaned
from cxrbench.pretrain.corpus.variants import LabelRule, corpus_variant, lists

PUBLISHED = corpus_variant("as-published").padchest
MEANT = corpus_variant("as-meant").padchest
WORDS = st.sampled_from(
    [
        *lists().names("padchest-80"), "normal", "empyema", "abnormal foreign body", "unchanged", "exclude", "",
        "pseudonodule", "multiple nodules", "NSG tube", "heart valve calcified", "COPD signs", "miliary opacities",
    ]
)  # fmt: skip
LABELS = st.lists(WORDS, max_size=6)


@pytest.mark.parametrize(
    ("label", "published", "meant"),
    [
        ("empyema", {"emphysema"}, {"empyema"}),
        ("abnormal foreign body", {"no finding"}, {"abnormal foreign body"}),
        ("normal", {"no finding"}, {"no finding"}),
        ("pseudonodule", {"pseudonodule", "nodule"}, {"pseudonodule"}),
        ("multiple nodules", {"multiple nodules", "nodule"}, {"multiple nodules", "nodule"}),
        ("old tuberculosis", {"support devices", "tuberculosis"}, {"old tuberculosis", "tuberculosis"}),
        ("NSG tube", {"support devices"}, {"support devices"}),
        ("electrical device", {"support devices"}, {"support devices"}),
        ("central venous catheter", {"support devices"}, {"support devices"}),
        ("artificial heart valve", {"heart valve"}, {"heart valve"}),
        (" cardiomegaly", {"cardiomegaly"}, {"cardiomegaly"}),
        ("scoliosis  ", {"scoliosis"}, {"scoliosis"}),
        ("COPD signs", {"copd signs"}, {"copd signs"}),
        ("callus rib fracture", {"callus rib fracture", "fracture"}, {"callus rib fracture", "fracture"}),
        ("pulmonary mass", {"pulmonary mass", "lung opacities"}, {"pulmonary mass", "lung opacities"}),
        ("loculated pleural effusion", {"loculated pleural effusion", "pleural effusion"},
         {"loculated pleural effusion", "pleural effusion"}),
        ("unchanged", set(), set()),
        ("exclude", set(), set()),
        ("", set(), set()),
    ],
)  # fmt: skip
def test_each_trap(label: str, published: set[str], meant: set[str]) -> None:
    assert cleaned([label], PUBLISHED) == published
    assert cleaned([label], MEANT) == meant


@given(LABELS, st.randoms())
def test_order_repeats_case_and_blanks_do_not_matter(labels: list[str], rng: "st.RandomType") -> None:  # type: ignore[name-defined]
    other = [rng.choice(["", " ", "  "]) + rng.choice([str.upper, str.lower])(label) + " " for label in labels * 2]
    rng.shuffle(other)
    for rule in (PUBLISHED, MEANT):
        assert cleaned(other, rule) == cleaned(labels, rule)


@given(LABELS, LABELS)
def test_labels_are_cleaned_one_by_one(some: list[str], more: list[str]) -> None:
    for rule in (PUBLISHED, MEANT):
        assert cleaned(some + more, rule) == cleaned(some, rule) | cleaned(more, rule)


@given(LABELS)
def test_the_two_variants_differ_only_in_what_was_mended(labels: list[str]) -> None:
    mended = {"empyema", "emphysema", "abnormal foreign body", "no finding", "pseudonodule", "nodule"}
    assert cleaned(labels, PUBLISHED) ^ cleaned(labels, MEANT) <= mended


@given(st.lists(st.text(max_size=20), max_size=5))
def test_entries_read_what_python_wrote(labels: list[str]) -> None:
    assert entries(repr(labels), "here") == labels


@given(st.text(max_size=40))
def test_entries_give_strings_or_a_clear_error(text: str) -> None:
    try:
        found = entries(text, "table: data row 3")
    except DataError as error:
        assert str(error).startswith("table: data row 3: Labels is ")
    else:
        assert all(isinstance(entry, str) for entry in found)


@pytest.mark.parametrize("text", ["nan", "['normal'", "normal", "[1, 2]", "{'a': 1}", "__import__('os')", "[" * 5000])
def test_what_is_no_list_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="not a list of labels"):
        entries(text, "table: data row 1")


def test_a_rule_says_one_thing() -> None:
    with pytest.raises(ValueError, match="either `becomes` or `adds`"):
        LabelRule(search="a", becomes="b", adds="c")
    with pytest.raises(ValueError, match="no regular expression"):
        LabelRule(search="(", becomes="b")


def test_unknown_variants_and_lists_are_named() -> None:
    with pytest.raises(SpecError, match="as-published"):
        corpus_variant("as-publishd")
    with pytest.raises(SpecError, match="padchest-80"):
        lists().names("padchest-84")
