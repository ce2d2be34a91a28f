"""The rules of every source, written out a second time with pandas and plain loops, on drawn tables full of traps.

The digests in the task files hold the same rules against the official tables, which only their licensees have.
"""

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from cxrbench.data.sources import chexpert5x200, covid, mimic5x200, nih_lt, rsna, siim, vindr
from cxrbench.data.sources.base import Source
from cxrbench.specs import catalog
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Table

FIVE = ["Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion"]
SEEDS = pytest.mark.parametrize("seed", range(3))


def small(name: str, split: str, **changes: Any) -> TaskSpec:
    """The task with some of a split's parameters replaced; the others stay as they ship."""
    task = catalog.load_task(name)
    spec = task.split(split)
    changed = spec.model_copy(update={"params": {**spec.params, **changes}, "complete": False, "reference": {}})
    return task.model_copy(update={"splits": {**task.splits, split: changed}})


def parts(source: Source, folder: Path, task: TaskSpec, split: str) -> Mapping[str, Table]:
    return source.tables(folder, task, split).parts


def assert_rows(table: Table, ids: Sequence[str], labels: Sequence[str]) -> None:
    """Exactly these images in this order, each of exactly this class."""
    assert list(table.ids) == list(ids)
    assert table.labels.sum(axis=1).tolist() == [1] * len(ids)
    assert [table.classes[row] for row in table.labels.argmax(axis=1)] == list(labels)


def hex_names(rng: np.random.Generator, n: int) -> list[str]:
    return [f"{number:016x}" for number in rng.choice(2**62, n, replace=False)]


