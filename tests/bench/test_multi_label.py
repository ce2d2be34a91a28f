"""Multi-label tasks from raw phantom files to records, comparison, check, audit, export and report."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lab import Lab, records_of
from made_weights import TEXT_ENCODER
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner, Result

import cxrbench
from cxrbench.cli.main import app
from cxrbench.data.sources.base import load_partition
from cxrbench.errors import DataError, NotApplicableError
from cxrbench.evaluate.findings import FindingRows, chosen_thresholds
from cxrbench.evaluate.logistic_regression import STRENGTH, fit, probe_scores
from cxrbench.phantom.write import write
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.record import Record
from cxrbench.records.selection import prompt_set
from cxrbench.runner.folds import id_folds
from cxrbench.specs import catalog

TASK = "nih14_lineage"
MODELS = ("small_clip", "image_statistics")  # with and without a text side


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw files of one multi-label data set with train, validation and test lists."""
    root = tmp_path_factory.mktemp("drawn")
    write(TASK, root, images_per_class=2, size=(64, 64))
    return root


@pytest.fixture(scope="module")
def measured(lab: Lab, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with both models on all groups."""
    place = tmp_path_factory.mktemp("measured")
    found = cxrbench.run(
        models=[lab.model("small_clip"), "image_statistics"],
        tasks=[TASK],
        data_root=drawn,
        text_encoder=TEXT_ENCODER,
        shots=(1, 2),
        prompts=["presence", "names"],
        variant="phantom",
        out=place / "results",
        cache=place / "cache",
        device="cpu",
        progress=False,
    )
    assert not found.problems, found.problems
    return place


def cell(place: Path, model: str, protocol: str, group: str = "all", **how: Any) -> tuple[Record, ScoredCell]:
    """The one record of these words with its predictions."""
    fitting = [
        record
        for record in records_of(place)
        if (record.model.name, record.protocol.protocol, record.data.group) == (model, protocol, group)
        and how.items() <= {"shots": record.protocol.shots, "prompts": prompt_set(record)}.items()
    ]
    (record,) = fitting
    return record, read_cell(place / "results", record)


def spoken(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def test_a_record_says_what_kind_of_task_it_is_of_and_its_numbers_are_scikit_learns(measured: Path) -> None:
    record, found = cell(measured, "small_clip", "zero-shot", prompts="presence")
    assert (record.data.kind, record.protocol.scores, len(record.folds)) == ("multi-label", "logits", 1)
    (rows,) = found.folds
    assert isinstance(rows, FindingRows)
    assert (rows.labels.sum(axis=1) > 1).any() and (rows.labels.sum(axis=1) == 0).any()
    told = record.folds[0].metrics
    for metric, judge in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
        expected = [judge(rows.labels[:, c], rows.scores[:, c]) for c in range(14)]
        assert told[metric] == pytest.approx(expected, abs=1e-12)
        assert record.summary[f"macro_{metric}"]["mean"] == pytest.approx(np.mean(expected), abs=1e-12)
    assert told["macro_f1"] is not None and record.folds[0].thresholds["f1"]


def test_the_score_of_a_pair_is_presence_less_absence_and_a_score_alone_is_no_probability(measured: Path) -> None:
    pair, _ = cell(measured, "small_clip", "zero-shot", prompts="presence")
    assert pair.prompts is not None and pair.prompts.against[0]["Cardiomegaly"] == ("no Cardiomegaly",)
    alone, _ = cell(measured, "small_clip", "zero-shot", prompts="names")
    assert (alone.protocol.scores, alone.prompts and alone.prompts.against) == ("other", ())
    assert 0 <= len(alone.single_prompts) <= 1


def test_each_finding_has_a_probe_against_the_rest(measured: Path, lab: Lab, drawn: Path) -> None:
    """Fitted anew from the training images that the record names, by the same vectors."""
    record, found = cell(measured, "image_statistics", "linear-probe", shots=2)
    assert (record.protocol.solver, record.protocol.scores, len(record.folds)) == ("converged", "probabilities", 5)
    table, labels, images = vectors_of(measured, lab, drawn)
    place = record.data.labels.index("Effusion")
    for fold, rows, tested in zip(record.folds, found.findings_of, found.image, strict=True):
        truth = np.array([labels[image][place] for image in fold.train])
        counts = np.array([labels[image] for image in fold.train]).sum(axis=0)
        assert counts.min() >= 2 and any(not labels[image].any() for image in fold.train)
        probe = fit(np.array([table[image] for image in fold.train]), truth, 2, STRENGTH)
        scores = probe_scores(probe, np.array([table[found.images[n]] for n in tested]))[:, 1]
        np.testing.assert_allclose(rows.scores[:, place], scores, rtol=0, atol=1e-9)
    assert images >= {found.images[n] for n in found.image[0]}


def vectors_of(place: Path, lab: Lab, drawn: Path) -> tuple[dict[str, Any], dict[str, Any], set[str]]:
    """Vectors and labels of all images by id, as the model gives them outside a run."""
    task, variant = catalog.load_task(TASK), catalog.load_variant("phantom")
    partition = load_partition(drawn, task, variant.split_of(task))
    ids = [image for part in partition.parts.values() for image in part.ids]
    model = cxrbench.load_model("image_statistics", variant="phantom", device="cpu")
    vectors = model.encode_image([partition.paths[image] for image in ids])
    labels = {i: row for part in partition.parts.values() for i, row in zip(part.ids, part.labels, strict=True)}
    return dict(zip(ids, vectors.pooled.numpy(), strict=True)), labels, set(ids)


def test_thresholds_come_from_the_validation_part_alone(measured: Path, lab: Lab, drawn: Path) -> None:
    record, found = cell(measured, "small_clip", "zero-shot", prompts="presence")
    again = chosen_thresholds(found.folds[0].scores, found.folds[0].labels)
    assert record.folds[0].thresholds["f1"] != again["f1"]  # those of the test part
    best, chosen = (record.summary[name]["mean"] for name in ("f1_best_on_test", "macro_f1"))
    assert best > chosen


def test_groups_are_the_same_scores_of_fewer_findings(measured: Path) -> None:
    whole, part = (cell(measured, "small_clip", "zero-shot", group, prompts="presence") for group in ("all", "base"))
    places = [whole[0].data.labels.index(label) for label in part[0].data.labels]
    np.testing.assert_array_equal(whole[1].folds[0].scores[:, places], part[1].folds[0].scores)
    assert whole[0].generalised is None


def test_a_rerun_measures_nothing_and_a_single_label_metric_is_refused(measured: Path) -> None:
    words = ["compare", *MODELS, "--synthetic", "--variant", "phantom", "--out", measured / "results", "--shots", 2]
    done = spoken(*words)
    assert done.exit_code == 0 and "macro AUROC" in done.output and "multi-label tasks" in done.output
    refused = spoken(*words, "--metric", "kappa")
    assert isinstance(refused.exception, NotApplicableError) and "which have macro_auroc" in str(refused.exception)
    assert spoken(*words, "--metric", "macro_average_precision").exit_code == 0


def test_check_agrees_with_its_own_baseline_and_sees_another_number(measured: Path, tmp_path: Path) -> None:
    out, baseline = measured / "results", tmp_path / "baseline.toml"
    assert spoken("check", "--out", out, "--baseline", baseline, "--update").exit_code == 0
    same = ["check", "--out", out, "--baseline", baseline, "--against", "baseline"]
    assert spoken(*same).exit_code == 0
    record, _ = cell(measured, "small_clip", "zero-shot", prompts="presence")
    value = record.summary["macro_auroc"]["mean"]
    text = baseline.read_text(encoding="utf-8")
    assert repr(value) in text
    baseline.write_text(text.replace(repr(value), repr(value - 0.05)), encoding="utf-8")
    assert spoken(*same).exit_code != 0


def test_subgroups_prompts_calibration_export_and_report(measured: Path, tmp_path: Path) -> None:
    out = measured / "results"
    common = ["--out", out, "--variant", "phantom", "--synthetic"]
    for verb in ("subgroups", "prompts", "calibration"):
        done = spoken(verb, "--model", MODELS[0], *common)
        assert done.exit_code == 0, (verb, done.output)
    assert spoken("export", "--out", out, "--predictions", "--to", tmp_path / "s.parquet").exit_code == 0
    table = pd.read_parquet(tmp_path / "s.parquet")
    assert table.label.isna().all() and set(table.holds.dropna()) == {0, 1}
    assert spoken("report", "--out", out, "--to", tmp_path / "r.html").exit_code == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Macro AUROC in percent" in page and "Images that show it" in page


def test_the_shots_that_prompts_go_on_from_elsewhere_are_drawn_for_probes_alone(lab: Lab, tmp_path: Path) -> None:
    """K = 16 is the default, and the draw of single-label prompts."""
    write("rsna_pneumonia", tmp_path / "data", images_per_class=60, size=(32, 32))
    found = cxrbench.run(
        models=[lab.model("small_clip")],
        tasks=["rsna_pneumonia"],
        data_root=tmp_path / "data",
        text_encoder=TEXT_ENCODER,
        prompts=["presence"],
        variant="phantom",
        out=tmp_path / "results",
        cache=tmp_path / "cache",
        device="cpu",
        progress=False,
    )
    assert not found.problems, found.problems
    told = {
        r.protocol.protocol: (r.protocol.shots, [len(fold.train) for fold in r.folds]) for r in records_of(tmp_path)
    }
    assert told == {"zero-shot": (None, [0]), "linear-probe": (16, [32] * 5)}


def test_validation_images_that_are_test_images_choose_no_threshold(drawn: Path, tmp_path: Path) -> None:
    shutil.copytree(drawn, tmp_path / "data")
    (valid,) = (tmp_path / "data").rglob("val_list.txt")
    lists = [path.read_text().splitlines() for path in (tmp_path / "data").rglob("test_list.txt")]
    own, (lines,) = valid.read_text().splitlines(), [told for told in lists if len(told[0].split()) == 15]
    valid.write_text("\n".join([*lines[: len(own)]]) + "\n")
    task, variant = catalog.load_task(TASK), catalog.load_variant("phantom")
    partition = load_partition(tmp_path / "data", task, variant.split_of(task))
    with pytest.raises(DataError, match=r"validation images are test images, .* and no threshold may be chosen"):
        id_folds(task, partition, "all", (), variant.settings, "test")


def test_info_tells_each_finding_with_its_interval(measured: Path) -> None:
    record, _ = cell(measured, "small_clip", "zero-shot", prompts="presence")
    path = measured / "results" / "records" / TASK / "small_clip" / f"{record.id}.json"
    told = spoken("info", path)
    assert told.exit_code == 0 and "AUROC of Pleural Thickening" in told.output, told.output
    assert json.loads(path.read_text())["data"]["kind"] == "multi-label"
