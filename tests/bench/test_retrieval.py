"""Retrieval tasks from raw phantom files to records, comparison, check, audit, export and report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lab import Lab, records_of, write_card, write_model
from made_weights import TEXT_ENCODER
from typer.testing import CliRunner, Result
from written_facts import write_facts

import cxrbench
from cxrbench.cli.main import app
from cxrbench.data.sources.base import load_partition
from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.retrieval import OF_OWN
from cxrbench.phantom.write import write
from cxrbench.records.predictions import ScoredCell, read_cell
from cxrbench.records.record import Record
from cxrbench.runner.settle import RunResult
from cxrbench.specs import catalog
from cxrbench.types import Partition, RetrievalForm

LISTS, DRAWN, TEST = "retrieval_8x200", "retrieval_mimic5x200", "retrieval_mimic_test"
FORMS: dict[str, tuple[RetrievalForm, ...]] = {
    LISTS: ("a-image-to-image", "a-text-to-image"),
    DRAWN: ("b-image-to-report", "c-image-to-report", "c-report-to-image"),
    TEST: ("c-image-to-report", "c-report-to-image"),
}


@pytest.fixture(scope="module")
def bench(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The lab with the raw files of the three tasks, and another encoder of another seed."""
    root = tmp_path_factory.mktemp("retrieval")
    for task, count in ((LISTS, 8), (DRAWN, 10), (TEST, 2)):
        write(task, root / "data", images_per_class=count, size=(64, 64))
    task = catalog.load_task(DRAWN)
    spec = task.split("phantom")
    small = spec.model_copy(update={"params": {**spec.params, "per_class": 10}})
    write_facts(root / "tasks" / f"{DRAWN}.toml", task.model_copy(update={"splits": {"phantom": small}}))
    write_model(root / "models", "clip")
    write_card(root / "models", "other_clip", "clip", size=48)
    return Lab(root / "models", root / "tasks", {"": root / "data"})


def run(bench: Lab, place: Path, **changes: Any) -> RunResult:
    asked: dict[str, Any] = {
        "models": [bench.model("small_clip"), bench.model("other_clip"), "image_statistics"],
        "tasks": [LISTS, bench.task(DRAWN), TEST],
        "protocols": ["retrieval"],
        "data_root": dict(bench.data),
        "text_encoder": TEXT_ENCODER,
        "variant": "phantom",
        "out": place / "results",
        "cache": place / "cache",
        "device": "cpu",
        "progress": False,
    }
    return cxrbench.run(**(asked | changes))


