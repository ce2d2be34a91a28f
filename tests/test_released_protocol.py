"""What the released code fixes and no digest of a split holds: classes and their order, prompts, counts, choices."""

import itertools
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.draws import released_fold
from cxrbench.runner.wording import wording
from cxrbench.specs import catalog

EXPERIMENTS: Mapping[str, Any] = json.loads(
    (Path(__file__).parent / "fixtures" / "released_experiments.json").read_text(encoding="utf-8")
)
PAPER_CODE = catalog.load_variant("paper-code")


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_has_its_classes_in_their_order(name: str) -> None:
    """The order decides whose rows are drawn first, which of equal scores wins, and the quadratic kappa."""
    told = EXPERIMENTS[name]
    assert list(catalog.load_task(told["task"]).groups[told["group"]]) == told["classes"]


def test_every_group_is_of_an_experiment() -> None:
    of = {(told["task"], told["group"]) for told in EXPERIMENTS.values()}
    groups = {(name, group) for name in catalog.PAPERS_TASKS for group in catalog.load_task(name).groups}
    assert {pair for pair in groups if not pair[1].endswith("-20")} == of


@pytest.mark.parametrize(
    ("task", "split", "params"),
    [
        ("chexpert5x200", "gloria", {"per_class": 200, "seed": 0, "reseed": False}),
        ("chexpert5x200", "mgca", {"per_class": 200, "seed": 0, "reseed": True}),
        ("mimic5x200", "dlilp", {"per_class": 200, "seed": 42, "views": ["AP", "PA"]}),
        ("siim", "dlilp-rows", {"parts": {"train": 2400, "test": 600}}),
        ("vindr", "dlilp", {"quotas": {"train": 350, "test": 60}}),
        *(
            ("rsna", split, {"per_class": 6000, "sample_seed": 42, "test_share": 0.3, "split_seed": 0})
            for split in ("dlilp-boxes", "dlilp-detailed-as-published", "dlilp-detailed-intended")
        ),
    ],
)
def test_the_released_counts_and_seeds(task: str, split: str, params: Mapping[str, Any]) -> None:
    told = catalog.load_task(task).split(split).params
    assert {name: told[name] for name in params} == params


def test_the_5x200_sets_are_resplit_and_the_others_have_a_test_table() -> None:
    found = {name: (task := catalog.load_task(name)).folds + f" {task.test_percent}" for name in catalog.PAPERS_TASKS}
    assert {name for name, told in found.items() if told == "resplit 20"} == {"chexpert5x200", "mimic5x200"}
    assert len(found) == 7


def test_paper_code_chooses_what_the_released_code_does() -> None:
    """In the environment that its authors name; the solver is the optimum that theirs comes close to."""
    told = PAPER_CODE.settings.model_dump(by_alias=True)
    other = {
        "resize.antialias": "off",
        "fewshot.share": "hash-rank-v1",
        "fewshot.short": "allowed",
        "nih.classes": "19",
        "covid.dlilp_split": "train",
        "lp.solver": "converged",
        "zs.description": "error",
        "padchest.labels": "padchest-79-as-published",
    }
    assert {name: choice for name, choice in told.items() if choice != "released"} == other


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_prompts_of_one_sentence_and_of_the_name(name: str) -> None:
    classes = EXPERIMENTS[name]["classes"]
    single = wording(catalog.load_prompts("names"), classes, PAPER_CODE.settings, None)
    assert dict(single.prompts) == {c: (f"a radiology image of {c.lower()}",) for c in classes}
    ensemble = catalog.load_prompts("ensemble")
    drawn = wording(ensemble, classes, PAPER_CODE.settings, random.Random(0).getstate()).prompts
    assert {c: drawn[c] for c in classes if c not in ensemble.terms} == {
        c: (c.lower(),) for c in classes if c not in ensemble.terms
    }


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_described_prompts_are_missing_where_the_released_spelling_differs(name: str) -> None:
    classes, described = EXPERIMENTS[name]["classes"], catalog.load_prompts("description")
    if "Brocho-pneumonia" not in classes:
        assert list(wording(described, classes, PAPER_CODE.settings, None).prompts) == classes
        return
    with pytest.raises(NotApplicableError, match="Brocho-pneumonia"):
        wording(described, classes, PAPER_CODE.settings, None)


@pytest.mark.parametrize(("fold", "rows", "shots"), [(0, 40, 16), (3, 97, 16), (4, 33, 5), (11, 60, 40)])
def test_drawn_prompts_go_on_from_the_fold_whatever_the_classes_are(fold: int, rows: int, shots: int) -> None:
    """Restated with Python's generator: shuffle, repeats of short classes, then one sample a large class, in order."""
    labels = [i % 3 if i % 7 else 0 for i in range(rows)]
    rng = random.Random(fold)
    order = list(range(rows))
    rng.shuffle(order)
    taken = [[row for row in order if labels[row] == c][:shots] for c in range(3)]
    for own in taken:
        if len(own) < max(map(len, taken)):
            rng.choices(own, k=max(map(len, taken)) - len(own))
    drawn = released_fold(np.array(labels), 3, fold, [shots], 0)
    assert drawn.random_state == rng.getstate()
    ensemble = catalog.load_prompts("ensemble")
    wanted = {}
    for name, terms in ensemble.terms.items():
        texts = [" ".join(" ".join(chosen).lower().split()) for chosen in itertools.product(*terms.slots[:3])]
        wanted[name] = texts
    for name in ("Atelectasis", "Consolidation", "Pneumonia"):
        wanted[name] = rng.sample(wanted[name], 100)
    for told in EXPERIMENTS.values():
        found = wording(ensemble, told["classes"], PAPER_CODE.settings, drawn.random_state).prompts
        assert {c: list(found[c]) for c in told["classes"] if c in wanted} == {
            c: wanted[c] for c in told["classes"] if c in wanted
        }
