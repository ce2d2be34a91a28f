"""Which folds a cell is measured on: the part that is scored, and the draw that its prompts go on from."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from cxrbench.data.splits import table
from cxrbench.evaluate.draws import released_fold
from cxrbench.runner.model import BenchModel
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell, TaskData, load_protocol
from cxrbench.runner.request import Request
from cxrbench.specs import catalog
from cxrbench.types import Findings, Partition

COUNTS = (30, 9, 21, 13)  # two classes have fewer than 16 rows, so that the draw repeats some and moves the generator


def cell(model: str, protocol: Any, split: str = "dlilp-author-list") -> Cell:
    """A cell of COVID on tables that need no file."""
    task = catalog.load_task("covid")
    index = np.random.default_rng(0).permutation(np.repeat(range(4), COUNTS))
    parts = {
        part: table([f"{part}{n}" for n in range(len(index))], index, np.arange(len(index)), task.classes)
        for part in ("train", "test")
    }
    data = TaskData(task, Partition("covid", split, parts, {}, Findings()), Path())
    card = catalog.load_card(model)
    shots = 1 if protocol == "linear-probe" else None
    known = cast(BenchModel, SimpleNamespace(card=card))
    return Cell(known, data, "all", load_protocol(protocol), shots, None, "reality-check", card.recipe("reality-check"))


def planned(variant: str, shots: tuple[int, ...]) -> Plan:
    return Plan(Request(("x",), ("covid",), shots=shots), catalog.load_variant(variant))


@pytest.mark.parametrize("shots", [(1,), (1, 16), (4, 40)])
def test_zero_shot_prompts_go_on_from_the_draw_of_sixteen_whatever_is_asked(shots: tuple[int, ...]) -> None:
    made, asked = planned("paper-code", shots), cell("clip_cm", "zero-shot")
    labels = asked.data.partition.parts["train"].labels.argmax(axis=1)
    for fold in made.folds(asked):
        wanted = released_fold(labels, 4, fold.fold, [16], 0)
        assert fold.random_state == wanted.random_state != released_fold(labels, 4, fold.fold, [1], 0).random_state
    assert set(made.folds(cell("clip_cm", "linear-probe"))[0].train) == set(shots)


@pytest.mark.parametrize(
    ("variant", "model", "protocol", "part"),
    [
        ("paper-code", "dlilp_cm", "zero-shot", "train"),
        ("paper-code", "dlilp_cm", "linear-probe", "test"),
        ("paper-code", "clip_cm", "zero-shot", "test"),
        ("paper-code", "unimodal_cm", "zero-shot", "test"),
        ("cxrbench-v1", "dlilp_cm", "zero-shot", "test"),
    ],
)
def test_dlilp_is_scored_on_the_train_part_of_covid_as_released(
    variant: str, model: str, protocol: str, part: str
) -> None:
    made, asked = planned(variant, (1,)), cell(model, protocol)
    assert made.test_part(asked) == part
    assert {name.rstrip("0123456789") for fold in made.folds(asked) for name in fold.test[0]} == {part}
