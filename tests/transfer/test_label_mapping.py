"""The written mapping: every entry names what is there, and a label stands for one finding."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_crossing import made_task

from cxrbench.errors import SpecError
from cxrbench.specs import catalog
from cxrbench.specs.transfer import check, joined, label_mapping, read_mapping

LABELS = ("A", "B", "C", "D")
TASKS = {name: made_task(name, LABELS) for name in ("one", "two", "three")}
CONCEPTS = st.dictionaries(
    st.sampled_from(["x", "y", "z"]),
    st.dictionaries(st.sampled_from([*TASKS, "four"]), st.sampled_from([*LABELS, "E"]), max_size=3),
    max_size=3,
)


def faulty(added: Mapping[str, Mapping[str, str]], strict: Mapping[str, Mapping[str, str]]) -> bool:
    """Whether something is wrong, worked out the long way."""
    entries = [(c, t, label) for part in (strict, added) for c, tasks in part.items() for t, label in tasks.items()]
    unknown = any(t not in TASKS or label not in LABELS for c, ts in added.items() for t, label in ts.items())
    clash = any((one[1] == two[1]) and ((one[0] == two[0]) != (one[2] == two[2])) for one in entries for two in entries)
    return unknown or clash


@given(CONCEPTS)
@settings(max_examples=200, deadline=None)
def test_a_mapping_is_refused_exactly_where_a_label_is_not_one_finding(added: dict[str, dict[str, str]]) -> None:
    _agrees(added, {})


@given(CONCEPTS, CONCEPTS)
@settings(max_examples=200, deadline=None)
def test_what_is_added_may_not_contradict_the_strict_mapping(
    added: dict[str, dict[str, str]], strict: dict[str, dict[str, str]]
) -> None:
    if not faulty(strict, {}):
        _agrees(added, strict)


def _agrees(added: dict[str, dict[str, str]], strict: dict[str, dict[str, str]]) -> None:
    if faulty(added, strict):
        with pytest.raises(SpecError, match=r"^here"):
            check(added, strict, TASKS, "here")
        return
    check(added, strict, TASKS, "here")
    whole = joined(strict, added)
    for name in TASKS:
        labels = [tasks[name] for tasks in whole.values() if name in tasks]
        assert len(labels) == len(set(labels))


def test_the_built_in_mapping_and_each_choice_hold_and_say_why() -> None:
    facts = read_mapping()
    assert len(facts.concepts) > 15
    for name, choice in facts.choices.items():
        assert choice.title and choice.why
        assert label_mapping(name).name == name


def test_the_strict_mapping_has_no_normal_images_but_chexperts_own_rule() -> None:
    facts = read_mapping()
    mapped = {(task, label) for tasks in facts.concepts.values() for task, label in tasks.items()}
    normal = {(t, label) for t, label in mapped if label in ("Normal", "No Finding")}
    assert normal == {(t, "No Finding") for t in ("chexpert_test500", "chexpert_valid202", "mimic_test")}
    assert not {"rsna", "rsna_pneumonia", "covid", "vindr"} & {task for task, _ in mapped}


def test_pairs_that_the_strict_mapping_lets_meet() -> None:
    task, mapping = catalog.load_task, label_mapping(None)
    found = mapping.shared(task("nih14_official"), task("chexpert_test500"), task("chexpert_test500").groups["all"])
    assert [(one.trained, one.scored) for one in found][-2:] == [
        ("Pneumothorax", "Pneumothorax"),
        ("Effusion", "Pleural Effusion"),
    ]
    assert len(found) == 7
    five = mapping.shared(task("nih_lt"), task("mimic5x200"), task("mimic5x200").groups["all"])
    assert [one.scored for one in five] == list(task("mimic5x200").groups["all"])


def own_file(folder: Path, text: str, name: str = "mine.toml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[concepts.Effusion]\nnih_ltt = 'Effusion'", r"mine.toml: there is no task 'nih_ltt'; did you mean nih_lt "),
        (
            "[concepts.Fluid]\nnih_lt = 'Efusion'",
            r"mine.toml: Fluid: there is no label of nih_lt 'Efusion'; did you mean",
        ),
        (
            "[concepts.Fluid]\nnih_lt = 'Effusion'",
            "Effusion of nih_lt is under two concepts, Pleural Effusion and Fluid",
        ),
        ("[concepts.Mass]\nnih_lt = 'Nodule'", "Mass of nih_lt is 'Mass' in the strict mapping, and 'Nodule' here"),
        (
            "[concepts.One]\nrsna = 'Normal'\n[concepts.Two]\nrsna = 'Normal'",
            "Normal of rsna is under two concepts, One and Two",
        ),
        (
            "[concepts.Mass]\nmine = 'Lump'",
            "there is no task 'mine'; .*named in the command, by --trained-on or --task",
        ),
        ("concept.Mass = 1", "mine.toml"),
    ],
)
def test_a_file_of_ones_own_is_refused_with_names(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=told):
        label_mapping(own_file(tmp_path, text))


def test_a_file_may_name_tasks_of_the_command(tmp_path: Path) -> None:
    mine = made_task("mine", ("Lump", "Water"))
    text = "[concepts.Mass]\nmine = 'Lump'\n[concepts.'Pleural Effusion']\nmine = 'Water'"
    mapping = label_mapping(own_file(tmp_path, text), [mine])
    found = mapping.shared(catalog.load_task("nih_lt"), mine, mine.groups["all"])
    assert [(one.concept, one.trained, one.scored) for one in found] == [
        ("Mass", "Mass", "Lump"),
        ("Pleural Effusion", "Effusion", "Water"),
    ]
    assert mapping.adds_to(catalog.load_task("nih_lt"), mine, mine.groups["all"])
    assert not mapping.adds_to(catalog.load_task("nih_lt"), catalog.load_task("mimic5x200"), ["Edema"])


@pytest.mark.parametrize("name", ["as-named.toml", "My mapping.toml"])
def test_a_file_whose_name_no_group_can_end_in_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="call the file by another name"):
        label_mapping(own_file(tmp_path, "[concepts]", name))


def test_a_choice_that_does_not_exist_is_refused_with_the_nearest() -> None:
    with pytest.raises(SpecError, match="did you mean as-named"):
        label_mapping("as-name")
