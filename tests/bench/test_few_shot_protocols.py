"""Every built-in few-shot protocol from raw files to table, report, comparison and check; no forward pass is added.

One model has texts, one prototypes of its own, and one an image side alone.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lab import Lab, add_findings, records_of, write_card
from made_package import run_cxrbench
from made_weights import TEXT_ENCODER

from cxrbench.analysis.cell import covered
from cxrbench.errors import SpecError
from cxrbench.models.base import load_adapter
from cxrbench.phantom.write import write
from cxrbench.records.predictions import read_cell
from cxrbench.records.record import Record
from cxrbench.records.row_order import reordered_decisions
from cxrbench.reports.html.cells import command
from cxrbench.runner.few_shot import FewShot
from cxrbench.runner.protocol import load_protocol
from cxrbench.runner.run import RunResult
from cxrbench.specs import catalog
from cxrbench.specs.card import read_card
from cxrbench.store import digest
from cxrbench.store.embeddings import Store

FITTED = [load_protocol(name) for name in catalog.protocol_points() if load_protocol(name).fitted]
WORDED = sorted(protocol.name for protocol in FITTED if protocol.worded)
IMAGES = sorted(protocol.name for protocol in FITTED if not protocol.worded)
ITERATIVE = {"zs-lp", "zs-lp-cw", "clap", "clap-shared", "lp-plus-plus", "lp-plus-plus-drawn"}
MODELS = ("small_clip", "small_unimodal", "small_images")
SETS = ("names", "ensemble")


def with_images_alone(lab: Lab) -> Lab:
    """The bench with a model that has neither texts nor prototypes."""
    write_card(lab.models, "small_images", "unimodal", zero_shot=None)
    return lab


def measured(lab: Lab, place: Path, tasks: Sequence[str], **how: Any) -> RunResult:
    """All protocols on stored vectors."""
    asked: dict[str, Any] = {"groups": ["all"], "shots": (2,), "prompts": list(SETS), "protocols": ["all"], **how}
    return with_images_alone(lab).run(place, MODELS, tasks, **asked)


@pytest.fixture(scope="module")
def place(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all protocols were measured on COVID, whose vectors were stored before, and one of them on CheXpert."""
    place = tmp_path_factory.mktemp("protocols")
    first = measured(lab, place, ("covid", "chexpert5x200"), protocols=["linear-probe"])
    assert not first.problems and first.encoded > 0
    found = measured(lab, place, ("covid",))
    measured(lab, place, ("chexpert5x200",), protocols=["ss-text"])  # with prompts drawn anew for each fold
    assert not found.problems and not found.failed
    assert (found.encoded, found.decoded) == (0, 0)
    assert {record.runtime.run_images_encoded for record in found.records} == {0, first.encoded}
    assert {name.rpartition(" / ")[2] for name in found.skipped} == {"zero-shot", "retrieval", *WORDED}
    assert all(
        "neither a text nor a label side" in why for what, why in found.skipped.items() if "retrieval" not in what
    )
    return place


def of(place: Path, **how: Any) -> list[Record]:
    """The records at K = 2 whose protocol fields and model are these."""
    model = how.pop("model", None)
    found = [r for r in records_of(place) if r.protocol.shots == 2 and model in (None, r.model.name)]
    return [r for r in found if all(getattr(r.protocol, name) == value for name, value in how.items())]


def test_each_model_has_the_cells_that_it_can_have(place: Path) -> None:
    """A prompt set is a cell of its own; prototypes are one, and an image side has no worded one."""
    cells = {model: Counter[tuple[str, str | None]]() for model in MODELS}
    for record in of(place):
        if record.data.task == "covid":
            words = None if record.prompts is None else record.prompts.set
            cells[record.model.name][record.protocol.protocol, words] += 1
    alone = {(name, None): 1 for name in IMAGES}
    texts = {(name, words): 1 for name in WORDED for words in SETS}
    prototypes = {(name, "prototypes"): 1 for name in WORDED}
    whole = {"small_clip": {**alone, **texts}, "small_unimodal": {**alone, **prototypes}, "small_images": alone}
    assert cells == whole


