"""What was measured, read back in Python: the records that count, as a sequence, a table and a data frame."""

import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_predictions import restated, scored_fold, written
from made_results import scores, write_result

import cxrbench
from cxrbench.analysis.cell import cell_interval, harmonic_interval
from cxrbench.errors import DataError
from cxrbench.evaluate.metric_table import TABLE, table_of
from cxrbench.evaluate.metrics import generalised
from cxrbench.records.integrity import place_of
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record, record_path

PRINTED = [
    {"table": 2, "row": "(b) linear probing, K = 16 DLILP", "column": "RSNA B", "value": "93.82"},
    {"table": 4, "row": "DLILP (M+C)", "column": "RSNA", "value": "93.82"},
]


def only(out: Path) -> pd.Series:
    frame = cxrbench.load_records(out).to_dataframe()
    assert len(frame) == 1
    return frame.iloc[0]


def test_a_row_holds_the_record_and_the_intervals_that_every_other_place_shows(tmp_path: Path) -> None:
    record = write_result(tmp_path, model__name="dlilp_cm", published=PRINTED, data__task="rsna")
    row, cell = only(tmp_path), read_cell(tmp_path, record)
    for metric in table_of("single-label"):
        interval = cell_interval(cell, TABLE[metric])
        assert row[metric] == record.summary[metric]["mean"]
        assert (row[f"{metric}_low"], row[f"{metric}_high"]) == (interval.low, interval.high)
    assert (
        row.covers == cell_interval(cell, TABLE["balanced_accuracy"]).words == "other test images and training images"
    )
    assert (row.model, row.task, row.group, row.protocol, row.shots) == (
        "dlilp_cm",
        "rsna",
        "all",
        "linear-probe",
        "16",
    )
    assert (row.weights_sha256, row.card_digest) == (record.model.weights_sha256, record.model.card_digest)
    assert (row.published_percent, row.published_in.count("Table")) == (93.82, 2)
    assert row.path == place_of(record) and (tmp_path / row.path).is_file()
    assert (row.version, row.folds, row.synthetic, row.control) == (record.code.version, 2, False, False)
    assert pd.isna(row.prompts) and pd.isna(row.class_prompts) and pd.isna(row.harmonic_mean)
    assert (row.valid, row.comparable) == (True, True)


def test_prompts_are_counted_class_by_class(tmp_path: Path) -> None:
    drawn = [{"Normal": ["a", "b"], "Pneumonia": ["c"]}]
    told = {"set": "own", "digest": "0" * 64, "source": "prompts", "drawn": drawn}
    write_result(tmp_path, protocol__protocol="zero-shot", protocol__shots=None, prompts=told)
    row = only(tmp_path)
    assert (row.prompts, row.class_prompts, row.covers) == (
        "own",
        "Normal 2, Pneumonia 1",
        "other test images, these prompts only",
    )


@pytest.mark.parametrize("images", [60, 6])  # of each class; few are warned of, by every number's name
def test_the_harmonic_mean_of_base_and_new_classes_has_its_interval(images: int, tmp_path: Path) -> None:
    fold = scored_fold(1.0, 3, classes=3, images=images)
    found, labels = generalised(fold.scores, fold.labels, [2]), ("a", "b", "c")
    joint = {"base": found.base, "new": found.new, "harmonic_mean": found.harmonic_mean, "new_classes": ["c"]}
    rows = {"test": dict.fromkeys(labels, images)}
    record = written(tmp_path, "own", [fold], data__labels=labels, data__rows_per_label=rows, generalised=joint)
    interval, row = harmonic_interval(read_cell(tmp_path, record)), only(tmp_path)
    assert interval is not None
    assert (row.harmonic_mean, row.harmonic_mean_low, row.harmonic_mean_high) == (
        found.harmonic_mean,
        interval.low,
        interval.high,
    )
    assert ("few test images" in str(row.beware)) == (images == 6)


def test_a_metric_that_is_not_defined_is_missing_and_not_zero(tmp_path: Path) -> None:
    fold = scored_fold(1.0, 3)
    kept = fold.labels == 0
    alone = replace(fold, ids=tuple(np.array(fold.ids)[kept]), labels=fold.labels[kept], scores=fold.scores[kept])
    written(tmp_path, "own", [alone])
    row = only(tmp_path)
    assert pd.isna(row.balanced_accuracy) and pd.isna(row.balanced_accuracy_low) and row.accuracy > 0
    assert "own" in cxrbench.load_records(tmp_path)._repr_html_()


