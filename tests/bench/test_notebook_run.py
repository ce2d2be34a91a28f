"""`cxrbench.run` in a notebook: it tells how it goes, warns of what went wrong, and its report shows itself."""

import io
import sys
import types
from pathlib import Path

import pytest
from lab import COVID_IMAGES, Lab

import cxrbench


def test_a_report_shows_itself_and_is_a_row_a_cell(
    lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], ["covid"], progress=True)
    assert f"reading {COVID_IMAGES} images" in capsys.readouterr().err
    count = len(report.records)
    assert repr(report) == (
        f"<{count} cells (0 recorded before, {len(report.skipped)} not applicable), 0 problems; "
        f"records in {tmp_path / 'results' / 'records'}>"
    )
    frame = report.to_dataframe()
    assert list(frame.record) == [record.id for record in report.records]
    assert list(frame.balanced_accuracy) == [r.summary["balanced_accuracy"]["mean"] for r in report.records]
    assert set(frame.synthetic) == {True}
    page = report._repr_html_()
    assert page.count("<tr>") == 1 + count and "small_unimodal" in page
    read = cxrbench.load_records(tmp_path / "results")
    assert read.to_dataframe().set_index("record").sort_index().equals(frame.set_index("record").sort_index())


def test_without_progress_nothing_is_printed(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lab.run(tmp_path, ["small_unimodal"], ["covid"], groups=["2-class"], shots=(1,))
    assert capsys.readouterr() == ("", "")


def test_a_notebook_is_watched_like_a_terminal(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(sys, "stderr", out)
    lab.run(tmp_path, ["small_unimodal"], ["covid"], groups=["2-class"], shots=(1,), progress=True)
    assert "100%" in out.getvalue() and "images/s" in out.getvalue()


def test_problems_are_one_warning_with_their_way_out(lab: Lab, tmp_path: Path) -> None:
    own = lab.on("covid", tmp_path / "nowhere")
    with pytest.warns(cxrbench.CxrBenchWarning) as told:
        report = own.run(tmp_path, ["small_unimodal"], ["covid", "vindr"], shots=(1,))
    assert len(told) == 1
    text = str(told[0].message)
    assert text.startswith(f"1 problem; {len(report.records)} cells were measured:\n- ")
    assert str(report.problems[0]) in text and report.records
    assert "1 problem;" in repr(report) and str(tmp_path / "nowhere") in report._repr_html_()


def test_a_run_that_measures_nothing_says_why(lab: Lab, tmp_path: Path) -> None:
    with pytest.warns(cxrbench.CxrBenchWarning, match=r"nothing was measured:\n- small_unimodal / vindr / all"):
        lab.run(tmp_path, ["small_unimodal"], ["vindr"], groups=["all"], protocols=["zero-shot"])
