"""K above a small class's images is refused by name or allowed by name, never silent."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lab import COVID, Lab
from written_facts import write_facts

from cxrbench.errors import DataError
from cxrbench.runner.checks import short_classes
from cxrbench.runner.run import forecast
from cxrbench.specs import catalog

FEW = {"COVID": 4, "Normal": 4, "Pneumonia": 2, "Lung Opacity": 3}


@pytest.fixture
def uneven(lab: Lab, tmp_path: Path) -> Lab:
    """COVID with fewer training images of two classes."""
    task = catalog.load_task(lab.task("covid"))
    spec = task.splits["phantom"]
    quotas = {"test": dict.fromkeys(COVID, 5), "train": FEW}
    small = spec.model_copy(update={"params": {**spec.params, "quotas": quotas}})
    write_facts(tmp_path / "tasks" / "covid.toml", task.model_copy(update={"splits": {"phantom": small}}))
    return Lab(lab.models, tmp_path / "tasks", lab.data)


def run(lab: Lab, uneven: Lab, place: Path, **changes: object):
    changes = {"shots": (2, 4), "protocols": ["linear-probe"], "variant": str(lab.variant), **changes}
    return uneven.run(place, ["small_unimodal"], ["covid"], **changes)


def test_what_a_class_lacks_stands_in_the_record_by_its_distinct_images(lab: Lab, uneven: Lab, tmp_path: Path) -> None:
    report = run(lab, uneven, tmp_path)
    assert not report.problems
    short = {r.protocol.shots: r.protocol.short for r in report.records if r.data.group == "all"}
    assert short == {2: {}, 4: {"Pneumonia": 2, "Lung Opacity": 3}}


def test_a_variant_may_refuse_it_and_names_the_classes_and_the_way_out(lab: Lab, uneven: Lab, tmp_path: Path) -> None:
    report = run(lab, uneven, tmp_path, settings={"fewshot.short": "refused"}, groups=["all"])
    assert [r.protocol.shots for r in report.records] == [2]
    (problem,) = report.problems
    assert isinstance(problem, DataError)
    for part in ("covid", "K = 4", "Pneumonia 2", "Lung Opacity 3", "--set fewshot.short=allowed"):
        assert part in str(problem)


@pytest.mark.parametrize(("settings", "shots"), [({}, 5), ({"fewshot.short": "refused"}, 4)])
def test_a_dry_run_refuses_what_the_run_refuses_before_anything_is_computed(
    settings: dict[str, str], shots: int, lab: Lab, uneven: Lab, tmp_path: Path
) -> None:
    asked = uneven.request(tmp_path, ["small_unimodal"], ["covid"], shots=(2, shots), variant=str(lab.variant))
    told = forecast(replace(asked, protocols=("linear-probe",), groups=("all",), choices=settings))
    (problem,) = told.problems
    assert isinstance(problem, DataError) and f"covid, group all, K = {shots}" in str(problem)
    assert len(told.cells) == 1 and "K = 2" in told.cells[0]
    report = run(lab, uneven, tmp_path, shots=(shots,), settings=settings, groups=["all"])
    assert [str(one) for one in report.problems] == [str(problem)]
    assert not report.records and report.decoded == 0


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), max_size=12), min_size=1, max_size=3))
def test_repeats_count_once_and_the_fewest_of_all_folds_count(folds: list[list[tuple[int, int]]]) -> None:
    rows = [(tuple(f"{c}-{i}" for i, c in fold), np.array([c for _, c in fold], np.int64)) for fold in folds]
    found = short_classes(rows, 3, ("a", "b", "c"))
    for number, label in enumerate("abc"):
        fewest = min(len({image for image, owner in fold if owner == number}) for fold in folds)
        assert found.get(label, 3) == min(fewest, 3)
