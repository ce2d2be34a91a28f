"""Every layout in which the seven data sets are met on disk leads to the same images."""

import errno
import gzip
import itertools
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cxrbench.data import phantom_mark
from cxrbench.data.listing import listing
from cxrbench.data.sources import base
from cxrbench.errors import DataError, SpecError
from cxrbench.specs import paths
from cxrbench.specs.task import TaskSpec, read_task
from cxrbench.store.sealed import read_sealed, write_sealed
from cxrbench.types import Partition

ABOVE = "Chest CT/masks/COVID/VinDr dicom MIMIC"  # words in the user's own path decide nothing


def small(name: str, split: str, **changes: Any) -> TaskSpec:
    """The task with a split's parameters scaled down."""
    task = read_task(paths.folder("tasks") / f"{name}.toml")
    spec = task.split(split)
    changed = spec.model_copy(update={"params": {**spec.params, **changes}, "complete": False, "reference": {}})
    return task.model_copy(update={"splits": {**task.splits, split: changed}})


def write(path: Path, columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> None:
    columns = list(columns)
    lines = [",".join(columns), *(",".join(str(row.get(column, "")) for column in columns) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    data = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def assert_found(partition: Partition, files: Mapping[str, Path]) -> None:
    """Every id of the split leads to its file, and nothing is missing, extra or double."""
    wanted = {name for part in partition.parts.values() for name in part.ids}
    assert {name: path.resolve() for name, path in partition.paths.items()} == {
        name: files[name].resolve() for name in wanted
    }
    findings = partition.findings
    assert (findings.missing, findings.extra, findings.duplicate) == ((), (), ())


def assert_survey_agrees(partition: Partition, root: Path, task: TaskSpec) -> None:
    """The images were found without a survey, and one finds nothing else."""
    assert any("not surveyed" in note for note in partition.findings.notes)
    surveyed = base.load_partition(root, task, partition.split, survey=True)
    assert not any("not surveyed" in note for note in surveyed.findings.notes)
    assert surveyed.paths == partition.paths
    assert (surveyed.findings.missing, surveyed.findings.extra, surveyed.findings.duplicate) == ((), (), ())


# CheXpert

CHEXPERT = small("chexpert5x200", "gloria", per_class=3)


def chexpert_rows(prefix: str) -> list[dict[str, Any]]:
    others = CHEXPERT.split("gloria").params["others"]
    rows: list[dict[str, Any]] = []
    for number, column in itertools.product(range(4), CHEXPERT.columns):
        path = f"{prefix}train/patient{len(rows):05d}/study{number + 1}/view1_frontal.jpg"
        rows.append({"Path": path, "Frontal/Lateral": "Frontal", column: "1.0", others[0]: "0.0"})
    return rows


def chexpert_files(place: Callable[[str], Path]) -> dict[str, Path]:
    tails = [row["Path"].partition("train/")[2] for row in chexpert_rows("")]
    return {f"CheXpert-v1.0/train/{tail}": place(tail) for tail in tails}


BATCHES = "chexpertchestxrays-u20210408"


@pytest.mark.parametrize(
    ("prefix", "table", "images"),
    [
        ("CheXpert-v1.0/", "CheXpert-v1.0/train.csv", "CheXpert-v1.0/train"),
        ("CheXpert-v1.0-small/", "CheXpert-v1.0-small/train.csv", "CheXpert-v1.0-small/train"),
        ("CheXpert-v1.0-small/", "CheXpert-v1.0/train.csv.gz", "CheXpert-v1.0/train"),
        ("CheXpert-v1.0/", "CheXpert/train.csv", "CheXpert/CheXpert-v1.0/CheXpert-v1.0/train"),
        ("CheXpert-v1.0/", "CheXpert/CheXpert-v1.0/train.csv", "CheXpert/CheXpert-v1.0/CheXpert-v1.0/train"),
        (
            "CheXpert-v1.0/",
            f"{BATCHES}/CheXpert-v1.0 batch 1 (validate & csv)/train.csv",
            f"{BATCHES}/CheXpert-v1.0 batch 2 (train 1)",
        ),
        (
            "CheXpert-v1.0/",
            f"{BATCHES}/CheXpert-v1.0_batch_1_validate_csv/train.csv",
            f"{BATCHES}/CheXpert-v1.0_batch_3_train_2/CheXpert-v1.0/train",
        ),
        ("", "CheXpert/train.csv", "CheXpert/train"),
    ],
)
def test_chexpert_layouts(prefix: str, table: str, images: str, tmp_path: Path) -> None:
    root = tmp_path / ABOVE
    rows = chexpert_rows(prefix)
    write(
        root / table, ["Path", "Frontal/Lateral", *CHEXPERT.columns, *CHEXPERT.split("gloria").params["others"]], rows
    )
    files = chexpert_files(lambda tail: root / images / tail)
    touch(*files.values(), (root / table).parent / "valid/patient64541/study1/view1_frontal.jpg")
    partition = base.load_partition(root, CHEXPERT, "gloria")
    assert_found(partition, files)
    assert_survey_agrees(partition, root, CHEXPERT)
    assert partition.parts["all"].counts == dict.fromkeys(CHEXPERT.classes, 3)
    assert partition.parts["all"].patients == tuple(name.split("/")[2] for name in partition.parts["all"].ids)


def test_chexpert_takes_a_ready_list_where_train_csv_is_absent(tmp_path: Path) -> None:
    rows = chexpert_rows("CheXpert-v1.0/")[::-1]
    write(tmp_path / "CheXpert/chexpert_5x200.csv", ["", "Path", *CHEXPERT.columns], rows)
    files = chexpert_files(lambda tail: tmp_path / "CheXpert/CheXpert-v1.0/train" / tail)
    touch(*files.values())
    partition = base.load_partition(tmp_path, CHEXPERT, "gloria")
    assert_found(partition, files)
    assert partition.parts["all"].ids == tuple(row["Path"] for row in rows)
    with pytest.raises(DataError, match=r"split mgca .* train\.csv"):
        base.load_partition(tmp_path, CHEXPERT, "mgca")


def test_a_train_csv_that_may_not_be_read_is_named_before_a_ready_list_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "CheXpert-v1.0/train.csv")
    rows = chexpert_rows("CheXpert-v1.0/")
    write(tmp_path / "a_list/chexpert_5x200.csv", ["Path", *CHEXPERT.columns], rows)
    opened = os.open

    def refusing(path: str, *mode: Any, **options: Any) -> int:
        if Path(path).name == "train.csv":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return opened(path, *mode, **options)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(DataError, match=r"train\.csv: cannot be opened: Permission denied"):
        base.load_partition(tmp_path, CHEXPERT, "gloria")


def test_another_train_csv_is_not_taken_for_chexpert(tmp_path: Path) -> None:
    write(tmp_path / "other/train.csv", ["id", "label"], [{"id": 1, "label": 0}])
    with pytest.raises(DataError, match=r"found no train\.csv of CheXpert"):
        base.load_partition(tmp_path, CHEXPERT, "gloria")


def test_a_broken_train_csv_is_named_rather_than_overlooked(tmp_path: Path) -> None:
    touch(tmp_path / "CheXpert-v1.0" / "train.csv")
    with pytest.raises(DataError, match=r"train\.csv: is empty"):
        base.load_partition(tmp_path, CHEXPERT, "gloria")


def test_a_name_in_another_case_is_missing_but_offered(tmp_path: Path) -> None:
    rows = chexpert_rows("CheXpert-v1.0/")
    columns = ["Path", "Frontal/Lateral", *CHEXPERT.columns, *CHEXPERT.split("gloria").params["others"]]
    write(tmp_path / "train.csv", columns, rows)
    files = chexpert_files(lambda tail: tmp_path / "train" / tail)
    touch(*files.values())
    first = base.load_partition(tmp_path, CHEXPERT, "gloria").parts["all"].ids[0]
    files[first].rename(files[first].with_name("View1_Frontal.jpg"))
    findings = base.load_partition(tmp_path, CHEXPERT, "gloria").findings
    assert findings.missing == (first,)
    assert any("View1_Frontal.jpg differs only in letter case" in note for note in findings.notes)


# MIMIC

MIMIC = small("mimic5x200", "dlilp", per_class=2)
MIMIC_ROWS = [
    {
        "dicom_id": "-".join(f"{part + 10 * n:08x}" for part in range(5)),
        "study_id": 50000000 + n,
        "subject_id": 10000000 + n,
        "split": "train",
        "ViewPosition": "PA",
        MIMIC.columns[n % 5]: "1.0",
    }
    for n in range(15)
]


def mimic_tables(folder: Path, suffix: str = "csv") -> None:
    write(folder / f"mimic-cxr-2.0.0-split.{suffix}", ["dicom_id", "study_id", "subject_id", "split"], MIMIC_ROWS)
    write(folder / f"mimic-cxr-2.0.0-metadata.{suffix}", ["dicom_id", "ViewPosition"], MIMIC_ROWS)
    write(folder / f"mimic-cxr-2.0.0-chexpert.{suffix}", ["subject_id", "study_id", *sorted(MIMIC.columns)], MIMIC_ROWS)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
@pytest.mark.parametrize(
    ("tables", "images"),
    [
        ("physionet.org/files/mimic-cxr-jpg/2.0.0", "physionet.org/files/mimic-cxr-jpg/2.0.0/files"),
        ("MIMIC-CXR-2/2.0.0", "MIMIC-CXR-2/2.0.0/files"),
        ("mimic-cxr-jpg/2.1.0", "mimic-cxr-jpg/2.1.0/files"),
        ("mimic/tables", "mimic/files_512"),
        (".", "re_512_3ch/files"),
    ],
)
def test_mimic_layouts(tables: str, images: str, suffix: str, tmp_path: Path) -> None:
    root = tmp_path / ABOVE
    mimic_tables(root / tables, suffix)
    files = {}
    for row in MIMIC_ROWS:
        subject = f"p{row['subject_id']}"
        study = root / images / subject[:3] / subject / f"s{row['study_id']}"
        files[str(row["dicom_id"])] = study / f"{row['dicom_id']}.jpg"
    touch(*files.values())
    partition = base.load_partition(root, MIMIC, "dlilp")
    assert_found(partition, files)
    assert_survey_agrees(partition, root, MIMIC)
    part = partition.parts["all"]
    subject_of = {str(row["dicom_id"]): str(row["subject_id"]) for row in MIMIC_ROWS}
    assert part.patients == tuple(subject_of[name] for name in part.ids)


def test_mimic_ids_that_became_decimals_are_refused(tmp_path: Path) -> None:
    mimic_tables(tmp_path)
    path = tmp_path / "mimic-cxr-2.0.0-chexpert.csv"
    path.write_text(path.read_text().replace("50000003", "50000003.0"))
    with pytest.raises(DataError, match=r"study_id is '50000003\.0', not a whole number"):
        base.source(MIMIC).tables(tmp_path, MIMIC, "dlilp")


def test_a_mimic_image_that_is_not_there_is_reported_and_none_takes_its_place(tmp_path: Path) -> None:
    mimic_tables(tmp_path)
    for row in MIMIC_ROWS:
        touch(tmp_path / "files" / f"{row['dicom_id']}.jpg")
    whole = base.load_partition(tmp_path, MIMIC, "dlilp")
    lost = whole.parts["all"].ids[0]
    whole.paths[lost].unlink()
    partly = base.load_partition(tmp_path, MIMIC, "dlilp")
    assert partly.parts["all"].ids == whole.parts["all"].ids
    assert partly.findings.missing == (lost,)
    assert lost not in partly.paths


def test_missing_files_may_be_passed_over_before_the_draw(tmp_path: Path) -> None:
    """As the released code has it: of a whole download the same images, of a part others, and none missing."""
    on_disk = small("mimic5x200", "dlilp-on-disk", per_class=2)
    files = mimic_tree(tmp_path / "mimic")
    whole = base.load_partition(tmp_path, MIMIC, "dlilp")
    assert base.load_partition(tmp_path, on_disk, "dlilp-on-disk").digest == whole.digest
    lost = whole.parts["all"].ids[0]
    files[lost].unlink()
    reported = base.load_partition(tmp_path, MIMIC, "dlilp")
    assert (reported.digest, reported.findings.missing) == (whole.digest, (lost,))
    assert any("1 images without a file were drawn before" in note for note in reported.findings.notes)
    passed = base.load_partition(tmp_path, on_disk, "dlilp-on-disk")
    assert passed.findings.missing == ()
    assert lost not in passed.parts["all"].ids
    assert len(passed.parts["all"]) == len(whole.parts["all"])
    assert "1 images without a file were passed over before the draw" in passed.findings.notes
    tables = base.source(on_disk).tables(tmp_path / "mimic", on_disk, "dlilp-on-disk")
    assert tables.parts["all"].ids == passed.parts["all"].ids


def mimic_tree(root: Path) -> dict[str, Path]:
    mimic_tables(root)
    files = {}
    for row in MIMIC_ROWS:
        study = root / f"files/p10/p{row['subject_id']}/s{row['study_id']}"
        files[str(row["dicom_id"])] = study / f"{row['dicom_id']}.jpg"
    touch(*files.values())
    return files


def test_images_that_lie_where_their_ids_say_are_found_without_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = mimic_tree(tmp_path / "mimic")

    def listed(*asked: object) -> NoReturn:
        pytest.fail("the folder was listed")

    monkeypatch.setattr("cxrbench.data.sources.base.listing", listed)
    assert_found(base.load_partition(tmp_path, MIMIC, "dlilp"), files)


def test_one_that_lies_elsewhere_is_found_by_the_survey_and_moves_no_other(tmp_path: Path) -> None:
    files = mimic_tree(tmp_path / "mimic")
    lost, double = base.load_partition(tmp_path, MIMIC, "dlilp").parts["all"].ids[:2]
    files[lost] = files[lost].rename(tmp_path / "mimic" / files[lost].name)
    touch(tmp_path / "mimic/a_copy" / files[double].name, tmp_path / "mimic/files/p10/unknown.jpg")
    found = base.load_partition(tmp_path, MIMIC, "dlilp")
    assert found.paths == {name: files[name] for name in found.paths}
    assert found.findings.missing == ()
    assert found.findings.extra == ("files/p10/unknown.jpg",)
    assert found.findings.duplicate == (double,)


def test_a_survey_finds_extra_and_double_files_and_changes_no_path(tmp_path: Path) -> None:
    files = mimic_tree(tmp_path / "mimic")
    first = base.load_partition(tmp_path, MIMIC, "dlilp").parts["all"].ids[0]
    touch(tmp_path / "mimic/a_copy" / files[first].name, tmp_path / "mimic/files/p10/unknown.jpg")
    plain, surveyed = (base.load_partition(tmp_path, MIMIC, "dlilp", survey=survey) for survey in (False, True))
    assert plain.paths == surveyed.paths
    assert (plain.findings.extra, plain.findings.duplicate) == ((), ())
    assert (surveyed.findings.extra, surveyed.findings.duplicate) == (("files/p10/unknown.jpg",), (first,))


# RSNA

RSNA = small("rsna", "cxrbench-v1", parts={"test": 1, "train": 2})
RSNA_IDS = [f"{n:08x}-1111-4222-8333-444444444444" for n in range(9)]


def rsna_tables(folder: Path, stage: int) -> None:
    kinds = ["Normal", "Lung Opacity", "No Lung Opacity / Not Normal"]
    rows = [{"patientId": name, "class": kinds[n % 3], "Target": int(n % 3 == 1)} for n, name in enumerate(RSNA_IDS)]
    write(folder / f"stage_{stage}_detailed_class_info.csv", ["patientId", "class"], rows)
    write(folder / f"stage_{stage}_train_labels.csv", ["patientId", "x", "y", "width", "height", "Target"], rows)


@pytest.mark.parametrize(
    ("stage", "folder", "suffix"),
    [(2, "stage_2_train_images", ".dcm"), (1, "stage_1_train_images", ".dcm"), (2, "png", ".png"), (2, ".", ".jpg")],
)
def test_rsna_layouts(stage: int, folder: str, suffix: str, tmp_path: Path) -> None:
    root = tmp_path / ABOVE
    rsna_tables(root / "rsna", stage)
    files = {name: root / "rsna" / folder / f"{name}{suffix}" for name in RSNA_IDS}
    touch(*files.values(), root / "rsna" / "stage_2_test_images" / "unlabelled.dcm")
    partition = base.load_partition(root, RSNA, "cxrbench-v1")
    assert_found(partition, files)
    assert any("stage 1" in note for note in partition.findings.notes) == (stage == 1)
    assert partition.parts["test"].patients is None


def test_rsna_under_the_uids_of_the_mdai_export(tmp_path: Path) -> None:
    rsna_tables(tmp_path, 2)
    uids = {name: f"1.2.276.0.7230010.3.1.4.8323329.{n}.151787" for n, name in enumerate(RSNA_IDS)}
    entries = [
        {"subset_img_id": name, "img_id": f"{n // 2:08d}_000.png", "SOPInstanceUID": uids[name]}
        for n, name in enumerate(RSNA_IDS)
    ]
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(entries))
    export = tmp_path / "mdai_rsna_project_x9N20BZa_images_2018-07-20-153330"
    files = {name: export / "1.2.3" / "1.2.4" / f"{uid}.dcm" for name, uid in uids.items()}
    touch(*files.values())
    partition = base.load_partition(tmp_path, RSNA, "cxrbench-v1")
    assert_found(partition, files)
    patients = {entry["subset_img_id"]: entry["img_id"][:8] for entry in entries}
    test = partition.parts["test"]
    assert test.patients == tuple(patients[name] for name in test.ids)


def test_rsna_by_patient_needs_the_mapping(tmp_path: Path) -> None:
    rsna_tables(tmp_path, 2)
    with pytest.raises(DataError, match=r"pneumonia-challenge-dataset-mappings_2018\.json"):
        base.source(RSNA).tables(tmp_path, RSNA, "cxrbench-patient-v1")
    mapping = tmp_path / "pneumonia-challenge-dataset-mappings_2018.json"
    mapping.write_text('{"annotations": []}')
    with pytest.raises(DataError, match="subset_img_id and img_id"):
        base.source(RSNA).tables(tmp_path, RSNA, "cxrbench-patient-v1")


# SIIM

SIIM = small("siim", "dlilp-rows", parts={"train": 2, "test": 1})
SIIM_IDS = [f"1.2.276.0.7230010.3.1.4.8323329.{n}.1517875201.850819" for n in range(8)]
SIIM_ROWS = [{"ImageId": name, " EncodedPixels": " -1" if n % 2 else " 5 7"} for n, name in enumerate(SIIM_IDS)]


def test_siim_tree_of_uids(tmp_path: Path) -> None:
    root = tmp_path / ABOVE / "siim"
    write(root / "train-rle.csv", ["ImageId", " EncodedPixels"], SIIM_ROWS)
    files = {
        name: root
        / "dicom-images-train"
        / name.replace("3.1.4", "3.1.2")
        / name.replace("3.1.4", "3.1.3")
        / f"{name}.dcm"
        for name in SIIM_IDS
    }
    touch(*files.values(), root / "dicom-images-test" / "a" / "b" / "1.2.3.dcm")
    assert_found(base.load_partition(tmp_path, SIIM, "dlilp-rows"), files)


def test_siim_stage_2_with_new_names_beside(tmp_path: Path) -> None:
    write(tmp_path / "stage_2_train.csv", ["ImageId", "EncodedPixels"], [
        {"ImageId": row["ImageId"], "EncodedPixels": row[" EncodedPixels"].strip()} for row in SIIM_ROWS
    ])  # fmt: skip
    files = {
        name: tmp_path / f"dicom-images-{'test' if n > 5 else 'train'}/x/{name}.dcm" for n, name in enumerate(SIIM_IDS)
    }
    touch(*files.values(), tmp_path / "stage_2_images" / "ID_0011fe81e.dcm")
    assert_found(base.load_partition(tmp_path, SIIM, "dlilp-rows"), files)


def test_siim_table_of_new_names(tmp_path: Path) -> None:
    rows = [{"ImageId": f"ID_{n:09x}", "EncodedPixels": "-1" if n % 2 else "5 7"} for n in range(8)]
    write(tmp_path / "stage_2_train.csv", ["ImageId", "EncodedPixels"], rows)
    files = {row["ImageId"]: tmp_path / "stage_2_images" / f"{row['ImageId']}.dcm" for row in rows}
    touch(*files.values())
    assert_found(base.load_partition(tmp_path, SIIM, "dlilp-rows"), files)


def test_siim_flat_png_by_image_id(tmp_path: Path) -> None:
    write(tmp_path / "train-rle.csv", ["ImageId", " EncodedPixels"], SIIM_ROWS)
    files = {name: tmp_path / "png512" / f"{name}.png" for name in SIIM_IDS}
    touch(*files.values(), *(tmp_path / "masks" / f"{name}.png" for name in SIIM_IDS))
    assert_found(base.load_partition(tmp_path, SIIM, "dlilp-rows"), files)


@pytest.mark.parametrize("split", ["benchx", "cxrbench-v1", "cxrbench-stage1-v1"])
def test_siim_png_repackaging(split: str, tmp_path: Path) -> None:
    task = small("siim", split, **({} if split == "benchx" else {"parts": {"test": 1, "train": 2}}))
    files = {}
    for part, numbers in (("train", range(12)), ("test", range(12, 16))):
        rows = []
        for n in numbers:
            name = f"1.2.276.0.7230010.3.1.4.8323329.{n}.15178"
            rows.append({"new_filename": f"{n}_{part}_{n % 2}_.png", "ImageId": name, "has_pneumo": n % 2})
            files[name] = tmp_path / "siim/png_images" / f"{n}_{part}_{n % 2}_.png"
            touch(files[name], tmp_path / "siim/png_masks" / f"{n}_{part}_{n % 2}_.png")
        write(tmp_path / f"siim/stage_1_{part}_images.csv", ["new_filename", "ImageId", "has_pneumo"], rows)
    partition = base.load_partition(tmp_path, task, split)
    wanted = {name for table in partition.parts.values() for name in table.ids}
    assert dict(partition.paths) == {n: files[n] for n in wanted}
    assert partition.findings.missing == ()


def test_siim_both_stages_need_more_than_the_stage_1_table(tmp_path: Path) -> None:
    write(tmp_path / "train-rle.csv", ["ImageId", " EncodedPixels"], SIIM_ROWS)
    with pytest.raises(DataError, match=r"stage 2 and needs stage_2_train\.csv"):
        base.source(SIIM).tables(tmp_path, SIIM, "cxrbench-v1")


# COVID

COVID_CLASSES = ["COVID", "Normal", "Pneumonia", "Lung Opacity"]
COVID = small(
    "covid",
    "dlilp-sorted",
    quotas={"test": dict.fromkeys(COVID_CLASSES, 2), "train": dict.fromkeys(COVID_CLASSES, 1)},
)


@pytest.mark.parametrize("images", ["images/", ""])
@pytest.mark.parametrize(
    ("folders", "names"),
    [
        ("COVID/Normal/Viral Pneumonia/Lung_Opacity", "COVID-{}/Normal-{}/Viral Pneumonia-{}/Lung_Opacity-{}"),
        ("COVID/Normal/ViralPneumonia/Lung Opacity", "COVID-{}/Normal-{}/Viral Pneumonia-{}/Lung_Opacity-{}"),
        ("COVID/Normal/ViralPneumonia/Lung_Opacity", "COVID-{}/NORMAL-{}/ViralPneumonia-{}/Lung Opacity-{}"),
        (
            "COVID-19/NORMAL/Viral Pneumonia/Lung_Opacity",
            "COVID-19 ({})/NORMAL ({})/Viral Pneumonia ({})/Lung_Opacity ({})",
        ),
    ],
)
def test_covid_layouts(folders: str, names: str, images: str, tmp_path: Path) -> None:
    root = tmp_path / ABOVE / "COVID-19_Radiography_Dataset"
    files = {}
    columns = ("COVID", "Normal", "Viral Pneumonia", "Lung_Opacity")
    for folder, name, column in zip(folders.split("/"), names.split("/"), columns, strict=True):
        for n in (1, 2, 10):
            file = f"{name.format(n)}.png"
            files[f"{column}/images/{column}-{n}.png"] = root / folder / images / file
            touch(root / folder / "masks" / file)
    touch(*files.values(), root / "README.md.txt", root / "COVID.metadata.xlsx")
    partition = base.load_partition(tmp_path, COVID, "dlilp-sorted")
    assert_found(partition, files)
    assert partition.parts["test"].ids[:2] == ("COVID/images/COVID-1.png", "COVID/images/COVID-10.png")
    assert partition.parts["train"].counts == dict.fromkeys(COVID.classes, 1)
    assert partition.parts["test"].labels[0].tolist() == [0, 1, 0, 0]


def test_the_covid_authors_list_must_be_supplied(tmp_path: Path) -> None:
    files = [tmp_path / f"{c}/images/{c}-1.png" for c in ("COVID", "Normal", "Viral Pneumonia", "Lung_Opacity")]
    touch(*files)
    with pytest.raises(DataError, match=r"covid_train\.csv and covid_test\.csv .* dlilp-sorted"):
        base.load_partition(tmp_path, COVID, "dlilp-author-list")
    for part, column in (("train", "Normal"), ("test", "Pneumonia")):
        path = {"Normal": "Normal/images/Normal-1.png", "Pneumonia": "ViralPneumonia/images/Viral Pneumonia-1.png"}[
            column
        ]
        row = {"Path": path, **dict.fromkeys(COVID.classes, 0), column: 1}
        write(tmp_path / f"covid_{part}.csv", ["Path", *COVID.classes], [row])
    partition = base.load_partition(tmp_path, COVID, "dlilp-author-list")
    assert partition.parts["test"].ids == ("ViralPneumonia/images/Viral Pneumonia-1.png",)
    assert partition.paths["ViralPneumonia/images/Viral Pneumonia-1.png"] == files[2]


# NIH-LT

NIH = read_task(paths.folder("tasks") / "nih_lt.toml")


@pytest.mark.parametrize("stem", ["nih-cxr-lt", "nih-lt"])
@pytest.mark.parametrize(
    ("tables", "images"),
    [
        ("ChestXray-NIHCC/LongTailCXR", "ChestXray-NIHCC/images"),
        ("NIH/LongTailCXR", "NIH/images_0{:02d}/images"),
        ("NIH", "NIH/images-224"),
        (".", "."),
    ],
)
def test_nih_layouts(stem: str, tables: str, images: str, tmp_path: Path) -> None:
    root = tmp_path / ABOVE
    files = {}
    for k, kind in enumerate(("train", "balanced-val", "balanced-test")):
        rows = []
        for n, column in enumerate(NIH.columns):
            name = f"{k:03d}{n:05d}_000.png"
            rows.append({"id": name, **dict.fromkeys(NIH.columns, 0), column: 1, "subject_id": n})
            files[name] = root / images.format(n % 12 + 1) / name
        write(root / tables / f"{stem}_single-label_{kind}.csv", ["id", *NIH.columns, "subject_id"], rows)
    write(root / tables / "Data_Entry_2017.csv", ["Image Index", "Finding Labels", ""], [{"Image Index": "unused.png"}])
    touch(*files.values(), root / images.format(3) / "unused.png")
    for split in ("dlilp", "lt-official", "cxrbench-v1"):
        partition = base.load_partition(root, NIH, split)
        known = {name for part in partition.parts.values() for name in part.ids}
        assert_found(partition, {name: files[name] for name in known})
        assert partition.parts["test"].counts == dict.fromkeys(NIH.classes, 1)
        assert (partition.parts["test"].patients or ())[0] == partition.parts["test"].ids[0][:8]
    assert len(base.load_partition(root, NIH, "dlilp").parts["train"]) == 40


# VinDr

VINDR = small("vindr", "dlilp", quotas={"train": 2, "test": 1})
OTHERS = VINDR.split("cxrbench-v1").params["others"]


@pytest.mark.parametrize(
    ("home", "folders", "suffix"),
    [
        ("physionet.org/files/vindr-pcxr/1.0.0", ("train", "test"), ".dicom"),
        (
            "vindr-pcxr-an-open-large-scale-pediatric-chest-x-ray-dataset-for-interpretation-of-common-thoracic-diseases-1.0.0",
            ("train", "test"),
            ".dicom",
        ),
        ("vindr", ("train_png", "test_png"), ".png"),
        (".", ("val_png", "test_png"), ".png"),
    ],
)
def test_vindr_layouts(home: str, folders: tuple[str, str], suffix: str, tmp_path: Path) -> None:
    root = tmp_path / ABOVE
    files = {}
    for k, (part, folder) in enumerate(zip(("train", "test"), folders, strict=True)):
        rows = []
        for n, column in enumerate([*VINDR.columns] * 3):
            name = f"{k:016x}{n:016x}"
            rows.append({"image_id": name, **dict.fromkeys([*VINDR.columns, *OTHERS], 0), column: "1.0"})
            files[name] = root / home / folder / f"{name}{suffix}"
        rows[0][OTHERS[0]] = 1
        columns = ["image_id", "rad_ID", *VINDR.columns, *OTHERS]
        write(root / home / f"image_labels_{part}.csv", columns, rows)
    touch(*files.values())
    first = base.load_partition(root, VINDR, "dlilp")
    assert_found(first, files)
    assert first.parts["train"].counts == dict.fromkeys(VINDR.classes, 2)
    assert f"{0:032x}" in first.parts["train"].ids
    only = base.load_partition(root, VINDR, "cxrbench-v1")
    assert only.parts["train"].counts == {**dict.fromkeys(VINDR.classes, 3), "No Finding": 2}
    assert f"{0:032x}" not in only.parts["train"].ids


# All


def test_missing_extra_and_duplicate_files_are_told_apart(tmp_path: Path) -> None:
    rsna_tables(tmp_path, 2)
    touch(*(tmp_path / "images" / f"{name}.dcm" for name in RSNA_IDS[1:]))
    touch(tmp_path / "copy" / f"{RSNA_IDS[1]}.png", tmp_path / "images" / "unknown.dcm")
    everything = small("rsna", "cxrbench-v1", parts={"test": 1, "train": 2})
    findings = base.load_partition(tmp_path, everything, "cxrbench-v1").findings
    assert findings.missing == (RSNA_IDS[0],)
    assert findings.extra == ("images/unknown.dcm",)
    assert findings.duplicate == (RSNA_IDS[1],)


def test_a_folder_without_any_image_of_the_split_is_refused(tmp_path: Path) -> None:
    rsna_tables(tmp_path, 2)
    with pytest.raises(DataError, match=r"none of the 6 images .* Kaggle"):
        base.load_partition(tmp_path, RSNA, "cxrbench-v1")


def test_a_mapping_under_a_near_name_is_not_passed_over(tmp_path: Path) -> None:
    """Without it patients would be taken for unknown, in silence."""
    rsna_tables(tmp_path, 2)
    (tmp_path / "rsna_to_nih (1).csv").write_text("patientId,nih_image_index\n")
    with pytest.raises(DataError, match=r"rsna_to_nih \(1\)\.csv': is it the table\? Name it rsna_to_nih\.csv\."):
        base.source(RSNA).tables(tmp_path, RSNA, "cxrbench-v1")


@pytest.mark.parametrize("text", ["[" * 100_000, "{}", "[]", "null", '[{"img_id": 1}]', "<html>"])
def test_a_mapping_file_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    rsna_tables(tmp_path, 2)
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text(text)
    with pytest.raises(DataError, match="is no list of entries"):
        base.source(RSNA).tables(tmp_path, RSNA, "cxrbench-v1")


def test_folders_whose_names_are_no_utf8_give_the_same_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)
    odd = tmp_path / os.fsdecode(b"donn\xe9es")
    try:
        rsna_tables(odd, 2)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    rsna_tables(tmp_path / "plain", 2)
    for folder in (odd, tmp_path / "plain"):
        touch(*(folder / "images" / f"{name}.dcm" for name in RSNA_IDS))
    plain = base.load_partition(tmp_path / "plain", RSNA, "cxrbench-v1")
    for _ in range(2):
        found = base.load_partition(odd, RSNA, "cxrbench-v1", tmp_path / "cache")
        assert (found.digest, found.findings) == (plain.digest, plain.findings)
        assert {path.name for path in found.paths.values()} == {path.name for path in plain.paths.values()}


