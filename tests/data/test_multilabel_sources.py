"""Tasks whose images may have several labels: from drawn raw files to the partition, and the tables' traps."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.data.sources import base, chexpert14, mimic14, nih14, vindr_cxr
from cxrbench.data.sources.base import load_partition, reference_notes, reference_verdict, source
from cxrbench.data.splits import share
from cxrbench.errors import DataError
from cxrbench.phantom.layouts.order import order
from cxrbench.phantom.plate import Developed
from cxrbench.phantom.write import LAYOUTS, Summary, write
from cxrbench.specs import catalog
from cxrbench.specs.task import Reference, TaskSpec
from cxrbench.types import UNKNOWN, Partition, Table

TASKS = ("nih14_official", "nih14_lineage", "chexpert_test500", "chexpert_valid202", "mimic_test", "vindr_cxr")
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")


def small(name: str, split: str, **changes: Any) -> TaskSpec:
    """The task with some of a split's parameters replaced; the others stay as they ship."""
    task = catalog.load_task(name)
    spec = task.split(split)
    changed = spec.model_copy(update={"params": {**spec.params, **changes}, "complete": False, "reference": {}})
    return task.model_copy(update={"splits": {**task.splits, split: changed}})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Summary]:
    out = tmp_path_factory.mktemp("multilabel")
    return lambda task: write(task, out / task, images_per_class=2, size=(32, 32), seed=3)


@pytest.fixture(scope="module")
def loaded(drawn: Callable[[str], Summary]) -> Callable[[str], Partition]:
    return lambda name: load_partition(drawn(name).root, catalog.load_task(name), "phantom", survey=True)


@pytest.mark.parametrize("name", TASKS)
def test_every_label_has_images_in_every_part(name: str, loaded: Callable[[str], Partition]) -> None:
    found = loaded(name)
    assert found.synthetic and found.findings.missing == () and found.findings.duplicate == ()
    assert tuple(found.parts) == (("train", "test") if name == "chexpert_valid202" else ("train", "valid", "test"))
    for part in found.parts.values():
        assert min(part.counts.values()) >= 1
        assert part.ids == tuple(sorted(set(part.ids)))
        together = (part.labels == 1).sum(axis=1)
        assert together.max() > 1
        healthy = [n for n, label in enumerate(part.classes) if label == "No Finding"]
        assert ((part.labels[:, healthy] == 1).any(axis=1) if healthy else together == 0).any()


@pytest.mark.parametrize("name", TASKS)
def test_patients_are_in_one_part_and_some_have_several_images(name: str, loaded: Callable[[str], Partition]) -> None:
    parts = loaded(name).parts
    if name == "vindr_cxr":
        assert all(part.patients is None for part in parts.values())
        return
    sets = [set(part.patients or ()) for part in parts.values()]
    assert sum(map(len, sets)) == len(set().union(*sets))
    assert all(len(part) > len(set(part.patients or ())) for name_, part in parts.items() if name_ == "train")


@pytest.mark.parametrize("name", TASKS)
def test_attributes_are_those_of_the_tables(name: str, loaded: Callable[[str], Partition]) -> None:
    found = loaded(name)
    told = {attribute: len(values) for attribute, values in found.attributes.items()}
    images = len(found.paths)
    if name.startswith("nih14"):
        assert told == {"sex": images, "age": images, "view": images}
    elif name == "chexpert_test500":
        assert set(told) == {"sex", "age", "view"} and told["sex"] == images - len(found.parts["test"])
    else:
        assert set(told) == {"mimic_test": {"view"}, "vindr_cxr": set()}.get(name, {"sex", "age", "view"})


def undrawn(name: str, out: Path, seed: int = 0) -> Path:
    """The tables of a drawn data set alone, in their places; its folder."""
    asked = order(name, 1, (32, 32), seed)
    layout, root = LAYOUTS[name], out / asked.facts.folder
    for file, data in layout.tables(asked, [Developed(plate, ()) for plate in layout.plates(asked)]).items():
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(data)
    return root


