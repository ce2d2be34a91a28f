"""The released protocol from raw files to printed numbers, through the public path and synthetic checkpoints.

Every test gathers what differs and how much was compared, so that nothing is passed over in silence.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_weights import zoo_card
from numpy.typing import NDArray
from protocol_figures import EXPERIMENTS, Wanted, wanted
from protocol_material import MAIN, SHOTS, SINGLE, STRATEGIES, Found, measured

from cxrbench.evaluate.metrics import FoldMetrics
from cxrbench.records.record import Record
from cxrbench.reports.detail import official_rounding
from cxrbench.store.embeddings import Store, digest

pytestmark = pytest.mark.slow

FOLDS = range(5)
PROMPTS = ("names", "description", "ensemble")
# how many runs of the figures are held against records: zero-shot (a record by prototypes stands for three), probes
ZERO_SHOTS = {**dict.fromkeys(EXPERIMENTS, 6), **dict.fromkeys(SINGLE, 11), "covid_train_2class": 12}
PROBES = {**dict.fromkeys(EXPERIMENTS, 16), **dict.fromkeys(SINGLE, 20), "nihlt_train_new": 16}


@pytest.fixture(scope="module")
def found(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Found:
    return measured(tmp_path_factory, shared)


@pytest.fixture(params=EXPERIMENTS)
def figures(request: pytest.FixtureRequest, shared: Path) -> Wanted:
    return wanted(shared / "parity" / "protocol", request.param)


def zero_shot_records(found: Found, figures: Wanted) -> Iterator[tuple[str, str, Record]]:
    """Strategy, prompt set and the record; one by prototypes stands for all prompt sets."""
    for strategy in STRATEGIES:
        for prompts in PROMPTS:
            record = found.zero_shot(figures.name, strategy, prompts)
            if record is not None:
                yield strategy, prompts, record


def own(record: Record, number: int) -> int:
    """The recorded fold that stands for a released one: its own, or the first where equal folds are scored once."""
    return number if len(record.folds) > 1 else 0


def aligned(ids: list[str], scores: NDArray[np.float32], order: list[str]) -> NDArray[np.float32]:
    """Scores in another order of the same rows."""
    assert sorted(ids) == sorted(order)
    place = {image: row for row, image in enumerate(ids)}
    return scores[[place[image] for image in order]]


def relative(values: NDArray[Any], reference: NDArray[Any]) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(values - reference).max() / np.abs(reference).max())


def printed(value: Any) -> Any:
    """Numbers as the figures hold them: six significant digits."""
    return [printed(v) for v in value] if isinstance(value, list) else float(f"{value:.6g}")


def metrics(record: Record, number: int) -> FoldMetrics:
    return FoldMetrics(**record.folds[own(record, number)].metrics)


def test_drawn_images_are_the_released_ones(found: Found, figures: Wanted) -> None:
    wrong, cells = [], found.probes(figures)
    for feature, shots, source, record in cells:
        for number in FOLDS:
            drawn = figures.ids(figures.fold(number)["train"][str(shots)])
            if list(record.folds[number].train) != drawn:
                wrong.append((source, feature, shots, number))
    assert wrong == []
    assert len(cells) == PROBES[figures.name]


def test_test_rows_are_the_released_ones(found: Found, figures: Wanted) -> None:
    """In the released order where folds are drawn anew; a fixed test part keeps its table's order in every fold."""
    wrong, records = [], found.of(figures.name)
    for record in records:
        scores = found.scores(record)
        for number in FOLDS:
            ids, released = scores[own(record, number)][0], figures.ids(figures.fold(number)["test"])
            same = ids == released if figures.name == "chexpert_5x200" else sorted(ids) == sorted(released)
            result = record.folds[own(record, number)]
            if not same or result.test_digest != digest.of_lines(ids) or result.test_rows != len(ids):
                wrong.append((record.model.name, record.protocol, number))
    assert wrong == []
    assert len(records) >= PROBES[figures.name] + 4


def test_drawn_prompts_are_the_released_ones(found: Found, figures: Wanted) -> None:
    wrong, compared = [], 0
    for strategy, prompts, record in zero_shot_records(found, figures):
        if prompts != "ensemble" or record.prompts is None or record.prompts.source != "prompts":
            continue
        for number in FOLDS:
            compared += 1
            drawn = record.prompts.drawn[number if len(record.prompts.drawn) > 1 else 0]
            if {name: list(words) for name, words in drawn.items()} != figures.facts["prompts"][number]:
                wrong.append((strategy, number))
    assert wrong == []
    assert compared >= 5