def aged(out: Path, record: Record, started: str, **changes: object) -> Record:
    runtime = record.runtime.model_copy(update={"started": started})
    return restated(out, record, runtime=runtime, **changes)


def test_of_a_cell_the_newest_sound_record_counts_and_each_variant_has_its_own(tmp_path: Path) -> None:
    new = aged(tmp_path, write_result(tmp_path, scores(1)), "2026-03-01T00:00:00+00:00")
    aged(tmp_path, write_result(tmp_path, scores(2)), "2026-01-01T00:00:00+00:00")
    flawed = write_result(tmp_path, scores(3), data__missing=2)
    aged(tmp_path, flawed, "2026-05-01T00:00:00+00:00")
    other = write_result(tmp_path, variant="cxrbench-v1")
    made = write_result(tmp_path, model__synthetic=True)
    records = cxrbench.load_records(out=str(tmp_path))
    assert [r.id for r in records] == [other.id, new.id, made.id]
    assert (len(records), records[0].id, records[-1].id, len(records[1:])) == (3, other.id, made.id, 2)
    assert "3 cells" in repr(records) and "2 older records" in repr(records)
    assert list(records.to_dataframe().synthetic) == [False, False, True]


def test_a_flawed_record_says_what_to_doubt(tmp_path: Path) -> None:
    write_result(tmp_path, data__missing=2, published=PRINTED)
    row = only(tmp_path)
    assert (row.valid, row.comparable) == (False, False)
    assert "2 images have no file" in row.doubts and "2 images have no file" in row.not_comparable


def test_damaged_records_are_warned_of_at_the_callers_line_every_time(tmp_path: Path) -> None:
    whole = write_result(tmp_path, scores(1), model__name="gloria")
    for seed in range(7):
        record = write_result(tmp_path, scores(seed), model__name=f"own{seed}")
        path = record_path(tmp_path, record.data.task, record.model.name, record.id)
        path.write_text(path.read_text().replace('"paper-code"', '"paper-kode"', 1))
    for _ in range(2):
        with warnings.catch_warnings(record=True) as told:
            warnings.resetwarnings()
            warnings.simplefilter("default")
            records = cxrbench.load_records(tmp_path)
        assert [one.category for one in told] == [cxrbench.CxrBenchWarning]
        assert told[0].filename == __file__
    text = str(told[0].message)
    assert (
        text.startswith("7 records in ")
        and text.count("run its cell again") == 5
        and "2 more: `load_records(...).left_out`" in text
    )
    assert [r.id for r in records] == [whole.id] and len(records.left_out) == 7
    assert "7 records left out" in repr(records) and "run its cell again" in records._repr_html_()


def test_a_warning_can_be_made_an_error(tmp_path: Path) -> None:
    record = write_result(tmp_path)
    record_path(tmp_path, record.data.task, record.model.name, record.id).with_suffix(".parquet").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", cxrbench.CxrBenchWarning)
        with pytest.raises(cxrbench.CxrBenchWarning, match="no predictions"):
            cxrbench.load_records(tmp_path)


def test_an_empty_folder_is_no_records_and_none_at_all_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder"):
        cxrbench.load_records(tmp_path / "none")
    records = cxrbench.load_records(tmp_path)
    assert len(records) == 0 and records.to_dataframe().shape[0] == 0
    assert {"balanced_accuracy_low", "model"} <= {*records.to_dataframe().columns}


def test_html_shows_what_files_say_as_text(tmp_path: Path) -> None:
    write_result(tmp_path, model__name="<script>")
    page = cxrbench.load_records(tmp_path)._repr_html_()
    assert "&lt;script&gt;" in page and "<script>" not in page
    assert "95 % intervals: other test images and training images" in page


def test_reading_records_loads_no_torch(tmp_path: Path) -> None:
    write_result(tmp_path)
    program = (
        "import sys, cxrbench\n"
        f"frame = cxrbench.load_records({str(tmp_path)!r}).to_dataframe()\n"
        "assert len(frame) == 1 and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
