"""Drawn pre-training sets: true layouts, patients of their own, and no finding of the groups `new`."""

from pathlib import Path

import numpy as np
import pytest
from made_corpus import built
from PIL import Image

from cxrbench.errors import DataError, SpecError
from cxrbench.phantom.draw import signs
from cxrbench.phantom.write import corpus_facts, write, write_corpus
from cxrbench.pretrain.corpus.build import Built
from cxrbench.pretrain.corpus.overlap import EvaluationSet, require_no_overlap
from cxrbench.pretrain.corpus.variants import SOURCES
from cxrbench.pretrain.frequencies import frequencies
from cxrbench.pretrain.images import WantedImages, fill_pixel_store
from cxrbench.specs import catalog
from cxrbench.specs.recipe import Canvas
from cxrbench.store import digest

SIZE = (64, 64)
QUOTAS = {"PADCHEST": {"pool": 3, "other": 8, "odd": 6}}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("pretraining")
    for source in SOURCES:
        write_corpus(source, out, images_per_class=QUOTAS.get(source, 3), size=SIZE, seed=4)
    return out


@pytest.fixture(scope="module")
def corpus(drawn: Path) -> Built:
    return built(dict.fromkeys(SOURCES, drawn), "as-meant")


def test_a_corpus_is_built_from_all_three(corpus: Built) -> None:
    assert corpus.synthetic
    assert {name: counts["taken"] > 20 for name, counts in corpus.counts.items()} == dict.fromkeys(SOURCES, True)
    assert all(corpus.corpus.sentences[n] for n, name in enumerate(corpus.corpus.source) if name == "MIMIC")
    assert corpus.corpus.labels.any(axis=1).all(), "every drawn image has a label"


def test_traps_are_in_the_drawn_padchest(drawn: Path, corpus: Built) -> None:
    counts = corpus.counts["PADCHEST"]
    assert counts["table"] > counts["frontal"]
    path = next(p for p in corpus.corpus.paths if p.suffix == ".png")
    assert Image.open(path).mode == "I;16"
    text = next((drawn / "PadChest").glob("PADCHEST*.csv")).read_text()
    assert "'unchanged'" in text and "''" in text and "AP_horizontal" in text


@pytest.mark.parametrize("source", SOURCES)
def test_no_finding_of_a_group_new_is_drawn(source: str) -> None:
    facts, known = corpus_facts()[source], signs()
    drawn = {
        sign for findings in (*((c,) for c in facts.classes), *facts.others) for f in findings for sign in known[f]
    }
    new = {
        label.column
        for name in catalog.task_files()
        for label in catalog.load_task(name).labels
        if label.name in catalog.load_task(name).groups.get("new", ())
    }
    assert new, "there are tasks with new findings"
    assert not [finding for finding in new if set(known[finding]) & drawn]


def test_base_findings_of_the_papers_tasks_are_drawn() -> None:
    drawn = {sign for facts in corpus_facts().values() for f in facts.classes for sign in signs()[f]}
    for name in catalog.PAPERS_TASKS:
        task = catalog.load_task(name)
        base = task.groups.get("base", task.groups["all"])
        for finding in set(base) - {"COVID"}:  # which no pre-training set knows
            assert not signs()[finding] or set(signs()[finding]) & drawn, (name, finding)


@pytest.mark.slow
def test_patients_are_others_than_those_of_the_evaluation_phantoms(tmp_path: Path, drawn: Path) -> None:
    sets = []
    for name in ("chexpert5x200", "mimic5x200"):
        write(name, tmp_path, images_per_class={"pool": 40, "other": 0}, size=(32, 32), seed=4)
        sets.append(EvaluationSet(catalog.load_task(name), ("phantom",), tmp_path))
    found = built(dict.fromkeys(SOURCES, drawn), evaluation=sets)
    compared = [v for v in found.overlap.verdicts if v.finding not in {"apart", "untold"}]
    assert [(v.source, v.finding, v.patients) for v in compared] == [("CHEXPERT", "none", 0), ("MIMIC", "none", 0)]
    require_no_overlap(found.overlap)


def test_findings_that_are_not_drawn_have_no_share(corpus: Built) -> None:
    of = frequencies(corpus.corpus).all.of_images
    assert [of[name].positive for name in ("emphysema", "nodule", "pleural thickening", "lung lesion")] == [0] * 4
    assert all(of[name].positive for name in ("cardiomegaly", "pneumothorax", "no finding", "tuberculosis"))


def test_the_same_order_gives_the_same_bytes_and_others_are_refused(drawn: Path, tmp_path: Path) -> None:
    again = write_corpus("PADCHEST", tmp_path, images_per_class=QUOTAS["PADCHEST"], size=SIZE, seed=4, workers=2)

    def content(root: Path) -> str:
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return digest.of_lines(f"{path.relative_to(root)} {digest.of_file(path)}" for path in files)

    assert content(again.root) == content(drawn / "PadChest")
    with pytest.raises(DataError, match="made otherwise"):
        write_corpus("PADCHEST", drawn, images_per_class=QUOTAS["PADCHEST"], size=SIZE, seed=5)
    with pytest.raises(SpecError, match="no phantom for source 'NIH'"):
        write_corpus("NIH", tmp_path)


def test_all_drawn_images_are_read(corpus: Built, tmp_path: Path) -> None:
    found = fill_pixel_store(WantedImages(corpus.corpus.paths, Canvas(size=48), tmp_path))
    assert found.readable.all() and not found.unreadable
    spread = found.pixels[np.arange(len(corpus.corpus))].reshape(len(corpus.corpus), -1).std(axis=1)
    assert spread.min() > 20, "no image is empty"
