"""Intervals and standings of a table's cells: from the predictions alone, for sound cells alone."""

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_predictions import scored_fold, written
from typer.testing import CliRunner, Result

from cxrbench.analysis import paper_tables as certainty
from cxrbench.analysis.cell import Measurement, measurement
from cxrbench.analysis.means import Weighted
from cxrbench.analysis.paper_tables import TableView, ViewRow, shares, table_view, with_intervals
from cxrbench.cli.main import app
from cxrbench.evaluate.metric_table import BALANCED_ACCURACY
from cxrbench.records.integrity import read_results
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record, record_path
from cxrbench.records.scores import FoldScores
from cxrbench.specs import catalog
from cxrbench.specs.paper import Average, PublishedTable, averages, published_table

TASKS = ("chexpert5x200", "mimic5x200", "siim", "rsna", "nih_lt", "vindr", "covid")
SKILL = {"clip_cm": 0.2, "unimodal_cm": 3.0, "dlilp_cm": 2.9}


def probe(out: Path, model: str, task: str, **changes: object) -> Record:
    card, seed = catalog.load_card(model), TASKS.index(task)
    noise = 100 * list(SKILL).index(model)
    folds = [scored_fold(SKILL[model], seed, number=k, noise=noise + k, images=40) for k in range(2)]
    identity = {"model__pretraining": "+".join(card.pretraining)}
    return written(out, model, folds, **{"data__task": task, **identity, **changes})


def results(out: Path, models: tuple[str, ...] = ("unimodal_cm", "dlilp_cm")) -> list[Record]:
    return [probe(out, model, task) for model in models for task in TASKS]


def viewed(out: Path, table: PublishedTable | None = None) -> TableView:
    records, printed = read_results(out, out).records, table or published_table(4)
    view = table_view(printed, records, "paper-code", synthetic=False)
    return with_intervals(view, printed, records, out)


def row(view: TableView, model: str) -> ViewRow:
    return next(row for row in view.rows if row.model == model)


def cli(out: Path, *words: str) -> Result:
    return CliRunner().invoke(app, ["table", "4", "--out", str(out), *words])


def test_every_measured_cell_has_the_interval_of_its_record(tmp_path: Path) -> None:
    record = results(tmp_path)[3]
    cell = row(viewed(tmp_path), "unimodal_cm").cells["rsna"]
    number = measurement(read_cell(tmp_path, record), BALANCED_ACCURACY).number
    assert (cell.record, cell.interval, cell.spread) == (record.id, number.interval, number.spread)
    assert cell.measured is not None and number.interval.estimate is not None
    assert float(cell.measured) == pytest.approx(100 * number.interval.estimate, abs=0.06)


def test_an_average_has_an_interval_and_one_with_a_missing_or_flawed_cell_has_nothing(tmp_path: Path) -> None:
    results(tmp_path)
    for task in TASKS[1:]:
        probe(tmp_path, "clip_cm", task)
    view = viewed(tmp_path)
    whole = row(view, "unimodal_cm").cells["avg"]
    assert whole.interval is not None and whole.interval.low is not None and whole.measured is not None
    assert whole.interval.low < float(whole.measured) / 100 < whole.interval.high  # type: ignore[operator]
    errors = [row(view, "unimodal_cm").cells[c.id].interval.error for c in published_table(4).columns]  # type: ignore[union-attr]
    assert whole.interval.error < min(e for e in errors if e)  # type: ignore[operator]
    short = row(view, "clip_cm").cells["avg"]
    assert (short.measured, short.interval, short.standing) == (None, None, None)
    probe(tmp_path, "clip_cm", TASKS[0], data__missing=2)
    flawed = row(viewed(tmp_path), "clip_cm").cells
    assert (flawed["avg"].measured, flawed["avg"].interval) == (None, None)
    assert flawed["chexpert"].interval is not None and flawed["chexpert"].standing is None


