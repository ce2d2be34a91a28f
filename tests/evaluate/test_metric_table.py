"""The table of metrics, and those of users' packages: `CONTRIBUTING.md`, kept true."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_board import write_board
from made_package import write_package
from made_predictions import scored_fold, written
from sklearn.metrics import fbeta_score
from typer.testing import CliRunner, Result

from cxrbench.analysis.cell import measurement
from cxrbench.cli.main import app
from cxrbench.errors import NotApplicableError, SpecError, UnexpectedError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, KAPPA, TABLE, Metric, load_metric, metric_names
from cxrbench.evaluate.metrics import SUMMARISED
from cxrbench.evaluate.statistics.shares import ScoredRows
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell

DOCUMENT = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTION = DOCUMENT.partition("\n## A metric\n")[2].partition("\n## ")[0]
MODULE = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)[0]
ENTRY = re.findall(r"```toml\n(.*?)```", SECTION, re.DOTALL)[0]
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a package of one file outside the checkout on the path, as `pip install` does."""
    before = set(sys.modules)

    def done(module: str, text: str, points: str) -> Path:
        place = tmp_path / f"site of {module}"
        site = write_package(place, module, {f"{module}.py": text}, "cxrbench.metrics", points)
        monkeypatch.syspath_prepend(str(site))
        return site

    yield done
    for name in {*sys.modules} - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def f2(install: Install) -> Metric:
    """The metric of the document."""
    name, value = re.findall(r'^(\w+) = "(.*)"$', ENTRY, re.MULTILINE)[0]
    install(value.partition(":")[0], MODULE, f"{name} = {value}")
    return load_metric(name)


