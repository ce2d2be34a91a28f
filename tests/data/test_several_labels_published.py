"""Counts and digests that were published of PadChest's radiologist part, ChestX-Det10 and Open-I, and those of RSNA and
SIIM as one label: what the task files say, and what the official tables give where they are at hand.
"""

import importlib.util
import shutil
from pathlib import Path

import official_tables
import pytest

from cxrbench.data.sources import base, chestx_det
from cxrbench.specs import catalog
from cxrbench.specs.task import Reference, TaskSpec

PADCHEST, DET, OPENI = (catalog.load_task(name) for name in ("padchest_physician", "chestx_det10", "openi"))
PADCHEST_IDS = "86f999d1d8378256eaeed004ba260a56901d883d8a23ce620f7fb5f6ef64fff2"
AT_MOST_TEN = [
    "pulmonary artery hypertension",
    "pleural mass",
    "cyst",
    "breast mass",
    "respiratory distress",
    "azygoesophageal recess shift",
    "ventriculoperitoneal drain tube",
    "esophagic dilatation",
    "dextrocardia",
    "right sided aortic arch",
    "round atelectasis",
    "double J stent",
    "abscess",
    "surgery humeral",
    "empyema",
    "nephrostomy tube",
    "sternoclavicular junction hypertrophy",
    "pulmonary venous hypertension",
    "gastrostomy tube",
    "lipomatosis",
]
FREQUENT = {
    "normal": 12694,
    "COPD signs": 4823,
    "unchanged": 4036,
    "chronic changes": 3885,
    "cardiomegaly": 3746,
    "rib fracture": 140,
    "pulmonary mass": 247,
    "fracture": 14,
    "mass": 21,
    "catheter": 16,
    "pulmonary edema": 87,
}
IN_OPENI = {
    "Opacity": 819,
    "Granuloma": 781,
    "Calcified Granuloma": 416,
    "Atelectasis": 711,
    "Cardiomegaly": 493,
    "Effusion": 346,
    "Emphysema": 193,
    "Fracture": 189,
    "Infiltration": 174,
    "Pneumonia": 158,
    "Nodule": 157,
    "Edema": 144,
    "Hernia": 97,
    "Pleural Thickening": 68,
    "Pneumothorax": 44,
    "Fibrosis": 39,
    "Mass": 13,
    "Lesion": 7,
}


def by_column(task: TaskSpec, part: Reference) -> dict[str, int]:
    return {label.column: part.counts[label.name] for label in task.labels}


def test_padchests_physician_part_is_the_published_one() -> None:
    part = PADCHEST.split("official").reference["test"]
    assert (part.rows, part.distinct, part.set_sha256) == (39053, 39053, PADCHEST_IDS)
    counts = by_column(PADCHEST, part)
    above = {least: sum(count >= least for count in counts.values()) for least in (1, 11, 21, 50, 51, 100)}
    assert above == {1: 193, 11: 173, 21: 153, 50: 120, 51: 119, 100: 94}
    assert {name: counts[name] for name in FREQUENT} == FREQUENT
    assert PADCHEST.split("frontal").reference["test"].rows == 23961 + 1896 + 575  # PA, AP_horizontal, AP
    assert PADCHEST.expected == {"table": 160861, "Physician": 39053, "Physician patients": 24491}


def test_padchests_groups_are_those_of_its_counts() -> None:
    counts = PADCHEST.split("official").reference["test"].counts
    column = dict(zip(PADCHEST.classes, PADCHEST.columns, strict=True))
    assert len(PADCHEST.group("all")) == 193 and set(PADCHEST.group("all")) == set(PADCHEST.classes)
    assert [column[name] for name in PADCHEST.group("all")] == sorted(column.values())
    assert PADCHEST.group("without-normal") == tuple(n for n in PADCHEST.group("all") if column[n] != "normal")
    assert PADCHEST.group("from-50") == tuple(n for n in PADCHEST.group("all") if counts[n] >= 50)
    assert {column[name] for name in PADCHEST.group("padchest20")} == set(AT_MOST_TEN) and len(AT_MOST_TEN) == 20
    assert {name.casefold() for name in set(column) - {"Pneumoperitoneum"}} == {
        name.casefold() for name in set(column.values()) - {"pneumoperitoneo"}
    }