def test_zero_shot_scores_are_the_released_ones(found: Found, figures: Wanted) -> None:
    differences: dict[tuple[str, str, int], float] = {}
    for strategy, prompts, record in zero_shot_records(found, figures):
        prefix, run = figures.zero_shot(strategy, prompts)
        assert record.protocol.logit_scale == pytest.approx(run["scale"], rel=1e-5)
        scores = found.scores(record)
        for number in FOLDS:
            reference = figures.arrays[f"{prefix}/f{number}/scores"]
            ids, values = scores[own(record, number)]
            values = aligned(ids, values, figures.ids(figures.fold(number)["test"]))
            differences[strategy, prompts, number] = relative(values, reference)
    assert len(differences) == 5 * ZERO_SHOTS[figures.name]
    assert {run: worst for run, worst in differences.items() if worst > 1e-4} == {}


def test_zero_shot_metrics_are_the_released_ones(found: Found, figures: Wanted) -> None:
    wrong = []
    for strategy, prompts, record in zero_shot_records(found, figures):
        run = figures.zero_shot(strategy, prompts)[1]
        report = official_rounding([metrics(record, number) for number in FOLDS])
        for number, reference in enumerate(run["folds"]):
            rendered = report.folds[number]
            wrong += [
                (strategy, prompts, number, n) for n, v in reference.items() if printed(rendered[n]) != printed(v)
            ]
        for name, value in run["average"].items():
            if printed(report.average[name]) != printed(value):
                wrong.append((strategy, prompts, -1, name))
    assert wrong == []


def test_probe_scores_are_the_converged_ones(found: Found, figures: Wanted) -> None:
    """Scores of K = 16; the figures hold no converged scores for fewer shots."""
    differences: dict[tuple[str, str, int], float] = {}
    for feature, shots, source, record in found.probes(figures):
        if shots != max(SHOTS):
            continue
        scores = found.scores(record)
        for number in FOLDS:
            reference = figures.arrays[f"converged/lp/{source}/K{shots}/f{number}/scores"]
            values = aligned(*scores[number], figures.ids(figures.fold(number)["test"]))
            differences[record.model.name, feature, number] = float(
                np.abs(values - reference).max() / np.ptp(reference)
            )
    assert len(differences) == 5 * 2 * (4 if figures.name in SINGLE else 2)
    assert {run: worst for run, worst in differences.items() if worst > 1e-4} == {}


def test_probe_accuracies_are_the_converged_ones(found: Found, figures: Wanted) -> None:
    wrong, cells = [], found.probes(figures)
    for feature, shots, source, record in cells:
        report = official_rounding([metrics(record, number) for number in FOLDS])
        reference = figures.facts["converged"][f"{source}/K{shots}"]
        rendered = [fold["aca"] for fold in report.folds]
        if rendered != reference["aca"] or report.average["aca_avg"] != reference["aca_avg"]:
            wrong.append((record.model.name, feature, shots, rendered, reference["aca"]))
    assert wrong == []
    assert len(cells) == PROBES[figures.name]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_stored_features_are_the_released_ones(found: Found, figures: Wanted, strategy: str) -> None:
    if strategy not in MAIN and figures.name not in SINGLE:
        pytest.skip("not run: its figures are CLIP's")
    contents = found.contents(figures)
    stored = found.embeddings(strategy)
    values = stored.rows("pooled", contents)
    assert (np.abs(values - figures.raw).max(axis=1) / np.abs(figures.raw).max(axis=1)).max() < 1e-4
    sample = figures.facts["projected_sample"]
    if strategy in sample:
        view = zoo_card(f"{strategy}_cm").view(EXPERIMENTS[figures.name][1])
        rows = stored.rows(view.tap, [contents[row] for row in sample[strategy]])
        assert relative(rows, figures.arrays[f"projected_sample/{strategy}"]) < 1e-4


def test_each_image_went_through_each_model_once(found: Found) -> None:
    """Groups, shots, prompts and kinds of features share the vectors: only three of the runs had images to encode."""
    counts = [len(found.embeddings(strategy)) for strategy in STRATEGIES]
    assert sum(found.encoded) == sum(counts)
    assert [count > 0 for count in found.encoded] == [True, False, True, False, True, False, False]
    assert len(list(Store(found.cache).entries())) == len(STRATEGIES)


def test_records_say_what_made_them(found: Found) -> None:
    for name in EXPERIMENTS:
        for record in found.of(name):
            assert record.variant.startswith("scaled+lp.features=")
            assert record.synthetic and record.published == ()
            assert record.preprocessing.recipe.size == 64 and not record.preprocessing.recipe.antialias
            assert record.protocol.protocol == "zero-shot" or record.protocol.solver == "converged"
