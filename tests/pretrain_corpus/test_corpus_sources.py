"""CheXpert, MIMIC-CXR-JPG and PadChest on the layouts in which they lie on disks, with the traps of their tables."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_corpus import (
    PADCHEST_TABLE,
    built,
    chexpert,
    chexpert_row,
    labels,
    mimic_image,
    mimic_tables,
    padchest,
    sentence_table,
    touch,
)

from cxrbench.errors import DataError, SpecError
from cxrbench.pretrain.corpus.mimic import Reports

# CheXpert

TAILS = ("patient00001/study1/view1_frontal.jpg", "patient64540/study2/view2_frontal.jpg")
PLACES: dict[str, Callable[[Path, str], Path]] = {
    "as unpacked": lambda root, tail: root / "CheXpert-v1.0" / "train" / tail,
    "small": lambda root, tail: root / "CheXpert-v1.0-small" / "train" / tail,
    "re-rooted": lambda root, tail: root / "train" / tail,
    "twice": lambda root, tail: root / "CheXpert" / "CheXpert-v1.0" / "CheXpert-v1.0" / "train" / tail,
    "one folder a ZIP": lambda root, tail: root / f"CheXpert-v1.0 batch {2 + (tail > 'patient3')} (train 1)" / tail,
    "underscores": lambda root, tail: root / f"CheXpert-v1.0_batch_{2 + (tail > 'patient3')}_train_1" / tail,
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize("prefix", ["CheXpert-v1.0/", "CheXpert-v1.0-small/", ""])
def test_chexpert_is_found_in_every_layout(tmp_path: Path, place: Callable[[Path, str], Path], prefix: str) -> None:
    chexpert(tmp_path, [chexpert_row(tail, prefix=prefix, Edema=1.0) for tail in TAILS])
    touch(*(place(tmp_path, tail) for tail in TAILS))
    found = built({"CHEXPERT": tmp_path}).corpus
    assert found.ids == tuple(f"CheXpert-v1.0/train/{tail}" for tail in TAILS)
    assert found.paths == tuple(place(tmp_path, tail) for tail in TAILS)
    assert found.patients == ("patient00001", "patient64540")


def chexpert_of(root: Path, *rows: dict[str, object], name: str = "train_visualCheXbert.csv") -> Path:
    chexpert(root, rows, name)
    touch(*(root / str(row["Path"]).removeprefix("CheXpert-v1.0/") for row in rows))
    return root


def test_chexpert_takes_frontal_rows_whatever_their_projection(tmp_path: Path) -> None:
    rows = [
        chexpert_row("patient00001/study1/view1_frontal.jpg") | {"AP/PA": "LL"},
        chexpert_row("patient00001/study1/view2_lateral.jpg", view="Lateral"),
        chexpert_row("patient00001/study1/view3_frontal.jpg") | {"AP/PA": "PA"},
    ]
    found = built({"CHEXPERT": chexpert_of(tmp_path, *rows)})
    assert [name.rpartition("/")[2] for name in found.corpus.ids] == ["view1_frontal.jpg", "view3_frontal.jpg"]
    assert found.counts["CHEXPERT"]["frontal"] == 2


def test_chexpert_columns_are_found_by_name(tmp_path: Path) -> None:
    row = chexpert_row(TAILS[0], Lung_Opacity=1.0, Lung_Lesion=0.0, Support_Devices=1.0)
    assert labels(built({"CHEXPERT": chexpert_of(tmp_path, row)}), 0) == {"lung opacity", "support devices"}


@pytest.mark.parametrize(("variant", "uncertain"), [("as-published", {"edema", "pneumonia"}), ("as-meant", {"edema"})])
def test_uncertain_counts_as_published_only(tmp_path: Path, variant: str, uncertain: set[str]) -> None:
    row = chexpert_row(TAILS[0], Edema=1.0, Pneumonia=-1.0, Fracture=0.0)
    found = built({"CHEXPERT": chexpert_of(tmp_path, row, name="train.csv")}, variant)
    assert labels(found, 0) == uncertain
    assert "labels from train.csv" in found.notes[0]


def test_visual_chexbert_comes_before_train(tmp_path: Path) -> None:
    chexpert_of(tmp_path, chexpert_row(TAILS[0], Edema=1.0), name="train.csv")
    chexpert_of(tmp_path, chexpert_row(TAILS[0], Fracture=1.0))
    assert labels(built({"CHEXPERT": tmp_path}), 0) == {"fracture"}


def test_chexpert_values_that_are_no_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data row 1: Edema is '2'"):
        built({"CHEXPERT": chexpert_of(tmp_path, chexpert_row(TAILS[0], Edema=2))})
    with pytest.raises(DataError, match="known are 'Frontal', 'Lateral'"):
        built({"CHEXPERT": chexpert_of(tmp_path, chexpert_row(TAILS[0], view="AP"))})


# MIMIC-CXR-JPG

IMAGES = [
    ("aaaaaaaa-0", "50000001", "AP", "train"),
    ("bbbbbbbb-0", "50000001", "LATERAL", "train"),
    ("cccccccc-0", "50000001", "PA", "train"),
    ("dddddddd-0", "50000002", "PA", "validate"),
    ("eeeeeeee-0", "50000003", "AP", "test"),
]
TOLD = [
    ("s50000001", "Small effusion.", {"Pleural Effusion": 1.0, "Edema": 0.0}),
    ("s50000001", "Comparison is made.", {"No Finding": 1.0}),
    ("s50000002", "Edema cannot be excluded.", {"Edema": -1.0}),
]
TREES = ("files", "files_512", "physionet.org/files/mimic-cxr-jpg/2.0.0/files", "re_512_3ch/Train", ".")


def mimic(root: Path, tree: str = "files") -> Path:
    mimic_tables(root, IMAGES)
    sentence_table(root / "labels_individual_sentences.csv", TOLD)
    touch(*(mimic_image(root / tree, dicom, study) for dicom, study, *_ in IMAGES))
    return root


@pytest.mark.parametrize("tree", TREES)
def test_mimic_is_found_in_every_tree(tmp_path: Path, tree: str) -> None:
    found = built({"MIMIC": mimic(tmp_path, tree)}).corpus
    assert found.ids == ("aaaaaaaa-0", "cccccccc-0", "dddddddd-0")
    assert found.paths == tuple(mimic_image(tmp_path / tree, i, s) for i, s, *_ in (IMAGES[0], IMAGES[2], IMAGES[3]))
    assert found.patients == ("10000001", "10000001", "10000002")


def test_mimic_tables_may_be_zipped(tmp_path: Path) -> None:
    mimic(tmp_path)
    for path in tmp_path.glob("mimic-cxr-2.0.0-*.csv"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert len(built({"MIMIC": tmp_path}).corpus) == 3


def test_all_images_of_a_study_have_its_sentences_and_labels(tmp_path: Path) -> None:
    found = built({"MIMIC": mimic(tmp_path)})
    corpus = found.corpus
    assert corpus.sentences[0] == corpus.sentences[1]
    told = [(s.text, {corpus.classes[n] for n in s.categories}) for s in corpus.sentences[0]]
    assert told == [("Small effusion.", {"pleural effusion"}), ("Comparison is made.", {"no finding"})]
    assert labels(found, 0) == {"pleural effusion"}, "no finding counts only where there is no other"
    assert labels(found, 2) == set(), "an uncertain finding is none"
    assert corpus.sentences[2][0].categories == ()
    assert found.counts["MIMIC"]["with sentences"] == 3


def test_mimic_ids_that_became_decimals_are_refused(tmp_path: Path) -> None:
    mimic(tmp_path)
    path = tmp_path / "mimic-cxr-2.0.0-split.csv"
    path.write_text(path.read_text().replace("50000002,", "50000002.0,"))
    with pytest.raises(DataError, match="not a whole number"):
        built({"MIMIC": tmp_path})


def test_sentences_of_what_is_no_study_are_refused(tmp_path: Path) -> None:
    mimic(tmp_path)
    sentence_table(tmp_path / "labels_individual_sentences.csv", [*TOLD, ("p10", "Edema.", {"Edema": 1.0})])
    with pytest.raises(DataError, match="data row 4: patient is 'p10', not a study"):
        built({"MIMIC": tmp_path})


def test_without_sentences_the_error_says_what_to_supply(tmp_path: Path) -> None:
    mimic(tmp_path)
    (tmp_path / "labels_individual_sentences.csv").unlink()
    with pytest.raises(DataError, match=r"labels_individual_sentences\.csv.*a labeller"):
        built({"MIMIC": tmp_path})
    with pytest.raises(DataError, match="need a labeller"):
        built({"MIMIC": tmp_path}, reports=Reports(reports=tmp_path))


def test_a_table_of_sentences_elsewhere_is_taken_when_named(tmp_path: Path) -> None:
    mimic(tmp_path / "data")
    (tmp_path / "data" / "labels_individual_sentences.csv").unlink()
    mine = sentence_table(tmp_path / "mine.csv", [("50000002", "Edema.", {"Edema": 1.0})])
    found = built({"MIMIC": tmp_path / "data"}, reports=Reports(table=mine))
    assert found.corpus.ids == ("dddddddd-0",) and labels(found, 0) == {"edema"}


# PadChest

NUMBER = "216840111366964012989926673512011"


def padchest_rows(*rows: tuple[str, str, str, str]) -> list[dict[str, str]]:
    names = ("ImageID", "PatientID", "Projection", "Labels")
    return [dict(zip(names, row, strict=True)) | {"": str(n), "ImageDir": str(n)} for n, row in enumerate(rows)]


ROWS = padchest_rows(
    (f"{NUMBER}083134050913_00-168-009.png", "93322042367134991704384743747361893261", "PA", "['COPD signs', '', '']"),
    ("1234567890_abcdef.png", "P1", "AP", "['normal']"),
    ("1234567891_2_abcdef.png", "P1", "AP_horizontal", "['normal']"),
    ("1234567892_abcdef.png", "P2", "L", "['normal']"),
    ("1234567893_abcdef.png", "P2", "PA", ""),
    ("1234567894_abcdef.png", "", "PA", "['normal']"),
    ("1234567895_2_abcdef.png", "P3", "PA", "['nodule', 'nodule', 'volume loss']"),
)


@pytest.mark.parametrize("suffix", [".png", ".jpeg"])
@pytest.mark.parametrize("flat", [True, False])
def test_padchest_is_found_in_its_folders_or_flat(tmp_path: Path, suffix: str, flat: bool) -> None:
    padchest(tmp_path, ROWS)
    files = [(tmp_path / ("images" if flat else row["ImageDir"]) / row["ImageID"]).with_suffix(suffix) for row in ROWS]
    touch(*files)
    found = built({"PADCHEST": tmp_path})
    assert found.corpus.paths == (files[0], files[1], files[6])
    assert found.corpus.patients == (ROWS[0]["PatientID"], "P1", "P3")
    assert labels(found, 0) == {"copd signs"} and labels(found, 1) == {"no finding"}


def test_padchest_counts_what_it_leaves_out(tmp_path: Path) -> None:
    padchest(tmp_path, ROWS)
    touch(*(tmp_path / "images" / row["ImageID"] for row in ROWS[1:]))
    found = built({"PADCHEST": tmp_path})
    counts = dict(found.counts["PADCHEST"])
    assert counts == {
        "table": 7,
        "frontal": 5,
        "with patient": 4,
        "labelled": 3,
        "without evaluation patients": 3,
        "on disk": 2,
        "taken": 2,
    }
    told = " ".join(found.notes)
    assert "1 frontal rows without a patient" in told and "1 frontal rows without a label list" in told
    assert "1 images have no file" in told


def test_the_fused_pair_counts_as_meant_only(tmp_path: Path) -> None:
    padchest(tmp_path, ROWS)
    touch(*(tmp_path / row["ImageID"] for row in ROWS))
    assert labels(built({"PADCHEST": tmp_path}), 2) == {"nodule"}
    assert labels(built({"PADCHEST": tmp_path}, "as-meant"), 2) == {"nodule", "volume loss"}


def test_a_broken_label_list_is_named(tmp_path: Path) -> None:
    padchest(tmp_path, [*ROWS[:2], {**ROWS[1], "ImageID": "x.png", "Labels": "['normal"}])
    with pytest.raises(DataError, match=f"{PADCHEST_TABLE}: data row 3: Labels is"):
        built({"PADCHEST": tmp_path})


# All together


def test_sources_are_assembled_in_a_fixed_order(tmp_path: Path) -> None:
    padchest(tmp_path / "p", ROWS)
    touch(*(tmp_path / "p" / row["ImageID"] for row in ROWS))
    roots = {"PADCHEST": tmp_path / "p", "MIMIC": mimic(tmp_path / "m"), "CHEXPERT": tmp_path / "c"}
    chexpert_of(tmp_path / "c", chexpert_row(TAILS[0], Edema=1.0))
    found = built(roots).corpus
    assert found.source == ("CHEXPERT", *("MIMIC",) * 3, *("PADCHEST",) * 3)
    assert found.labels.shape == (7, 85) and found.labels.dtype == np.int8
    assert [len(found.spaces[name]) for name in ("CHEXPERT", "MIMIC", "PADCHEST")] == [14, 14, 78]
    for row, source in enumerate(found.source):
        assert set(found.labels[row].nonzero()[0]) <= set(found.spaces[source])
    assert [bool(told) for told in found.sentences] == [False, True, True, True, False, False, False]


def test_the_digest_knows_content_and_not_place(tmp_path: Path) -> None:
    first, second = mimic(tmp_path / "a"), mimic(tmp_path / "b", "files_512")
    assert built({"MIMIC": first}).corpus.digest == built({"MIMIC": second}).corpus.digest
    sentence_table(second / "labels_individual_sentences.csv", [TOLD[0], (TOLD[1][0], "Another.", {}), TOLD[2]])
    assert built({"MIMIC": first}).corpus.digest != built({"MIMIC": second}).corpus.digest


def test_a_limit_takes_the_first_that_are_there(tmp_path: Path) -> None:
    mimic(tmp_path)
    mimic_image(tmp_path / "files", *IMAGES[0][:2]).unlink()
    found = built({"MIMIC": tmp_path}, limit=1)
    assert found.corpus.ids == ("cccccccc-0",)
    assert found.counts["MIMIC"]["on disk"] == 2 and found.counts["MIMIC"]["taken"] == 1


def test_what_cannot_be_built_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="no source is named"):
        built({})
    with pytest.raises(SpecError, match="no source 'NIH'"):
        built({"NIH": tmp_path})  # type: ignore[dict-item]
    with pytest.raises(SpecError, match="a limit of 0"):
        built({"MIMIC": tmp_path}, limit=0)
    with pytest.raises(DataError, match=r"PadChest: found no PADCHEST"):
        built({"PADCHEST": tmp_path})
    padchest(tmp_path, ROWS)
    with pytest.raises(DataError, match="none of 3 images lies under"):
        built({"PADCHEST": tmp_path})
