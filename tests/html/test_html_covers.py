"""Each place of the report that shows an interval, a place or a mark says what it covers and what to beware of."""

import math
import re
from pathlib import Path
from statistics import fmean
from xml.etree.ElementTree import Element

import html5lib
import numpy as np
import pytest
from made_board import write_board
from made_predictions import scored_fold, written
from typer.testing import CliRunner

from cxrbench.analysis.cell import cell_interval, harmonic_interval
from cxrbench.analysis.leaderboard import leaderboard
from cxrbench.cli.main import app
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY, MACRO_AUROC
from cxrbench.evaluate.metrics import generalised, harmonic_mean
from cxrbench.evaluate.statistics.interval import Interval
from cxrbench.records.integrity import found_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.records.selection import every_setting
from cxrbench.reports.html.chapters import ReportWork
from cxrbench.reports.html.page import report
from cxrbench.reports.html.render import render
from cxrbench.reports.html.show import about, ends, place, spoken
from cxrbench.specs import catalog

MODELS = ("clip_cm", "dlilp_cm", "gloria", "medclip")
TASKS = ("rsna", "siim")
PATIENTS = {f"image{i:04d}": f"patient{i // 2}" for i in range(200)}
DRAWS = "other test patients and training images"
NARROW = "other test patients, these training images only"
WORDING = "other test patients, these prompts only"


def parsed(out: Path, *, these_draws: bool = False) -> Element:
    text = render(report(ReportWork(out, these_draws=these_draws), found_results(out), None))
    root = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    for part in root.iter():
        part.tag = str(part.tag).removeprefix("{http://www.w3.org/2000/svg}")
    return root


def words(part: Element) -> str:
    return " ".join("".join(part.itertext()).split())