def cli(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


def compared(out: Path, *words: str) -> Result:
    return cli("compare", *words, "--out", str(out), "--protocol", "linear-probe")


def board(out: Path, *models: str) -> None:
    write_board(out, models, ["rsna", "covid"], shots=(16,), prompts=(), images=60, folds=2)


def value(rows: ScoredRows) -> float:
    return float(fbeta_score(rows.labels, rows.predictions, beta=2, average="macro"))


def metric(**changes: Any) -> Metric:
    return Metric(**{"name": "mine", "title": "mine", "value": lambda scores, labels: 0.5, **changes})


def test_records_sum_up_rows_of_the_table() -> None:
    assert {*SUMMARISED} <= {*TABLE}
    assert all(name == row.name == row.name.lower() and row.title for name, row in TABLE.items())


def test_each_row_has_a_title_a_reader_knows() -> None:
    titles = {TABLE[name].title for name in SUMMARISED}
    assert titles == {"balanced accuracy", "accuracy", "macro AUROC", "macro F1", "kappa"}


def test_the_documents_metric_is_scikit_learns(f2: Metric) -> None:
    fold = scored_fold(1.0, 3, classes=4)
    rows = ScoredRows(np.arange(len(fold.labels)), fold.labels, fold.scores)
    assert f2.of(rows) == pytest.approx(value(rows), abs=1e-12)
    assert f2.value(fold.scores[fold.labels > 0], fold.labels[fold.labels > 0]) is None


def test_two_models_are_compared_by_a_metric_of_a_package(f2: Metric, tmp_path: Path) -> None:
    board(tmp_path, "clip_cm", "gloria")
    told = compared(tmp_path, "clip_cm", "gloria", "--metric", f2.name)
    assert told.exit_code == 0, told.output
    assert f"clip_cm and gloria: {f2.title} in percent" in told.stdout
    (found,) = json.loads(compared(tmp_path, "clip_cm", "gloria", "--metric", f2.name, "--json").stdout)
    assert found["metric"] == "macro_f2"
    for task in found["tasks"]:
        (record,) = (
            r
            for r in read_results(tmp_path, tmp_path / "cache").records
            if (r.model.name, r.data.task) == ("clip_cm", task["task"])
        )
        own = task["a"]["interval"]
        values = [value(fold) for fold in read_cell(tmp_path, record).folds]
        assert own["estimate"] == pytest.approx(np.mean(values), abs=1e-12)
        assert own["low"] < own["estimate"] < own["high"] and own["covers"].startswith("other test images")
        assert task["a"]["spread"]["std"] == pytest.approx(np.std(values), abs=1e-12)
        assert f"{100 * own['estimate']:.2f} [{100 * own['low']:.2f}, {100 * own['high']:.2f}]" in told.stdout
        assert task["difference"]["low"] is not None and task["p"] is not None and f2.name not in record.summary


def test_a_board_ranks_by_a_metric_of_a_package(f2: Metric, tmp_path: Path) -> None:
    board(tmp_path, "clip_cm", "gloria", "convirt")
    told = compared(tmp_path, "all", "--metric", f2.name).stdout
    assert f"3 models: {f2.title} in percent" in told
    assert re.search(r"clip_cm +1\S* +\d\d\.\d\d \[\d\d\.\d\d, \d\d\.\d\d\]", told)


def test_the_report_shows_it_in_each_cell_with_its_interval(f2: Metric, tmp_path: Path) -> None:
    board(tmp_path, "clip_cm", "gloria")
    page, plain = tmp_path / "report.html", tmp_path / "plain.html"
    told = cli("report", "--out", str(tmp_path), "--to", str(page), "--metric", f2.name, "--workers", "1")
    assert told.exit_code == 0, told.output
    assert cli("report", "--out", str(tmp_path), "--to", str(plain), "--workers", "1").exit_code == 0
    shown = re.findall(rf"<dt>{f2.title}\s*<dd>(\S+) \((\S+) to (\S+)\); (.*)", page.read_text(encoding="utf-8"))
    expected = [
        measurement(read_cell(tmp_path, record), f2).interval
        for record in read_results(tmp_path, tmp_path / "cache").records
    ]
    assert sorted(float(one[0]) for one in shown) == sorted(round(100 * (one.estimate or 0), 2) for one in expected)
    assert all(float(low) < float(at) < float(high) for at, low, high, _ in shown)
    assert all("other test images" in words for *_, words in shown)
    assert f2.title not in plain.read_text(encoding="utf-8")


def test_records_and_reports_without_the_package_are_what_they_were(install: Install, tmp_path: Path) -> None:
    def all_of(out: Path) -> list[str]:
        board(out, "clip_cm", "gloria")
        told = compared(out, "clip_cm", "gloria").stdout
        return [told, *(path.read_text() for path in sorted((out / "records").rglob("*.json")))]

    alone = all_of(tmp_path / "alone")
    install("cxrbench_f2", MODULE, "macro_f2 = cxrbench_f2:METRIC")
    assert all_of(tmp_path / "beside") == alone


def test_kappa_is_shown_as_it_is(tmp_path: Path) -> None:
    board(tmp_path, "clip_cm", "gloria")
    told = compared(tmp_path, "clip_cm", "gloria", "--metric", "kappa").stdout
    assert "clip_cm and gloria: kappa\n" in told and re.search(r" 0\.\d{3} \[0\.\d{3}, 0\.\d{3}\]", told)


def test_a_metric_that_does_not_fit_is_refused_with_its_reason(install: Install, tmp_path: Path) -> None:
    install(
        "two_classes",
        MODULE.replace('reads="predictions"', 'why_not=lambda labels: "" if len(labels) == 2 else "two classes only"'),
        "macro_f2 = two_classes:METRIC",
    )
    board(tmp_path, "clip_cm", "gloria", "convirt")
    two = compared(tmp_path, "clip_cm", "gloria", "--metric", "macro_f2")
    assert "not compared: covid: macro F2 does not fit: two classes only" in two.stdout
    three = compared(tmp_path, "all", "--metric", "macro_f2")
    assert isinstance(three.exception, NotApplicableError)
    assert "covid: macro F2 does not fit: two classes only" in str(three.exception)
    cli("report", "--out", str(tmp_path), "--to", str(tmp_path / "r.html"), "--metric", "macro_f2", "--workers", "1")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "macro F2 does not fit: two classes only" in page and re.search(r"<dt>macro F2\s*<dd>\d", page)


@pytest.mark.parametrize("words", [("compare", "clip_cm", "gloria"), ("report",)])
def test_an_unknown_name_is_refused_and_the_known_ones_are_named(words: tuple[str, ...], f2: Metric) -> None:
    refused = cli(*words, "--metric", "macro_f3").exception
    assert isinstance(refused, SpecError)
    assert str(refused) == f"there is no metric 'macro_f3'; known are: {', '.join([*TABLE, 'macro_f2'])}"


def test_two_of_one_name_are_refused_where_they_are_asked_for(install: Install) -> None:
    install("one", MODULE, "macro_f2 = one:METRIC\nkappa = one:METRIC")
    install("two", MODULE, "macro_f2 = two:METRIC")
    with pytest.raises(SpecError, match=r"two metrics are named 'macro_f2', of package (one|two) 1 and of package"):
        load_metric("macro_f2")
    with pytest.raises(SpecError, match="two metrics are named 'kappa', of cxrbench and of package one 1"):
        load_metric("kappa")
    assert metric_names() == (*TABLE, "macro_f2")
    assert load_metric("accuracy") is TABLE["accuracy"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("raise RuntimeError('no licence')", "cannot be imported: RuntimeError: no licence"),
        ("import herons", "cannot be imported: ModuleNotFoundError: No module named 'herons'"),
        ("import sys; sys.exit(3)", "cannot be imported: SystemExit: 3"),
        ("OTHER = 1", "cannot be imported: AttributeError"),
        ("METRIC = 1", "is no cxrbench.evaluate.metric_table.Metric, but int"),
        (MODULE.replace('"macro_f2"', '"f2"'), "calls itself 'f2'"),
    ],
)
def test_a_package_that_fails_ends_only_itself_and_is_named(install: Install, text: str, reason: str) -> None:
    install("broken", text, "macro_f2 = broken:METRIC")
    assert metric_names()[-1] == "macro_f2" and "broken" not in sys.modules
    assert load_metric("kappa") is KAPPA
    with pytest.raises(SpecError, match=re.escape("metric 'macro_f2' of package broken 1 (broken:METRIC) " + reason)):
        load_metric("macro_f2")