def test_data_sets_that_lie_side_by_side_are_not_mixed_up(tmp_path: Path) -> None:
    """Several have tables of one name; each task finds its own, but that sets of one download are one."""
    roots = {name: undrawn(name, tmp_path) for name in catalog.task_files() if name in LAYOUTS and name != "covid"}
    roots |= {"nih14_lineage": roots["nih14_official"], "chexpert_valid202": roots["chexpert_test500"]}
    for name, root in roots.items():
        folder = source(catalog.load_task(name)).locate(tmp_path)
        assert folder == root or root in folder.parents, name


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", TASKS)
def test_no_seed_leaves_a_part_without_a_label(name: str, seed: int, tmp_path: Path) -> None:
    root, task = undrawn(name, tmp_path, seed), catalog.load_task(name)
    parts = source(task).tables(source(task).locate(root), task, "phantom").parts
    assert min(count for part in parts.values() for count in part.counts.values()) >= 1


# NIH ChestX-ray14

NIH = catalog.load_task("nih14_official").columns
HEAD = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)


def images(count: int, start: int = 0) -> list[str]:
    return [f"{(start + n) // 2 + 1:08d}_{(start + n) % 2:03d}.png" for n in range(count)]


def nih_folder(folder: Path, known: Mapping[str, Sequence[str]], end: str = "", name: str = "") -> Path:
    """NIH's table of these images and findings, `end` after each row."""
    rows = [
        f"{i},{'|'.join(f) or 'No Finding'},0,{int(i[:8])},058Y,F,PA,2500,2048,0.1,0.1{end}" for i, f in known.items()
    ]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / (name or "Data_Entry_2017_v2020.csv")).write_text("\n".join([HEAD + end, *rows]) + "\n")
    return folder