def test_an_absent_data_set_says_what_was_looked_for(tmp_path: Path) -> None:
    for name, sign in (("rsna", "stage_2_train_labels.csv"), ("nih_lt", "nih-cxr-lt"), ("covid", "class folders")):
        task = read_task(paths.folder("tasks") / f"{name}.toml")
        with pytest.raises(DataError, match=sign):
            base.load_partition(tmp_path, task, "cxrbench-v1")
        with pytest.raises(DataError, match="there is no such folder"):
            base.load_partition(tmp_path / "nowhere", task, "cxrbench-v1")


def test_an_incomplete_download_is_noted(tmp_path: Path) -> None:
    rsna_tables(tmp_path, 2)
    touch(*(tmp_path / f"{name}.dcm" for name in RSNA_IDS))
    complete = RSNA.model_copy(update={"splits": {
        "s": RSNA.split("cxrbench-v1").model_copy(update={"complete": True})
    }})  # fmt: skip
    notes = base.load_partition(tmp_path, complete, "s").findings.notes
    assert "train_images: 9 here, a complete download has 26,684" in notes


def test_a_kept_listing_gives_the_same_partition(tmp_path: Path) -> None:
    rsna_tables(tmp_path, 2)
    touch(*(tmp_path / f"{name}.dcm" for name in RSNA_IDS))
    plain = base.load_partition(tmp_path, RSNA, "cxrbench-v1")
    for _ in range(2):
        kept = base.load_partition(tmp_path, RSNA, "cxrbench-v1", cache=tmp_path / "kept")
        assert (kept.digest, kept.paths, kept.findings) == (plain.digest, plain.paths, plain.findings)


