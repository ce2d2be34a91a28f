"""From raw phantom files to records that one task trains and another scores, their tables, report, check and export."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_own import write_image
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

import cxrbench
from cxrbench.cli.main import app
from cxrbench.data.sources.base import load_partition
from cxrbench.errors import SpecError
from cxrbench.evaluate.logistic_regression import fit, probe_scores
from cxrbench.phantom.write import write
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record, read_record
from cxrbench.runner.request import build_request
from cxrbench.runner.run import forecast
from cxrbench.runner.settle import RunResult
from cxrbench.specs import catalog
from cxrbench.store.embeddings import Store, digest

DRAWN: dict[str, int | None] = {"chexpert5x200": None, "mimic5x200": None, "nih_lt": 2, "vindr": None}
FINDINGS = {"nih14_official": 2, "nih14_lineage": 2, "chexpert_test500": 2}
MODELS = ["image_statistics", "class_prior"]


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder of raw files for each task."""
    place = tmp_path_factory.mktemp("drawn")
    for task, count in {**DRAWN, **FINDINGS}.items():
        write(task, place / task, size=(64, 64), **({} if count is None else {"images_per_class": count}))
    return {task: place / task for task in (*DRAWN, *FINDINGS)}


def run(place: Path, roots: dict[str, Path], sources: list[str], tasks: list[str], /, **changes: Any) -> RunResult:
    """Every image statistic and class prior of these pairs; nothing may go wrong."""
    standard: dict[str, Any] = {
        "models": MODELS,
        "tasks": tasks,
        "trained_on": sources,
        "data_root": roots,
        "protocols": ["linear-probe"],
        "shots": (2,),
        "variant": "phantom",
        "out": place / "results",
        "cache": place / "cache",
        "device": "cpu",
        "progress": False,
    }
    report = cxrbench.run(**standard | changes)
    assert not report.problems, report.problems
    return report