def test_the_best_and_what_is_not_worse_are_told_from_what_is(tmp_path: Path) -> None:
    results(tmp_path, ("clip_cm", "unimodal_cm", "dlilp_cm"))
    view = viewed(tmp_path)
    standing = {model: row(view, model).cells["rsna"].standing for model in SKILL}
    assert standing["clip_cm"] == "worse"
    assert {standing["unimodal_cm"], standing["dlilp_cm"]} == {"best", "not worse"}
    means = {model: row(view, model).cells["avg"] for model in SKILL}
    assert means["clip_cm"].standing == "worse"
    best = max(SKILL, key=lambda model: means[model].measured or Decimal(0))
    assert means[best].standing == "best"


def test_one_row_alone_is_best_of_nothing(tmp_path: Path) -> None:
    results(tmp_path, ("unimodal_cm",))
    assert {cell.standing for cell in row(viewed(tmp_path), "unimodal_cm").cells.values()} == {None}


def test_rows_on_other_images_are_not_compared_and_it_is_noted(tmp_path: Path) -> None:
    probe(tmp_path, "unimodal_cm", "rsna")
    probe(tmp_path, "dlilp_cm", "rsna", data__contents_digest="9" * 64)
    view = viewed(tmp_path)
    assert {row(view, model).cells["rsna"].standing for model in ("unimodal_cm", "dlilp_cm")} == {None}
    assert any("RSNA: not compared with the best: the image files had other bytes" in note for note in view.notes)


def test_a_negative_control_is_in_no_comparison(tmp_path: Path) -> None:
    results(tmp_path)
    before = viewed(tmp_path)
    for task in TASKS:
        folds = [scored_fold(9.0, TASKS.index(task), number=k, noise=900 + k, images=40) for k in range(2)]
        written(tmp_path, "blank", folds, data__task=task, model__control=True)
    after = viewed(tmp_path)
    assert row(after, "blank").control
    assert all(cell.standing is None for cell in row(after, "blank").cells.values())
    assert row(after, "blank").cells["rsna"].interval is not None
    for model in ("unimodal_cm", "dlilp_cm"):
        assert row(after, model) == row(before, model)
    assert after.notes == before.notes


@pytest.mark.parametrize("how", ["gone", "changed"])
def test_a_cell_without_its_predictions_is_left_out_by_name(how: str, tmp_path: Path) -> None:
    record, _ = probe(tmp_path, "unimodal_cm", "rsna"), probe(tmp_path, "unimodal_cm", "siim")
    path = record_path(tmp_path, "rsna", "unimodal_cm", record.id).with_suffix(".parquet")
    path.unlink() if how == "gone" else path.write_bytes(path.read_bytes() + b"x")
    done = cli(tmp_path, "--format", "json")
    assert done.exit_code == 0
    assert f"left out: {tmp_path}/records/rsna/unimodal_cm/{record.id}.json: " in done.stderr
    assert "Delete it with its predictions, and run its cell again" in done.stderr
    cells = row(viewed(tmp_path), "unimodal_cm").cells
    assert cells["rsna"].measured is None and cells["siim"].interval is not None


def test_the_dagger_stands_where_the_record_says_that_the_source_was_seen(tmp_path: Path) -> None:
    results(tmp_path, ("unimodal_cm",))
    cells = row(viewed(tmp_path), "unimodal_cm").cells
    assert [name for name, cell in cells.items() if cell.seen] == ["chexpert", "mimic", "avg"]
    written(tmp_path, "mine", [scored_fold(1.0, 1)], model__pretraining="NIH", data__task="rsna")
    assert row(viewed(tmp_path), "mine").cells["rsna"].seen


def test_the_terminal_names_interval_and_spread_and_leaves_them_out_when_asked(tmp_path: Path) -> None:
    results(tmp_path)
    shown = cli(tmp_path).stdout
    for told in (
        "95 %, other test and training images",
        "std over folds",
        "†",
        "std over folds (one test set) is no standard error",
    ):
        assert told in shown
    bare = cli(tmp_path, "--no-intervals").stdout
    assert "95 %" not in bare and "std over folds" not in bare
    assert "†" in bare and "difference" in bare


