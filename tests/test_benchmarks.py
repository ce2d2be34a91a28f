"""The helpers that measure: what counts as a verdict, and that arms take turns in processes of their own."""

import importlib
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.images.pixels import pixels_by
from cxrbench.specs.recipe import Canvas

ROOT = Path(__file__).resolve().parent.parent
RATIOS = st.lists(st.floats(0.1, 100), min_size=3, max_size=9)


@pytest.fixture(scope="module")
def rounds() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module("benchmarks.rounds")


def test_a_ratio_is_held_against_its_bound_from_the_right_side(rounds: ModuleType) -> None:
    low, high = (1.08, 1.09, 1.10), (1.11, 1.12, 1.13)
    assert rounds.Row("cost", low, rounds.Target(1.10, at_most=True)).verdict == "met"
    assert rounds.Row("cost", high, rounds.Target(1.10, at_most=True)).verdict == "missed"
    assert rounds.Row("gain", low, rounds.Target(1.10)).verdict == "missed"
    assert rounds.Row("gain", high, rounds.Target(1.10)).verdict == "met"


def test_the_median_and_not_the_best_round_decides(rounds: ModuleType) -> None:
    assert rounds.Row("gain", (3.9, 3.95, 4.0, 4.1, 3.9), rounds.Target(4.0)).verdict == "missed"


def test_rounds_that_disagree_give_no_verdict(rounds: ModuleType) -> None:
    row = rounds.Row("gain", (20.0, 30.0, 40.0), rounds.Target(4.0))
    assert (row.median, row.iqr) == (30.0, 10.0)
    assert row.verdict == "no verdict: spread too wide"


def test_arms_that_differ_in_what_they_compute_give_no_verdict(rounds: ModuleType) -> None:
    row = rounds.Row("gain", (5.0, 5.0, 5.0), rounds.Target(4.0), equal=False)
    assert row.verdict == "no verdict: arms not equal"


@given(RATIOS, st.floats(1.01, 1000))
def test_a_verdict_depends_on_no_unit(rounds: ModuleType, values: list[float], factor: float) -> None:
    row = rounds.Row("cost", tuple(values))
    scaled = rounds.Row("cost", tuple(value * factor for value in values))
    if abs(row.iqr - rounds.MAX_SPREAD * row.median) > 1e-9 * row.median:
        assert row.verdict == scaled.verdict


@given(RATIOS)
def test_ratios_are_taken_round_by_round(rounds: ModuleType, values: list[float]) -> None:
    assert rounds.ratios([2 * value for value in values], values) == (2.0,) * len(values)


def test_arms_take_turns_in_changing_order(rounds: ModuleType) -> None:
    seen: list[str] = []

    def arm(name: str) -> str:
        seen.append(name)
        return name.upper()

    arms = {name: partial(arm, name) for name in "ab"}
    assert rounds.alternated(arms, 3) == {"a": ["A"] * 3, "b": ["B"] * 3}
    assert "".join(seen) == "abbaab"


def test_an_arm_runs_in_a_process_of_its_own_on_one_thread(rounds: ModuleType) -> None:
    found = rounds.child("child:about", word="image")
    assert found["word"] == "image"
    assert found["pid"] != os.getpid()
    assert found["threads"] == "1"
    assert 0 < found["clocked"] <= found["whole"]


def test_the_yardstick_reads_pixels_as_the_harness_does(rounds: ModuleType, tmp_path: Path) -> None:
    from PIL import Image

    released = importlib.import_module("benchmarks.official")
    noise = np.random.default_rng(0).integers(0, 256, (613, 400), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).save(path)
    wanted = pixels_by(path.read_bytes(), path.name, Canvas()).array[0]
    np.testing.assert_array_equal(released.pixels(path), wanted)


def test_the_bootstrap_that_intervals_are_timed_against_has_their_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of images, and of patients who have images of several classes."""
    from cxrbench.evaluate.metric_table import TABLE
    from cxrbench.evaluate.statistics.interval import estimate
    from cxrbench.evaluate.statistics.shares import ScoredRows

    monkeypatch.syspath_prepend(str(ROOT))
    arms = importlib.import_module("benchmarks.intervals")
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, 180)
    scores = draw.normal(size=(180, 3)) + np.eye(3)[labels]
    for units in (np.arange(180), draw.permutation(180) // 2):
        fold = ScoredRows(units, labels, scores)
        for metric in arms.LOOPED:
            theirs = np.std(arms.resamples(arms._scorer(metric), [fold], 300))
            found = estimate(TABLE[metric].shares([fold]), TABLE[metric].bounds, "images")
            assert found.error == pytest.approx(theirs, rel=0.15)


def test_tables_of_coverage_are_the_same_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    coverage = importlib.import_module("benchmarks.coverage")
    some = {name: coverage.SPARSE_LAWS[name] for name in ("200 + 5, recalls 0.8", "AUROC 0.80, 15 + 285")}
    monkeypatch.setattr(coverage, "SPARSE_LAWS", some)
    one, two = (list(coverage.sparse(20)) for _ in range(2))
    assert one == two
    assert [len(row) for row in one] == [5, 5, 5]
    assert [row[3] for row in one[1:]] == ["1.000", "0.000"]


@pytest.mark.slow
def test_the_arms_of_the_benchmark_of_pre_training_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    arms = importlib.import_module("benchmarks.pretrain")
    small = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    for name, value in {"BASE": small, "BATCH": 2, "STEPS": 1, "EPOCHS": 1, "PER_CLASS": 1}.items():
        monkeypatch.setattr(arms, name, value)
    arms.prepared(tmp_path)
    assert min(arm(str(tmp_path))["cpu"] for arm in (arms.fed, arms.augmented, arms.steps)) > 0
    files = [str(path) for path in sorted((tmp_path / "pretraining").rglob("*.jpg"))[:3]]
    kept, decoded = arms.kept(files), arms.decoded(files)
    assert kept["content"] == decoded["content"]
    assert kept["size"] > 224 * 224
