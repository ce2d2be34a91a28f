"""A record trained on another task is another record as soon as anything of that task that decides it is another."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from made_crossing import FAR, MAPPING, NEAR, laid, made_task, rows
from made_identity import bench

from cxrbench.records.record import record_id
from cxrbench.runner.identity import identity
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell, TaskData, load_protocol
from cxrbench.runner.request import Places, Request
from cxrbench.runner.transfer import pair
from cxrbench.specs.card_facts import recipe_for
from cxrbench.specs.transfer import LabelMapping
from cxrbench.store import digest
from cxrbench.types import Findings

TRAINED = ("Effusion", "Mass", "Normal", "Air", "Effusion", "Mass", "Air", "Normal", "Mass")


@dataclass(frozen=True)
class Crossing:
    """What a cell that another task trains may depend on."""

    source: TaskData
    target: TaskData
    mapping: LabelMapping = MAPPING
    contents: Mapping[str, str] = None  # type: ignore[assignment]
    left_out: Mapping[str, str] = None  # type: ignore[assignment]


def base() -> Crossing:
    source = laid(made_task("near", NEAR), {"train": rows("a", TRAINED, NEAR), "test": rows("z", NEAR, NEAR)})
    target = laid(made_task("far", FAR), {"train": rows("t", FAR, FAR), "test": rows("b", FAR, FAR)})
    return Crossing(source, target, contents={}, left_out={})


@pytest.fixture
def ident(tmp_path: Path) -> Callable[[Crossing], str]:
    """The id of the record of one cell."""
    made = bench(tmp_path)
    variant = made.variant()
    model = made.model(variant, "text")

    def of(crossing: Crossing) -> str:
        data = pair(crossing.source, crossing.target, crossing.mapping, variant.settings)
        assert data.trained_on is not None
        name, recipe = recipe_for(model.card, variant.settings, crossing.target.task.released_polarity)
        trained = recipe_for(model.card, variant.settings, crossing.source.task.released_polarity)[1]
        group = data.trained_on.group
        cell = Cell(model, data, group, load_protocol("linear-probe"), 1, None, name, recipe, trained)
        request = Request(("keyed",), ("far",), shots=(1,), places=Places(cache=tmp_path / "cache"))
        plan = Plan(request, variant, cells=[cell])
        contents = {i: digest.of_bytes(i.encode()) for i in plan.wanted(cell)} | dict(crossing.contents)
        return record_id(identity(cell, plan, dict(crossing.left_out), contents))

    return of


def source(**changes: Any) -> Callable[[Crossing], Crossing]:
    return lambda c: replace(c, source=replace(c.source, partition=replace(c.source.partition, **changes)))


def source_task(**changes: Any) -> Callable[[Crossing], Crossing]:
    return lambda c: replace(c, source=replace(c.source, task=made_task("near", NEAR, **changes)))


def train(*classes: str, prefix: str = "a") -> Callable[[Crossing], Crossing]:
    def change(c: Crossing) -> Crossing:
        parts = {**c.source.partition.parts, "train": rows(prefix, classes, NEAR)}
        return replace(c, source=laid(c.source.task, parts))

    return change


def another_concept(c: Crossing) -> Crossing:
    strict = {("Other" if name == "Air" else name): tasks for name, tasks in MAPPING.strict.items()}
    return replace(c, mapping=LabelMapping(strict, {}))


def another_label(c: Crossing) -> Crossing:
    """The scored task's Pneumothorax is trained by the source's Normal."""
    return replace(c, mapping=LabelMapping({**MAPPING.strict, "Air": {"near": "Normal", "far": "Pneumothorax"}}, {}))


def fewer_labels(c: Crossing) -> Crossing:
    return replace(c, mapping=LabelMapping({k: v for k, v in MAPPING.strict.items() if k != "Air"}, {}))


def another_name(c: Crossing) -> Crossing:
    strict = {name: {"nearer": tasks["near"], "far": tasks["far"]} for name, tasks in MAPPING.strict.items()}
    return replace(
        c, source=laid(made_task("nearer", NEAR), c.source.partition.parts), mapping=LabelMapping(strict, {})
    )


def in_two_splits(c: Crossing) -> Crossing:
    task = made_task("near", NEAR, splits={"one": {"rule": "draw"}, "two": {"rule": "draw"}})
    return replace(c, source=TaskData(task, replace(c.source.partition, split="two"), c.source.root))


def known_split(c: Crossing) -> Crossing:
    """Another verdict on the same rows: the task file says which they must be."""
    part = c.source.partition.parts["train"]
    told = {"rows": 9, "distinct": 9, "counts": {}, "rows_sha256": part.digest, "set_sha256": part.set_digest}
    task = made_task("near", NEAR, splits={"one": {"rule": "draw", "reference": {"train": told}}})
    return replace(c, source=replace(c.source, task=task))


MOVING: Mapping[str, Callable[[Crossing], Crossing]] = {
    "name": another_name,
    "split": in_two_splits,
    "reference": known_split,
    "labels of rows": train("Mass", "Effusion", "Normal", "Air", "Effusion", "Mass", "Air", "Normal", "Mass"),
    "ids of rows": train(*TRAINED, prefix="c"),
    "fewer rows": train(*TRAINED[:-1]),
    "a row that is not drawn": train(*TRAINED, "Normal"),
    "synthetic": source(synthetic=True),
    "rows left out of its tables": source(findings=Findings(left_out={"no class": 3})),
    "concept": another_concept,
    "label": another_label,
    "fewer labels": fewer_labels,
    "origin": source_task(origins=[]),
    "how its images are read": source_task(released_polarity="negated"),
    "bytes of a training image": lambda c: replace(c, contents={"near:a1": "other"}),
    "a training image that cannot be read": lambda c: replace(c, left_out={"near:a1": "cut off"}),
}
STILL: Mapping[str, Callable[[Crossing], Crossing]] = {
    "title": source_task(title="Another"),
    "where its images lie": lambda c: replace(c, source=laid(c.source.task, c.source.partition.parts, Path("/other"))),
    "a note": source(findings=Findings(notes=("a note",))),
    "licence": source_task(licence="another"),
}


@pytest.mark.parametrize("change", MOVING.values(), ids=MOVING)
def test_each_fact_of_the_task_that_trains_makes_another_record(
    change: Callable[[Crossing], Crossing], ident: Callable[[Crossing], str]
) -> None:
    assert ident(change(base())) != ident(base())


@pytest.mark.parametrize("change", STILL.values(), ids=STILL)
def test_what_decides_nothing_makes_none(
    change: Callable[[Crossing], Crossing], ident: Callable[[Crossing], str]
) -> None:
    assert ident(change(base())) == ident(base())
