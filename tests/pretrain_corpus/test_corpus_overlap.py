"""Patients of evaluation sets are found by patient rules, taken out, and told; what cannot be known is said."""

import gzip
import json
from pathlib import Path

import pytest
from made_corpus import (
    built,
    chexpert,
    chexpert_row,
    mimic_image,
    mimic_tables,
    sentence_table,
    small_task,
    subject_of,
    table,
    touch,
)

from cxrbench.errors import SpecError
from cxrbench.pretrain.corpus import chexpert as chexpert_rows
from cxrbench.pretrain.corpus.build import Built
from cxrbench.pretrain.corpus.overlap import EvaluationSet, PatientOverlap, Verdict, audit, require_no_overlap
from cxrbench.pretrain.corpus.types import Space
from cxrbench.pretrain.corpus.variants import CheXpertRule, corpus_variant, label_spaces, shared_patients
from cxrbench.specs import catalog

OTHERS = ("rsna", "siim", "covid", "nih_lt", "vindr")


def verdict(overlap: PatientOverlap, task: str, source: str = "CHEXPERT") -> Verdict:
    return next(v for v in overlap.verdicts if (v.task, v.source) == (task, source))


@pytest.mark.slow
def test_the_real_chexpert_table_gives_the_documented_figures(shared: Path, tmp_path: Path) -> None:
    packed = shared / "data_facts" / "labels" / "chexpert_train.csv.gz"
    (tmp_path / "train.csv").write_bytes(gzip.decompress(packed.read_bytes()))
    classes, spaces = label_spaces(corpus_variant("as-published"))
    rule = CheXpertRule(tables=("train",), positive=(1.0,))
    rows = chexpert_rows.rows(tmp_path, rule, Space(classes, spaces["CHEXPERT"]))
    assert rows.counts == {"table": 223414, "frontal": 191027}
    assert len(set(rows.patients)) == 64534
    task = catalog.load_task("chexpert5x200")
    overlap, left = audit({"CHEXPERT": rows.patients}, [EvaluationSet(task, ("gloria",), tmp_path)], remove=True)
    found = overlap.verdicts[0]
    assert (found.finding, found.patients, found.images) == ("removed", 966, 5963)
    assert len(left["CHEXPERT"]) == 185064


@pytest.fixture
def five(tmp_path: Path) -> Path:
    """CheXpert with one image per class for CheXpert5x200, two more of the first of these patients, and ten others."""
    names = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural_Effusion")
    rows = [chexpert_row(f"patient{n:05d}/study1/view1_frontal.jpg", **{name: 1.0}) for n, name in enumerate(names)]
    rows += [chexpert_row(f"patient00000/study{n}/view1_frontal.jpg", Fracture=1.0) for n in (2, 3)]
    rows += [chexpert_row(f"patient{n:06d}/study1/view1_frontal.jpg", No_Finding=1.0) for n in range(100, 110)]
    chexpert(tmp_path, rows, "train.csv")
    chexpert(tmp_path, rows)
    touch(*(tmp_path / row["Path"].removeprefix("CheXpert-v1.0/") for row in rows))
    return tmp_path


def of_five(root: Path | None) -> EvaluationSet:
    return EvaluationSet(small_task("chexpert5x200", "gloria", per_class=1), ("gloria",), root)


def test_patients_of_an_evaluation_set_go_with_all_their_images(five: Path) -> None:
    found = built({"CHEXPERT": five}, evaluation=[of_five(five)])
    assert set(found.corpus.patients) == {f"patient{n:06d}" for n in range(100, 110)}
    assert found.counts["CHEXPERT"] == {
        "table": 17,
        "frontal": 17,
        "without evaluation patients": 10,
        "on disk": 10,
        "taken": 10,
    }
    told = found.to_json()["overlap"][0]
    assert (told["finding"], told["patients"], told["images"]) == ("removed", 5, 7)
    require_no_overlap(found.overlap)


