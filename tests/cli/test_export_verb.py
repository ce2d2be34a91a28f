"""`cxrbench export`: one long table whose numbers are the records', and scores that give them again."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_predictions import scored_fold, written
from made_results import scores, write_result
from typer.testing import CliRunner

import cxrbench
from cxrbench.analysis.cell import cell_interval
from cxrbench.cli.main import app
from cxrbench.evaluate.metric_table import TABLE, table_of
from cxrbench.evaluate.metrics import fold_metrics, mean_and_spread
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record, predictions_path
from cxrbench.records.scores import FoldScores
from cxrbench.reports import frames
from cxrbench.reports.frames import cell_columns

DOC = Path(__file__).resolve().parents[2] / "docs" / "export.md"
TYPES = {"text": str, "integer": int, "number": float, "yes/no": bool}


def exported(out: Path, name: str, *words: str) -> pd.DataFrame:
    path = out / name
    done = CliRunner().invoke(app, ["export", "--out", str(out), "--to", str(path), *words])
    assert done.exit_code == 0, done.output
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pandas()
    names = pyarrow.csv.ConvertOptions(
        column_types={"record": pyarrow.string()},
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return pyarrow.csv.read_csv(path, convert_options=names).to_pandas()


def documented(chapter: str) -> dict[str, type]:
    """Columns that a chapter of the documentation lists, with their types."""
    text = DOC.read_text(encoding="utf-8").partition(f"\n## {chapter}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \| ([^|]+) \|", text, re.MULTILINE)
    return {name: TYPES[kind] for names, kind in rows for name in re.findall(r"`(\w+)`", names)}


def test_the_documentation_lists_the_columns() -> None:
    told = {chapter: list(documented(chapter).items()) for chapter in ("Cells", "Predictions")}
    assert told == {"Cells": list(frames.CELL_COLUMNS.items()), "Predictions": list(frames.SCORE_COLUMNS.items())}
    text = DOC.read_text(encoding="utf-8")
    assert [name for name in cell_columns() if re.sub("_(low|high)$", "", name) not in text] == []


def recomputed(table: pd.DataFrame, record: Record) -> list[float | None]:
    """Balanced accuracy of each fold from exported scores."""
    own, labels, found = table[table.record == record.id], list(record.data.labels), []
    for _, fold in own.groupby("fold", sort=True):
        values = fold.score.to_numpy().reshape(-1, len(labels))
        assert (fold["class"].to_numpy().reshape(-1, len(labels)) == labels).all()
        truth = np.array([labels.index(label) for label in fold.label.to_numpy()[:: len(labels)]])
        found.append(fold_metrics(values, truth).balanced_accuracy)
    return found


@pytest.mark.parametrize("name", ["scores.csv", "scores.parquet"])
def test_balanced_accuracy_is_that_of_the_exported_scores(name: str, tmp_path: Path) -> None:
    records = [
        write_result(tmp_path),
        written(tmp_path, "own", [scored_fold(0.5, seed, number=seed, classes=3) for seed in (0, 1, 4)],
                data__labels=("a, b", 'c "d"', "NA"), data__rows_per_label={"test": {"a, b": 1, 'c "d"': 1, "NA": 1}}),
    ]  # fmt: skip
    table = exported(tmp_path, name, "--predictions")
    assert list(table.columns) == list(frames.SCORE_COLUMNS)
    for record in records:
        values = recomputed(table, record)
        assert values == [fold.metrics["balanced_accuracy"] for fold in record.folds]
        assert mean_and_spread(values) == record.summary["balanced_accuracy"]
        cell = read_cell(tmp_path, record)
        images = table[table.record == record.id].image.to_numpy()[:: len(record.data.labels)]
        assert list(images) == [cell.images[place] for fold in cell.image for place in fold]


@settings(max_examples=15, deadline=None)
@given(
    classes=st.integers(2, 4),
    rows=st.integers(1, 30),
    folds=st.integers(1, 3),
    seed=st.integers(0, 1000),
    single=st.booleans(),
    most=st.integers(1, 40),
)
def test_any_scores_survive_the_file_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory, classes: int, rows: int, folds: int, seed: int, single: bool, most: int
) -> None:
    out, rng = tmp_path_factory.mktemp("out"), np.random.default_rng(seed)
    kind = np.float32 if single else np.float64
    made = [
        FoldScores(
            fold,
            tuple(f"image {row}" for row in range(rows)),
            rng.integers(0, classes, rows),
            (rng.normal(size=(rows, classes)) * 10.0 ** rng.integers(-30, 30)).astype(kind),
        )
        for fold in range(folds)
    ]
    labels = tuple("abcd"[:classes])
    record = written(out, "own", made, data__labels=labels, data__rows_per_label={"test": dict.fromkeys(labels, 1)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "ROWS", most)
        tables = [exported(out, name, "--predictions") for name in ("s.csv", "s.parquet")]
    for table in tables:
        told = table.score.to_numpy().reshape(folds, rows, classes)
        assert np.array_equal(told, np.stack([fold.scores for fold in made]).astype(np.float64))
        assert recomputed(table, record) == [fold.metrics["balanced_accuracy"] for fold in record.folds]
    groups = pq.ParquetFile(out / "s.parquet").metadata
    sizes = [groups.row_group(place).num_rows for place in range(groups.num_row_groups)]
    assert max(sizes) <= most and sum(sizes) == folds * rows * classes


@pytest.mark.parametrize("name", ["cells.csv", "cells.parquet"])
def test_cells_hold_every_fold_and_the_mean_with_its_interval(name: str, tmp_path: Path) -> None:
    record = write_result(tmp_path, scores(folds=3))
    table = exported(tmp_path, name)
    assert list(table.columns) == list(frames.CELL_COLUMNS)
    assert len(table) == 5 * (3 + 1)
    for metric in table_of("single-label"):
        own = table[table.metric == metric]
        assert list(own.value) == [*(f.metrics[metric] for f in record.folds), record.summary[metric]["mean"]]
        assert list(own.fold.fillna(-1)) == [0, 1, 2, -1]
        told, mean = cell_interval(read_cell(tmp_path, record), TABLE[metric]), own.iloc[-1]
        assert (mean.low, mean.high, mean["std"]) == (told.low, told.high, record.summary[metric]["std"])
        assert (mean.covers, mean.units, mean.over) == (told.words, 400, "image")
        assert own.iloc[:-1][["std", "low", "high", "covers", "units", "over"]].isna().all(axis=None)


def test_long_and_wide_tables_tell_the_same(tmp_path: Path) -> None:
    write_result(tmp_path, model__name="gloria")
    write_result(tmp_path, scores(3), variant="cxrbench-v1", data__missing=2)
    wide, long = cxrbench.load_records(tmp_path).to_dataframe(), exported(tmp_path, "cells.parquet")
    means = long[long.fold.isna()].pivot(index="record", columns="metric", values=["value", "low", "high"])
    for row in wide.itertuples():
        for metric in table_of("single-label"):
            ends = [getattr(row, f"{metric}{end}") for end in ("", "_low", "_high")]
            assert list(means.loc[row.record, [(part, metric) for part in ("value", "low", "high")]]) == ends
    assert [len(cxrbench.load_records(tmp_path).predictions(place)) for place in (0, 1)] == [1600, 1600]


def test_the_default_file_lies_in_the_results_and_made_numbers_are_told(tmp_path: Path) -> None:
    write_result(tmp_path, model__synthetic=True)
    for words, name in (([], "cells.csv"), (["--predictions"], "predictions.parquet")):
        done = CliRunner().invoke(app, ["export", "--out", str(tmp_path), *words])
        assert (done.exit_code, done.stdout.startswith(f"{tmp_path / name}: ")) == (0, True), done.output
        assert "1 of 1 cells are of synthetic images or weights" in done.stderr
        assert (tmp_path / name).is_file()


def test_a_damaged_record_is_named_and_left_out(tmp_path: Path) -> None:
    whole, other = write_result(tmp_path), write_result(tmp_path, scores(2), model__name="gloria")
    path = predictions_path(tmp_path, other)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = CliRunner().invoke(app, ["export", "--out", str(tmp_path)])
    assert done.exit_code == 0 and f"left out: {tmp_path}" in done.stderr
    assert set(pd.read_csv(tmp_path / "cells.csv").record) == {whole.id}
