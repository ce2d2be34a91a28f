"""Whole runs over drawn data: what is done once, what is reused, what is left out, and what is told of it."""

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from lab import COVID_IMAGES, Lab, by_id, copied, numbers, predictions, records_of, write_card, write_task
from written_facts import write_facts

from cxrbench.errors import DataError, SpecError
from cxrbench.records.record import read_record
from cxrbench.runner.run import RunResult, forecast
from cxrbench.specs import catalog
from cxrbench.store.embeddings import Embeddings, Store, digest
from cxrbench.store.sealed import CHECKSUM, with_checksum


def stored(place: Path) -> list[Embeddings]:
    store = Store(place / "cache")
    return [store.read(key) for key, _ in store.entries()]


def test_a_second_run_decodes_and_encodes_nothing(lab: Lab, tmp_path: Path) -> None:
    first = lab.run(tmp_path, ["small_unimodal"], ["covid"])
    assert (first.decoded, first.encoded, first.cached) == (COVID_IMAGES, COVID_IMAGES, 0)
    second = lab.run(tmp_path, ["small_unimodal"], ["covid"])
    assert (second.decoded, second.encoded, second.cached) == (0, 0, len(first.records))
    assert second.records == first.records


def test_records_made_anew_hold_the_same_numbers_and_bytes(lab: Lab, tmp_path: Path) -> None:
    first = lab.run(tmp_path, ["small_unimodal"], ["covid"])
    before = {record.id: predictions(tmp_path, record).read_bytes() for record in first.records}
    second = lab.run(tmp_path, ["small_unimodal"], ["covid"], resume=False)
    assert (second.decoded, second.encoded, second.cached) == (0, 0, 0)
    assert by_id(second) == by_id(first)
    assert {record.id: predictions(tmp_path, record).read_bytes() for record in second.records} == before


def test_models_and_recipes_share_one_decoding_sweep(lab: Lab, tmp_path: Path) -> None:
    write_card(lab.models, "small_unimodal_48", "unimodal", size=48)
    report = lab.run(tmp_path, ["small_unimodal", "small_clip", "small_unimodal_48"], ["covid"])
    assert report.decoded == COVID_IMAGES
    assert report.encoded == 3 * COVID_IMAGES
    assert [len(known) for known in stored(tmp_path)] == [COVID_IMAGES] * 3


def test_an_image_of_two_tasks_is_encoded_once(lab: Lab, tmp_path: Path) -> None:
    """The second task's files are copies in another folder: the bytes decide, not the path."""
    more, _ = copied(lab, tmp_path / "copy")
    variant = catalog.load_variant(str(lab.variant))
    splits = {**variant.splits, "covid_copy": "phantom"}
    changed = write_facts(tmp_path / "two.toml", variant.model_copy(update={"splits": splits}))
    task = write_task(tmp_path, "covid_copy", "covid")
    roots = {**lab.data, "covid_copy": more.data["covid"]}
    report = lab.run(
        tmp_path,
        ["small_unimodal"],
        ["covid"],
        tasks=[lab.task("covid"), str(task)],
        variant=str(changed),
        data_root=roots,
    )
    assert (report.decoded, report.encoded) == (COVID_IMAGES, COVID_IMAGES)
    one, two = ([r.summary for r in report.records if r.data.task == task] for task in ("covid", "covid_copy"))
    assert one == two != []


def test_features_do_not_depend_on_the_company_of_a_batch(lab: Lab, tmp_path: Path) -> None:
    """Images meet others in their batch, at other places in it, and beside padding; their vectors stay bit for bit."""
    alone, among, later = (tmp_path / name for name in ("alone", "among", "later"))
    lab.run(alone, ["small_unimodal"], ["covid"])
    lab.run(among, ["small_unimodal"], ["chexpert5x200", "covid"], groups=["all"], shots=(1,))
    lab.run(later, ["small_unimodal"], ["covid"], groups=["2-class"], shots=(1,))
    lab.run(later, ["small_unimodal"], ["covid"])
    first, *others = (stored(place)[0] for place in (alone, among, later))
    assert [len(known) for known in (first, *others)] == [COVID_IMAGES, len(others[0]), COVID_IMAGES]
    contents = {digest.of_file(path) for path in lab.files("covid").values()}
    for known in others:
        common = sorted(image for image in contents if image in known)
        assert len(common) > COVID_IMAGES // 2
        for tap in ("pooled", "joint"):
            assert np.array_equal(first.rows(tap, common), known.rows(tap, common))


