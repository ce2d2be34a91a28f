"""Tables of cells as asked for: the record that counts, in every format, with titles, marks and provenance."""

import csv
import io
import json
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import pytest
from made_predictions import scored_fold, written
from made_records import made_record
from typer.testing import CliRunner, Result

from cxrbench.analysis.cell import cell_interval
from cxrbench.analysis.cell_table import cell_table
from cxrbench.analysis.paper_tables import TableView
from cxrbench.cli.main import app
from cxrbench.errors import DataError, SpecError
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, KAPPA, MACRO_AUROC
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.records.selection import CellFilter
from cxrbench.reports.tables import Format, render
from cxrbench.specs import catalog

FORMS: tuple[Format, ...] = ("terminal", "markdown", "latex", "csv", "json")
TITLES = {"good": "Good encoder", "poor": "Poor & small", "blank": "Control: blank"}
SKILL = {"good": 2.0, "poor": 0.2, "blank": 0.0}


def results(out: Path, shots: Iterable[int] = (1, 16), tasks: Iterable[str] = ("rsna", "my_own")) -> None:
    for model, skill in SKILL.items():
        for seed, task in enumerate(tasks):
            for k in shots:
                folds = [scored_fold(skill, seed, number=n, noise=len(model) * 7 + k + n) for n in (0, 1)]
                told = {"data__task": task, "protocol__shots": k, "model__title": TITLES[model]}
                written(out, model, folds, **told, model__control=model == "blank")


def view(out: Path, *metrics: object, **asked: object) -> TableView:
    how = {"models": ("all",), **asked}
    return cell_table(out, read_results(out, out).records, CellFilter(variant=VARIANT, **how), metrics)  # type: ignore[arg-type]


VARIANT = catalog.load_variant("paper-code")


def cli(out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["table", "--out", str(out), *words])


def test_a_cell_is_its_record_with_its_interval_and_titles_are_shown(tmp_path: Path) -> None:
    results(tmp_path)
    found = view(tmp_path)
    assert [title for _, title in found.columns] == ["RSNA, K = 1", "RSNA, K = 16", "my_own, K = 1", "my_own, K = 16"]
    assert [(row.name, row.control) for row in found.rows] == [
        ("Good encoder", False),
        ("Poor & small", False),
        ("Control: blank", True),
    ]
    records = {record.id: record for record in read_results(tmp_path, tmp_path).records}
    for row in found.rows:
        for name, _ in found.columns:
            cell, about = row.cells[name], found.about[name]
            record = records[cell.record or ""]
            assert (record.model.name, record.data.task) == (row.model, about["task"])
            assert str(record.protocol.shots) == about["shots"]
            assert cell.interval == cell_interval(read_cell(tmp_path, record), BALANCED_ACCURACY)
            assert abs(float(cell.measured or 0) - 100 * record.summary["balanced_accuracy"]["mean"]) < 0.06
            assert cell.standing == (None if row.control else "best" if row.model == "good" else "worse")


def test_columns_follow_the_metrics_asked_for_and_are_written_as_each_is_shown(tmp_path: Path) -> None:
    results(tmp_path, shots=(16,), tasks=("rsna",))
    found = view(tmp_path, MACRO_AUROC, KAPPA)
    assert [title for _, title in found.columns] == ["RSNA, macro AUROC", "RSNA, " + KAPPA.title]
    (record,) = [r for r in read_results(tmp_path, tmp_path).records if r.model.name == "good"]
    cells = {found.about[name]["metric"]: cell for name, cell in found.rows[0].cells.items()}
    assert cells["kappa"].measured == round(Decimal(record.summary["kappa"]["mean"]), KAPPA.shown.decimals)
    auroc = cells["macro_auroc"].interval
    assert auroc == cell_interval(read_cell(tmp_path, record), MACRO_AUROC)
    text = render(found, "terminal")
    interval = cells["kappa"].interval
    assert interval is not None and f"[{interval.low:.3f}, {interval.high:.3f}]" in text


@pytest.mark.parametrize("form", FORMS)
def test_every_format_has_each_number_and_where_it_is_from(form: Format, tmp_path: Path) -> None:
    results(tmp_path, shots=(16,))
    done = cli(tmp_path, "--task", "rsna,my_own", "--model", "poor", "--model", "good", "-f", form)
    assert done.exit_code == 0, done.output
    text, found = done.stdout, view(tmp_path, models=("poor", "good"), tasks=("rsna", "my_own"))
    assert [row.model for row in found.rows] == ["poor", "good"]
    for row in found.rows:
        assert all(str(cell.measured) in text for cell in row.cells.values())
    assert ("Poor \\& small" if form == "latex" else "Poor & small") in text and "Control" not in text
    assert "paper-code" in text or form == "csv"
    if form in ("csv", "json"):
        rows = list(csv.DictReader(io.StringIO(text))) if form == "csv" else json.loads(text)["cells"]
        assert {(r["model"], r["task"], r["shots"], r["metric"]) for r in rows} == {
            (model, task, "16", "balanced_accuracy") for model in ("good", "poor") for task in ("rsna", "my_own")
        }
        known = {record.id for record in read_results(tmp_path, tmp_path).records}
        assert {r["record"] for r in rows} <= known and all(r["low"] and r["covers"] for r in rows)
    else:
        assert "intervals: other test images and training images" in text