def test_records_say_what_a_protocol_was_given(place: Path) -> None:
    for record in of(place):
        how, protocol = record.protocol, load_protocol(record.protocol.protocol)
        assert isinstance(protocol, FewShot)
        assert how.options == protocol.options(record.settings) and (how.options or how.protocol == "linear-probe")
        assert (how.view is not None, how.logit_scale is not None) == (protocol.worded, protocol.worded)
        assert (how.tap == "pooled") == (not protocol.worded)
        assert (reordered_decisions(record) is not None) == (how.protocol in ITERATIVE)
        assert all(fold.train and (fold.iterations is None or fold.iterations > 0) for fold in record.folds)
        if protocol.worded and record.prompts is not None and record.prompts.source == "prompts":
            assert how.pooling == "embedding" and record.prompts.drawn
            assert record.model.text_encoder_digest is not None
        told = command(record)
        assert f"--protocol {how.protocol} --shots 2" in told
        assert ("--prompts" in told) == (record.prompts is not None and record.prompts.source == "prompts")


def test_what_intervals_speak_of(place: Path) -> None:
    """Of other training images in every case; of other prompts where each fold had its own."""
    seen = set()
    for record in of(place):
        if record.prompts is None or record.prompts.source == "prototypes":
            wanted = ("draws", "these draws")
        else:
            redrawn = len(record.prompts.drawn) > 1
            wanted = ("draws and prompt draws" if redrawn else "draws, one wording", "these draws and prompts")
        assert (covered(record), covered(record, these_draws=True)) == wanted
        seen.add(wanted[0])
    assert seen == {"draws", "draws and prompt draws", "draws, one wording"}


def test_ss_text_is_its_one_line(lab: Lab, place: Path) -> None:
    """From stored vectors and the adapter's own texts, told anew: s times the sum of the images, and the mean text."""
    (record,) = [r for r in of(place, protocol="ss-text", model="small_clip") if is_of(r, "covid", "names")]
    adapter = load_adapter(read_card(Path(lab.model("small_clip"))), lab.models / "clip.pth", TEXT_ENCODER)
    assert record.prompts is not None and record.protocol.logit_scale is not None
    told = record.prompts.drawn[0].values()
    texts = np.stack(
        [adapter.encode_text(list(words), "released").joint.double().numpy().mean(axis=0) for words in told]
    )
    scale, cell, vectors = record.protocol.logit_scale, read_cell(place / "results", record), stored(lab, place, record)
    owner = np.repeat(np.arange(len(texts)), 2)  # two images of each class, class by class
    for fold, rows, images in zip(record.folds, cell.classes_of, cell.image, strict=True):
        train = np.stack([vectors[image] for image in fold.train])
        weights = scale * np.stack([train[owner == c].sum(axis=0) for c in range(len(texts))]) + texts
        tested = np.stack([vectors[cell.images[number]] for number in images])
        cosine = unit_rows(tested) @ unit_rows(weights).T
        np.testing.assert_allclose(rows.scores, scale * cosine, rtol=1e-5, atol=1e-5)


def is_of(record: Record, task: str, words: str) -> bool:
    return record.data.task == task and record.prompts is not None and record.prompts.set == words


def unit_rows(vectors: Any) -> Any:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def stored(lab: Lab, place: Path, record: Record) -> dict[str, Any]:
    """The record's vectors by image, as the store holds them."""
    files, store = lab.files(record.data.task), Store(place / "cache")
    (key,) = [key for key, _ in store.entries() if key.weights == record.model.weights_tensors and not key.texts]
    rows = store.read(key).rows(record.protocol.tap, [digest.of_file(path) for path in files.values()])
    return dict(zip(files, rows.astype(np.float64), strict=True))


def test_tasks_and_prompts_that_do_not_fit_are_skipped_with_the_reason(lab: Lab, place: Path) -> None:
    findings = add_findings(lab)
    several = measured(lab, place, [findings], shots=(1,), protocols=["clap", "knn-10"], prompts=["names"])
    assert not several.records and not several.problems
    assert all(
        "which knn-10, clap cannot score" in reason for reason in several.skipped.values() if "label side" not in reason
    )
    pairs = measured(lab, place, ["covid"], protocols=["ss-text"], prompts=["chexzero_pairs"], groups=["2-class"])
    assert [r for r in pairs.records if r.model.name == "small_clip"] == []
    assert any(
        "asks each class against its absence" in reason or "is for" in reason for reason in pairs.skipped.values()
    )


def test_protocols_are_asked_for_by_globs(lab: Lab, place: Path) -> None:
    found = measured(lab, place, ["covid"], protocols=["knn-*", "ss-text*"], prompts=["names"])
    names = {record.protocol.protocol for record in found.records}
    assert names == {"knn-10", "knn-20", "knn-100", "knn-200", "ss-text", "ss-text-plus"}
    assert found.cached == len(found.records)
    with pytest.raises(SpecError, match="no protocol 'knn-'"):
        measured(lab, place, ["covid"], protocols=["knn-"])


