"""Where another order of the training images decides test images otherwise, every reader says so beside the number."""

import json
from pathlib import Path
from typing import Any

import pytest
from made_results import scores, write_result
from typer.testing import CliRunner

import cxrbench
from cxrbench.analysis.cell_table import cell_table
from cxrbench.analysis.rows import cell_facts
from cxrbench.cli.main import app
from cxrbench.evaluate.findings import summarised
from cxrbench.evaluate.metric_table import main_metric
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record, Reordered
from cxrbench.records.row_order import REORDERED, UNSETTLED, row_order_note
from cxrbench.records.selection import CellFilter
from cxrbench.reports.detail import detail
from cxrbench.reports.tables import Format, render
from cxrbench.runner.recording import write_cell
from cxrbench.specs import catalog

MODELS = ("clip_cm", "gloria", "medclip")
VARIANT = catalog.load_variant("paper-code")
TOLD = "training images in another order decide up to 41 of 400 test images otherwise (fold 1): 61.00 %"


def fitted_twice(out: Path, *changed: int, **how: Any) -> Record:
    """A sound record of a probe whose folds had a second fit that decides so many test images otherwise."""
    own = how.pop("folds", scores())
    record = write_result(out, own, protocol__protocol="clap", protocol__shots=1, **how)
    folds = [
        fold.model_copy(
            update={"reordered": Reordered(changed=n, metric="balanced_accuracy", value=0.6 + 0.02 * place)}
        )
        for place, (fold, n) in enumerate(zip(record.folds, changed, strict=True))
    ]
    return write_cell(out, record.model_copy(update={"folds": tuple(folds)}), own, {"patient": {}})


def test_it_is_told_in_words_only_where_a_decision_changed(tmp_path: Path) -> None:
    assert row_order_note(fitted_twice(tmp_path, 3, 41)) == TOLD
    assert row_order_note(fitted_twice(tmp_path, 0, 0)) == ""
    assert row_order_note(write_result(tmp_path, protocol__shots=1)) == ""


def test_info_tells_both_outcomes_and_nothing_of_a_single_fit(tmp_path: Path) -> None:
    changed, still = fitted_twice(tmp_path, 3, 41, id="a"), fitted_twice(tmp_path, 0, 0, id="b")
    once = write_result(tmp_path, protocol__shots=1)
    told = [detail(record, read_cell(tmp_path, record)) for record in (changed, still, once)]
    assert f"row order    {TOLD}" in told[0]
    assert "row order    another order of the training images changes no decision" in told[1]
    assert "row order" not in told[2]


@pytest.mark.parametrize(
    ("form", "mark"), [("terminal", "≈"), ("markdown", "≈"), ("latex", r"$\approx$"), ("json", '"marks": "≈"')]
)
def test_tables_mark_it_with_a_note(form: Format, mark: str, tmp_path: Path) -> None:
    fitted_twice(tmp_path, 3, 41)
    view = cell_table(tmp_path, read_results(tmp_path, tmp_path).records, CellFilter(("all",), VARIANT))
    text = render(view, form)
    assert mark in text and "decide up to 41 of 400 test images otherwise" in text


def test_tables_of_a_steady_fit_have_no_mark(tmp_path: Path) -> None:
    fitted_twice(tmp_path, 0, 0)
    view = cell_table(tmp_path, read_results(tmp_path, tmp_path).records, CellFilter(("all",), VARIANT))
    assert "≈" not in render(view, "terminal") and "otherwise" not in render(view, "terminal")


def test_exports_have_the_outcome_of_the_second_fit(tmp_path: Path) -> None:
    facts = cell_facts(fitted_twice(tmp_path, 3, 41))
    assert (facts.reordered_changes, facts.reordered_value) == (41, pytest.approx(0.61))
    once = cell_facts(write_result(tmp_path, protocol__shots=1))
    assert (once.reordered_changes, once.reordered_value) == (None, None)


@pytest.mark.parametrize("kind", ["single-label", "multi-label"])
def test_the_metric_of_a_second_fit_is_the_main_one(kind: Any) -> None:
    assert summarised(kind, "all")[0] == main_metric(kind, "all").name


def sides(out: Path, *models: str, **how: Any) -> None:
    """Models on two tasks, of which gloria alone is changed by another order, on rsna."""
    for task in ("rsna", "covid"):
        for place, model in enumerate(models):
            changed = (3, 41) if (model, task) == ("gloria", "rsna") else (0, 0)
            folds = scores(errors=60 + 20 * place)
            fitted_twice(out, *changed, folds=folds, model__name=model, data__task=task, id=f"{place}", **how)