def board(root: Element, setting: str) -> Element:
    return next(part for part in root.iter("section") if (part.findtext("h4") or "").startswith(setting))


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Probes of five draws, and prompts, on named patients of two images each; the last model is far behind."""
    folder = tmp_path_factory.mktemp("results")
    write_board(folder, MODELS[:3], TASKS, shots=(1, 16), prompts=("names",), folds=5, patients=PATIENTS)
    write_board(folder, MODELS[3:], TASKS, shots=(1, 16), prompts=("names",), folds=5, patients=PATIENTS, best=0.1)
    return folder


@pytest.fixture(scope="module")
def root(out: Path) -> Element:
    return parsed(out)


@pytest.mark.parametrize(("setting", "told"), [("Linear probe, K = 16", DRAWS), ("Zero-shot", WORDING)])
def test_the_head_of_a_column_says_what_its_intervals_cover(root: Element, setting: str, told: str) -> None:
    heads = [words(head) for head in board(root, setting).findall(".//table[@class='sortable board']/thead/tr/th")]
    assert heads == ["Model", "Place", *(f"{name} over {told}" for name in ("Mean", "SIIM", "RSNA"))]


def test_the_narrow_interval_is_asked_for_by_an_option_and_named(out: Path, tmp_path: Path) -> None:
    to = tmp_path / "report.html"
    done = CliRunner().invoke(app, ["report", "--out", str(out), "--to", str(to), "--workers", "1", "--these-draws"])
    assert done.exit_code == 0, done.output
    text = to.read_text()
    assert NARROW in text and DRAWS not in text
    assert "the narrow intervals" in text
    (record, *_) = [r for r in found_results(out).records if r.protocol.shots == 16]
    assert ends(cell_interval(read_cell(out, record), BALANCED_ACCURACY, these_draws=True)) in text


def test_curves_paper_tables_and_cells_say_what_their_intervals_cover(root: Element, out: Path) -> None:
    captions = [words(part) for part in root.iter("figcaption") if "bars" in words(part)]
    assert captions == [f"{title} bars: {DRAWS}" for title in ("SIIM", "RSNA", "Mean over tasks")]
    sections = [words(part) for t in root.iter("table") if t.get("class") == "paper" for part in t.iter("span")]
    assert any(told.endswith(f"linear probing, K = 16 95 % intervals: {DRAWS}") for told in sections)
    cells = {part.get("id"): words(part) for part in root.iter("div") if part.get("class") == "inside"}
    for record in found_results(out).records:
        told = WORDING if record.protocol.shots is None else DRAWS
        assert told in cells[f"r{record.id}"]
        area = cell_interval(read_cell(out, record), MACRO_AUROC)
        assert f"AUROC {100 * (area.estimate or 0):.2f} ({ends(area)})" in cells[f"r{record.id}"]


def test_places_and_bold_are_those_of_the_leaderboard(root: Element, out: Path) -> None:
    (selected,) = [s for s in every_setting(found_results(out).records) if s.setting.shots == 16]
    found = leaderboard(out, selected, BALANCED_ACCURACY)
    section = board(root, "Linear probe, K = 16")
    rows = section.findall(".//table[@class='sortable board']/tbody/tr")
    assert [row.get("data-model") for row in rows] == list(found.models)
    assert found.models[-1] == "medclip" and "medclip" not in found.best_mean
    for row in rows:
        model = row.get("data-model") or ""
        fields = row.findall("td")
        assert words(fields[0]) == place(found.places.of[model])
        best = [found.best_mean, *found.best]
        assert [field.find("b") is not None for field in fields[1:]] == [model in names for names in best]
    told = words(section)
    assert f"{len(found.places.apart)} of {found.places.compared} pairs of models are told apart" in told
    assert f"task by task, {found.told_apart} of {found.compared} " in told
    assert "Would the order hold on other tasks?" in told
    assert "another training run may differ" in told


def test_who_is_better_than_whom_stands_beside_the_average_ranks(root: Element, out: Path) -> None:
    (selected,) = [s for s in every_setting(found_results(out).records) if s.setting.shots == 16]
    apart = leaderboard(out, selected, BALANCED_ACCURACY).places.apart
    tables = [t for t in board(root, "Linear probe, K = 16").iter("table") if "board" not in (t.get("class") or "")]
    (table,) = tables
    rows = {row.get("data-model"): [words(field) for field in row.findall("td")] for row in table.iterfind("tbody/tr")}
    assert set(rows) == set(MODELS)
    assert rows["medclip"][1] == "none is shown"
    titles = {model: catalog.load_card(model).title for model in MODELS}
    assert apart and all(titles[worse] in rows[better][1] for better, worse in apart)
    assert all(re.fullmatch(r"[1-4]\.\d\d", ranks) for ranks, _ in rows.values())


def test_a_pair_has_neither_place_nor_bold_and_is_still_one_of_weights(tmp_path: Path) -> None:
    write_board(tmp_path, MODELS[:2], TASKS, shots=(16,), prompts=())
    section = board(parsed(tmp_path), "Linear probe, K = 16")
    assert "No places: they need three models" in words(section)
    assert "another training run may differ" in words(section)
    assert not list(section.iter("b"))
    heads = [words(head) for head in section.findall(".//thead/tr/th")]
    assert heads[0] == "Model" and heads[1].startswith("Mean")


def test_sparse_classes_are_named_with_their_images_in_the_head_and_the_cell(tmp_path: Path) -> None:
    records = write_board(tmp_path, MODELS[:3], TASKS, shots=(16,), prompts=(), images=6)
    found = parsed(tmp_path)
    label = records[0].data.labels[0]
    heads = [words(head) for head in board(found, "Linear").findall(".//table[@class='sortable board']/thead/tr/th")]
    assert all(f"few test images: {label} 6, " in head for head in heads[3:])
    assert all("no patient ids: too short where patients have several images" in head for head in heads[2:])
    cells = [words(part) for part in found.iter("div") if part.get("class") == "inside"]
    assert all(
        "few test images:" in cell and "no patient ids: too short where patients have several images" in cell
        for cell in cells
    )


def test_a_board_says_what_its_means_take_as_independent(tmp_path: Path) -> None:
    write_board(tmp_path, MODELS[:3], TASKS, shots=(16,), prompts=())
    notes = [words(note) for note in board(parsed(tmp_path), "Linear").iter("li")]
    assert any(note.startswith("siim and rsna hold images of one collection (nih); no id says which") for note in notes)


def test_an_interval_unlike_its_column_s_says_so_itself(tmp_path: Path) -> None:
    write_board(tmp_path, MODELS[:2], TASKS, shots=(16,), prompts=(), patients=PATIENTS, folds=2)
    write_board(tmp_path, MODELS[2:3], TASKS, shots=(16,), prompts=(), folds=2)
    section = board(parsed(tmp_path), "Linear")
    rows = {row.get("data-model"): words(row) for row in section.findall(".//table[@class='sortable board']/tbody/tr")}
    own = "other test images and training images; no patient ids: too short where patients have several images"
    assert rows[MODELS[2]].count(f": {own}") == 1 + len(TASKS)
    assert not any("other test" in rows[model] for model in MODELS[:2])


def test_words_are_told_once_or_by_the_names_that_they_are_of() -> None:
    wide = Interval(0.5, 0.4, 0.6, 0.05, "patient", 10, ("draws",))
    other = Interval(0.5, 0.4, 0.6, 0.05, "image", 10, ("one wording",), "few test images: A 3")
    none = Interval(0.5, None, None, None, "image", 10, ("draws",), "why")
    assert about(wide) == DRAWS
    short = "too short where patients have several images"
    assert about(other) == (f"other test images, these prompts only; no patient ids: {short}; few test images: A 3")
    assert spoken([("a", wide), ("b", wide), ("c", none)]) == DRAWS
    assert spoken([("a", wide), ("b", other), ("c", wide)]) == (
        f"{DRAWS} (a, c); other test images, these prompts only (b); no patient ids in b: {short}; "
        "few test images: A 3 (b)"
    )
    assert spoken([]) == ""
    assert place((2, 2)) == "2" and place((1, 3)) == "1–3"


def joint_record(out: Path, images: int = 60) -> Record:
    """A cell on all classes of a task that parts them, in two draws, with what its predictions give for both kinds."""
    task = catalog.load_task("vindr")
    labels = task.groups["all"]
    new = [label for label in labels if label in task.groups["new"]]
    places = [labels.index(label) for label in new]
    folds = [scored_fold(1.2, 5, number=n, images=images, classes=len(labels), noise=n) for n in range(2)]
    joint = [generalised(fold.scores, fold.labels, places) for fold in folds]
    base, fresh = fmean(f.base or 0 for f in joint), fmean(f.new or 0 for f in joint)
    told = {"base": base, "new": fresh, "harmonic_mean": harmonic_mean(base, fresh), "new_classes": new}
    variant = catalog.load_variant("paper-code")
    return written(
        out, "clip_cm", folds, data__task="vindr", data__split=variant.splits["vindr"], data__labels=labels,
        data__rows_per_label={"test": dict.fromkeys(labels, images)}, protocol__shots=16, generalised=told,
    )  # fmt: skip


def test_base_and_new_classes_stand_with_the_interval_of_their_harmonic_mean(tmp_path: Path) -> None:
    record = joint_record(tmp_path)
    cell = read_cell(tmp_path, record)
    found, narrow = harmonic_interval(cell), harmonic_interval(cell, these_draws=True)
    assert found is not None and narrow is not None and record.generalised is not None
    harmonic = record.generalised["harmonic_mean"]
    assert found.estimate == pytest.approx(harmonic)
    assert found.error is not None and narrow.error is not None and narrow.error < found.error
    root = parsed(tmp_path)
    (inside,) = [part for part in root.iter("div") if part.get("class") == "inside"]
    assert f"harmonic mean {100 * harmonic:.2f} ({ends(found)})" in words(inside)


def test_the_error_of_the_harmonic_mean_is_that_of_the_delta_method(tmp_path: Path) -> None:
    record = joint_record(tmp_path)
    cell, told = read_cell(tmp_path, record), record.generalised
    assert told is not None
    base, new, labels = told["base"], told["new"], record.data.labels
    is_new = np.array([label in told["new_classes"] for label in labels])
    slope = np.where(is_new, base**2 / is_new.sum(), new**2 / (~is_new).sum()) * 2 / (base + new) ** 2
    right = np.mean([fold.predictions == fold.labels for fold in cell.folds], axis=0)  # of images, in one order
    own = [right[cell.folds[0].labels == c] for c in range(len(labels))]
    expected = math.sqrt(sum(s**2 * r.var(ddof=1) / len(r) for s, r in zip(slope, own, strict=True)))
    found = harmonic_interval(cell, these_draws=True)
    assert found is not None and found.error == pytest.approx(expected, rel=1e-9)
