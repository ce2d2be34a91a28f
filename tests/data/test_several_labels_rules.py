"""PadChest, ChestX-Det10 and Open-I: what makes a label hold, the layouts, each way in which a file can be wrong."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from cxrbench.data.sources import base, chestx_det, openi, padchest
from cxrbench.data.splits import Shares
from cxrbench.errors import DataError, SpecError
from cxrbench.specs import catalog
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Table

PADCHEST, DET, OPENI = (catalog.load_task(name) for name in ("padchest_physician", "chestx_det10", "openi"))
TABLE = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


def holds(table: Table, task: TaskSpec) -> dict[str, set[str]]:
    """Columns that hold, by image."""
    columns = task.columns
    return {i: {columns[n] for n in np.flatnonzero(row)} for i, row in zip(table.ids, table.labels, strict=True)}


def padchest_row(image: str, labels: str, **other: str) -> dict[str, str]:
    row = {"ImageID": f"{image}.png", "PatientID": f"9{image}", "Projection": "PA", "MethodLabel": "Physician"}
    told = {"PatientSex_DICOM": "F", "PatientBirth": "1950.0", "StudyDate_DICOM": "20140915", "Labels": labels}
    return row | told | other


def write_padchest(folder: Path, rows: Iterable[Mapping[str, str]], packed: bool = False) -> Path:
    rows = list(rows)
    head = ["", *rows[0]]
    quoted = ('"' + row[c].replace('"', '""') + '"' for row in rows for c in head[1:])
    values = iter(quoted)
    lines = [",".join(head), *(",".join([str(n), *(next(values) for _ in head[1:])]) for n in range(len(rows)))]
    data = ("\n".join(lines) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (f"{TABLE}.gz" if packed else TABLE)).write_bytes(gzip.compress(data) if packed else data)
    return folder


def padchest_test(folder: Path, split: str = "official", task: TaskSpec = PADCHEST) -> base.LabelledParts:
    return padchest.tables(folder, task, split)


def test_padchest_labels_are_whole_names_stripped_and_once(tmp_path: Path) -> None:
    rows = [
        padchest_row("a", "['laminar atelectasis ', ' pseudonodule', '']"),
        padchest_row("b", "['pulmonary edema', 'pulmonary edema', 'rib fracture']"),
        padchest_row("c", "['normal']"),
        padchest_row("d", '["heart insufficiency", "unchanged"]'),
        padchest_row("e", "['nodule']", MethodLabel="RNN_model"),
    ]
    found = padchest_test(write_padchest(tmp_path, rows))
    assert holds(found.parts["test"], PADCHEST) == {
        "a.png": {"laminar atelectasis", "pseudonodule"},
        "b.png": {"pulmonary edema", "rib fracture"},
        "c.png": {"normal"},
        "d.png": {"heart insufficiency", "unchanged"},
    }
    assert found.found == {"table": 5, "Physician": 4, "Physician patients": 4}
    assert found.known == {f"{i}.png" for i in "abcde"} and found.notes == ()


def test_padchest_tells_labels_that_the_task_does_not_have(tmp_path: Path) -> None:
    (note,) = padchest_test(write_padchest(tmp_path, [padchest_row("a", "['Nodule', 'goiter', 'x']")])).notes
    assert "2 labels" in note and "Nodule, x" in note


def test_padchest_tells_sex_view_and_age_as_far_as_the_table_does(tmp_path: Path) -> None:
    rows = [
        padchest_row("a", "[]"),
        padchest_row("b", "[]", Projection="AP_horizontal", PatientSex_DICOM="O", PatientBirth=""),
        padchest_row("c", "[]", Projection="L", PatientSex_DICOM="M", PatientBirth="2010.0"),
    ]
    told = padchest_test(write_padchest(tmp_path / "whole", rows)).attributes
    assert told == {
        "sex": {"a.png": "F", "c.png": "M"},
        "view": {"a.png": "PA"},
        "age": {"a.png": "64", "c.png": "4"},
    }
    cut = [{k: v for k, v in row.items() if k not in ("PatientSex_DICOM", "StudyDate_DICOM")} for row in rows]
    assert padchest_test(write_padchest(tmp_path / "cut", cut)).attributes == {"view": {"a.png": "PA"}}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"Labels": ""}, "data row 2: Labels is ''"),
        ({"Labels": "['a', 3]"}, "not a list of labels"),
        ({"Labels": "__import__('os').getcwd()"}, "not a list of labels"),
        ({"Labels": "['a'"}, "not a list of labels"),
        ({"PatientID": ""}, "data row 2: PatientID is blank"),
        ({"MethodLabel": "physician"}, "MethodLabel is 'physician'; known are 'Physician', 'RNN_model'"),
        ({"ImageID": "a.png"}, "'a.png' stands in more than one row"),
    ],
)
def test_a_padchest_row_that_cannot_be_is_named(change: Mapping[str, str], words: str, tmp_path: Path) -> None:
    rows = [padchest_row("a", "['normal']"), padchest_row("b", "['normal']") | change]
    with pytest.raises(DataError, match=words) as caught:
        padchest_test(write_padchest(tmp_path, rows))
    assert TABLE in str(caught.value)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("place", ["0/{}.png", "images-224/{}.png", "{}.jpeg"])
def test_padchest_layouts(place: str, packed: bool, tmp_path: Path) -> None:
    root = tmp_path / "BIMCV" / "PadChest"
    write_padchest(root, [padchest_row(i, "['normal']") for i in "ab"], packed)
    files = {f"{i}.png": root / place.format(i) for i in "ab"}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = base.load_partition(tmp_path, PADCHEST, "official", survey=True)
    assert found.paths == files
    assert (found.findings.missing, found.findings.extra, found.findings.duplicate) == ((), (), ())
    assert any("table: 2 here, a complete download has 160,861" in note for note in found.findings.notes)


def entry(name: str, *syms: str) -> dict[str, Any]:
    return {"file_name": name, "syms": list(syms), "boxes": [[1, 2, 3, 4] for _ in syms]}


def write_det(folder: Path, train: Sequence[Any], test: Sequence[Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in (("train", train), ("test", test)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_a_chestx_det10_label_holds_where_it_has_a_box(tmp_path: Path) -> None:
    test = [entry("7.png", "Nodule", "Nodule", "Mass"), entry("6.png")]
    found = chestx_det.tables(write_det(tmp_path, [entry("5.png", "Fracture")], test), DET, "official")
    assert holds(found.parts["test"], DET) == {"7.png": {"Nodule", "Mass"}, "6.png": set()}
    assert holds(found.parts["train"], DET) == {"5.png": {"Fracture"}}
    assert found.found == {"train": 1, "test": 2} and found.parts["test"].patients is None


def test_the_rest_of_chestx_det10_leaves_the_test_part_alone(tmp_path: Path) -> None:
    folder = write_det(tmp_path, [entry(f"{n}.png", "Mass") for n in range(400)], [entry("x.png"), entry("a.png")])
    parts = chestx_det.tables(folder, DET, "cxrbench-v1").parts
    assert list(parts) == ["train", "valid", "test"] and parts["test"].ids == ("x.png", "a.png")
    assert 20 < len(parts["valid"]) < 65 and len(parts["train"]) + len(parts["valid"]) == 400
    assert not set(parts["train"].ids) & set(parts["valid"].ids)


@pytest.mark.parametrize(
    ("train", "test", "words"),
    [
        ([entry("1.png", "Cardiomegaly")], [entry("2.png")], r"train\.json: names Cardiomegaly: this is ChestX-Det,"),
        ([entry("1.png")], [entry("1.png")], r"1\.png stands in train\.json and in test\.json"),
        ([entry("1.png"), entry("1.png")], [entry("2.png")], r"train\.json: 1\.png stands in more than one entry"),
        ([entry("1.png")], {"images": []}, r"test\.json: is no list of images"),
        ([entry("1.png")], [], r"test\.json: is no list of images"),
        ([entry("1.png")], [{"syms": [], "boxes": []}], r"test\.json: entry 1 has no file_name"),
        ([entry("1.png")], [entry("2.png"), {"file_name": "3.png", "syms": "Mass"}], r"entry 2 \(3\.png\): syms"),
        ([{"file_name": "3.png", "syms": ["Mass"], "boxes": []}], [entry("2.png")], r"entry 1 \(3\.png\): .* one box"),
    ],
)
def test_chestx_det10_files_that_cannot_be_are_named(train: Any, test: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=words):
        chestx_det.tables(write_det(tmp_path, train, test), DET, "official")


def test_a_cut_chestx_det10_file_is_named(tmp_path: Path) -> None:
    folder = write_det(tmp_path, [entry("1.png")], [entry("2.png")])
    (folder / "test.json").write_text('[{"file_name": "2.png", "syms": [')
    with pytest.raises(DataError, match=r"test\.json: is no JSON, or cut"):
        chestx_det.tables(folder, DET, "official")


def test_chestx_det10_is_told_from_others_with_files_of_these_names(tmp_path: Path) -> None:
    write_det(tmp_path / "a_coco_set", [{"images": 1}], [{"images": 1}])
    own = write_det(tmp_path / "b", [entry("1.png", "Mass")], [entry("2.png", "Mass")])
    assert chestx_det.locate(tmp_path) == own
    with pytest.raises(DataError, match=r"entry 1 has no file_name"):
        base.load_partition(tmp_path / "a_coco_set", DET, "official")
    for path in (own / "train_data/1.png", own / "test_data/2.png"):
        path.parent.mkdir()
        path.touch()
    assert set(base.load_partition(tmp_path, DET, "official").paths) == {"1.png", "2.png"}


def xml(
    name: str, images: Sequence[str] = (), terms: Sequence[str] = (), major: str = "normal", head: str = ""
) -> bytes:
    mesh = f"<major>{major}</major>" + "".join(f"<automatic>{term}</automatic>" for term in terms)
    shown = "".join(f'<parentImage id="{image}"><figureId>F1</figureId></parentImage>' for image in images)
    body = f'<eCitation><uId id="{name}"/><MeSH>{mesh}</MeSH>{shown}</eCitation>'
    return f'<?xml version="1.0" encoding="utf-8"?>{head}{body}'.encode()


def write_openi(folder: Path, reports: Sequence[bytes], packed: str | None = None) -> Path:
    files = {f"ecgen-radiology/{n}.xml": data for n, data in enumerate(reports)}
    folder.mkdir(parents=True, exist_ok=True)
    if packed is None:
        (folder / "ecgen-radiology").mkdir()
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return folder
    with tarfile.open(folder / "NLMCXR_reports.tgz", packed) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return folder


def test_an_openi_label_holds_where_its_word_occurs_in_an_automatic_term(tmp_path: Path) -> None:
    reports = [
        xml("CXR10", ["CXR10_IM-1-1"], ["Mass Lesion", "calcified granuloma"]),
        xml("CXR2", ["CXR2_IM-2-1", "CXR2_IM-2-2"], ["bibasilar atelectases", "infiltrates", "Subcutaneous Emphysema"]),
        xml("CXR3", ["CXR3_IM-3-1"], ["pleural", "thickening"], major="Cardiomegaly/mild"),
        xml("CXR4", (), ["edema"]),
    ]
    found = openi.tables(write_openi(tmp_path, reports), OPENI, "all-images")
    told = {"atelectasis", "infiltration", "emphysema"}
    assert holds(found.parts["test"], OPENI) == {
        "CXR2_IM-2-1": told,
        "CXR2_IM-2-2": told,
        "CXR3_IM-3-1": set(),
        "CXR10_IM-1-1": {"mass", "lesion", "calcified granuloma", "granuloma"},
    }
    assert found.parts["test"].ids == ("CXR2_IM-2-1", "CXR2_IM-2-2", "CXR3_IM-3-1", "CXR10_IM-1-1")
    assert found.parts["test"].patients == ("CXR2", "CXR2", "CXR3", "CXR10")
    assert found.found == {"reports": 4, "images": 4, "reports_without_image": 1}


@pytest.mark.parametrize("packed", [None, "w:gz", "w"])
@pytest.mark.parametrize("place", ["NLMCXR_png/{}.png", "{}.png", "dcm/{dicom}.dcm"])
def test_openi_layouts(place: str, packed: str | None, tmp_path: Path) -> None:
    root = tmp_path / "NLMCXR"
    images = ["CXR1_1_IM-0001-3001", "CXR2_IM-0652-1001"]
    write_openi(root, [xml("CXR1", images[:1]), xml("CXR2", images[1:])], packed)
    files = {i: root / place.format(i, dicom=i.removeprefix("CXR")) for i in images}
    for path in files.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = base.load_partition(tmp_path, OPENI, "all-images", survey=True)
    assert found.paths == files
    assert (found.findings.missing, found.findings.extra, found.findings.duplicate) == ((), (), ())


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (xml("CXR1", head=BOMB, terms=["&b;"]), "0.xml: declares a document type"),
        (xml("CXR1", head=OUTSIDE, terms=["&a;"]), "0.xml: declares a document type"),
        (xml("CXR1", head=OUTSIDE).decode().replace("utf-8", "utf-16").encode("utf-16"), "declares a document type"),
        (xml("CXR1")[:-9], "0.xml: is no XML, or cut"),
        (b"", "0.xml: is no XML, or cut"),
        (b"<html/>", "0.xml: is no report of Open-I"),
        (xml("PMC1"), "its uId is 'PMC1'"),
        (xml("CXR1", [""]), "a parentImage has no id"),
        (xml("CXR2"), "report CXR2 stands in the reports twice"),
        (xml("CXR1", ["CXR2_IM"]), "image CXR2_IM stands in the reports twice"),
    ],
)
@pytest.mark.parametrize("packed", [None, "w:gz"])
def test_an_openi_report_that_cannot_be_is_named(report: bytes, words: str, packed: str | None, tmp_path: Path) -> None:
    folder = write_openi(tmp_path, [report, xml("CXR2", ["CXR2_IM"])], packed)
    with pytest.raises(DataError, match=words):
        openi.tables(folder, OPENI, "all-images")


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_cut_openi_archive_is_named(kept: float, tmp_path: Path) -> None:
    path = write_openi(tmp_path, [xml(f"CXR{n}", [f"CXR{n}_IM"]) for n in range(50)], "w:gz") / "NLMCXR_reports.tgz"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(DataError, match=r"NLMCXR_reports\.tgz: the archive is cut or damaged"):
        openi.tables(tmp_path, OPENI, "all-images")


def test_an_openi_archive_leads_nowhere_else(tmp_path: Path) -> None:
    """Links and devices in it are passed over, and names are no paths that anything is written to."""
    folder = write_openi(tmp_path, [xml("CXR1", ["CXR1_IM"])], "w:gz")
    with tarfile.open(folder / "NLMCXR_reports.tgz", "w:gz") as archive:
        link = tarfile.TarInfo("ecgen-radiology/2.xml")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        data = xml("CXR1", ["CXR1_IM"])
        member = tarfile.TarInfo("../../outside.xml")
        member.size = len(data)
        archive.addfile(member, io.BytesIO(data))
    before = sorted(tmp_path.parent.rglob("*"))
    assert openi.tables(folder, OPENI, "all-images").parts["test"].ids == ("CXR1_IM",)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_synonyms_of_no_label_are_refused(tmp_path: Path) -> None:
    spec = OPENI.split("all-images")
    wrong = spec.model_copy(update={"params": {"synonyms": {"Atelectasis": ["atelectases"]}}})
    task = OPENI.model_copy(update={"splits": {"all-images": wrong}})
    with pytest.raises(SpecError, match="'Atelectasis', which is the column of no label"):
        openi.tables(write_openi(tmp_path, [xml("CXR1")]), task, "all-images")


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=60, unique=True))
def test_no_other_item_decides_the_part_of_one(items: list[str]) -> None:
    rule = Shares(salt="x", shares={"train": 0.6, "valid": 0.1, "test": 0.3})
    assert {rule.part_of(item) for item in items} <= set(rule.shares)
    assert [rule.part_of(item) for item in items] == [rule.part_of(item) for item in reversed(items)][::-1]


def test_parts_get_their_shares() -> None:
    rule = Shares(salt="x", shares={"train": 0.6, "valid": 0.1, "test": 0.3})
    drawn = [rule.part_of(str(n)) for n in range(20000)]
    for part, fraction in rule.shares.items():
        assert drawn.count(part) / 20000 == pytest.approx(fraction, abs=0.015)  # four standard errors


@pytest.mark.parametrize("shares", [{}, {"train": 0.5}, {"train": 1.2, "test": -0.2}, {"train": 1.0, "test": 0.0}])
def test_shares_that_are_no_whole_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        Shares(salt="x", shares=shares)


def test_a_task_of_one_class_needs_its_column(tmp_path: Path) -> None:
    task = catalog.load_task("rsna_pneumonia")
    strange = task.model_copy(update={"labels": (task.labels[0].model_copy(update={"column": "Pneumonia"}),)})
    (tmp_path / "stage_2_train_labels.csv").write_text(
        "patientId,Target\n" + "".join(f"{n},{n % 2}\n" for n in range(40))
    )
    with pytest.raises(SpecError, match=r"'Pneumonia' is the column of no label here; known are 'Normal', 'Lung Op"):
        base.source(strange).tables(tmp_path, strange, "gloria")


def test_a_group_of_one_label_is_one_of_several_labels_alone() -> None:
    task = catalog.load_task("rsna_pneumonia")
    content = task.model_dump(mode="json")
    assert TaskSpec.model_validate(content) == task
    with pytest.raises(ValidationError, match="at least two distinct names"):
        TaskSpec.model_validate(content | {"kind": "single-label"})
    with pytest.raises(ValidationError, match="at least one name"):
        TaskSpec.model_validate(content | {"groups": {"all": []}})