def test_known_overlap_is_refused_unless_allowed(five: Path) -> None:
    found = built({"CHEXPERT": five}, evaluation=[of_five(five)], keep_overlap=True)
    assert len(found.corpus) == 17
    with pytest.raises(SpecError, match="7 images of 5 patients of chexpert5x200 in CHEXPERT"):
        require_no_overlap(found.overlap)
    require_no_overlap(found.overlap, allow=True)


@pytest.mark.parametrize("nowhere", [True, False])
def test_an_evaluation_set_whose_tables_are_missing_is_refused(five: Path, tmp_path: Path, nowhere: bool) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    found = built({"CHEXPERT": five}, evaluation=[of_five(None if nowhere else empty)])
    assert verdict(found.overlap, "chexpert5x200").finding == "unchecked"
    with pytest.raises(SpecError, match="could not be looked for: chexpert5x200 in CHEXPERT"):
        require_no_overlap(found.overlap)
    require_no_overlap(found.overlap, allow=True)


def test_sets_of_other_collections_are_told_and_not_refused(five: Path) -> None:
    sets = [EvaluationSet(catalog.load_task(name), ("phantom",), None) for name in OTHERS]
    found = built({"CHEXPERT": five}, evaluation=sets)
    findings = {v.task: v.finding for v in found.overlap.verdicts}
    assert findings == {**dict.fromkeys(OTHERS, "apart"), "covid": "untold"}
    require_no_overlap(found.overlap)


def test_a_training_set_is_no_evaluation_set(five: Path) -> None:
    """CheXpert's own training images are part train of its test task: only patients who are scored are looked for."""
    columns = catalog.load_task("chexpert_test500").columns
    rows = [{"Study": f"CheXpert-v1.0/test/patient{n:05d}/study1", **dict.fromkeys(columns, 0)} for n in (1, 64741)]
    table(five / "groundtruth.csv", ["Study", *columns], rows)
    task = catalog.load_task("chexpert_test500")
    found = built({"CHEXPERT": five}, evaluation=[EvaluationSet(task, ("zeros",), five)])
    told = verdict(found.overlap, "chexpert_test500")
    assert (told.finding, told.patients) == ("removed", 1)


def test_padchest_against_covid_is_told_to_be_unknowable() -> None:
    kin = shared_patients().of("covid", "PADCHEST")
    assert kin.kind == "untold" and "BIMCV" in kin.why


def test_every_task_is_related_to_every_source() -> None:
    for task in catalog.task_files():
        for source in ("CHEXPERT", "MIMIC", "PADCHEST"):
            assert "nothing is recorded" not in shared_patients().of(task, source).why  # type: ignore[arg-type]
    assert shared_patients().of("a_plugin", "MIMIC").kind == "untold"


def test_a_short_list_of_mimic_subjects_is_found(tmp_path: Path) -> None:
    """The released comparison of integers with texts finds nothing in a short list."""
    studies = [f"5000000{n}" for n in range(6)]
    images = [(f"{n}-{view}", study, view, "train") for n, study in enumerate(studies) for view in ("AP", "PA")]
    mimic_tables(tmp_path, images)
    told = [(f"s{study}", "Comparison.", {"No Finding": 1.0}) for study in studies]
    sentence_table(tmp_path / "labels_individual_sentences.csv", told)
    touch(*(mimic_image(tmp_path / "files", dicom, study) for dicom, study, *_ in images))
    task = small_task("mimic5x200", "dlilp", per_class=1)
    rows = [{"subject_id": subject_of(s), "study_id": s, c: "1.0"} for s, c in zip(studies, task.columns, strict=False)]
    table(tmp_path / "mimic-cxr-2.0.0-chexpert.csv", ["subject_id", "study_id", *task.columns], rows)
    found = built({"MIMIC": tmp_path}, evaluation=[EvaluationSet(task, ("dlilp",), tmp_path)])
    assert set(found.corpus.patients) == {"10000005"} and len(found.corpus) == 2
    told_of = found.overlap.verdicts[0]
    assert (told_of.finding, told_of.patients, told_of.images) == ("removed", 5, 10)


def test_the_audit_is_json(five: Path) -> None:
    found: Built = built({"CHEXPERT": five}, evaluation=[of_five(five)])
    assert json.loads(json.dumps(found.to_json())) == found.to_json()
