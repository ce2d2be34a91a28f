"""Variants: every choice is documented, every known difference is settled by name, bundles are complete."""

import pytest

from cxrbench.errors import SpecError
from cxrbench.specs import catalog
from cxrbench.specs.settings import choices

# The known differences between released code, paper and environment (ids of the protocol facts).
KNOWN_DIFFERENCES = [
    *("rsna.rows", "rsna.gloria", "siim.rows", "covid.test", "covid.order", "covid.dlilp_split", "nih.split"),
    *("nih.classes", "vindr.counts", "vindr.polarity", "5x200.folds", "resize.antialias", "canvas.floor"),
    *("lp.features", "lp.solver", "zs.ensemble", "zs.padding", "zs.description", "dlilp.head", "metrics.rounding"),
    *("sota.preprocessing", "padchest.labels", "pretrain.subset"),
]


def test_every_known_difference_is_settled_by_a_setting_or_a_split() -> None:
    docs = catalog.setting_docs().settings
    by_setting = {ident for doc in docs.values() for ident in doc.decides}
    tasks = [catalog.load_task(name) for name in catalog.task_files()]
    by_split = {ident for task in tasks for split in task.splits.values() for ident in split.decides}
    assert len(KNOWN_DIFFERENCES) == 23
    assert set(KNOWN_DIFFERENCES) == by_setting | by_split


def test_documented_choices_are_the_choices() -> None:
    docs = catalog.setting_docs().settings
    known = {**choices(), "fewshot.draw": tuple(catalog.draw_points())}
    assert {name: set(doc.choices) for name, doc in docs.items()} == {n: set(c) for n, c in known.items()}


def test_no_setting_has_only_one_choice() -> None:
    assert all(len(options) > 1 for options in choices().values())


@pytest.mark.parametrize("name", ["paper-code", "cxrbench-v1", "phantom"])
def test_bundles_name_a_split_that_exists_for_every_task_of_the_paper(name: str) -> None:
    variant = catalog.load_variant(name)
    assert set(variant.splits) == set(catalog.PAPERS_TASKS)
    for task, split in variant.splits.items():
        assert split in catalog.load_task(task).splits, task


def test_changed_choice_changes_digest_and_name() -> None:
    variant = catalog.load_variant("paper-code")
    other = variant.with_choices({"lp.solver": "scikit-learn", "rsna.split": "gloria"})
    assert other.digest != variant.digest
    assert other.name == "paper-code+lp.solver=scikit-learn,rsna.split=gloria"
    assert other.splits["rsna"] == "gloria"
    assert variant.with_choices({}) is variant


@pytest.mark.parametrize(
    ("changes", "words"), [({"lp.sover": "converged"}, "lp.solver"), ({"lp.solver": "newton"}, "scikit-learn")]
)
def test_unknown_setting_or_choice_names_what_there_is(changes: dict[str, str], words: str) -> None:
    with pytest.raises(SpecError, match=words):
        catalog.load_variant("paper-code").with_choices(changes)


def test_only_another_choice_than_the_default_changes_the_digest_and_bundles_may_leave_it_out() -> None:
    variant = catalog.load_variant("paper-code")
    assert variant.settings.share == "hash-rank-v1"
    assert variant.with_choices({"fewshot.share": "hash-rank-v1"}) is variant
    assert variant.with_choices({"fewshot.share": "mgca"}).digest != variant.digest
    told = variant.settings.model_dump(mode="json", exclude_defaults=True)
    assert variant.settings.model_dump(mode="json").keys() - told.keys() == {"fewshot.share"}