@pytest.mark.parametrize(
    ("found", "kind", "reason"),
    [(1.5, SpecError, "its value is 1.5"), (np.nan, SpecError, "its value is nan"), ("x", UnexpectedError, "'mine'")],
)
def test_a_value_that_is_none_of_the_metrics_is_refused_by_name(found: Any, kind: type[Exception], reason: str) -> None:
    fold = ScoredRows(np.arange(2), np.arange(2), np.eye(2))
    with pytest.raises(kind, match=f"metric 'mine'.*{reason}" if reason != "'mine'" else reason):
        metric(value=lambda scores, labels: found).of(fold)


@pytest.mark.parametrize("changes", [{"name": "macro F2"}, {"title": ""}, {"bounds": (1, 0)}, {"bounds": (0, np.inf)}])
def test_a_row_that_cannot_be_shown_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=r"metric '.*'"):
        metric(**changes)


def test_a_failing_metric_leaves_the_rest_of_a_report(install: Install, tmp_path: Path) -> None:
    install("wrong", MODULE.replace("return None", "pass").replace("5 *", "50 *"), "macro_f2 = wrong:METRIC")
    written(tmp_path, "clip_cm", [scored_fold(2.0, 1)])
    told = cli("report", "--out", str(tmp_path), "--to", str(tmp_path / "r.html"), "--metric", "macro_f2")
    assert told.exit_code == 0, told.output
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert re.search(r"<dt>macro F2\s*<dd>metric &#39;macro_f2&#39;: its value is", page)
    assert BALANCED_ACCURACY.title in page