def test_other_bytes_under_the_same_name_are_another_measurement(lab: Lab, tmp_path: Path) -> None:
    own, folder = copied(lab, tmp_path / "data")
    first = own.run(tmp_path, ["small_unimodal"], ["covid"])
    images = [folder / "COVID" / "images" / f"COVID-{n}.png" for n in (1, 2)]
    one, two = (path.read_bytes() for path in images)
    images[0].write_bytes(two)
    images[1].write_bytes(one)
    second = own.run(tmp_path, ["small_unimodal"], ["covid"])
    assert (second.encoded, second.cached) == (0, 0)
    assert not set(by_id(first)) & set(by_id(second))
    assert {r.data.partition_digest for r in first.records} == {r.data.partition_digest for r in second.records}
    assert not {r.data.contents_digest for r in first.records} & {r.data.contents_digest for r in second.records}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"models": ["dlilp_cn"]}, "did you mean dlilp_cm"),
        ({"tasks": ["chexpert5x20"]}, "did you mean chexpert5x200"),
        ({"groups": ["2-clas"]}, "did you mean 2-class"),
        ({"variant": "paper-cod"}, "did you mean paper-code"),
        ({"prompts": ["ensembel"]}, "did you mean ensemble"),
        ({"protocols": ["zeroshot"]}, "did you mean zero-shot"),
        ({"settings": {"lp.solvers": "converged"}}, "did you mean lp.solver"),
        ({"settings": {"lp.solver": "newton"}}, "'converged' or 'scikit-learn'"),
        ({"shots": [0]}, "at least 1"),
        ({"tasks": ["nowhere.toml"]}, "nowhere.toml"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_unknown_names_are_refused_before_anything_is_done(
    changes: Mapping[str, Any], told: str, lab: Lab, tmp_path: Path
) -> None:
    with pytest.raises(SpecError, match=told):
        lab.run(tmp_path, ["small_unimodal"], ["covid"], **changes)
    assert not list(tmp_path.rglob("*.json"))


def test_cells_without_a_prototype_are_skipped_with_the_reason(lab: Lab, tmp_path: Path) -> None:
    """The dash of Table 2: no prototype for Bronchitis. Everything else is measured."""
    report = lab.run(tmp_path, ["small_unimodal"], ["vindr"])
    assert set(report.skipped) == {
        f"small_unimodal / vindr / {group} / zero-shot / prototypes" for group in ("all", "new")
    }
    assert all("Bronchitis" in reason for reason in report.skipped.values())
    assert report.problems == []
    before = forecast(lab.request(tmp_path / "dry", ["small_unimodal"], ["vindr"]))
    assert before.skipped == report.skipped  # told by the vocabulary, before anything is computed
    assert set(before.cells).isdisjoint(report.skipped)
    assert [(r.data.group, r.protocol.shots) for r in report.records] == [
        ("all", 1), ("all", 2), ("base", None), ("base", 1), ("base", 2), ("new", 1), ("new", 2),
    ]  # fmt: skip


TERMS = {
    "name": "few",
    "unlisted": "name",
    "terms": {"Edema": {"names": ["severity", "subtype"], "slots": [["", "mild", "severe"], ["edema", "wet lung"]]}},
    "sample": {"above": 4, "size": 4, "order": ["Edema"]},
}


def test_a_record_tells_all_that_decided_its_number(lab: Lab, tmp_path: Path) -> None:
    prompts = write_facts(tmp_path / "few.toml", TERMS)
    report = lab.run(tmp_path, ["small_clip"], ["chexpert5x200"], prompts=[str(prompts)], shots=(2,))
    assert records_of(tmp_path) == sorted(report.records, key=lambda record: record.id)
    variant = catalog.load_variant(str(lab.variant))
    weights = digest.of_file(lab.models / "clip.pth")
    for record in report.records:
        assert read_record(predictions(tmp_path, record).with_suffix(".json")) == record
        assert digest.of_file(predictions(tmp_path, record)) == record.predictions_sha256
        assert (record.variant, record.variant_digest, record.settings) == ("small", variant.digest, variant.settings)
        assert record.model.weights_sha256 == weights
        assert record.data.split == "phantom" and record.data.rows_per_label["all"]["Edema"] == 8
        assert record.preprocessing.digest == record.preprocessing.recipe.digest
        assert len(record.folds) == 5


def test_a_record_holds_the_prompts_of_every_fold(lab: Lab, tmp_path: Path) -> None:
    prompts = write_facts(tmp_path / "few.toml", TERMS)
    report = lab.run(
        tmp_path, ["small_clip"], ["chexpert5x200"], prompts=[str(prompts), "names"], protocols=["zero-shot"]
    )
    few, names = sorted((r.prompts for r in report.records if r.prompts), key=lambda told: told.set)
    assert few.digest == catalog.load_prompts(str(prompts)).digest
    assert [len(fold["Edema"]) for fold in few.drawn] == [4] * 5
    assert len({fold["Edema"] for fold in few.drawn}) > 1
    assert {fold["Atelectasis"] for fold in few.drawn} == {("atelectasis",)}
    assert [fold["Edema"] for fold in names.drawn] == [("a radiology image of edema",)]


def test_a_record_holds_the_drawn_images_of_every_fold(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], ["chexpert5x200"], protocols=["linear-probe"])
    images = set(lab.files("chexpert5x200"))
    for record in report.records:
        for fold in record.folds:
            chosen = pq.read_table(predictions(tmp_path, record), filters=[("fold", "=", fold.fold)])
            scored = chosen["image"].to_pylist()
            assert len(fold.train) == 5 * (record.protocol.shots or 0) and set(fold.train) <= images
            assert (len(scored), digest.of_lines(scored)) == (fold.test_rows, fold.test_digest)
            assert not set(scored) & set(fold.train)


