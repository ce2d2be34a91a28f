"""Where another order of the training images decides test images otherwise, every reader says so beside the number."""

from pathlib import Path
from typing import Any

import pytest
from made_results import scores, write_result

from cxrbench.analysis.cell_table import cell_table
from cxrbench.analysis.rows import cell_facts
from cxrbench.evaluate.findings import summarised
from cxrbench.evaluate.metric_table import main_metric
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record, Reordered
from cxrbench.records.row_order import row_order_note
from cxrbench.records.selection import CellFilter
from cxrbench.reports.detail import detail
from cxrbench.reports.tables import Format, render
from cxrbench.runner.recording import write_cell
from cxrbench.specs import catalog

VARIANT = catalog.load_variant("paper-code")
TOLD = "training images in another order decide up to 41 of 400 test images otherwise (fold 1): 61.00 %"


def fitted_twice(out: Path, *changed: int, **how: Any) -> Record:
    """A sound record of a probe whose folds had a second fit that decides so many test images otherwise."""
    record = write_result(out, protocol__protocol="clap", protocol__shots=1, **how)
    folds = [
        fold.model_copy(
            update={"reordered": Reordered(changed=n, metric="balanced_accuracy", value=0.6 + 0.02 * place)}
        )
        for place, (fold, n) in enumerate(zip(record.folds, changed, strict=True))
    ]
    return write_cell(out, record.model_copy(update={"folds": tuple(folds)}), scores(), {"patient": {}})


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
    ("form", "mark"), [("terminal", "≈"), ("markdown", "≈"), ("latex", r"$^{\approx}$"), ("json", "yes")]
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
    assert summarised(kind)[0] == main_metric(kind).name