@SEEDS
@pytest.mark.parametrize("split", ["gloria", "mgca"])
def test_chexpert5x200_is_drawn_from_the_pools(split: str, seed: int, tmp_path: Path) -> None:
    rng, n, each = np.random.default_rng(seed), 900, 7
    others = [
        "Enlarged Cardiomediastinum", "Lung Lesion", "Lung Opacity", "Pneumonia", "Pneumothorax", "Pleural Other",
        "Fracture", "Support Devices",
    ]  # fmt: skip
    table = pd.DataFrame({"Path": [f"CheXpert-v1.0-small/train/patient{i:05d}/study1/view1.jpg" for i in range(n)]})
    table["Frontal/Lateral"] = rng.choice(["Frontal", "Lateral"], n, p=[0.8, 0.2])
    for name in [*FIVE, *others, "No Finding"]:
        table[name] = rng.choice([np.nan, 0, 1, -1], n, p=[0.85, 0.06, 0.03, 0.06])
    for row in range(0, n, 2):
        table.loc[row, FIVE[row // 2 % 5]] = 1
    table.to_csv(tmp_path / "train.csv", index=False)
    filled = table[table["Frontal/Lateral"] == "Frontal"].fillna(0)
    generator, wanted = np.random.RandomState(0), []
    for name in FIVE:
        pool = filled[(filled[name] == 1) & (filled[[o for o in FIVE + others if o != name]] == 0).all(axis=1)]
        generator = np.random.RandomState(0) if split == "mgca" else generator
        wanted += [(path, name) for path in pool.Path.iloc[generator.choice(len(pool), each, replace=False)]]
    found = parts(chexpert5x200, tmp_path, small("chexpert5x200", split, per_class=each), split)["all"]
    assert_rows(found, [p.replace("-small", "") for p, _ in wanted], [name for _, name in wanted])


@SEEDS
def test_mimic5x200_takes_the_first_image_of_each_patient_and_draws_anew_for_each_class(
    seed: int, tmp_path: Path
) -> None:
    rng, n, each = np.random.default_rng(seed), 700, 8
    subjects, studies = rng.integers(10000000, 10000450, n), 50000000 + rng.permutation(n)
    rows = [
        (study, subject) for study, subject in zip(studies, subjects, strict=True) for _ in range(rng.integers(1, 4))
    ]
    images = pd.DataFrame(rows, columns=["study_id", "subject_id"]).sample(frac=1, random_state=seed)
    images.insert(0, "dicom_id", hex_names(rng, len(images)))
    images["split"] = rng.choice(["train", "validate", "test"], len(images))
    views = pd.DataFrame({"dicom_id": images.dicom_id})
    views["ViewPosition"] = rng.choice(["AP", "PA", "LATERAL", "LL", ""], len(views), p=[0.4, 0.3, 0.2, 0.05, 0.05])
    labels = pd.DataFrame({"subject_id": subjects, "study_id": studies})
    for name in [*FIVE, "Fracture"]:
        labels[name] = rng.choice([np.nan, 0, 1, -1], n, p=[0.55, 0.15, 0.2, 0.1])
    labels = labels.sample(frac=0.9, random_state=seed)
    images.to_csv(tmp_path / "mimic-cxr-2.0.0-split.csv", index=False)
    views.sample(frac=0.97, random_state=seed).to_csv(tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz", index=False)
    labels.to_csv(tmp_path / "mimic-cxr-2.0.0-chexpert.csv", index=False)

    kept = views.sample(frac=0.97, random_state=seed).set_index("dicom_id").ViewPosition.to_dict()
    truth = labels.set_index("study_id")[FIVE].fillna(0)
    first, seen = [], set()
    for row in images.itertuples():
        known = kept.get(row.dicom_id) in ("AP", "PA") and row.study_id in truth.index
        if known and (truth.loc[row.study_id] == 1).sum() == 1 and row.subject_id not in seen:
            seen.add(row.subject_id)
            first.append({"dicom_id": row.dicom_id, **truth.loc[row.study_id]})
    pool, wanted = pd.DataFrame(first), []
    assert (pool[FIVE] == -1).any(axis=None)  # an uncertain label elsewhere takes the patient's place, and is not drawn
    for name in FIVE:
        own = pool[(pool[name] == 1) & (pool[[o for o in FIVE if o != name]] == 0).all(axis=1)]
        wanted += [(image, name) for image in own.sample(n=each, random_state=42).dicom_id]
    told = mimic5x200.tables(tmp_path, small("mimic5x200", "dlilp", per_class=each), "dlilp")
    assert_rows(told.parts["all"], [image for image, _ in wanted], [name for _, name in wanted])
    counts = {"images": len(images), "patients": images.subject_id.nunique(), "studies_with_labels": len(labels)}
    assert {name: told.found[name] for name in counts} == counts
    assert told.found.keys() == catalog.load_task("mimic5x200").expected.keys()


def rsna_tables(seed: int, folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row a box in both tables, positives with up to three."""
    rng, rows = np.random.default_rng(seed), []
    for name in hex_names(rng, 420):
        kind = str(rng.choice(["Normal", "Lung Opacity", "No Lung Opacity / Not Normal"]))
        rows += [(name, kind)] * (int(rng.integers(1, 4)) if kind == "Lung Opacity" else 1)
    kinds = pd.DataFrame(rows, columns=["patientId", "class"])
    boxes = pd.DataFrame({"patientId": kinds.patientId, "Target": (kinds["class"] == "Lung Opacity").astype(int)})
    kinds.to_csv(folder / "stage_2_detailed_class_info.csv", index=False)
    boxes.to_csv(folder / "stage_2_train_labels.csv", index=False)
    return kinds, boxes


def assert_parts(found: Mapping[str, Table], wanted: Mapping[str, pd.DataFrame], classes: Sequence[str]) -> None:
    assert found.keys() == wanted.keys()
    for name, rows in wanted.items():
        assert_rows(found[name], rows.patientId.tolist(), [classes[value] for value in rows.Target])


@SEEDS
def test_rsna_by_images(seed: int, tmp_path: Path) -> None:
    _, boxes = rsna_tables(seed, tmp_path)
    images = boxes.groupby("patientId").Target.max().reset_index()
    positive, negative = (images.index[images.Target == value].tolist() for value in (1, 0))
    drawn = random.Random(42).sample(negative, 60)
    train, test = train_test_split(images.loc[sorted(positive[:60] + drawn)], test_size=0.3, random_state=0)
    found = parts(rsna, tmp_path, small("rsna", "dlilp-boxes", per_class=60), "dlilp-boxes")
    assert_parts(found, {"train": train, "test": test}, ("Normal", "Pneumonia"))
    train, rest = train_test_split(images, test_size=0.3, random_state=0)
    test, valid = train_test_split(rest, test_size=0.5, random_state=0)
    found = parts(rsna, tmp_path, small("rsna", "gloria"), "gloria")
    assert_parts(found, {"train": train, "valid": valid, "test": test}, ("Normal", "Pneumonia"))
    train, rest = train_test_split(images, test_size=0.3, random_state=42, stratify=images.Target)
    valid, test = train_test_split(rest, test_size=0.5, random_state=42, stratify=rest.Target)
    found = parts(rsna, tmp_path, small("rsna", "benchx"), "benchx")
    assert_parts(found, {"train": train, "valid": valid, "test": test}, ("Normal", "Pneumonia"))


@SEEDS
@pytest.mark.parametrize("split", ["dlilp-detailed-as-published", "dlilp-detailed-intended"])
def test_rsna_by_boxes_as_released_and_as_meant(split: str, seed: int, tmp_path: Path) -> None:
    kinds, _ = rsna_tables(seed, tmp_path)
    kinds["Target"] = (kinds["class"] == "Lung Opacity").astype(int)
    both = kinds[kinds["class"] != "No Lung Opacity / Not Normal"]  # keeps the row labels from before
    positions = [np.flatnonzero(both.Target == value).tolist() for value in (1, 0)]
    sample = positions[0][:60] + random.Random(42).sample(positions[1], 60)
    published = split == "dlilp-detailed-as-published"
    rows = both[both.index.isin(sample)] if published else both.iloc[sorted(sample)]
    train, test = train_test_split(rows, test_size=0.3, random_state=0)
    assert (len(rows) < 120) == published
    found = parts(rsna, tmp_path, small("rsna", split, per_class=60), split)
    assert_parts(found, {"train": train, "test": test}, ("Normal", "Pneumonia"))


@SEEDS
def test_siim_by_rows_whatever_blanks_the_table_has(seed: int, tmp_path: Path) -> None:
    rng, rows = np.random.default_rng(seed), []
    for number in rng.permutation(320):
        masks = int(rng.integers(1, 4)) if rng.random() < 0.35 else 0
        rows += [(f"1.2.{number}", "4 5 6 7")] * masks or [(f"1.2.{number}", [" -1", "-1"][seed % 2])]
    random.Random(seed).shuffle(rows)
    table = pd.DataFrame(rows, columns=["patientId", [" EncodedPixels", "EncodedPixels"][seed % 2]])
    table.rename(columns={"patientId": "ImageId"}).to_csv(tmp_path / "train-rle.csv", index=False)
    table["Target"] = [int(mask.strip() != "-1") for _, mask in rows]
    positive, negative = (table[table.Target == value] for value in (1, 0))
    wanted = {
        "train": pd.concat([positive[:50], negative[:50]]),
        "test": pd.concat([positive[50:62], negative[50:62]]),
    }
    quotas = {"train": 50, "test": 12}
    task = small("siim", "dlilp-rows", parts=quotas)
    assert_parts(parts(siim, tmp_path, task, "dlilp-rows"), wanted, ("Normal", "Pneumothorax"))
    images = {"stage1_rows": len(rows), "stage1_images": 320, "stage1_positive_images": positive.patientId.nunique()}
    assert siim.tables(tmp_path, task, "dlilp-rows").found == images
    assert images.keys() < task.expected.keys()
    train, rest = train_test_split(table, test_size=0.3, random_state=0)
    test, valid = train_test_split(rest, test_size=0.5, random_state=0)
    found = parts(siim, tmp_path, small("siim", "gloria-rows"), "gloria-rows")
    assert_parts(found, {"train": train, "valid": valid, "test": test}, ("Normal", "Pneumothorax"))


@SEEDS
def test_vindr_takes_the_first_rows_with_exactly_one_of_the_five(seed: int, tmp_path: Path) -> None:
    rng, wanted = np.random.default_rng(seed), {}
    five = ["No finding", "Pneumonia", "Bronchitis", "Brocho-pneumonia", "Bronchiolitis"]
    others = ["Other disease", "Situs inversus", "Tuberculosis", "CPAM"]
    quotas = {"train": 13, "test": 4}
    for part, n in (("train", 220), ("test", 50)):
        table = pd.DataFrame({"image_id": hex_names(rng, n), "rad_ID": "R1"})
        for name in [*others[:2], *five[::-1], *others[2:]]:
            table[name] = (rng.random(n) < 0.2).astype(float if seed % 2 else int)
        table.to_csv(tmp_path / f"image_labels_{part}.csv", index=False)
        alone = table[table[five].sum(axis=1) == 1]
        assert (alone[others] == 1).any(axis=None)  # a second disease that is not among the five is not looked at
        wanted[part] = [(i, name) for name in five for i in alone[alone[name] == 1].image_id.head(quotas[part])]
    labelled = vindr.tables(tmp_path, small("vindr", "dlilp", quotas=quotas), "dlilp")
    found = labelled.parts
    assert sum(labelled.left_out.values()) + sum(map(len, found.values())) == 270  # every row is told
    for part, rows in wanted.items():
        names = [name.replace("No finding", "No Finding") for _, name in rows]
        assert_rows(found[part], [image for image, _ in rows], names)


@SEEDS
def test_nih_lt_joins_train_and_balanced_test(seed: int, tmp_path: Path) -> None:
    rng, task, told = np.random.default_rng(seed), catalog.load_task("nih_lt"), {}
    columns = [name.replace("Pleural Thickening", "Pleural_Thickening") for name in task.classes]
    for kind, n in (("train", 200), ("balanced-val", 60), ("balanced-test", 80)):
        names = [f"{number:08d}_{n:03d}.png" for number in rng.choice(30805, n, replace=False)]
        of = rng.integers(0, 20, n)
        table = pd.DataFrame(np.eye(20, dtype=int)[of], columns=columns)
        order = ["id", *rng.permutation(columns), "subject_id"]
        table.assign(id=names, subject_id=[name[:8] for name in names])[order].to_csv(
            tmp_path / f"nih-cxr-lt_single-label_{kind}.csv", index=False
        )
        told[kind] = [(name, task.classes[number]) for name, number in zip(names, of, strict=True)]
    found = parts(nih_lt, tmp_path, task, "dlilp")
    wanted = {"train": told["train"] + told["balanced-test"], "test": told["balanced-val"]}
    assert found.keys() == wanted.keys()
    for part, rows in wanted.items():
        assert_rows(found[part], [name for name, _ in rows], [label for _, label in rows])
        assert found[part].patients == tuple(name[:8] for name, _ in rows)


def test_covid_by_sorted_names_keeps_the_released_counts(tmp_path: Path) -> None:
    folders = {"COVID": "COVID", "Normal": "Normal", "Pneumonia": "Viral Pneumonia", "Lung Opacity": "Lung_Opacity"}
    wanted: dict[str, list[tuple[str, str]]] = {"train": [], "test": []}
    ids = [f"{folder}/images/{folder}-{number}.png" for folder in folders.values() for number in range(1, 1346)]
    for label, folder in folders.items():
        names = sorted(name for name in ids if name.startswith(f"{folder}/"))
        cut = 300 if label == "Lung Opacity" else 1000
        wanted["test"] += [(name, label) for name in names[:cut]]
        wanted["train"] += [(name, label) for name in names[cut : cut + 300]]
    random.Random(0).shuffle(ids)
    found = covid.labelled(tmp_path, ids, catalog.load_task("covid"), "dlilp-sorted").parts
    assert {part: len(table) for part, table in found.items()} == {"train": 1200, "test": 3300}
    for part, rows in wanted.items():
        assert_rows(found[part], [name for name, _ in rows], [label for _, label in rows])