def test_metrics_of_a_record_follow_from_its_predictions(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, ["small_unimodal"], ["covid"], groups=["all"])
    for record in report.records:
        table = pq.read_table(predictions(tmp_path, record))
        scores = np.stack([np.array(table[f"score: {label}"]) for label in record.data.labels], axis=1)
        folds, truth = np.array(table["fold"]), np.array(table["label"])
        means = []
        for fold in record.folds:
            right = (scores.argmax(axis=1) == truth)[folds == fold.fold]
            recalls = [right[truth[folds == fold.fold] == c].mean() for c in range(4)]
            means.append(float(np.mean(recalls)))
            assert fold.metrics["balanced_accuracy"] == pytest.approx(means[-1], abs=1e-12)
        assert record.summary["balanced_accuracy"]["mean"] == pytest.approx(np.mean(means), abs=1e-12)


@pytest.mark.parametrize(
    "change", [{"lp.features": "projected"}, {"fewshot.draw": "hash-rank-v1"}, {"metrics.rounding": "unrounded"}]
)
def test_another_setting_is_another_record(change: Mapping[str, str], lab: Lab, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"protocols": ["linear-probe"], "groups": ["2-class"]}
    first = lab.run(tmp_path, ["small_unimodal"], ["covid"], **arguments)
    second = lab.run(tmp_path, ["small_unimodal"], ["covid"], settings=change, **arguments)
    assert (second.encoded, second.cached) == (0, 0)
    assert not set(by_id(first)) & set(by_id(second))
    assert len(records_of(tmp_path)) == 2 * len(first.records)


def test_another_recipe_of_pixels_is_encoded_anew(lab: Lab, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"protocols": ["linear-probe"], "groups": ["2-class"]}
    lab.run(tmp_path, ["small_unimodal"], ["covid"], **arguments)
    second = lab.run(tmp_path, ["small_unimodal"], ["covid"], settings={"resize.antialias": "on"}, **arguments)
    assert second.encoded == second.decoded > 0 and second.cached == 0