@pytest.fixture(scope="module")
def measured(roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Single-label and multi-label pairs, and the own probes of some of their tasks."""
    place = tmp_path_factory.mktemp("measured")
    run(place, roots, ["chexpert5x200", "nih_lt"], ["mimic5x200", "nih_lt"])
    run(place, roots, ["nih14_official"], ["chexpert_test500", "nih14_lineage"])
    run(place, roots, [], ["mimic5x200", "nih_lt"], groups=["all"])
    return place


def record_of(place: Path, task: str, group: str, model: str = "image_statistics") -> Record:
    """The one record of these words."""
    paths = (place / "results" / "records" / task / model).glob("*.json")
    (found,) = [record for record in map(read_record, paths) if record.data.group == group]
    return found


def spoken(place: Path, *words: str | Path) -> Result:
    done = CliRunner().invoke(app, [*map(str, words), "--out", str(place / "results")])
    assert done.exit_code == 0, done.output
    return done


CHOSEN = ("--variant", "phantom", "--synthetic")


def test_a_cell_is_the_probe_of_one_tasks_images_on_anothers(measured: Path, roots: dict[str, Path]) -> None:
    """Fitted anew from the ids that the record names, by the stored vectors of the files."""
    record = record_of(measured, "mimic5x200", "from-chexpert5x200")
    other = record.data.trained_on
    assert other is not None and (other.task, other.part, other.apart) == ("chexpert5x200", "all", "collections")
    assert (len(record.folds), record.published) == (5, ())
    variant, store = catalog.load_variant("phantom"), Store(measured / "cache")
    (stored,) = [store.read(key) for key, _ in store.entries() if key.adapter == record.model.adapter]
    tables = {}
    for name in ("chexpert5x200", "mimic5x200"):
        task = catalog.load_task(name)
        tables[name] = load_partition(roots[name], task, variant.split_of(task))
    found, train = read_cell(measured / "results", record), tables["chexpert5x200"]
    order = [train.parts["all"].classes.index(label) for label in other.labels]
    truth = dict(zip(train.parts["all"].ids, train.parts["all"].labels[:, order].argmax(axis=1).tolist(), strict=True))

    def vectors(paths: list[Path]) -> NDArray[np.float32]:
        return stored.rows(record.protocol.tap, [digest.of_file(path) for path in paths])

    test = vectors([tables["mimic5x200"].paths[i] for i in found.images])
    for fold, rows, numbers in zip(record.folds, found.folds, found.image, strict=True):
        own = [i.removeprefix("chexpert5x200:") for i in fold.train]
        assert len(own) == 10 and set(own) <= set(truth)
        probe = fit(
            vectors([train.paths[i] for i in own]), np.array([truth[i] for i in own]), 5, solver=record.settings.solver
        )
        assert np.allclose(rows.scores, probe_scores(probe, test[numbers]), atol=1e-5)
        assert len(numbers) == len(tables["mimic5x200"].parts["all"])


def test_no_image_is_encoded_again(roots: dict[str, Path], tmp_path: Path) -> None:
    run(tmp_path, roots, [], ["mimic5x200"], groups=["all"], shots=(32,))  # which trains on all that is not scored
    run(tmp_path, roots, [], ["nih_lt"], groups=["all"])
    again = run(tmp_path, roots, ["mimic5x200"], ["nih_lt"])
    assert len(again.records) == 2 and (again.decoded, again.encoded) == (0, 0)
    cached = run(tmp_path, roots, ["mimic5x200"], ["nih_lt"])
    assert cached.cached == 2 and [r.id for r in cached.records] == [r.id for r in again.records]


def test_a_forecast_and_the_store_count_images_of_both_tasks(roots: dict[str, Path], tmp_path: Path) -> None:
    words = {"trained_on": ["mimic5x200"], "data_root": roots, "variant": "phantom", "shots": (1,)}
    places = {"out": tmp_path / "results", "cache": tmp_path / "cache", "device": "cpu"}
    asked = build_request(["image_statistics"], ["nih_lt"], {**words, **places, "protocols": ["linear-probe"]})
    told = forecast(asked)
    assert told.cells == ("image_statistics / nih_lt / from-mimic5x200 / linear-probe / K = 1",)
    ((stored, waiting),) = told.images.values()
    report = run(tmp_path, roots, ["mimic5x200"], ["nih_lt"], models=["image_statistics"], shots=(1,))
    assert (stored, waiting) == (0, report.encoded)
    assert forecast(asked).cached == told.cells


def test_findings_are_scored_with_thresholds_of_the_task_that_trained(measured: Path) -> None:
    record = record_of(measured, "chexpert_test500", "from-nih14_official")
    assert record.data.kind == "multi-label" and len(record.data.labels) == 7
    assert record.summary["macro_auroc"]["mean"] is not None
    assert len(record.folds[0].thresholds["f1"]) == 7
    assert all(image.startswith("nih14_official:") for fold in record.folds for image in fold.train)


def test_no_patient_of_one_collection_is_on_both_sides(measured: Path, roots: dict[str, Path]) -> None:
    """Two lists of the same radiographs: nearly all of one's test images are in the other's training list."""
    record = record_of(measured, "nih14_lineage", "from-nih14_official")
    other = record.data.trained_on
    assert other is not None and other.apart == "patients"
    assert other.left_out["of patients of the scored part"] > 0
    tested = {image[:8] for image in read_cell(measured / "results", record).images}
    trained = {image.removeprefix("nih14_official:")[:8] for fold in record.folds for image in fold.train}
    assert trained and not tested & trained
    assert record.data.shared_patients == 0


def test_images_are_read_as_the_released_reader_reads_each_task(roots: dict[str, Path], tmp_path: Path) -> None:
    """VinDr's are negated, NIH's are not; both sides of a cell keep to their own."""
    how = {
        "mapping": "as-named",
        "settings": {"vindr.polarity": "released"},
        "models": ["image_statistics"],
        "shots": (1,),
    }
    report = run(tmp_path, roots, ["vindr"], ["nih_lt"], **how)
    (record,) = report.records
    other = record.data.trained_on
    assert other is not None and other.recipe != record.preprocessing.digest
    assert record.data.group == "from-vindr+as-named" and other.labels == ("Pneumonia", "No Finding")
    (back,) = run(tmp_path, roots, ["nih_lt"], ["vindr"], **how).records
    assert back.data.trained_on is not None
    assert (back.data.trained_on.recipe, back.preprocessing.digest) == (record.preprocessing.digest, other.recipe)


def test_pairs_and_protocols_that_give_no_cell_are_told_with_the_reason(roots: dict[str, Path], tmp_path: Path) -> None:
    report = run(
        tmp_path,
        roots,
        ["chexpert5x200"],
        ["vindr", "chexpert_test500", "chexpert5x200"],
        protocols=["all"],
        shots=(1,),
    )
    assert report.records == [] and set(report.skipped) == {
        "vindr, trained on chexpert5x200",
        "chexpert_test500, trained on chexpert5x200",
        "zero-shot, trained on chexpert5x200",
        "retrieval, trained on chexpert5x200",
    }
    assert "fitted to nothing" in report.skipped["zero-shot, trained on chexpert5x200"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"trained_on": ["nih_ltt"]}, "did you mean nih_lt"),
        ({"groups": ["all"]}, "--group does not go with --trained-on"),
        ({"mapping": "as-name"}, "did you mean as-named"),
        ({"trained_on": [], "mapping": "as-named"}, "belongs to --trained-on"),
    ],
)
def test_what_no_request_can_mean_is_refused(changes: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=told):
        run(tmp_path, {}, ["nih_lt"], ["mimic5x200"], **changes)


def test_a_task_trained_on_itself_alone_is_a_problem(roots: dict[str, Path], tmp_path: Path) -> None:
    words = ["run", "-m", "image_statistics", "--trained-on", "nih_lt", "-t", "nih_lt", "--variant", "phantom"]
    places = ["--data-root", str(roots["nih_lt"]), "--out", str(tmp_path / "results"), "--cache", str(tmp_path / "c")]
    done = CliRunner().invoke(app, [*words, *places, "--device", "cpu", "-p", "linear-probe"])
    assert done.exit_code != 0 and "names the scored task alone" in done.output


MINE = """name = "mine"
source = "csv"
labels = ["water", "big heart", "nothing"]
csv = { table = "t.csv", image = "file", label = "finding" }
splits.own = { rule = "column", params = { column = "part", train = ["train"], test = ["test"] } }
"""
WORDS = """[concepts."Pleural Effusion"]
mine = "water"
[concepts.Cardiomegaly]
mine = "big heart"
"""


def test_a_task_and_a_mapping_of_ones_own(roots: dict[str, Path], tmp_path: Path) -> None:
    lines = ["file,finding,part"]
    for number in range(18):
        write_image(tmp_path / f"{number}.png", number)
        lines.append(
            f"{number}.png,{('water', 'big heart', 'nothing')[number % 3]},{'test' if number > 8 else 'train'}"
        )
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "mine.toml").write_text(MINE)
    (tmp_path / "words.toml").write_text(WORDS)
    mine, words = str(tmp_path / "mine.toml"), str(tmp_path / "words.toml")
    how = {"models": ["image_statistics"], "shots": (1,), "mapping": words}
    (there,) = run(tmp_path, roots, ["chexpert5x200"], [mine], **how).records
    assert (there.data.task, there.data.group) == ("mine", "from-chexpert5x200+words")
    assert there.data.labels == ("water", "big heart") and there.folds[0].test_rows == 6
    other = there.data.trained_on
    assert other is not None and other.labels == ("Pleural Effusion", "Cardiomegaly")
    assert other.apart == "unknown" and "mine" in other.doubt  # its file does not say where its images are from
    (back,) = run(tmp_path, roots, [mine], ["mimic5x200"], **how).records
    assert back.data.labels == ("Cardiomegaly", "Pleural Effusion")
    done = spoken(tmp_path, "table", "transfer", *CHOSEN)
    assert "mine, by words" in done.output and "§" in done.output


def test_the_table_has_every_pair_with_chance_and_the_own_probes(measured: Path) -> None:
    text = spoken(measured, "table", "transfer", *CHOSEN, "-m", "image_statistics", "-f", "csv").output
    cells = {(one["trained_on"], one["task"]): one for one in csv.DictReader(io.StringIO(text)) if one["measured"]}
    pairs = {("chexpert5x200", "mimic5x200"), ("chexpert5x200", "nih_lt"), ("nih_lt", "mimic5x200")}
    own = {("mimic5x200", "mimic5x200"), ("nih_lt", "nih_lt")}
    several = {("nih14_official", "chexpert_test500"), ("nih14_official", "nih14_lineage")}
    assert set(cells) == pairs | own | several
    for place, one in cells.items():
        record = record_of(measured, place[1], "all" if place in own else f"from-{place[0]}")
        assert (one["record"], one["labels"]) == (record.id, "; ".join(record.data.labels))
        chance = 0.5 if place in several else 1 / len(record.data.labels)
        assert float(one["chance"]) == pytest.approx(chance)
        assert one["own"] == ("yes" if place in own else "")
        assert float(one["low"]) < float(one["measured"]) / 100 + 1e-4 < float(one["high"]) + 2e-4
        assert not one["published"]


@pytest.mark.parametrize("form", ["terminal", "markdown", "latex", "json"])
def test_the_table_in_every_form(form: str, measured: Path) -> None:
    text = spoken(measured, "table", "transfer", *CHOSEN, "-m", "image_statistics", "-f", form).output
    assert "5 labels, chance 20.0" in text or form == "json"
    if form == "json":
        views = json.loads(text)
        assert len(views) == 2 and all("as printed" not in note for view in views for note in view["notes"])
    else:
        assert ("°" in text) or form == "latex"
        assert text.count(r"\begin{table*}") == (2 if form == "latex" else 0)


def test_the_table_is_narrowed_by_rows_and_columns_and_says_what_is_missing(measured: Path) -> None:
    text = spoken(measured, "table", "transfer", *CHOSEN, "--trained-on", "nih_lt", "-t", "mimic5x200").output
    assert "CheXpert 5x200" not in text and "NIH-LT" in text
    out = ["--out", str(measured / "results")]
    done = CliRunner().invoke(app, ["table", "transfer", *CHOSEN, "--trained-on", "vindr", *out])
    assert done.exit_code != 0 and "no task that was trained on 'vindr'" in str(done.exception) + done.output


def test_no_other_table_has_these_numbers_beside_its_own(measured: Path) -> None:
    plain = spoken(measured, "table", *CHOSEN, "-f", "csv").output
    assert "from-" not in plain and len(plain.splitlines()) == 5  # header, two models on two tasks
    paper = spoken(measured, "table", "4", *CHOSEN, "-f", "csv").output
    ids = {r.id for r in cxrbench.load_records(measured / "results") if r.data.trained_on is not None}
    assert ids and not any(ident in paper for ident in ids)


def test_compare_report_check_export_and_info_take_these_records(measured: Path, tmp_path: Path) -> None:
    told = spoken(measured, "compare", *MODELS, *CHOSEN, "--group", "from-chexpert5x200")
    assert "group from-chexpert5x200" in told.output and "mimic5x200" in told.output and "nih_lt" in told.output
    assert "baseline" in spoken(measured, "check", "--update").output
    assert "match" in spoken(measured, "check").output
    spoken(measured, "export", "--to", tmp_path / "cells.csv")
    with (tmp_path / "cells.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["trained_on"] for row in rows} == {"", "chexpert5x200", "nih_lt", "nih14_official"}
    assert {row["apart"] for row in rows if row["trained_on"] == "nih14_official"} == {"collections", "patients"}
    record = record_of(measured, "nih14_lineage", "from-nih14_official")
    path = measured / "results" / "records" / "nih14_lineage" / "image_statistics" / f"{record.id}.json"
    told = CliRunner().invoke(app, ["info", str(path)])
    assert "trained on   nih14_official" in told.output and "no patient is on both sides" in told.output
    spoken(measured, "report", "--to", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "--trained-on nih14_official" in page and "group from-chexpert5x200" in page


def test_a_table_of_several_settings_has_a_section_for_each(roots: dict[str, Path], tmp_path: Path) -> None:
    how: dict[str, Any] = {"models": ["image_statistics"], "protocols": ["linear-probe", "knn-10"], "shots": (1, "all")}
    run(tmp_path, roots, ["chexpert5x200"], ["mimic5x200"], **how)
    text = spoken(tmp_path, "table", "transfer", *CHOSEN).output
    for protocol in ("linear-probe", "knn-10"):
        assert f"{protocol}, K = 1" in text and f"{protocol}, whole training part" in text