def test_the_newest_sound_record_counts(tmp_path: Path) -> None:
    def one(seed: int, day: int, missing: int = 0) -> Record:
        told = {"runtime__started": f"2026-01-0{day}T00:00:00+00:00", "data__missing": missing}
        return written(tmp_path, "good", [scored_fold(1.0, seed, number=n) for n in (0, 1)], **told)

    one(0, 1)
    newer, _ = one(1, 2), one(2, 3, missing=4)
    (row,) = view(tmp_path).rows
    (cell,) = row.cells.values()
    assert cell.record == newer.id and not cell.flaws
    assert any("2 older records" in note for note in view(tmp_path).notes)


def test_synthetic_numbers_are_marked_and_apart(tmp_path: Path) -> None:
    written(tmp_path, "good", [scored_fold(1.0, 0)], model__synthetic=True)
    with pytest.raises(DataError, match="add --synthetic"):
        view(tmp_path)
    for form in FORMS[:3]:
        assert "PHANTOM" in cli(tmp_path, "--synthetic", "-f", form).stdout
    assert json.loads(cli(tmp_path, "--synthetic", "-f", "json").stdout)["title"].startswith("PHANTOM")


def test_lists_choose_protocols_groups_shots_and_prompts(tmp_path: Path) -> None:
    results(tmp_path, shots=(1, 4, 16), tasks=("rsna",))
    words = {"set": "names", "digest": catalog.load_prompts("names").digest, "source": "prompts"}
    zero = {"protocol": "zero-shot", "tap": "joint", "part": "test", "scores": "logits"}
    written(tmp_path, "good", [scored_fold(1.0, 9)], protocol=zero, prompts=words)
    written(tmp_path, "good", [scored_fold(1.0, 8)], data__group="base")
    ways = {
        ("--shots", "1,16", "--protocol", "linear-probe"): [("all", "1"), ("all", "16")],
        ("--shots", "4"): [("all", "4")],
        ("--shots", "4", "--prompts", "names"): [("all", "4"), ("all", None)],
        ("--protocol", "zero-shot", "--prompts", "names"): [("all", None)],
        ("--group", "base"): [("base", "16")],
        ("-g", "each", "-k", "16", "-p", "linear-probe"): [("all", "16"), ("base", "16")],
    }
    for asked, wanted in ways.items():
        done = cli(tmp_path, *asked, "--no-intervals", "-f", "json")
        assert done.exit_code == 0, done.output
        cells = json.loads(done.stdout)["cells"]
        assert list(dict.fromkeys((c["group"], c["shots"]) for c in cells)) == wanted
        assert all(c["low"] is None for c in cells)


def test_what_was_not_measured_is_said(tmp_path: Path) -> None:
    results(tmp_path, shots=(16,), tasks=("rsna",))
    for words, kind, told in (
        (("--model", "goood"), SpecError, "did you mean good"),
        (("--task", "covid"), SpecError, "measured task"),
        (("--shots", "3", "-p", "linear-probe"), DataError, "has group all, protocol linear-probe, shots 3"),
        (("--metric", "aurok"), SpecError, "there is no metric"),
        (("--shots", "two"), SpecError, "no number of training images"),
        (("--task", "rsna", "4"), SpecError, "stand behind it"),
    ):
        done = cli(tmp_path, *words)
        assert isinstance(done.exception, kind) and told in str(done.exception), words


def test_a_multi_label_record_shows_its_macro_auroc_without_one_number_a_fold(tmp_path: Path) -> None:
    fold = {"fold": 0, "test_rows": 9, "test_digest": "d" * 64, "metrics": {"auroc": [0.7, 0.9, None]}}
    record = made_record(
        data__task="my_findings",
        data__kind="multi-label",
        data__labels=["Edema", "Mass", "Hernia"],
        folds=[fold],
        summary={"macro_auroc": {"mean": 0.80125, "std": None, "folds": 1}},
    )
    (row,) = cell_table(tmp_path, [record], CellFilter(("all",), VARIANT), intervals=False).rows
    (cell,) = row.cells.values()
    assert cell.measured == Decimal("80.13")


def test_compare_report_and_figure_take_the_same_choices(tmp_path: Path) -> None:
    results(tmp_path, shots=(1, 4, 16))
    where, place = ("--out", str(tmp_path)), CliRunner()
    told = place.invoke(app, ["compare", "good", "poor", *where, "-t", "rsna", "-k", "1,16", "--json"])
    assert told.exit_code == 0, told.output
    found = json.loads(told.stdout)
    assert [(one["setting"]["shots"], [t["task"] for t in one["tasks"]]) for one in found] == [
        (1, ["rsna"]),
        (16, ["rsna"]),
    ]
    page, drawn = tmp_path / "r.html", tmp_path / "f.svg"
    narrow = ("--task", "rsna", "--model", "good,poor", "--shots", "4,16", "--protocol", "linear-probe")
    assert place.invoke(app, ["report", *where, *narrow, "--group", "all", "--to", str(page)]).exit_code == 0
    assert "my_own" not in page.read_text() and "Control: blank" not in page.read_text()
    assert "Good encoder" in page.read_text()
    how = ("--metric", "macro_auroc", "--group", "all", "--to", str(drawn))
    assert place.invoke(app, ["figure", "3", *where, *narrow, *how]).exit_code == 0
    assert "macro AUROC, %" in drawn.read_text() and "my_own" not in drawn.read_text()
    refused = place.invoke(app, ["figure", "3", *where, "--metric", "aurok"])
    assert isinstance(refused.exception, SpecError)
