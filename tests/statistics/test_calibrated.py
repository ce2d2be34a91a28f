"""Calibration of cells through the command line: means over folds, values behind the curve, refusals told."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_predictions import scored_fold, written
from typer.testing import CliRunner, Result

from cxrbench.analysis.cell import calibrated
from cxrbench.cli.main import app
from cxrbench.errors import NotApplicableError
from cxrbench.records.integrity import read_results
from cxrbench.records.scores import FoldScores


def fold(right: int, number: int) -> FoldScores:
    """Ten rows, all 80 % sure, of which so many are right."""
    labels = np.arange(10) % 2
    sure = np.where(np.eye(2)[labels] == 1, 0.8, 0.2)
    scores = np.where((np.arange(10) < right)[:, None], sure, 1 - sure)
    return FoldScores(number, tuple(f"image{i}" for i in range(10)), labels, scores)


def cli(out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["calibration", "--out", str(out), *words])


def fused(out: Path) -> None:
    how: dict[str, Any] = {
        "protocol": "zero-shot",
        "tap": "joint",
        "part": "test",
        "scores": "other",
        "scoring": "interaction",
    }
    prompts = {"set": "names", "digest": "1" * 64, "source": "prompts"}
    written(out, "gloria", [scored_fold(1.0, 1)], protocol=how, prompts=prompts)


def test_errors_by_hand_are_means_over_folds(tmp_path: Path) -> None:
    """0.8 sure and 0.9 and 0.6 right: errors 0.1 and 0.2; Brier 2 x 0.04 for right, 2 x 0.64 for wrong rows."""
    written(tmp_path, "clip_cm", [fold(9, 0), fold(6, 1)])
    (cell,) = calibrated(tmp_path, read_results(tmp_path, tmp_path).records).cells
    assert cell.ece == pytest.approx(0.15)
    assert cell.adaptive_ece == pytest.approx(0.15)
    assert cell.brier == pytest.approx(((0.9 * 0.08 + 0.1 * 1.28) + (0.6 * 0.08 + 0.4 * 1.28)) / 2)
    (one,) = cell.pooled.reliability
    assert (one.rows, one.accuracy) == (20, 0.75)
    assert cell.pooled.ece == pytest.approx(0.05)


def test_the_verb_shows_values_and_tells_what_is_no_probability(tmp_path: Path) -> None:
    written(tmp_path, "clip_cm", [fold(9, 0), fold(6, 1)])
    fused(tmp_path)
    shown = cli(tmp_path).stdout
    assert "0.1500" in shown and "0.7500" in shown
    assert "not judged: gloria, zero-shot on rsna" in shown
    data = json.loads(cli(tmp_path, "--format", "json").stdout)
    assert data["cells"][0]["ece"] == pytest.approx(0.15)
    assert list(data["refused"]) == ["gloria, rsna, zero-shot, names"]


def test_nothing_to_judge_is_an_error(tmp_path: Path) -> None:
    fused(tmp_path)
    assert isinstance(cli(tmp_path).exception, NotApplicableError)


def test_reliability_is_drawn_the_same_each_time(tmp_path: Path) -> None:
    for model in ("clip_cm", "gloria"):
        written(tmp_path, model, [scored_fold(1.5, 2, number=k, noise=k) for k in range(2)])
    files = [tmp_path / f"{k}.svg" for k in range(2)]
    for file in files:
        assert cli(tmp_path, "--figure", str(file)).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert "ECE" in files[0].read_text()
