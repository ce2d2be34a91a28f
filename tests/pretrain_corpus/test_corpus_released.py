"""The released code's own partitions, label spaces and assembly, made again row for row."""

import ast
import csv
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from made_corpus import small_task

from cxrbench.pretrain.batches import split
from cxrbench.pretrain.config import build_config
from cxrbench.pretrain.corpus.build import Built, CorpusRequest, build
from cxrbench.pretrain.corpus.overlap import EvaluationSet
from cxrbench.pretrain.corpus.variants import SOURCES, corpus_variant, label_spaces, lists, variant_files
from cxrbench.specs.settings import choices

RECIPE = json.loads((Path(__file__).parent.parent / "fixtures" / "pretrain_recipe.json").read_text())


@pytest.fixture(scope="module")
def raw(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The raw data; MIMIC's split table is cut to the images that are there, as the released code leaves others out."""
    root = tmp_path_factory.mktemp("raw")
    with tarfile.open(shared / "parity" / "protocol" / "raw.tar.xz") as archive:
        archive.extractall(root, filter="data")
    path = next(root.rglob("mimic-cxr-2.0.0-split.csv"))
    here = {file.stem for file in path.parent.rglob("*.jpg")}
    head, *lines = path.read_text().splitlines()
    path.write_text("\n".join([head, *(line for line in lines if line.split(",")[0] in here)]) + "\n")
    return root


@pytest.fixture(scope="module")
def released(raw: Path) -> Built:
    evaluation = (
        EvaluationSet(small_task("chexpert5x200", "gloria", per_class=60), ("gloria",), raw / "CheXpert"),
        EvaluationSet(small_task("mimic5x200", "dlilp", per_class=44), ("dlilp",), raw / "MIMIC-CXR-2"),
    )
    roots = {"CHEXPERT": raw / "CheXpert", "MIMIC": raw / "MIMIC-CXR-2", "PADCHEST": raw / "PadChest"}
    return build(CorpusRequest(roots, corpus_variant("as-published"), evaluation))


def wanted_rows(shared: Path) -> list[dict[str, Any]]:
    folder = shared / "parity" / "protocol" / "partitions" / "pretraining"
    rows = []
    for name in RECIPE["assembly"]["datasets"]:
        with (folder / f"{name}.csv").open() as stream:
            rows += list(csv.DictReader(stream))
    return rows


def tail(path: str) -> str:
    return path.replace("CheXpert-v1.0/CheXpert-v1.0", "CheXpert-v1.0")


def test_rows_labels_and_sentences_are_the_released_ones(raw: Path, released: Built, shared: Path) -> None:
    corpus, wanted = released.corpus, wanted_rows(shared)
    assert [path.relative_to(raw).as_posix() for path in corpus.paths] == [tail(row["image"]) for row in wanted]
    for row, want in enumerate(wanted):
        found = {corpus.classes[number] for number in corpus.labels[row].nonzero()[0]}
        assert found == {name.lower() for name in ast.literal_eval(want["study_categories"])}
        told = [(s.text, {corpus.classes[number] for number in s.categories}) for s in corpus.sentences[row]]
        names = [{n.lower() for n in found} for found in ast.literal_eval(want["prompts_categories"])]
        assert told == list(zip(ast.literal_eval(want["prompts"]), names, strict=True))


def test_assembly_and_cut_are_the_released_ones(raw: Path, released: Built) -> None:
    data = build_config(None, {"objective": "clip", "data.train_limit": "200", "data.validation_limit": "100"}).data
    parts = split(released.corpus, data)
    for rows, want in ((parts.train, "train_images"), (parts.validation, "val_images")):
        found = [released.corpus.paths[row].relative_to(raw).as_posix() for row in rows.tolist()]
        assert found == [tail(path) for path in RECIPE["assembly"][want]]


def test_released_corpus_shares_no_patient_with_the_5x200_sets(released: Built) -> None:
    found = {(v.task, v.source): v for v in released.overlap.verdicts}
    chexpert, mimic = found["chexpert5x200", "CHEXPERT"], found["mimic5x200", "MIMIC"]
    assert (chexpert.finding, chexpert.patients, chexpert.images) == ("removed", 300, 305)
    assert (mimic.finding, mimic.patients) == ("removed", 220)
    assert found["chexpert5x200", "MIMIC"].finding == "apart"


def test_label_spaces_are_the_released_ones() -> None:
    classes, spaces = label_spaces(corpus_variant("as-published"))
    assert list(classes) == RECIPE["categories"]
    for source in SOURCES:
        assert [classes[number] for number in spaces[source]] == sorted(RECIPE["label_spaces"][source])
    listed = lists().names("padchest-79-as-published")
    assert sorted(set(listed) - set(classes)) == RECIPE["listed_names_that_match_no_category"]["PADCHEST"]


def test_as_meant_has_both_names_of_the_fused_pair() -> None:
    classes, spaces = label_spaces(corpus_variant("as-meant"))
    published = label_spaces(corpus_variant("as-published"))[1]
    added = set(spaces["PADCHEST"]) - set(published["PADCHEST"])
    assert {classes[number] for number in added} == {"volume loss", "vascular hilar enlargement"}
    assert len(spaces["PADCHEST"]) == 80


def test_variants_name_lists_that_the_settings_offer() -> None:
    offered = choices()["padchest.labels"]
    assert {corpus_variant(name).spaces["PADCHEST"] for name in variant_files()} == set(offered)