def test_csv_carries_unrounded_ends(tmp_path: Path) -> None:
    import csv
    import io

    results(tmp_path)
    cells = list(csv.DictReader(io.StringIO(cli(tmp_path, "--format", "csv").stdout)))
    (found,) = [c for c in cells if (c["model"], c["column"]) == ("dlilp_cm", "RSNA")]
    record = next(r for r in read_results(tmp_path, tmp_path).records if r.id == found["record"])
    interval = measurement(read_cell(tmp_path, record), BALANCED_ACCURACY).number.interval
    assert (found["low"], found["high"], found["units"]) == (repr(interval.low), repr(interval.high), "80 images")
    assert found["folds"] == "2, one test set"


@pytest.mark.parametrize("number", [2, 4])
def test_shares_of_an_average_are_those_of_the_printed_arithmetic(number: int) -> None:
    table = published_table(number)
    values = {column.id: Decimal(place * 7 % 5) for place, column in enumerate(table.columns)}
    expected = averages(values, table.averages)
    for name, parts in shares(table.averages).items():
        mean = float(sum(share * int(values[column]) for column, share in parts.items()))
        assert mean == pytest.approx(float(expected[name] or 0), abs=0.011)


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4))
def test_shares_sum_to_one_however_averages_nest(sizes: list[int]) -> None:
    specs, known = [], ["a", "b"]
    for number, size in enumerate(sizes):
        specs.append(Average(id=f"avg{number}", title="", over=tuple(known[-size:])))
        known += [f"c{number}", f"avg{number}"]
    assert all(sum(parts.values()) == 1 for parts in shares(specs).values())
    assert not any(name.startswith("avg") for parts in shares(specs).values() for name in parts)


def test_the_narrow_intervals_are_shorter_and_named(tmp_path: Path) -> None:
    results(tmp_path)
    default, chosen = cli(tmp_path).stdout, cli(tmp_path, "--these-draws").stdout
    assert "other test images and training images" in default and "these training images only" not in default
    assert "95 %, other test images, these training images" in chosen
    assert "other test images, these training images only" in chosen
    records, printed = read_results(tmp_path, tmp_path).records, published_table(4)
    view = table_view(printed, records, "paper-code", synthetic=False)
    wide, narrow = (
        {
            (model, column): found
            for model in ("unimodal_cm", "dlilp_cm")
            for column, one in row(
                with_intervals(view, printed, records, tmp_path, these_draws=these), model
            ).cells.items()
            if (found := one.interval) and found.low is not None
        }
        for these in (False, True)
    )
    assert wide.keys() == narrow.keys() and len(wide) > 4
    assert all(wide[own].low <= narrow[own].low and wide[own].estimate == narrow[own].estimate for own in wide)  # type: ignore[operator]
    assert any(wide[own].low < narrow[own].low for own in wide)  # type: ignore[operator]


def measured_of(out: Path, model: str, fold: FoldScores) -> Measurement:
    return measurement(read_cell(out, written(out, model, [fold], data__task="rsna")), BALANCED_ACCURACY)


def test_a_class_of_one_image_is_named_and_tells_little(tmp_path: Path) -> None:
    rows = [scored_fold(skill, 3, images=40, noise=place) for place, skill in enumerate((3.0, 0.1))]
    short = [FoldScores(0, f.ids[39:], f.labels[39:], f.scores[39:]) for f in rows]  # one image of the first class
    pair = [measured_of(tmp_path, name, fold) for name, fold in zip(("unimodal_cm", "clip_cm"), short, strict=True)]
    found = certainty.standings({place: [Weighted(one, 1.0)] for place, one in enumerate(pair)})
    assert sorted(found.standing.values()) == ["best", "not worse"] and not found.refused
    assert pair[0].interval.reason == "few test images: Normal 1. Their scores are hardly known"


def test_a_row_that_cannot_be_compared_stands_nowhere(tmp_path: Path) -> None:
    folds = [scored_fold(skill, 3, images=40) for skill in (1.2, 1.0, 1.0)]
    other = FoldScores(0, tuple(f"other{name}" for name in folds[2].ids), folds[2].labels, folds[2].scores)
    three = [
        measured_of(tmp_path, name, fold)
        for name, fold in zip(("unimodal_cm", "clip_cm", "kad"), (*folds[:2], other), strict=True)
    ]
    found = certainty.standings({place: [Weighted(one, 1.0)] for place, one in enumerate(three)})
    assert set(found.standing) == {0, 1} and any("other test images" in told for told in found.refused[2])