def test_nothing_is_missing_on_a_kept_listings_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)  # so that the listing is kept
    rsna_tables(tmp_path / "data", 2)
    touch(*(tmp_path / "data" / f"{name}.dcm" for name in RSNA_IDS))
    whole = base.load_partition(tmp_path / "data", RSNA, "cxrbench-v1", tmp_path / "cache")
    kept = next((tmp_path / "cache/listings").iterdir())
    write_sealed(kept, read_sealed(kept) | {"files": [f"{name}.dcm" for name in RSNA_IDS[1:]]})
    assert listing(tmp_path / "data", cache=tmp_path / "cache").kept
    again = base.load_partition(tmp_path / "data", RSNA, "cxrbench-v1", tmp_path / "cache")
    assert (again.paths, again.findings.missing) == (whole.paths, ())


def test_a_listed_file_that_is_gone_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)
    rsna_tables(tmp_path / "data", 2)
    touch(*(tmp_path / "disk" / f"{name}.dcm" for name in RSNA_IDS))
    for name in RSNA_IDS:
        (tmp_path / f"data/{name}.dcm").symlink_to(tmp_path / f"disk/{name}.dcm")
    assert base.load_partition(tmp_path / "data", RSNA, "cxrbench-v1", tmp_path / "cache").findings.missing == ()
    (tmp_path / f"disk/{RSNA_IDS[0]}.dcm").unlink()
    found = base.load_partition(tmp_path / "data", RSNA, "cxrbench-v1", tmp_path / "cache")
    assert found.findings.missing == (RSNA_IDS[0],)
    assert RSNA_IDS[0] not in found.paths