def test_parts_add_up_to_the_whole() -> None:
    for task, whole in ((PADCHEST, "official"), (OPENI, "all-images")):
        cut = task.split("cxrbench-v1").reference
        assert sum(part.rows for part in cut.values()) == task.split(whole).reference["test"].rows
        for name, count in task.split(whole).reference["test"].counts.items():
            assert sum(part.counts[name] for part in cut.values()) == count


def test_openis_counts_are_the_published_ones() -> None:
    part = OPENI.split("all-images").reference["test"]
    assert (part.rows, part.counts) == (7470, IN_OPENI)
    assert OPENI.expected == {"reports": 3955, "images": 7470, "reports_without_image": 104}


def test_chestx_det10_asks_for_the_published_sizes() -> None:
    assert DET.expected == {"train": 3001, "test": 542}
    assert set(chestx_det.PARTS) == set(DET.expected) and len(DET.classes) == 10


@pytest.fixture(scope="module")
def tables(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_tables.lay_out(shared / "data_facts" / "labels", tmp_path_factory.mktemp("tables"))


def same_as_reference(task: TaskSpec, split: str, root: Path) -> None:
    source, spec = base.source(task), task.split(split)
    found = source.tables(source.locate(root), task, split)
    assert base.reference_verdict(spec, found.parts) == "match"
    assert {name: part.counts for name, part in found.parts.items()} == {
        name: dict(part.counts) for name, part in spec.reference.items()
    }
    assert base.total_notes(task, found.found) == []


@pytest.mark.parametrize(("name", "pair"), [("rsna_pneumonia", "rsna"), ("siim_pneumothorax", "siim")])
def test_the_tables_of_rsna_and_siim_give_every_reference(name: str, pair: str, tables: Path) -> None:
    task = catalog.load_task(name)
    drawn = [split for split, spec in task.splits.items() if spec.reference]
    assert drawn == [split for split in task.splits if split != "phantom"]
    for split in drawn:
        same_as_reference(task, split, tables / pair)


@pytest.mark.parametrize(("name", "pair"), [("rsna_pneumonia", "rsna"), ("siim_pneumothorax", "siim")])
def test_the_test_parts_are_those_of_the_task_of_two_classes(name: str, pair: str) -> None:
    one, two = catalog.load_task(name), catalog.load_task(pair)
    for split, spec in one.splits.items():
        if split != "phantom":
            told, other = spec.reference["test"], two.split(split).reference["test"]
            assert (told.rows_sha256, told.set_sha256) == (other.rows_sha256, other.set_sha256)
            assert told.counts[one.classes[0]] == other.counts[one.classes[0]]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables of PadChest and Open-I as the package torchxrayvision ships them, where it is installed."""
    found = importlib.util.find_spec("torchxrayvision")
    if found is None:
        pytest.skip("needs the label tables that the package torchxrayvision ships")
    folder = Path(next(iter(found.submodule_search_locations or ()))) / "data"
    root = tmp_path_factory.mktemp("published")
    for name, pattern in (("padchest", "PADCHEST_*.csv.gz"), ("openi", "NLMCXR_reports.tgz")):
        (root / name).mkdir()
        shutil.copy(next(folder.glob(pattern)), root / name)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("split", ["official", "frontal", "cxrbench-v1"])
def test_padchests_table_gives_every_reference(split: str, published: Path) -> None:
    same_as_reference(PADCHEST, split, published / "padchest")


@pytest.mark.slow
@pytest.mark.parametrize("split", ["all-images", "cxrbench-v1"])
def test_openis_reports_give_every_reference(split: str, published: Path) -> None:
    same_as_reference(OPENI, split, published / "openi")


@pytest.mark.slow
def test_openis_images_without_a_label_are_as_many_as_published(published: Path) -> None:
    part = base.source(OPENI).tables(published / "openi", OPENI, "all-images").parts["test"]
    assert int((part.labels.sum(axis=1) == 0).sum()) == 4715
    assert len(set(part.patients or ())) == 3955 - 104
