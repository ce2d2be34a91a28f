"""The released protocol from raw files to printed numbers, through the public path and made checkpoints.

Every test gathers what differs and how much was compared, so that nothing is passed over in silence.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from protocol_material import EXPERIMENTS, STRATEGIES, Found, Wanted, card_name, measured, wanted

from cxrbench import digest
from cxrbench.evaluate.metrics import FoldMetrics
from cxrbench.evaluate.released_rounding import official_rounding
from cxrbench.record import Record
from cxrbench.store import Store

pytestmark = pytest.mark.slow

FOLDS = range(5)
PROMPTS = ("names", "description", "ensemble")
COMPARED: dict[tuple[str, str], int] = {}  # kind and experiment to figures held against each other


@pytest.fixture(scope="module")
def found(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return measured(tmp_path_factory.mktemp("protocol"), shared)


@pytest.fixture(params=EXPERIMENTS)
def figures(request: pytest.FixtureRequest, shared: Path) -> Wanted:
    return wanted(shared / "parity" / "protocol", request.param)


def relative(values: NDArray[Any], reference: NDArray[Any]) -> float:
    return float(np.abs(values - reference).max() / np.abs(reference).max())


def zero_shot_records(found: Found, figures: Wanted) -> Iterator[tuple[str, str, Record]]:
    """Strategy, prompt set and the harness's record; views by prototypes have one record for all prompt sets."""
    for strategy in STRATEGIES:
        for prompts in PROMPTS:
            if "error" in figures.facts["zero_shot"][strategy][prompts]:
                record = found.zero_shot(figures.name, strategy, prompts)
                if record is not None:
                    yield strategy, prompts, record


def fold_of(record: Record, number: int) -> int:
    """The recorded fold that stands for a released one: its own, or the first where equal folds are scored once."""
    return number if len(record.folds) > 1 else 0


def aligned(ids: list[str], scores: NDArray[np.float32], wanted_ids: list[str]) -> NDArray[np.float32]:
    """Scores in another order of the same rows."""
    assert sorted(ids) == sorted(wanted_ids)
    place = {image: row for row, image in enumerate(ids)}
    return scores[[place[image] for image in wanted_ids]]


def test_drawn_images_are_the_released_ones(found: Found, figures: Wanted) -> None:
    compared, wrong = 0, []
    for strategy, feature, shots, _ in figures.probes():
        record = found.probe(figures.name, strategy, feature, shots)
        for number in FOLDS:
            compared += 1
            drawn = figures.ids(figures.fold(number)["train"][str(shots)])
            if list(record.folds[number].train) != drawn:
                wrong.append((strategy, feature, shots, number))
    assert (wrong, compared) == ([], 5 * len(list(figures.probes())))


def test_test_rows_are_the_released_ones(found: Found, figures: Wanted) -> None:
    """As they stand where folds are drawn anew; a fixed test part keeps its table's order in every fold."""
    compared, wrong = 0, []
    for record in found.of(figures.name):
        scores = found.scores(record)
        for number in FOLDS:
            compared += 1
            ids, released = scores[fold_of(record, number)][0], figures.ids(figures.fold(number)["test"])
            same = ids == released if figures.name == "chexpert_5x200" else sorted(ids) == sorted(released)
            result = record.folds[fold_of(record, number)]
            if not same or result.test_digest != digest.of_lines(ids) or result.test_rows != len(ids):
                wrong.append((record.model.name, record.protocol, number))
    assert wrong == []
    assert compared == 5 * len(found.of(figures.name)) > 100


def test_drawn_prompts_are_the_released_ones(found: Found, figures: Wanted) -> None:
    wrong, compared = [], 0
    for strategy in found.by_prompts(figures.name, "ensemble"):
        record = found.zero_shot(figures.name, strategy, "ensemble")
        assert record is not None and record.prompts is not None
        for number in FOLDS:
            compared += 1
            drawn = record.prompts.drawn[number if len(record.prompts.drawn) > 1 else 0]
            if {name: list(words) for name, words in drawn.items()} != figures.facts["prompts"][number]:
                wrong.append((strategy, number))
    assert wrong == []
    assert compared >= 5


def test_zero_shot_scores_are_the_released_ones(found: Found, figures: Wanted) -> None:
    worst, compared = 0.0, 0
    for strategy, prompts, record in zero_shot_records(found, figures):
        prefix, run = figures.zero_shot(strategy, prompts)
        assert record.protocol.logit_scale is not None
        assert np.log(record.protocol.logit_scale) == pytest.approx(np.log(run["scale"]), abs=1e-5)