@pytest.mark.slow
@pytest.mark.parametrize("name", ["chexpert5x200", "mimic5x200", "rsna", "siim", "covid", "nih_lt", "vindr"])
def test_a_phantom_split_is_drawn_from_a_phantom_data_set(name: str, tmp_path: Path) -> None:
    drawing = pytest.importorskip("cxrbench.phantom.write")
    drawing.write(name, tmp_path, size=(32, 32))
    task = read_task(paths.folder("tasks") / f"{name}.toml")
    partition = base.load_partition(tmp_path, task, "phantom")
    assert partition.synthetic
    assert partition.findings.missing == ()
    assert partition.findings.duplicate == ()
    for part in partition.parts.values():
        assert min(part.counts[label] for label in task.group("all")) > 0


def test_only_drawn_data_sets_are_synthetic(tmp_path: Path) -> None:
    rsna_tables(tmp_path / "rsna", 2)
    touch(*(tmp_path / "rsna" / f"{name}.dcm" for name in RSNA_IDS), tmp_path / "other" / phantom_mark.NAME)
    assert not base.load_partition(tmp_path, RSNA, "cxrbench-v1").synthetic
    touch(tmp_path / "rsna" / phantom_mark.NAME)
    assert base.load_partition(tmp_path, RSNA, "cxrbench-v1").synthetic