@pytest.fixture(scope="module")
def measured(bench: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A results folder with both encoders on all groups of all three tasks."""
    place = tmp_path_factory.mktemp("measured")
    found = run(bench, place)
    assert not found.problems, found.problems
    assert len(found.skipped) == 3 and all("no text side" in why for why in found.skipped.values())
    return place


def cell(place: Path, task: str, group: str, model: str = "small_clip") -> tuple[Record, ScoredCell]:
    """The one record of these words with its predictions."""
    (record,) = [r for r in records_of(place) if (r.data.task, r.data.group, r.model.name) == (task, group, model)]
    return record, read_cell(place / "results", record)


def spoken(*words: str | Path) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


class Vectors:
    """Vectors of a task's images and texts as the model gives them outside a run."""

    def __init__(self, bench: Lab, task: str) -> None:
        spec = catalog.load_task(bench.task(task) if task == DRAWN else task)
        self.partition: Partition = load_partition(bench.data[""], spec, "phantom")
        self._model = cxrbench.load_model(
            bench.model("small_clip"),
            variant="phantom",
            device="cpu",
            weights=bench.models,
            text_encoder=TEXT_ENCODER,
        )

    def images(self, ids: tuple[str, ...]) -> Any:
        return self._model.encode_image([self.partition.paths[image] for image in ids]).joint.double().numpy()

    def texts(self, texts: tuple[str, ...]) -> Any:
        return np.concatenate([self._model.encode_text([text]).joint.double().numpy() for text in texts])


def test_each_form_is_a_cell_of_its_own_and_says_what_its_number_means(measured: Path) -> None:
    assert len(records_of(measured)) == 2 * sum(map(len, FORMS.values()))
    for task, forms in FORMS.items():
        for form in forms:
            record, found = cell(measured, task, form)
            told = record.protocol.options
            assert (record.data.kind, record.protocol.protocol, record.protocol.scores) == (
                "retrieval",
                "retrieval",
                "other",
            )
            assert (told["letter"], told["ties"]) == (form[0].upper(), "against the query")
            assert told["queries"] == len(found.images) == record.folds[0].test_rows
            assert found.over == ("text" if form == "a-text-to-image" else "patient")
            assert (form == "a-image-to-image") != ("distinct_texts" in told)
    assert cell(measured, LISTS, "a-image-to-image")[0].protocol.options["chance"] == pytest.approx(1 / 8)
    assert cell(measured, DRAWN, "b-image-to-report")[0].protocol.options["chance"] == pytest.approx(1 / 5)
    sections = cell(measured, TEST, "c-image-to-report")[0].protocol.options["sections"]
    assert sections == "findings and impression, as far as a report has them"


def test_ranks_of_own_reports_are_those_of_the_models_own_vectors(measured: Path, bench: Lab) -> None:
    found = Vectors(bench, TEST)
    part = found.partition.parts["test"]
    assert part.texts is not None
    texts = tuple(dict.fromkeys(part.texts))
    assert len(texts) < len(part.texts)  # some studies share a report
    similar = found.images(part.ids) @ found.texts(texts).T
    own = np.array([texts.index(text) for text in part.texts])
    expected = 1 + (similar >= similar[np.arange(len(own)), own][:, None]).sum(axis=1) - 1
    record, ranked = cell(measured, TEST, "c-image-to-report")
    by_image = dict(zip([ranked.images[n] for n in ranked.image[0]], ranked.queries_of[0]["rank"], strict=True))
    assert ranked.queries_of[0].names == OF_OWN
    assert [by_image[image] for image in part.ids] == expected.tolist()
    told = record.folds[0].metrics
    assert told["recall_at_5"] == pytest.approx((expected <= 5).mean())
    assert (told["median_rank"], told["mean_rank"]) == pytest.approx((np.median(expected), expected.mean()))
    assert record.protocol.options["candidates"] == len(texts) == record.protocol.options["distinct_texts"]


def test_texts_rank_images_and_a_shared_report_counts_by_its_best_image(measured: Path, bench: Lab) -> None:
    found = Vectors(bench, TEST)
    part = found.partition.parts["test"]
    assert part.texts is not None
    texts = tuple(dict.fromkeys(part.texts))
    similar = found.texts(texts) @ found.images(part.ids).T
    owns = np.array([[one == text for one in part.texts] for text in texts])
    best = np.where(owns, similar, -np.inf).max(axis=1)
    expected = 1 + (np.where(owns, -np.inf, similar) >= best[:, None]).sum(axis=1)
    record, ranked = cell(measured, TEST, "c-report-to-image")
    by_image = dict(zip([ranked.images[n] for n in ranked.image[0]], ranked.queries_of[0]["rank"], strict=True))
    assert [by_image[part.ids[int(row.argmax())]] for row in owns] == expected.tolist()
    assert record.protocol.options["candidates"] == len(part)


@pytest.mark.parametrize("form", FORMS[LISTS])
def test_precisions_of_the_lists_are_those_of_the_models_own_vectors(
    measured: Path, bench: Lab, form: RetrievalForm
) -> None:
    found = Vectors(bench, LISTS)
    pool, asked = found.partition.parts["candidates"], found.partition.asked
    assert asked is not None and asked.texts is not None
    texts = form == "a-text-to-image"
    asking = asked if texts else found.partition.parts["test"]
    vectors = found.texts(asked.texts) if texts else found.images(asking.ids)
    order = np.argsort(-(vectors @ found.images(pool.ids).T), axis=1)
    right = np.take_along_axis(asking.labels.astype(int) @ pool.labels.astype(int).T, order, axis=1)
    record, _ = cell(measured, LISTS, form)
    for at in (1, 5, 10, 50):
        assert record.summary[f"precision_at_{at}"]["mean"] == pytest.approx(right[:, :at].mean(), abs=1e-12)


def test_a_rerun_encodes_no_image_and_no_text(measured: Path, bench: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    again = run(bench, measured)
    assert (again.cached, again.encoded, again.decoded) == (len(records_of(measured)), 0, 0)
    from cxrbench.runner import model

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("a network is loaded")

    monkeypatch.setattr(model, "load_adapter", refuse)
    before = {record.id: record.summary for record in records_of(measured)}
    anew = run(bench, measured, resume=False)
    assert not anew.problems and anew.encoded == 0
    assert {record.id: record.summary for record in anew.records} == before


def test_images_that_another_task_has_stored_are_not_encoded_again(bench: Lab, tmp_path: Path) -> None:
    common = {"models": [bench.model("small_clip")], "prompts": ["presence"]}
    first = run(bench, tmp_path, tasks=["mimic_test"], protocols=["zero-shot"], groups=["all"], **common)
    assert not first.problems and first.encoded > 0
    second = run(bench, tmp_path, tasks=[TEST], **common)
    assert not second.problems and second.encoded == 0


def test_a_task_without_its_protocol_is_named_and_how_to_ask(bench: Lab, tmp_path: Path) -> None:
    found = run(bench, tmp_path, tasks=[TEST], protocols=["zero-shot", "linear-probe"])
    assert not found.records and "--protocol retrieval" in " ".join(found.skipped.values())
    other = run(bench, tmp_path, tasks=["mimic_test"], protocols=["retrieval"])
    assert not other.records and "multi-label task" in " ".join(other.skipped.values())


def test_a_model_that_scores_by_interaction_is_not_applicable(bench: Lab) -> None:
    from cxrbench.runner.protocol import load_protocol

    protocol = load_protocol("retrieval")
    cards = [catalog.load_card(name) for name in catalog.card_files()]
    joint = [card for card in cards if card.zero_shot and any(v.scoring == "interaction" for v in card.views.values())]
    assert joint and all("interaction" in protocol.why_none(card) for card in joint)


def test_compare_never_mixes_forms_and_never_averages_them(measured: Path) -> None:
    words = [
        "compare",
        "small_clip",
        "other_clip",
        "--synthetic",
        "--variant",
        "phantom",
        "--out",
        measured / "results",
    ]
    done = spoken(*words)
    assert done.exit_code == 0, done.output
    for forms in FORMS.values():
        assert all(f"group {form}" in done.output for form in forms)
    assert "recall@1" in done.output and "precision@1" in done.output
    alone = spoken(*words, "--group", "b-image-to-report")
    assert alone.exit_code == 0 and "c-image" not in alone.output
    assert spoken(*words, "--metric", "hit_at_5").exit_code == 0
    refused = spoken(*words, "--metric", "kappa")
    assert isinstance(refused.exception, NotApplicableError) and "recall_at_1" in str(refused.exception)


def test_check_agrees_with_its_own_baseline_and_sees_another_number(measured: Path, tmp_path: Path) -> None:
    out, baseline = measured / "results", tmp_path / "baseline.toml"
    assert spoken("check", "--out", out, "--baseline", baseline, "--update").exit_code == 0
    same = ["check", "--out", out, "--baseline", baseline, "--against", "baseline"]
    assert spoken(*same).exit_code == 0
    record, _ = cell(measured, DRAWN, "b-image-to-report")
    value = record.summary["precision_at_1"]["mean"]
    text = baseline.read_text(encoding="utf-8")
    assert repr(value) in text
    baseline.write_text(text.replace(repr(value), repr(value + 0.5)), encoding="utf-8")
    assert spoken(*same).exit_code != 0


def test_a_changed_rank_is_seen(measured: Path, bench: Lab, tmp_path: Path) -> None:
    run(bench, tmp_path, tasks=[TEST], models=[bench.model("small_clip")], cache=measured / "cache")
    record, _ = cell(tmp_path, TEST, "c-image-to-report")
    path = tmp_path / "results" / "records" / TEST / "small_clip" / f"{record.id}.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "score: rank"] += 1
    table.to_parquet(path)
    done = spoken("check", "--out", tmp_path / "results", "--against", "predictions")
    assert done.exit_code != 0


def test_table_export_info_audit_and_report(measured: Path, bench: Lab, tmp_path: Path) -> None:
    out = measured / "results"
    common = ["--out", out, "--variant", "phantom", "--synthetic"]
    for form in FORMS[DRAWN]:
        done = spoken("table", "--group", form, *common)
        assert done.exit_code == 0, (form, done.output, done.exception)
    assert spoken("export", "--out", out, "--to", tmp_path / "cells.csv").exit_code == 0
    cells = pd.read_csv(tmp_path / "cells.csv")
    ranks = cells[(cells.metric == "median_rank") & cells.fold.isna()]
    assert len(ranks) == 8 and ranks.low.isna().all() and (ranks.value >= 1).all()
    assert cells[(cells.metric == "recall_at_1") & cells.fold.isna()].low.notna().any()
    assert spoken("export", "--out", out, "--predictions", "--to", tmp_path / "s.parquet").exit_code == 0
    queries = pd.read_parquet(tmp_path / "s.parquet")
    assert {"rank", "margin", "precision_at_50"} <= set(queries["class"]) and queries.holds.isna().all()
    assert spoken("report", "--out", out, "--to", tmp_path / "r.html").exit_code == 0
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Recall@1 in percent" in page and "Precision@1 in percent" in page and "in the median" in page
    for task, forms in FORMS.items():
        record, _ = cell(measured, task, forms[-1])
        told = spoken("info", out / "records" / task / "small_clip" / f"{record.id}.json")
        assert told.exit_code == 0, (told.output, told.exception)
        assert f"letter       {forms[-1][0].upper()}" in told.output and "against the query" in told.output
    audited = spoken("audit", "--data-root", bench.data[""], "--variant", "phantom", "-t", LISTS, "-t", TEST)
    assert audited.exit_code == 0, (audited.output, audited.exception)
    assert json.loads(spoken("info", TEST, "--json").output)


def test_latex_and_notebook_show_them(measured: Path) -> None:
    out = measured / "results"
    made = ["--out", out, "--variant", "phantom", "--synthetic"]
    done = spoken("table", "--group", "c-image-to-report", "--format", "latex", *made)
    assert done.exit_code == 0 and r"\begin{tabular}" in done.output, done.output
    frame = cxrbench.load_records(out).to_dataframe()
    own = frame[frame.group.str.startswith("c-")]
    assert len(own) == 8 and own.recall_at_1.notna().all() and own.median_rank.notna().all()
    assert own.precision_at_1.isna().all() and own.balanced_accuracy.isna().all()
