"""How much of a number is wording: over prompt sets and over single prompts, by hand."""

import json
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import scored_fold, written
from typer.testing import CliRunner, Result

from cxrbench.analysis.prompts import Spread, prompt_spreads, spread_of
from cxrbench.cli.main import app
from cxrbench.errors import DataError
from cxrbench.records.integrity import read_results
from cxrbench.records.record import Record, record_path


def worded(out: Path, name: str, skill: float, singles: tuple[float | None, ...] = (), **changes: Any) -> Record:
    zero_shot = {"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits", "logit_scale": 20.0}
    source = "prototypes" if name == "prototypes" else "prompts"
    prompts = {"set": name, "digest": "1" * 64, "source": source}
    folds = [scored_fold(skill, 1, noise=3)]
    return written(out, "clip_cm", folds, protocol=zero_shot, prompts=prompts, single_prompts=singles, **changes)


def cli(out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["prompts", "--out", str(out), *words])


def value(record: Record) -> float:
    return float(record.folds[0].metrics["balanced_accuracy"])


def test_sets_are_ordered_and_spread_by_hand(tmp_path: Path) -> None:
    records = [worded(tmp_path, name, skill) for name, skill in (("a", 0.5), ("b", 2.0), ("c", 1.0))]
    (found,) = prompt_spreads(tmp_path, records)
    values = sorted(map(value, records))
    assert [one.prompts for one in found.sets] == ["b", "c", "a"]
    assert found.over_sets == Spread(3, fmean(values), pstdev(values), values[0], values[-1])
    assert found.sets[0].interval is not None and found.sets[0].interval.estimate == pytest.approx(values[-1])


def test_single_prompts_stand_beside_their_set(tmp_path: Path) -> None:
    worded(tmp_path, "a", 1.0, (0.5, 0.7, None, 0.6))
    (found,) = prompt_spreads(tmp_path, read_results(tmp_path, tmp_path).records)
    singles = found.sets[0].singles
    assert singles is not None
    assert (singles.n, singles.undefined, singles.low, singles.high) == (3, 1, 0.5, 0.7)
    assert singles.mean == pytest.approx(0.6)
    assert singles.std == pytest.approx((0.02 / 3) ** 0.5)
    shown = cli(tmp_path).stdout
    assert "50.00" in shown and "70.00" in shown and "8.16" in shown
    assert "1 single prompts have no number" in shown


def test_class_vectors_of_its_own_are_no_wording(tmp_path: Path) -> None:
    records = [worded(tmp_path, "a", 1.0), worded(tmp_path, "prototypes", 2.0)]
    (found,) = prompt_spreads(tmp_path, records)
    assert [one.prompts for one in found.sets] == ["a"]
    with pytest.raises(DataError, match="--prompts all"):
        prompt_spreads(tmp_path, records[1:])


def test_without_predictions_the_number_stays_and_has_no_interval(tmp_path: Path) -> None:
    record = worded(tmp_path, "a", 1.0)
    record_path(tmp_path, "rsna", "clip_cm", record.id).with_suffix(".parquet").unlink()
    (found,) = prompt_spreads(tmp_path, [record])
    assert (found.sets[0].value, found.sets[0].interval) == (pytest.approx(value(record)), None)


def test_groups_and_tasks_are_lines_of_their_own(tmp_path: Path) -> None:
    worded(tmp_path, "a", 1.0, data__task="vindr", data__group="base")
    worded(tmp_path, "a", 1.0, data__task="vindr")
    worded(tmp_path, "a", 1.0)
    data = json.loads(cli(tmp_path, "--format", "json").stdout)
    assert [(line["task"], line["group"]) for line in data] == [("rsna", "all"), ("vindr", "all"), ("vindr", "base")]
    assert "vindr (base)" in cli(tmp_path, "--format", "markdown").stdout


@given(st.lists(st.one_of(st.none(), st.floats(0, 1)), max_size=20))
def test_a_spread_lies_between_its_ends_and_counts_everything(values: list[float | None]) -> None:
    found = spread_of(values)
    if found is None:
        assert not [v for v in values if v is not None]
        return
    assert found.n + found.undefined == len(values)
    assert found.low - 1e-12 <= found.mean <= found.high + 1e-12
    assert 0 <= found.std <= (found.high - found.low) / 2 + 1e-12