def listed(path: Path, names: Sequence[str], findings: Mapping[str, Sequence[str]] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    marks = {name: " ".join(str(int(column in (findings or {})[name])) for column in NIH) for name in findings or {}}
    path.write_text("\n".join(f"{name} {marks[name]}" if findings else name for name in names))


def told(seed: int, names: Sequence[str]) -> dict[str, list[str]]:
    rng = random.Random(seed)
    return {name: rng.sample(NIH, rng.choice([0, 1, 1, 3])) for name in names}


OFFICIAL = small("nih14_official", "official", lines=[30, 12])
LINEAGE = small("nih14_lineage", "lineage", lines=[20, 13, 9])


@pytest.mark.parametrize("end", ["", ","])
@pytest.mark.parametrize("swapped", [False, True])
def test_lists_of_one_name_are_told_apart_by_what_stands_in_them(swapped: bool, end: str, tmp_path: Path) -> None:
    """Whatever the files are called: here even the official lists have each other's name."""
    names, findings = images(42), told(0, images(42))
    nih_folder(tmp_path / "NIH", findings, end)
    official = {"train": names[12:], "test": names[:12]}
    lineage = {"train": names[:20], "test": names[20:33], "valid": names[33:]}
    older = {**findings, names[25]: ["Mass"] if findings[names[25]] != ["Mass"] else ["Nodule"]}
    called = (
        {"train": "test_list", "test": "train_val_list"}
        if swapped
        else {"train": "train_val_list", "test": "test_list"}
    )
    for part, own in official.items():
        listed(tmp_path / f"NIH/{called[part]}.txt", random.Random(1).sample(own, len(own)))
    for part, own in lineage.items():
        listed(tmp_path / f"NIH/CheXNet/{'val' if part == 'valid' else part}_list.txt", own, older)
    (tmp_path / "NIH/README.txt").write_text("Labels by text mining\n")
    found = source(OFFICIAL).tables(source(OFFICIAL).locate(tmp_path), OFFICIAL, "official")
    assert {part: list(table.ids) for part, table in found.parts.items()} == {p: sorted(o) for p, o in official.items()}
    assert_labels(found.parts, findings)
    assert found.attributes["age"] == dict.fromkeys(names, "58")
    other = source(LINEAGE).tables(tmp_path / "NIH", LINEAGE, "lineage")
    assert {part: list(table.ids) for part, table in other.parts.items()} == {p: sorted(o) for p, o in lineage.items()}
    assert_labels(other.parts, older)
    assert any("give 1 of 42 images other labels; taken are those of the list" in note for note in other.notes)
    newer = small("nih14_lineage", "lineage-2020", lines=[20, 13, 9])
    assert_labels(source(newer).tables(tmp_path / "NIH", newer, "lineage-2020").parts, findings)


def assert_labels(parts: Mapping[str, Table], findings: Mapping[str, Sequence[str]]) -> None:
    for table in parts.values():
        for name, row in zip(table.ids, table.labels, strict=True):
            assert {NIH[n] for n in np.flatnonzero(row)} == set(findings[name]), name
        assert table.patients == tuple(name[:8] for name in table.ids)


def test_lists_with_labels_need_no_table(tmp_path: Path) -> None:
    findings = told(1, images(42))
    for part, own in (("train", images(20)), ("test", images(13, 20)), ("val", images(9, 33))):
        listed(tmp_path / f"labels/{part}_list.txt", own, findings)
    found = nih14.tables(nih14.locate(tmp_path), LINEAGE, "lineage")
    assert_labels(found.parts, findings)
    assert any("sex, age and view are not known" in note for note in found.notes)


def test_a_tenth_of_the_patients_is_the_validation_part(tmp_path: Path) -> None:
    names = images(400)
    nih_folder(tmp_path, told(2, names))
    listed(tmp_path / "test_list.txt", names[:40])
    listed(tmp_path / "train_val_list.txt", names[40:])
    task = small("nih14_official", "cxrbench-v1", lines=[360, 40])
    parts = nih14.tables(tmp_path, task, "cxrbench-v1").parts
    low = [name for name in names[40:] if share("cxrbench:nih14_official:v1", name[:8]) < 0.1]
    assert parts["valid"].ids == tuple(low) and 0 < len(low) < 80
    assert parts["train"].ids == tuple(name for name in names[40:] if name not in low)
    assert parts["test"].ids == tuple(names[:40])


def another_length(folder: Path) -> str:
    listed(folder / "test_list.txt", images(11))
    return r"part test .* list of 12 images.*test_list\.txt \(11, one name a line\)"


def only_the_other_list(folder: Path) -> str:
    (folder / "test_list.txt").unlink()
    listed(folder / "CheXNet/test_list.txt", images(12), told(0, images(12)))
    return r"part test .*CheXNet/test_list\.txt \(12, a name and 14 numbers a line\)"


def two_lists(folder: Path) -> str:
    listed(folder / "other.txt", images(12, 2))
    return r"both could be the list of part test"


def an_image_twice(folder: Path) -> str:
    listed(folder / "test_list.txt", [*images(11), images(1)[0]])
    return r"line 12: 00000001_000\.png stands in the list twice"


def a_label_more(folder: Path) -> str:
    listed(folder / "test_list.txt", images(12), told(0, images(12)))
    (folder / "test_list.txt").write_text((folder / "test_list.txt").read_text() + " 1")
    return r"line 12 is not a name and 14 numbers of 0 or 1"


def an_image_of_no_row(folder: Path) -> str:
    listed(folder / "test_list.txt", [*images(11), "99999999_000.png"])
    return r"1 images, such as 99999999_000\.png, have no row"


def an_unknown_finding(folder: Path) -> str:
    nih_folder(folder, {**told(0, images(42)), images(1)[0]: ["Mass", "Tumour"]})
    return r"data row 1: Finding Labels is 'Mass\|Tumour'"


def a_contradiction(folder: Path) -> str:
    nih_folder(folder, {**told(0, images(42)), images(1)[0]: ["Mass", "No Finding"]})
    return r"No Finding alone"


FAULTS = (another_length, only_the_other_list, two_lists, an_image_twice, a_label_more, an_image_of_no_row)


@pytest.mark.parametrize("spoil", [*FAULTS, an_unknown_finding, a_contradiction])
def test_a_list_or_table_that_is_not_the_one_is_refused(spoil: Callable[[Path], str], tmp_path: Path) -> None:
    nih_folder(tmp_path, told(0, images(42)))
    listed(tmp_path / "test_list.txt", images(12))
    listed(tmp_path / "train_val_list.txt", images(30, 12))
    assert len(nih14.tables(tmp_path, OFFICIAL, "official").parts["test"]) == 12
    words = spoil(tmp_path)
    with pytest.raises(DataError, match=words):
        nih14.tables(tmp_path, OFFICIAL, "official")


def test_equal_copies_of_a_list_are_one_and_an_older_table_is_named(tmp_path: Path) -> None:
    nih_folder(tmp_path, told(0, images(42)), name="Data_Entry_2017.csv")
    for name in ("test_list.txt", "copies/of/test.txt"):
        listed(tmp_path / name, images(12))
    (tmp_path / "train_val_list.txt").write_bytes(b"\r\n".join(name.encode() for name in images(30, 12)) + b"\r\n\r\n")
    found = nih14.tables(tmp_path, OFFICIAL, "official")
    assert len(found.parts["train"]) == 30
    assert any("labels are those of Data_Entry_2017.csv" in note for note in found.notes)
    newer = small("nih14_lineage", "lineage-2020", lines=[20, 13, 9])
    for part, own in (("train", images(20)), ("test", images(13, 20)), ("val", images(9, 33))):
        listed(tmp_path / f"{part}.txt", own, told(0, images(42)))
    with pytest.raises(DataError, match=r"no Data_Entry_2017_v2020\.csv"):
        nih14.tables(tmp_path, newer, "lineage-2020")


# CheXpert

CX = catalog.load_task("chexpert_test500").columns


def chexpert_rows(part: str, count: int, values: Sequence[float | None], seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(count):
        study = f"{part}/patient{n // 2:05d}/study{n % 2 + 1}"
        rows += [(f"{study}/view1_frontal.jpg", "Frontal")]
        rows += [(f"{study}/view2_lateral.jpg", "Lateral")] * (n % 3 == 0)
    table = pd.DataFrame(rows, columns=["Path", "Frontal/Lateral"]).assign(Sex="Male", Age=60, **{"AP/PA": "AP"})
    for name in CX:
        table[name] = [values[int(k)] for k in rng.integers(len(values), size=len(table))]
    return table.sample(frac=1, random_state=seed)


def write_chexpert(table: pd.DataFrame, path: Path, prefix: str = "CheXpert-v1.0/") -> pd.DataFrame:
    path.parent.mkdir(parents=True, exist_ok=True)
    key = "Path" if "Path" in table else "Study"
    table.assign(**{key: prefix + table[key]}).to_csv(path, index=False)
    return table


def expected(table: pd.DataFrame, uncertain: Mapping[str, int]) -> tuple[list[str], np.ndarray]:
    """Frontal rows by name, -1 as told by class, blank as 0."""
    rows = table[table.Path.str.contains("_frontal")].sort_values("Path")
    labels = [rows[name].fillna(0).replace(-1, uncertain[name]).astype(int) for name in CX]
    return [f"CheXpert-v1.0/{name}" for name in rows.Path], np.stack(labels, axis=1)


MGCA = {**dict.fromkeys(CX, UNKNOWN), **dict(zip(FIVE, (1, 0, 0, 1, 1), strict=True))}
RULES = {
    "zeros": dict.fromkeys(CX, 0),
    "ones": dict.fromkeys(CX, 1),
    "ignore": dict.fromkeys(CX, UNKNOWN),
    "mgca": MGCA,
}


@pytest.mark.parametrize("split", [*RULES])
@pytest.mark.parametrize("prefix", ["CheXpert-v1.0/", "CheXpert-v1.0-small/", ""])
def test_chexperts_uncertain_labels_follow_the_rule_of_the_split(split: str, prefix: str, tmp_path: Path) -> None:
    train = write_chexpert(chexpert_rows("train", 60, [0.0, 1.0, -1.0, None]), tmp_path / "CheXpert/train.csv", prefix)
    valid = write_chexpert(chexpert_rows("valid", 20, [0.0, 1.0], seed=1), tmp_path / "CheXpert/valid.csv", prefix)
    task = catalog.load_task("chexpert_valid202")
    found = chexpert14.tables(chexpert14.locate(tmp_path), task, split)
    wanted = {"train": expected(train, RULES[split]), "test": expected(valid, RULES["zeros"])}
    for part, (ids, labels) in wanted.items():
        assert list(found.parts[part].ids) == ids
        assert (found.parts[part].labels == labels).all()
    assert found.found["valid_frontal"] == 20 and found.found["train_images"] == len(train)


def test_chexperts_test_set_may_have_a_row_a_study_or_a_row_an_image(tmp_path: Path) -> None:
    by_image = chexpert_rows("test", 30, [0.0, 1.0], seed=2)
    frontal = by_image[by_image.Path.str.contains("view1_frontal")]
    by_study = frontal.assign(Study=frontal.Path.str.rpartition("/")[0])[["Study", *CX]]
    ids, labels = expected(frontal, RULES["zeros"])
    task = catalog.load_task("chexpert_test500")
    for place, table, prefix in (
        ("groundtruth.csv", by_study, "CheXpert-v1.0/"),
        ("test_labels.csv", by_image[["Path", *CX]], "CheXpert-v1.0/"),
        ("filter_test_labels.csv", frontal[["Path", *CX]].astype(dict.fromkeys(CX, float)), "CheXpert-v1.0-small/"),
    ):
        root = tmp_path / place.partition(".")[0]
        write_chexpert(table, root / "CheXpert" / place, prefix)
        found = chexpert14.tables(chexpert14.locate(root), task, "zeros")
        assert list(found.parts["test"].ids) == ids and (found.parts["test"].labels == labels).all()
        assert tuple(found.parts) == ("test",)
        assert {note.partition(" of")[0] for note in found.notes} == {
            "there is no train.csv",
            "there is no valid.csv",
        }


@pytest.mark.parametrize("value", ["-1.0", "", "2"])
def test_a_reading_by_radiologists_is_0_or_1(value: str, tmp_path: Path) -> None:
    table = chexpert_rows("test", 10, [0.0, 1.0])[["Path", *CX]].astype(str)
    table.iloc[4, 3] = value
    write_chexpert(table, tmp_path / "test_labels.csv")
    with pytest.raises(DataError, match=r"test_labels\.csv: data row 5: Cardiomegaly is"):
        chexpert14.tables(tmp_path, catalog.load_task("chexpert_test500"), "zeros")


def test_downloads_of_chexpert_that_lie_apart_are_found_with_their_images(tmp_path: Path) -> None:
    """Beside a train.csv of another data set, and a second copy that is farther away."""
    whole = {
        "train": write_chexpert(chexpert_rows("train", 6, [0.0, 1.0]), tmp_path / "a/CheXpert-v1.0/train.csv"),
        "valid": write_chexpert(chexpert_rows("valid", 4, [0.0, 1.0]), tmp_path / "a/CheXpert-v1.0/valid.csv"),
    }
    test = write_chexpert(chexpert_rows("test", 5, [0.0, 1.0])[["Path", *CX]], tmp_path / "a/CheXpert/test_labels.csv")
    write_chexpert(chexpert_rows("valid", 9, [0.0, 1.0]), tmp_path / "b/CheXpert-v1.0/valid.csv")
    (tmp_path / "a/0").mkdir()
    (tmp_path / "a/0/train.csv").write_text("image_id,class_name\n1,Mass\n")
    for part, table in (*whole.items(), ("test", test)):
        for name in table.Path:
            path = tmp_path / f"a/{'CheXpert' if part == 'test' else 'CheXpert-v1.0'}" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    found = load_partition(tmp_path, catalog.load_task("chexpert_test500"), "zeros", survey=True)
    assert {part: len(table) for part, table in found.parts.items()} == {"train": 6, "valid": 4, "test": 5}
    assert found.findings.missing == () and len(found.paths) == 15


# MIMIC-CXR-JPG

MIMIC = catalog.load_task("mimic_test").columns


@pytest.fixture
def mimic(tmp_path: Path) -> dict[str, pd.DataFrame]:
    """Tables of made studies; some have no labels, some images no view."""
    rng = np.random.default_rng(5)
    studies = [
        (str(10_000_000 + n // 2), str(50_000_000 + n), ("train", "validate", "test")[n // 2 % 3]) for n in range(90)
    ]
    split = pd.DataFrame(
        [
            (f"{rng.integers(2**60):016x}", study, subject, part)
            for subject, study, part in studies
            for _ in range(n_of(study))
        ],
        columns=["dicom_id", "study_id", "subject_id", "split"],
    ).sample(frac=1, random_state=0)
    metadata = pd.DataFrame(
        {"dicom_id": split.dicom_id, "ViewPosition": rng.choice(["AP", "PA", "LATERAL", "", "LL"], len(split))}
    )
    told = {"split": split, "metadata": metadata}
    for labeller in ("chexpert", "negbio"):
        table = pd.DataFrame([(a, b) for a, b, _ in studies[:84]], columns=["subject_id", "study_id"])
        for name in MIMIC:
            table[name] = rng.choice([np.nan, 0.0, 1.0, -1.0], len(table), p=[0.4, 0.2, 0.25, 0.15])
        told[labeller] = table
    for kind, table in told.items():
        table.to_csv(tmp_path / f"mimic-cxr-2.0.0-{kind}.csv.gz", index=False)
    return told


def n_of(study: str) -> int:
    return 1 + int(study) % 3


def settle(row: Mapping[str, float], name: str, split: str) -> int:
    """The rules, written out a second time."""
    value = row[name]
    if split.endswith("torchxrayvision"):
        if np.isnan(value):
            return 0 if row["No Finding"] == 1 and name != "Support Devices" else UNKNOWN
        return UNKNOWN if value == -1 else int(value)
    if np.isnan(value):
        return 0
    rule = RULES[split.partition("-")[2]]
    return rule[name] if value == -1 else int(value)


@pytest.mark.parametrize("split", [s for s in catalog.load_task("mimic_test").splits if s != "phantom"])
def test_mimics_official_parts_with_every_rule(split: str, mimic: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    table = mimic["negbio" if split.startswith("negbio") else "chexpert"].set_index("study_id")
    rows = mimic["split"].merge(mimic["metadata"], on="dicom_id")
    rows = rows[rows.ViewPosition.isin(["AP", "PA"])]
    found = mimic14.tables(tmp_path, catalog.load_task("mimic_test"), split)
    for part, official in (("train", "train"), ("valid", "validate"), ("test", "test")):
        own = rows[(rows.split == official) & rows.study_id.isin(table.index)].sort_values("dicom_id")
        labels = [[settle(table.loc[study], name, split) for name in MIMIC] for study in own.study_id]
        assert list(found.parts[part].ids) == own.dicom_id.tolist()
        assert found.parts[part].patients == tuple(own.subject_id)
        assert (found.parts[part].labels == np.array(labels)).all()
    without = int((~rows.study_id.isin(table.index)).sum())
    assert without > 0 and any(note.startswith(f"{without} frontal images are of studies") for note in found.notes)
    assert found.found.keys() == catalog.load_task("mimic_test").expected.keys()
    assert {name: found.found[name] for name in ("images", "split_test")} == {
        "images": len(mimic["split"]),
        "split_test": int((mimic["split"].split == "test").sum()),
    }


# VinDr-CXR

VINDR = catalog.load_task("vindr_cxr").columns


def vindr_tables(
    folder: Path, readings: np.ndarray, consensus: np.ndarray, respell: Callable[[str], str] = str
) -> None:
    """Readings (n, 3, 28) and the consensus (m, 28) as the official tables."""
    names = [f"{n:032x}" for n in range(len(readings))]
    rows = [(who, f"R{r + 1}", *readings[n, r]) for n, who in enumerate(names) for r in range(readings.shape[1])]
    folder.mkdir(parents=True, exist_ok=True)
    columns = [respell(name) for name in VINDR]
    train = pd.DataFrame(rows, columns=["image_id", "rad_ID", *columns]).sample(frac=1, random_state=0)
    train.to_csv(folder / "image_labels_train.csv", index=False)
    tested = pd.DataFrame(consensus, columns=columns)
    tested.insert(0, "image_id", [f"{10**6 - n:032x}" for n in range(len(consensus))])
    tested.to_csv(folder / "image_labels_test.csv", index=False)


SPELT: list[Callable[[str], str]] = [
    str,
    str.upper,
    lambda name: name.replace("Other diseases", "Other disease"),
    lambda name: f" {name.replace(' ', '_').lower()} ",
    lambda name: "Pleural effusions" if name == "Pleural effusion" else name,
]


@pytest.mark.parametrize("respell", SPELT)
def test_vindrs_readings_are_joined_by_the_rule_of_the_split(respell: Callable[[str], str], tmp_path: Path) -> None:
    rng = np.random.default_rng(7)
    readings, consensus = (rng.random((40, 3, 28)) < 0.4).astype(int), (rng.random((11, 28)) < 0.3).astype(int)
    vindr_tables(tmp_path / "annotations", readings, consensus, respell)
    for split, needed in (("any", 1), ("majority", 2)):
        task = catalog.load_task("vindr_cxr")
        parts = vindr_cxr.tables(vindr_cxr.locate(tmp_path), task, split).parts
        assert (parts["train"].labels == (readings.sum(axis=1) >= needed)).all()
        assert (parts["test"].labels == consensus[::-1]).all()
        assert parts["test"].ids == tuple(sorted(parts["test"].ids))


@given(st.sampled_from(VINDR), st.lists(st.booleans(), min_size=40, max_size=40), st.sampled_from(["", "s"]))
def test_a_column_is_known_by_any_case_and_number_and_by_no_other(name: str, upper: list[bool], ending: str) -> None:
    written = "".join(c.upper() if up else c.lower() for c, up in zip(name, upper, strict=False))
    respelt = written.replace(" ", "_") + ("" if name.endswith("s") else ending)
    assert [column for column in VINDR if vindr_cxr.spelling(column) == vindr_cxr.spelling(respelt)] == [name]


def test_vindr_tables_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    readings, consensus = np.zeros((6, 3, 28), int), np.zeros((3, 28), int)
    task = catalog.load_task("vindr_cxr")
    spoilt: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
        r"most images have 3 readers, 1 have fewer": lambda t: t.iloc[1:],
        r"of reader R\d stands there twice": lambda t: pd.concat([t, t.iloc[[2]]]),
        r"no column 'ILD'": lambda t: t.drop(columns="ILD"),
        r"two columns 'COPD' and 'copd'": lambda t: t.assign(copd=0),
        r"Edema is '2'": lambda t: t.assign(Edema=2),
    }
    for words, spoil in spoilt.items():
        vindr_tables(tmp_path, readings, consensus)
        table = pd.read_csv(tmp_path / "image_labels_train.csv", dtype={"image_id": str})
        spoil(table).to_csv(tmp_path / "image_labels_train.csv", index=False)
        with pytest.raises(DataError, match=words):
            vindr_cxr.tables(tmp_path, task, "any")


def test_the_childrens_tables_are_not_taken_for_the_adults(tmp_path: Path) -> None:
    root = write("vindr", tmp_path, images_per_class=1, size=(32, 32)).root
    with pytest.raises(DataError, match=r"not VinDr-PCXR"):
        vindr_cxr.locate(root)


# what all share


def test_the_right_images_with_other_labels_differ_from_the_reference() -> None:
    table = Table(("a", "b"), np.array([[1, 0], [1, 1]], dtype=np.int8), ("Mass", "Edema"))
    spec = catalog.load_task("nih14_official").split("official")
    for edema, verdict in ((1, "match"), (2, "differs")):
        sums = {"rows_sha256": table.digest, "set_sha256": table.set_digest}
        reference = Reference(rows=2, distinct=2, counts={"Mass": 2, "Edema": edema}, **sums)
        own = spec.model_copy(update={"reference": {"test": reference}})
        assert reference_verdict(own, {"test": table}) == verdict
        assert [("1 with Edema where it has 2" in note) for note in reference_notes(own, {"test": table})] == [True] * (
            verdict == "differs"
        )


@pytest.mark.slow
def test_the_real_tables_have_the_totals_of_the_facts(shared: Path, tmp_path: Path) -> None:
    """What of NIH's and CheXpert's tables is here: totals, and every rule on the training labels."""
    labels = shared / "data_facts/labels"
    (tmp_path / "Data_Entry_2017_v2020.csv").symlink_to(labels / "nih_Data_Entry_2017_v2020.csv.gz")
    (tmp_path / "train.csv").symlink_to(labels / "chexpert_train.csv.gz")
    task = catalog.load_task("nih14_official")
    names = sorted(pd.read_csv(tmp_path / "Data_Entry_2017_v2020.csv", compression="gzip")["Image Index"])
    listed(tmp_path / "train_val_list.txt", names[25596:])
    listed(tmp_path / "test_list.txt", names[:25596])
    found = nih14.tables(tmp_path, task, "official")
    assert base.total_notes(task, found.found) == [] and len(found.found) == 16
    assert reference_verdict(task.split("official"), found.parts) == "differs"
    write_chexpert(chexpert_rows("valid", 3, [0.0, 1.0]), tmp_path / "valid.csv")
    raw = pd.read_csv(labels / "chexpert_train.csv.gz")
    raw = raw[raw["Frontal/Lateral"] == "Frontal"]
    for split, rule in RULES.items():
        part = chexpert14.tables(tmp_path, catalog.load_task("chexpert_valid202"), split).parts["train"]
        assert len(part) == 191027
        for place, name in enumerate(CX):
            ones, unsure = int((raw[name] == 1).sum()), int((raw[name] == -1).sum())
            own = part.labels[:, place]
            assert int((own == 1).sum()) == ones + unsure * (rule[name] == 1), (split, name)
            assert int((own == UNKNOWN).sum()) == unsure * (rule[name] == UNKNOWN), (split, name)