@pytest.mark.parametrize("place", ["", "all", "all/rsna", "all/images", "all/images/deep"])
def test_the_note_of_a_drawn_data_set_counts_wherever_it_lies(tmp_path: Path, place: str) -> None:
    """With the tables, with the images beside them, or above the folder that the user names."""
    rsna_tables(tmp_path / "all/rsna", 2)
    touch(*(tmp_path / "all/images/deep" / f"{name}.dcm" for name in RSNA_IDS))
    assert not base.load_partition(tmp_path / "all", RSNA, "cxrbench-v1").synthetic
    touch(tmp_path / place / phantom_mark.NAME)
    assert base.load_partition(tmp_path / "all", RSNA, "cxrbench-v1").synthetic


@pytest.mark.parametrize("link", ["images", "file"])
def test_the_note_counts_behind_links(tmp_path: Path, link: str) -> None:
    rsna_tables(tmp_path / "rsna", 2)
    touch(*(tmp_path / "drawn/images" / f"{name}.dcm" for name in RSNA_IDS), tmp_path / "drawn" / phantom_mark.NAME)
    if link == "images":
        (tmp_path / "rsna/images").symlink_to(tmp_path / "drawn/images")
    else:
        touch(*(tmp_path / "rsna" / f"{name}.dcm" for name in RSNA_IDS[1:]))
        (tmp_path / f"rsna/{RSNA_IDS[0]}.dcm").symlink_to(tmp_path / f"drawn/images/{RSNA_IDS[0]}.dcm")
    assert base.load_partition(tmp_path / "rsna", RSNA, "cxrbench-v1").synthetic