def lines(text: str, *words: str) -> list[str]:
    return [line for line in text.splitlines() if all(word in line for word in words)]


@pytest.mark.parametrize("form", ["terminal", "markdown"])
@pytest.mark.parametrize("pair", [("clip_cm", "gloria"), ("gloria", "clip_cm")])
def test_a_comparison_says_which_side_hangs_on_the_order(form: str, pair: tuple[str, str], tmp_path: Path) -> None:
    sides(tmp_path, *pair)
    done = CliRunner().invoke(app, ["compare", *pair, "--out", str(tmp_path), "--format", form])
    assert done.exit_code == 0, done.output
    (row,) = lines(done.stdout, "rsna ", "400 images")
    cells = row.split("]")
    assert [UNSETTLED in cell for cell in cells[1:3]] == [pair[0] == "gloria", pair[1] == "gloria"]
    assert not any(UNSETTLED in line for line in lines(done.stdout, "covid ", "400 images"))
    assert lines(done.stdout, REORDERED, "of the first order alone") and lines(done.stdout, f"gloria, rsna: {TOLD}")


def test_a_comparison_in_data_has_the_note_of_each_side(tmp_path: Path) -> None:
    sides(tmp_path, "clip_cm", "gloria")
    done = CliRunner().invoke(app, ["compare", "clip_cm", "gloria", "--out", str(tmp_path), "--json"])
    told = {task["task"]: task for task in json.loads(done.stdout)[0]["tasks"]}
    assert (told["rsna"]["a"]["row_order"], told["rsna"]["b"]["row_order"]) == ("", TOLD)
    frame = cxrbench.compare("clip_cm", "gloria", tmp_path).to_dataframe().set_index("task")
    assert frame.loc["rsna", "row_order_b"] == TOLD
    assert frame[["row_order_a", "row_order_b"]].notna().to_numpy().sum() == 1


@pytest.mark.parametrize("form", ["terminal", "markdown"])
def test_boards_mark_each_number_and_mean_that_hangs_on_the_order(form: str, tmp_path: Path) -> None:
    sides(tmp_path, "clip_cm", "gloria", "medclip")
    done = CliRunner().invoke(app, ["compare", "all", "--out", str(tmp_path), "--format", form])
    assert done.exit_code == 0, done.output
    rows = [line.lstrip("| ") for line in done.stdout.splitlines()]
    counts = {model: sum(row.count(UNSETTLED) for row in rows if row.startswith(f"{model} ")) for model in MODELS}
    assert counts == {"clip_cm": 0, "gloria": 2, "medclip": 0}
    assert lines(done.stdout, REORDERED, "of the first order alone") and lines(done.stdout, f"gloria, rsna: {TOLD}")


def test_a_control_beside_a_board_is_marked_too(tmp_path: Path) -> None:
    sides(tmp_path, "clip_cm", "medclip", "cxr_clip")
    for task in ("rsna", "covid"):
        fitted_twice(tmp_path, 3, 41, model__name="blank", model__control=True, data__task=task, id="control")
    done = CliRunner().invoke(app, ["compare", "all", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    (row,) = (line for line in done.stdout.splitlines() if line.startswith("control: blank"))
    assert row.count(UNSETTLED) == 2 and lines(done.stdout, f"blank, covid: {TOLD}")


def test_comparisons_of_steady_fits_have_no_mark(tmp_path: Path) -> None:
    for model in MODELS:
        fitted_twice(tmp_path, 0, 0, model__name=model, id=model)
    done = CliRunner().invoke(app, ["compare", "clip_cm", "gloria", "--out", str(tmp_path)])
    assert done.exit_code == 0 and UNSETTLED not in done.stdout


def test_tables_of_transfer_mark_it_with_a_note(tmp_path: Path) -> None:
    other = {
        "task": "covid",
        "split": "base",
        "part": "train",
        "partition_digest": "c" * 64,
        "reference": "match",
        "labels": ["Normal", "Pneumonia"],
        "concepts": ["Normal", "Pneumonia"],
        "rows_per_label": {"Normal": 9, "Pneumonia": 9},
        "apart": "collections",
        "recipe": "r" * 64,
        "synthetic": False,
    }
    fitted_twice(tmp_path, 3, 41, data__trained_on=other)
    done = CliRunner().invoke(app, ["table", "transfer", "--out", str(tmp_path), "--no-intervals"])
    assert done.exit_code == 0, done.output
    assert UNSETTLED in done.stdout.split("note")[0] and lines(done.stdout, TOLD) and lines(done.stdout, REORDERED)