def typed(lab: Lab, place: Path, *words: str) -> str:
    done = run_cxrbench(place, place, *words)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_table_report_comparison_and_check(lab: Lab, place: Path) -> None:
    """Each of the readers shows both prompt sets apart; the check of a run against itself matches every cell."""
    out, made = ("--out", "results"), ("--variant", str(lab.variant), "--synthetic")
    told = ("--task", "covid", "--protocol", "clap,ss-text-plus,knn-10")
    table = json.loads(typed(lab, place, "table", *out, *made, *told, "--format", "json"))
    shown = {(cell["protocol"], cell["prompts"]) for cell in table["cells"] if cell["measured"] is not None}
    assert shown == {
        ("clap", "names"),
        ("clap", "ensemble"),
        ("ss-text-plus", "names"),
        ("ss-text-plus", "ensemble"),
        ("knn-10", None),
    }
    pair = ("small_clip", "small_unimodal")
    compared = typed(lab, place, "compare", *pair, *out, *made, "--protocol", "clap")
    assert "clap, K = 2" in compared and "prompts names" in compared and "prompts ensemble" in compared
    page = place / "report.html"
    typed(lab, place, "report", *out, "--to", str(page))
    text = page.read_text(encoding="utf-8")
    assert all(f"<summary>{name.replace('-', ' ').capitalize()}, K = 2" in text for name in (*WORDED, *IMAGES))
    baseline = ("--baseline", str(place / "baseline.toml"))
    typed(lab, place, "check", *out, *baseline, "--update", "--closeness", "1e-3")
    checked = json.loads(typed(lab, place, "check", *out, *baseline, "--against", "baseline", "-f", "json"))
    assert checked["counts"]["baseline"] == {"match": len(records_of(place))}


@pytest.mark.slow
def test_all_of_the_papers_tasks(lab: Lab, tmp_path: Path) -> None:
    """The phantom of every task of the paper: each cell there is is measured, and nothing is encoded for it."""
    for task in catalog.PAPERS_TASKS:
        write(task, tmp_path / "data", size=(64, 64))
    bench = with_images_alone(lab)
    asked: dict[str, Any] = {"models": [bench.model(name) for name in MODELS], "tasks": ["paper"], "variant": "phantom"}
    asked |= {"data_root": {"": tmp_path / "data"}, "groups": ["all"], "shots": (2,), "prompts": ["names"]}
    stored_first = bench.run(tmp_path, (), (), **asked, protocols=["linear-probe"])
    assert not stored_first.problems
    found = bench.run(tmp_path, (), (), **asked, protocols=["all"])
    assert not found.problems and found.encoded == 0
    cells = Counter((r.data.task, r.model.name) for r in found.records if r.protocol.protocol != "zero-shot")
    wanted = {"small_clip": len(FITTED), "small_images": len(IMAGES)}
    assert {place: n for place, n in cells.items() if place[1] in wanted} == {
        (task, model): n for task in catalog.PAPERS_TASKS for model, n in wanted.items()
    }
    assert {n for (_, model), n in cells.items() if model == "small_unimodal"} == {len(FITTED), len(IMAGES)}
    out, made = ("--out", "results"), ("--variant", "phantom", "--synthetic")
    table = json.loads(typed(lab, tmp_path, "table", *out, *made, "--protocol", "*", "--format", "json"))
    shown = {(cell["task"], cell["protocol"]) for cell in table["cells"] if cell["measured"] is not None}
    assert shown == {(task, name) for task in catalog.PAPERS_TASKS for name in (*WORDED, *IMAGES, "zero-shot")}
    compared = typed(
        lab, tmp_path, "compare", "small_clip", "small_unimodal", *out, *made, "--protocol", "ss-text-plus"
    )
    assert all(task in compared for task in catalog.PAPERS_TASKS)
    typed(lab, tmp_path, "report", *out, "--to", str(tmp_path / "report.html"))
    baseline = ("--baseline", str(tmp_path / "baseline.toml"))
    typed(lab, tmp_path, "check", *out, *baseline, "--update", "--closeness", "1e-3")
    checked = json.loads(typed(lab, tmp_path, "check", *out, *baseline, "--against", "baseline", "-f", "json"))
    assert checked["counts"]["baseline"] == {"match": len(records_of(tmp_path))}