def test_a_split_that_cannot_be_drawn_says_task_and_split_once(tmp_path: Path) -> None:
    rsna_tables(tmp_path / "rsna", 2)
    large = small("rsna", "cxrbench-v1", parts={"test": 1, "train": 9})
    with pytest.raises(
        DataError, match=r"^task rsna, split cxrbench-v1: class \w+ has 3 rows, the split takes 10\."
    ) as told:
        base.load_partition(tmp_path, large, "cxrbench-v1")
    assert "phantom" not in str(told.value)
    with pytest.raises(SpecError, match=r"^task rsna, split cxrbench-v1: split rule 'hash-rank': "):
        base.load_partition(tmp_path, small("rsna", "cxrbench-v1", parts={"test": "many"}), "cxrbench-v1")
    with pytest.raises(SpecError, match=r"^task rsna has no split"):
        base.load_partition(tmp_path, RSNA, "nonsense")


def test_a_drawn_data_set_that_is_too_small_says_which_split_fits(tmp_path: Path) -> None:
    rsna_tables(tmp_path / "rsna", 2)
    touch(tmp_path / "rsna" / phantom_mark.NAME)
    for split in ("cxrbench-v1", "dlilp-boxes"):
        hint = rf"^task rsna, split {split}: .*--variant phantom \(or --set rsna\.split=phantom\)"
        with pytest.raises(DataError, match=hint):
            base.load_partition(tmp_path, read_task(paths.folder("tasks") / "rsna.toml"), split)
    phantom = small("rsna", "phantom", per_class=60)
    with pytest.raises(DataError, match=r"^task rsna, split phantom: ") as told:
        base.load_partition(tmp_path, phantom, "phantom")
    assert "--variant" not in str(told.value)
