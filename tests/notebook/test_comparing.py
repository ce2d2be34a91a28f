"""Comparisons, tables and lists in Python: the same as the command line shows, and as data."""

from pathlib import Path

import pytest
from made_board import write_board
from made_results import scores, write_result
from typer.testing import CliRunner

import cxrbench
from cxrbench.cli.main import app
from cxrbench.errors import DataError, SpecError

PACKAGE = Path(__file__).resolve().parents[2] / "cxrbench"


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("board")
    write_board(out, ["gloria", "medclip", "kad"], ["rsna", "siim"], shots=(1, 16), prompts=("names",), images=15)
    return out


def printed(*words: str) -> str:
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return done.stdout


def test_compare_shows_what_the_verb_prints(board: Path) -> None:
    told = cxrbench.compare("gloria", "medclip", board)
    assert repr(told) == printed("compare", "gloria", "medclip", "--out", str(board))
    page = told._repr_html_()
    assert page.count("<table>") == len(told) == 3 and "p are corrected within a setting" in page
    narrow = cxrbench.compare("gloria", "medclip", str(board), shots=16, metric="kappa", tasks=["rsna"])
    words = ("compare", "gloria", "medclip", "--shots", "16", "--metric", "kappa", "-t", "rsna", "--out", str(board))
    assert repr(narrow) == printed(*words)
    assert [one.setting.shots for one in narrow] == [16] and narrow[0].tasks[0].task == "rsna"


def test_a_comparison_is_a_row_a_task_and_one_for_their_mean(board: Path) -> None:
    told = cxrbench.compare("gloria", "medclip", out=board, protocol="linear-probe", shots=16)
    frame, one = told.to_dataframe(), told[0]
    assert list(frame.task.fillna("mean")) == ["siim", "rsna", "mean"]
    first = one.tasks[0]
    assert list(frame.loc[0, ["value_a", "value_a_low", "value_a_high"]]) == [
        first.a.interval.estimate,
        first.a.interval.low,
        first.a.interval.high,
    ]
    assert (frame.difference[0], frame.p[0], frame.p_holm[0]) == (first.difference.estimate, first.p, first.p_holm)
    assert (frame.difference[2], frame.difference_low[2], frame.p[2]) == (one.mean.estimate, one.mean.low, one.mean_p)
    assert frame.covers[0] == first.difference.words and set(frame.a) == {"gloria"}


def test_compare_refuses_what_is_no_pair(board: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="more than two models"):
        cxrbench.compare("gloria", "*", board)
    with pytest.raises(SpecError, match="did you mean gloria"):
        cxrbench.compare("glorai", "kad", board)
    with pytest.raises(DataError, match="no record"):
        cxrbench.compare("gloria", "kad", tmp_path)
    with pytest.raises(TypeError, match="list of names"):
        cxrbench.compare("gloria", "kad", board, tasks="rsna")


def test_a_setting_that_allows_no_comparison_is_warned_of(tmp_path: Path) -> None:
    for model in ("gloria", "kad"):
        write_result(tmp_path, model__name=model)
    write_result(tmp_path, scores(rows=40, errors=3), model__name="gloria", protocol__shots=1)
    write_result(tmp_path, scores(rows=42, errors=3), model__name="kad", protocol__shots=1)
    with pytest.warns(cxrbench.CxrBenchWarning, match="K = 1, .*other test images"):
        told = cxrbench.compare("gloria", "kad", tmp_path)
    assert [one.setting.shots for one in told] == [16]


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_table_shows_what_the_verb_prints(number: int, board: Path) -> None:
    told = cxrbench.table(number, board)
    assert repr(told) == printed("table", str(number), "--out", str(board))
    page = told._repr_html_()
    assert f"Table {number}. " in page
    assert page.count("<table>") == len({row.section for row in told.view.rows})


def test_a_table_is_a_row_a_cell(board: Path) -> None:
    told = cxrbench.table(4, out=board)
    frame = told.to_dataframe()
    cell = frame[(frame.model == "gloria") & (frame.column == "RSNA")].iloc[0]
    shown = next(row for row in told.view.rows if row.model == "gloria").cells["rsna"]
    assert shown.interval is not None and shown.measured is not None
    assert (cell.published, cell.measured) == (float(shown.published), float(shown.measured))
    assert (cell.low, cell.high, cell.covers) == (shown.interval.low, shown.interval.high, shown.interval.words)
    assert len(frame) == len(told.view.rows) * len(told.view.columns)
    assert frame[frame.model == "convirt"].measured.isna().all()


def test_a_table_without_anything_measured_says_which_arguments_show_something(tmp_path: Path) -> None:
    with pytest.warns(cxrbench.CxrBenchWarning, match="`cxrbench.run` writes records"):
        cxrbench.table(4, tmp_path)
    write_result(tmp_path, model__synthetic=True)
    with pytest.warns(cxrbench.CxrBenchWarning, match="variant='paper-code', synthetic=True"):
        told = cxrbench.table(4, tmp_path)
    assert told.to_dataframe().measured.isna().all()
    assert not cxrbench.table(4, tmp_path, synthetic=True).to_dataframe().measured.isna().all()
    with pytest.raises(SpecError, match="no published table 7"):
        cxrbench.table(7, tmp_path)  # type: ignore[arg-type]


def test_models_and_tasks_are_listed_with_their_facts() -> None:
    models, tasks = cxrbench.list_models(), cxrbench.list_tasks()
    assert "gloria" in models and "rsna" in tasks and tasks[0] == "chexpert5x200"
    frame = models.to_dataframe().set_index("name")
    assert frame.loc["gloria", "trained_on"] == "C" and frame.loc["class_prior", "control"]
    assert frame.available.any() and not frame.available.all()
    assert tasks.to_dataframe().set_index("name").groups["rsna"].startswith("all 2")
    assert "GLoRIA" in repr(models) and models._repr_html_().count("<tr>") == len(models) + 1


def test_the_version_is_that_of_the_installation_and_no_word_hides_a_room() -> None:
    assert cxrbench.__version__[0].isdigit()
    assert cxrbench.__version__ == printed("--version").strip()
    rooms = {path.stem for path in PACKAGE.iterdir()} | {"tasks", "model_zoo", "published"}
    assert not rooms & {*cxrbench.__all__}
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        _ = cxrbench.nothing_of_this_name