@pytest.mark.parametrize("made", [False, True], ids=["weights of another rule", "synthetic weights"])
def test_drawn_images_and_made_weights_mark_every_record(made: bool, lab: Lab, tmp_path: Path) -> None:
    card = write_card(lab.models, f"as_if_real_{int(made)}", "unimodal", synthetic=False)
    file = card.with_name("unimodal.pth")
    tensors = torch.load(file, weights_only=True)
    if not made:
        file = tmp_path / "other.pth"
        torch.save({name: t * 1.5 if t.is_floating_point() else t for name, t in tensors.items()}, file)
    report = lab.run(tmp_path, [f"as_if_real_{int(made)}"], ["covid"], groups=["2-class"], weights=file)
    assert report.records
    for record in report.records:
        assert record.data.synthetic
        assert record.model.synthetic == made  # whatever the card says
        assert record.synthetic
        assert not any(cell.comparable for cell in record.published)


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Every path that is opened while the test runs."""
    paths: list[str] = []
    live = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if live and event == "open":
            paths.append(str(arguments[0]))

    sys.addaudithook(note)
    yield paths
    live = False


def test_a_forecast_says_what_cannot_be_scored(lab: Lab, tmp_path: Path) -> None:
    told = forecast(lab.request(tmp_path, [], ["covid"], models=["class_prior"]))
    assert told.skipped == {"class_prior / covid / zero-shot": "class_prior: neither a text nor a label side"}
    assert told.cells


def test_a_forecast_reads_no_image(lab: Lab, tmp_path: Path, opened: list[str]) -> None:
    request = lab.request(tmp_path, ["small_unimodal"], ["covid"])
    before = forecast(request)
    assert not [path for path in opened if path.endswith(".png")]
    report = lab.run(tmp_path, ["small_unimodal"], ["covid"])
    assert len([path for path in opened if path.endswith(".png")]) == COVID_IMAGES
    opened.clear()
    after = forecast(request)
    assert not [path for path in opened if path.endswith(".png")]
    assert len(before.cells) == len(report.records) and before.cached == ()
    assert list(before.images.values()) == [(0, COVID_IMAGES)]
    assert after.cached == after.cells == before.cells
    assert list(after.images.values()) == [(COVID_IMAGES, 0)]
    assert before.problems == after.problems == ()


@pytest.mark.parametrize("edit", ["mean", "folds", "swapped"])
def test_edited_records_are_measured_anew(edit: str, lab: Lab, tmp_path: Path) -> None:
    first = lab.run(tmp_path, ["small_unimodal"], ["covid"], groups=["2-class"])
    path, other = (predictions(tmp_path, record).with_suffix(".json") for record in first.records[:2])
    sound = path.read_text(), other.read_text()
    if edit == "swapped":
        path.write_text(sound[1])
        other.write_text(sound[0])
    else:
        body = json.loads(sound[0])
        del body[CHECKSUM]
        body["summary"]["balanced_accuracy"]["mean"] = 0.999
        if edit == "folds":
            body["folds"][0]["metrics"]["balanced_accuracy"] = 0.999
        path.write_text(json.dumps(with_checksum(body)))
    second = lab.run(tmp_path, ["small_unimodal"], ["covid"], groups=["2-class"])
    assert second.cached == len(first.records) - (2 if edit == "swapped" else 1)
    assert by_id(second) == by_id(first)


@pytest.mark.parametrize("change", [(b"'<f4'", b"'<i4'"), (b"'<f4'", b"'>f4'"), (b"False", b"True ")])
def test_a_store_with_another_header_is_encoded_anew(change: tuple[bytes, bytes], lab: Lab, tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"groups": ["2-class"], "shots": (1,)}
    first = lab.run(tmp_path, ["small_unimodal"], ["covid"], **arguments)
    for path in (tmp_path / "cache" / "embeddings").rglob("*.npy"):
        path.write_bytes(path.read_bytes().replace(*change, 1))
    second = lab.run(tmp_path, ["small_unimodal"], ["covid"], resume=False, **arguments)
    assert second.encoded == first.encoded > 0
    assert by_id(second) == by_id(first)


@pytest.mark.parametrize("part", ["record", "predictions", "both"])
def test_damaged_results_are_made_anew(part: str, lab: Lab, tmp_path: Path) -> None:
    first = lab.run(tmp_path, ["small_unimodal"], ["covid"], groups=["2-class"])
    path = predictions(tmp_path, first.records[0])
    sound = path.read_bytes()
    if part in ("predictions", "both"):
        path.write_bytes(sound[:-8])
    if part in ("record", "both"):
        path.with_suffix(".json").write_text("{")
    second = lab.run(tmp_path, ["small_unimodal"], ["covid"], groups=["2-class"])
    assert second.problems == []
    assert (second.encoded, second.cached) == (0, len(first.records) - 1)
    assert by_id(second) == by_id(first)
    assert path.read_bytes() == sound and numbers(read_record(path.with_suffix(".json"))) == numbers(first.records[0])


def test_a_damaged_row_in_the_store_is_encoded_again(lab: Lab, tmp_path: Path) -> None:
    first = lab.run(tmp_path, ["small_unimodal"], ["covid"])
    (taps,) = (tmp_path / "cache").rglob("pooled.npy")
    data = bytearray(taps.read_bytes())
    data[-1] ^= 1
    taps.write_bytes(data)
    second = lab.run(tmp_path, ["small_unimodal"], ["covid"], resume=False)
    assert second.encoded == 1
    assert by_id(second) == by_id(first)


def test_progress_of_one_task_survives_the_failure_of_another(lab: Lab, tmp_path: Path) -> None:
    own = lab.on("vindr", tmp_path / "nowhere")
    report: RunResult = own.run(tmp_path, ["small_unimodal"], ["vindr", "covid"])
    assert len(report.problems) == 1 and isinstance(report.problems[0], DataError)
    assert {record.data.task for record in report.records} == {"covid"}
