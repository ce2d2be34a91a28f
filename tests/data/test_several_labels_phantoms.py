"""Tasks whose labels do not exclude each other, from the raw files of their phantoms to the partition."""

import ast
import csv
import json
import tarfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from cxrbench.data.sources import base
from cxrbench.phantom.write import write
from cxrbench.specs import catalog
from cxrbench.types import Partition

TASKS = ("padchest_physician", "chestx_det10", "openi", "rsna_pneumonia", "siim_pneumothorax")
BY_PATIENT = ("padchest_physician", "openi")
Drawn = Callable[[str], tuple[Path, Partition]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """The phantom of a task as it is drawn for the variant `phantom`, in few pixels, once for the module."""
    out, made = tmp_path_factory.mktemp("phantoms"), dict[str, tuple[Path, Partition]]()

    def draw(name: str) -> tuple[Path, Partition]:
        if name not in made:
            task, variant = catalog.load_task(name), catalog.load_variant("phantom")
            root = write(name, out, size=(48, 48)).root
            made[name] = root, base.load_partition(out, task, variant.split_of(task), survey=True)
        return made[name]

    return draw


@pytest.mark.parametrize("name", TASKS)
def test_every_part_has_every_label_and_images_without(name: str, drawn: Drawn) -> None:
    partition = drawn(name)[1]
    assert partition.split == "phantom" and partition.synthetic
    assert set(partition.parts) == {"train", "valid", "test"}
    for part in partition.parts.values():
        assert part.classes == catalog.load_task(name).classes
        assert min(part.counts.values()) > 0 and max(part.counts.values()) < len(part)
        if len(part.classes) > 1:
            assert (part.labels.sum(axis=1) > 1).any()
    assert partition.findings.missing == partition.findings.duplicate == ()
    ids = [i for part in partition.parts.values() for i in part.ids]
    assert len(set(ids)) == len(ids) == len(partition.paths)


@pytest.mark.parametrize("name", TASKS)
def test_files_that_no_row_names_are_only_those_of_siim(name: str, drawn: Drawn) -> None:
    extra = drawn(name)[1].findings.extra
    assert len(extra) == (2 if name == "siim_pneumothorax" else 0)


@pytest.mark.parametrize("name", BY_PATIENT)
def test_patients_have_several_images_and_are_in_one_part(name: str, drawn: Drawn) -> None:
    parts = drawn(name)[1].parts
    patients = [set(part.patients or ()) for part in parts.values()]
    assert sum(map(len, patients)) == len(set.union(*patients)) > 10
    for part in parts.values():
        assert max(Counter(part.patients).values()) > 1


def test_padchest_labels_are_those_of_the_lists_and_of_radiologists(drawn: Drawn) -> None:
    root, partition = drawn("padchest_physician")
    with next(root.glob("PADCHEST*.csv")).open(newline="") as stream:
        table = {row["ImageID"]: row for row in csv.DictReader(stream)}
    assert len(next(iter(table.values()))) == 36
    columns = catalog.load_task("padchest_physician").columns
    for part in partition.parts.values():
        for image, labels in zip(part.ids, part.labels, strict=True):
            told = {label.strip() for label in ast.literal_eval(table[image]["Labels"])} - {""}
            assert {columns[n] for n in np.flatnonzero(labels)} == told
            assert table[image]["MethodLabel"] == "Physician"
    scored = {image for part in partition.parts.values() for image in part.ids}
    assert {table[image]["MethodLabel"] for image in table.keys() - scored} == {"RNN_model"}
    assert {"L", "AP_horizontal", "PA", "AP"} <= {table[image]["Projection"] for image in scored}
    image = next(image for image in scored if table[image]["Projection"] == "PA")
    told = {name: values[image] for name, values in partition.attributes.items()}
    assert told == {
        "sex": table[image]["PatientSex_DICOM"],
        "view": "PA",
        "age": str(2014 - int(float(table[image]["PatientBirth"]))),
    }
    texts = [row["Labels"] for row in table.values()]
    assert any("''" in text for text in texts) and any("' " in text for text in texts)
    assert any(len(set(ast.literal_eval(text))) < len(ast.literal_eval(text)) for text in texts)


def test_the_frontal_part_has_no_lateral_view(drawn: Drawn) -> None:
    root, partition = drawn("padchest_physician")
    task = catalog.load_task("padchest_physician")
    whole, frontal = (
        base.source(task).tables(root, task, split).parts["test"].ids for split in ("official", "frontal")
    )
    assert len(whole) == sum(map(len, partition.parts.values())) > len(frontal) > 0
    with next(root.glob("PADCHEST*.csv")).open(newline="") as stream:
        projection = {row["ImageID"]: row["Projection"] for row in csv.DictReader(stream)}
    assert {projection[i] for i in set(whole) - set(frontal)} == {"L"}
    assert {projection[i] for i in frontal} <= {"PA", "AP", "AP_horizontal"}


def test_chestx_det10_labels_are_those_with_a_box(drawn: Drawn) -> None:
    root, partition = drawn("chestx_det10")
    entries = {file: json.loads((root / f"{file}.json").read_bytes()) for file in ("train", "test")}
    by_name = {entry["file_name"]: entry for entry in (*entries["train"], *entries["test"])}
    classes = catalog.load_task("chestx_det10").classes
    for part in partition.parts.values():
        for image, labels in zip(part.ids, part.labels, strict=True):
            assert {classes[n] for n in np.flatnonzero(labels)} == set(by_name[image]["syms"])
            assert len(by_name[image]["syms"]) == len(by_name[image]["boxes"])
    assert partition.parts["test"].ids == tuple(entry["file_name"] for entry in entries["test"])
    assert any(max(Counter(entry["syms"]).values(), default=0) > 1 for entry in by_name.values())
    for left, top, right, bottom in (box for entry in by_name.values() for box in entry["boxes"]):
        assert 0 <= left < right <= 48 and 0 <= top < bottom <= 48


def test_openi_reports_read_packed_and_unpacked_give_the_same(drawn: Drawn, tmp_path: Path) -> None:
    root, partition = drawn("openi")
    task = catalog.load_task("openi")
    with tarfile.open(root / "NLMCXR_reports.tgz") as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = base.source(task).tables(tmp_path, task, "phantom")
    assert {name: part.digest for name, part in unpacked.parts.items()} == {
        name: part.digest for name, part in partition.parts.items()
    }
    assert unpacked.found["reports_without_image"] == 3
    names = {path.stem: ElementTree.parse(path).getroot() for path in (tmp_path / "ecgen-radiology").glob("*.xml")}
    assert len(names) == unpacked.found["reports"] > 50
    for part in partition.parts.values():
        for image, patient, labels in zip(part.ids, part.patients or (), part.labels, strict=True):
            terms = [term.text for term in names[patient.removeprefix("CXR")].iter("automatic")]
            assert bool(terms) == labels.any()
            assert image.startswith(f"{patient}_")


def test_the_labels_of_one_class_are_the_column_of_the_task_of_two(drawn: Drawn) -> None:
    """One data set for both: it is drawn once, under one name, whichever task asks for it."""
    for name, pair in (("rsna_pneumonia", "rsna"), ("siim_pneumothorax", "siim")):
        root, partition = drawn(name)
        both = catalog.load_task(pair)
        assert write(pair, root.parent, size=(48, 48)).root == root
        two = both.model_copy(update={"splits": catalog.load_task(name).splits})
        other = base.load_partition(root.parent, two, "phantom")
        for part, table in partition.parts.items():
            assert table.ids == other.parts[part].ids
            assert (table.labels[:, 0] == other.parts[part].labels[:, 1]).all()
