"""Negative controls are noted in a pair and stand apart from a board."""

from pathlib import Path
from typing import Any

import pytest
from made_predictions import scored_fold, written
from typer.testing import CliRunner

from cxrbench.analysis.compare import compare
from cxrbench.analysis.leaderboard import Leaderboard, leaderboard
from cxrbench.cli.main import app
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.records.integrity import read_results
from cxrbench.records.record import Record
from cxrbench.records.selection import CellFilter, Selected, every_setting, select
from cxrbench.specs import catalog

SKILL = {"good": 3.0, "fair": 1.5, "poor": 0.6}
CONTROL: dict[str, Any] = {"model__control": True}
SHUFFLED: dict[str, Any] = {"protocol__labels": "shuffled"}


def measured(out: Path, model: str, skill: float, **changes: Any) -> list[Record]:
    return [
        written(out, model, [scored_fold(skill, seed, noise=int(10 * skill))], data__task=task, **changes)
        for seed, task in enumerate(("rsna", "siim"))
    ]


def selected(out: Path, *models: str) -> Selected:
    (found,) = select(read_results(out, out).records, CellFilter(models, catalog.load_variant("paper-code")))
    return found


def board(out: Path, *models: str) -> Leaderboard:
    return leaderboard(out, selected(out, *models), BALANCED_ACCURACY)


@pytest.mark.parametrize(("how", "words"), [(CONTROL, "no encoder of radiographs"), (SHUFFLED, "shuffled labels")])
def test_a_pair_with_a_control_says_so_once(how: dict[str, Any], words: str, tmp_path: Path) -> None:
    measured(tmp_path, "good", 3.0)
    measured(tmp_path, "blank", 0.0, **how)
    found = compare(tmp_path, selected(tmp_path, "good", "blank"), BALANCED_ACCURACY)
    (note,) = [note for note in found.notes if "control" in note]
    assert note.startswith("blank is a negative control") and words in note
    shown = CliRunner().invoke(app, ["compare", "good", "blank", "--out", str(tmp_path)]).stdout
    assert f"note: {note}" in shown


def test_pairs_without_controls_have_no_such_note(tmp_path: Path) -> None:
    measured(tmp_path, "good", 3.0)
    measured(tmp_path, "fair", 1.5)
    told = compare(tmp_path, selected(tmp_path, "all"), BALANCED_ACCURACY).notes
    assert not [note for note in told if "control" in note]


def test_controls_stand_below_a_board_and_change_nothing_in_it(tmp_path: Path) -> None:
    for model, skill in SKILL.items():
        measured(tmp_path, model, skill)
    before = board(tmp_path, "all")
    measured(tmp_path, "blank", 0.0, **SHUFFLED)
    measured(tmp_path, "pixels", 9.0, **CONTROL)
    after = board(tmp_path, "all")
    assert after.models == before.models == ("good", "fair", "poor")
    assert (after.ranks.friedman, after.ranks.critical_difference) == (
        before.ranks.friedman,
        before.ranks.critical_difference,
    )
    assert (after.places, after.best, after.best_mean) == (before.places, before.best, before.best_mean)
    assert (after.told_apart, after.compared) == (before.told_apart, before.compared) == (6, 6)
    assert [control.model for control in after.controls] == ["blank", "pixels"]
    assert all(value is not None and value.low is not None for value in after.controls[0].values)
    shown = CliRunner().invoke(app, ["compare", "all", "--out", str(tmp_path)]).stdout
    assert "3 models: " in shown and "control: pixels" in shown and "negative controls stand apart" in shown


def test_a_control_of_other_images_has_no_number_beside_the_board(tmp_path: Path) -> None:
    for model, skill in SKILL.items():
        measured(tmp_path, model, skill)
    written(tmp_path, "blank", [scored_fold(0.0, 0, images=50)], data__task="rsna", **CONTROL)
    assert [control.values for control in board(tmp_path, "all").controls] == [(None, None)]


def test_two_models_among_controls_are_compared_as_a_pair(tmp_path: Path) -> None:
    measured(tmp_path, "good", 3.0)
    measured(tmp_path, "fair", 1.5)
    measured(tmp_path, "blank", 0.0, **CONTROL)
    found = selected(tmp_path, "all")
    assert found.models == ("fair", "good")
    assert "negative controls are left out of a pair, ask for them one by one: blank" in found.notes


def test_a_control_of_another_setting_does_not_empty_a_board(tmp_path: Path) -> None:
    for model, skill in SKILL.items():
        measured(tmp_path, model, skill)
    measured(tmp_path, "blank", 0.0, protocol__shots=1, **CONTROL)
    measured(tmp_path, "good", 2.0, protocol__shots=1)
    found = {
        s.setting.shots: s
        for s in select(
            read_results(tmp_path, tmp_path).records, CellFilter(("all",), catalog.load_variant("paper-code"))
        )
    }
    assert found[16].models == ("fair", "good", "poor")


def test_controls_alone_are_not_ranked(tmp_path: Path) -> None:
    measured(tmp_path, "good", 3.0)
    for name in ("blank", "pixels"):
        measured(tmp_path, name, 0.0, **CONTROL)
    (found,) = every_setting(read_results(tmp_path, tmp_path).records)
    with pytest.raises(NotApplicableError, match=r"no negative controls .*there are 1, and the controls blank, pixels"):
        leaderboard(tmp_path, found, BALANCED_ACCURACY)
