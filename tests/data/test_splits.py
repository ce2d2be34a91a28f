"""Every published split, drawn anew from the official label tables; and the draws themselves on made rows."""

import csv
import gzip
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.data import tables
from cxrbench.data.sources import base, chexpert5x200, covid
from cxrbench.data.splits import (
    HashQuotas,
    ThreeParts,
    by_hash,
    from_the_top,
    random_pair,
    rank,
    ranked,
    share,
    three_parts,
)
from cxrbench.errors import DataError, SpecError
from cxrbench.specs import paths
from cxrbench.specs.settings import choices
from cxrbench.specs.task import TaskSpec, read_task
from cxrbench.types import Table

DIGESTS = json.loads((Path(__file__).parent.parent / "fixtures" / "split_digests.json").read_text())
TASKS = ("chexpert5x200", "mimic5x200", "rsna", "siim", "covid", "nih_lt", "vindr")
KEY = {"chexpert5x200": "chexpert5x200", "rsna": "rsna", "siim": "siim", "covid": "covid"}
DRAWN = [(task, name.partition(".")[2]) for task, key in KEY.items() for name in DIGESTS[key] if "folds" not in name]
FOLDED = [(task, split) for task, split in DRAWN if "train_16shot_by_fold" in DIGESTS[KEY[task]][f"{task}.{split}"]]
DISPLAY = {"Target 0": "Normal", "Target 1": "Pneumonia"}


def task_named(name: str) -> TaskSpec:
    return read_task(paths.folder("tasks") / f"{name}.toml")


@pytest.fixture(scope="module")
def official(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The official label tables under their own names, one folder a task."""
    root = tmp_path_factory.mktemp("official")
    labels = shared / "data_facts" / "labels"
    for source, target in (
        ("chexpert_train.csv.gz", "chexpert5x200/train.csv.gz"),
        ("rsna_stage_2_train_labels.csv.gz", "rsna/stage_2_train_labels.csv.gz"),
        ("rsna_stage_2_detailed_class_info.csv.gz", "rsna/stage_2_detailed_class_info.csv.gz"),
        ("rsna_to_nih.csv.gz", "rsna/rsna_to_nih.csv.gz"),
        ("siim_train-rle_stage2.csv.gz", "siim/stage_2_train.csv.gz"),
        ("covid_train_dlilp_author.csv.gz", "covid/covid_train.csv.gz"),
        ("covid_test_dlilp_author.csv.gz", "covid/covid_test.csv.gz"),
    ):
        (root / target).parent.mkdir(exist_ok=True)
        shutil.copy(labels / source, root / target)
    with gzip.open(labels / "siim_stage1_membership.csv.gz", "rt") as stream:
        rows = list(csv.DictReader(stream))
    for part in ("train", "test"):
        with (root / "siim" / f"stage_1_{part}_images.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["new_filename", "ImageId", "has_pneumo"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(row for row in rows if row["part"] == f"stage_1_{part}")
    return root


@pytest.fixture(scope="module")
def drawn(official: Path) -> dict[tuple[str, str], base.LabelledParts]:
    """Every split of the four data sets whose label tables are at hand."""
    names = [f"Normal-{n}.png" for n in range(1, 10193)] + [f"COVID-{n}.png" for n in range(1, 3617)]
    names += [f"Viral Pneumonia-{n}.png" for n in range(1, 1346)] + [f"Lung_Opacity-{n}.png" for n in range(1, 6013)]
    found = {}
    for name, split in DRAWN:
        task = task_named(name)
        if name == "covid":
            ids = sorted(str(covid.image_id(file, task)) for file in names)
            found[name, split] = covid.labelled(official / name, ids, task, split)
        else:
            found[name, split] = base.source(task).tables(official / name, task, split)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("task", "split"), DRAWN)
def test_split_equals_its_published_digests(task: str, split: str, drawn: Mapping[Any, base.LabelledParts]) -> None:
    wanted = DIGESTS[KEY[task]][f"{task}.{split}"]
    parts = drawn[task, split].parts
    assert set(parts) == set(wanted["parts"])
    for name, part in wanted["parts"].items():
        assert len(parts[name]) == part["rows"]
        assert len(set(parts[name].ids)) == part["unique_ids"]
        assert parts[name].counts == {DISPLAY.get(c, c): n for c, n in part["rows_per_class"].items()}
        assert parts[name].digest == part["sha256_rows_in_produced_order"]
        assert parts[name].set_digest == part["sha256_sorted_unique_ids"]
    spec = task_named(task).split(split)
    assert base.reference_verdict(spec, parts) == "match"
    assert base.reference_notes(spec, parts) == []
    assert base.total_notes(task_named(task), drawn[task, split].found) == []


@pytest.mark.slow
@pytest.mark.parametrize(("task", "split"), DRAWN)
def test_overlaps_between_parts_equal_the_published_ones(
    task: str, split: str, drawn: Mapping[Any, base.LabelledParts]
) -> None:
    wanted = DIGESTS[KEY[task]][f"{task}.{split}"]
    parts = drawn[task, split].parts
    for second in ("test", "valid"):
        if f"overlap_train_{second}" in wanted:
            shared_ids = set(parts["train"].ids) & set(parts[second].ids)
            rows = sum(name in shared_ids for name in parts[second].ids)
            assert wanted[f"overlap_train_{second}"] == {
                "shared_ids": len(shared_ids),
                "rows_of_second_affected": rows,
            }
    if "nih_patient_leak_train_to_test" in wanted:
        seen = set(parts["train"].patients or ())
        by_image = dict(zip(parts["test"].ids, parts["test"].patients or (), strict=True))
        leaking = sum(patient in seen for patient in by_image.values())
        assert wanted["nih_patient_leak_train_to_test"] == {
            "images_of_second_with_nih_patient_in_first": leaking,
            "of_unique_images": len(by_image),
        }


@pytest.mark.slow
@pytest.mark.parametrize("split", ["gloria", "mgca"])
def test_chexpert_patients_equal_the_published_ones(
    split: str, drawn: Mapping[Any, base.LabelledParts], official: Path
) -> None:
    wanted = DIGESTS["chexpert5x200"][f"chexpert5x200.{split}"]
    part = drawn["chexpert5x200", split].parts["all"]
    patients = list(part.patients or ())
    assert len(set(patients)) == wanted["patients"]
    if split == "mgca":
        assert (
            len(set(part.ids) & set(drawn["chexpert5x200", "gloria"].parts["all"].ids)) == wanted["shared_with_gloria"]
        )
        return
    classes: dict[str, set[int]] = {}
    for patient, row in zip(patients, part.labels, strict=True):
        classes.setdefault(patient, set()).add(int(row.argmax()))
    assert sum(patients.count(patient) > 1 for patient in classes) == wanted["patients_with_more_than_one_image"]
    assert sum(len(found) > 1 for found in classes.values()) == wanted["patients_in_more_than_one_class"]
    path = official / "chexpert5x200" / "train.csv.gz"
    rows = tables.read_table(path, ("Path", "Frontal/Lateral", "AP/PA"))
    view_of = {chexpert5x200.image_id(name): view for name, view in zip(rows["Path"], rows["AP/PA"], strict=True)}
    assert Counter(view_of[name] for name in part.ids) == wanted["ap_pa"]
    left = [chexpert5x200.patient_of(name) not in classes for name in rows["Path"]]
    assert sum(left) == wanted["all_train_without_these_patients"]
    assert (rows["Frontal/Lateral"][left] == "Frontal").sum() == wanted["frontal_train_without_these_patients"]


@pytest.mark.slow
@pytest.mark.parametrize("fold", range(5))
@pytest.mark.parametrize(("task", "split"), FOLDED)
def test_sixteen_shots_of_a_fold_equal_the_published_digests(
    task: str, split: str, fold: int, drawn: Mapping[Any, base.LabelledParts]
) -> None:
    few_shot = pytest.importorskip("cxrbench.evaluate.draws")
    part = drawn[task, split].parts["train"]
    found = few_shot.released_fold(part.labels.argmax(axis=1), len(part.classes), fold, [16], 0)
    wanted = DIGESTS[KEY[task]][f"{task}.{split}"]["train_16shot_by_fold"][str(fold)]
    assert_rows(part, found.train[16], wanted)


@pytest.mark.slow
@pytest.mark.parametrize("fold", range(5))
def test_folds_of_chexpert5x200_equal_the_published_digests(fold: int, drawn: Mapping[Any, base.LabelledParts]) -> None:
    few_shot = pytest.importorskip("cxrbench.evaluate.draws")
    part = drawn["chexpert5x200", "gloria"].parts["all"]
    task = task_named("chexpert5x200")
    found = few_shot.released_fold(part.labels.argmax(axis=1), 5, fold, [16], task.test_percent)
    wanted = DIGESTS["chexpert5x200"]["chexpert5x200.dlilp-folds"]["parts"][str(fold)]
    assert_rows(part, found.test, wanted["test"])
    assert_rows(part, found.train[16], wanted["train16"])
    patients = part.patients or ()
    both = {patients[row] for row in found.test} & {patients[row] for row in found.train[16]}
    assert len(both) == wanted["patients_in_both"]


def assert_rows(part: Table, rows: Any, wanted: Mapping[str, Any]) -> None:
    chosen = Table(tuple(part.ids[row] for row in rows), part.labels[rows], part.classes)
    assert chosen.digest == wanted["sha256_rows_in_produced_order"]
    assert chosen.set_digest == wanted["sha256_sorted_unique_ids"]
    assert chosen.counts == wanted["rows_per_class"]


def test_released_nih_test_part_equals_its_published_digests(shared: Path, tmp_path: Path) -> None:
    task = task_named("nih_lt")
    with gzip.open(shared / "data_facts" / "labels" / "nih_lt_balanced_val_dlilp_author.csv.gz", "rt") as stream:
        rows = [{"id": row.pop("Path").removeprefix("images/"), **row} for row in csv.DictReader(stream)]
    made = [{**rows[0], "id": f"9999999{n}_000.png"} for n in range(2)]
    for stem, content in (("balanced-val", rows), ("train", made[:1]), ("balanced-test", made[1:])):
        with (tmp_path / f"nih-lt_single-label_{stem}.csv").open("w", newline="") as target:
            writer = csv.DictWriter(target, list(rows[0]))
            writer.writeheader()
            writer.writerows(content)
    part = base.source(task).tables(tmp_path, task, "dlilp").parts["test"]
    wanted = DIGESTS["nih"]["nih_lt.dlilp-test"]
    assert_rows(part, np.arange(300), wanted["parts"]["balanced_val_20"])
    scored = part.labels[:, [part.classes.index(name) for name in task.group("all")]].sum(axis=1) == 1
    assert_rows(part, np.flatnonzero(scored), wanted["parts"]["scored_19_without_hernia"])
    assert len(set(part.patients or ())) == wanted["patients"]
    with gzip.open(shared / "data_facts" / "labels" / "rsna_to_nih.csv.gz", "rt") as stream:
        in_rsna = {row["nih_image_index"] for row in csv.DictReader(stream)}
    of_patients = {name[:8] for name in in_rsna}
    assert len(set(part.ids) & in_rsna) == wanted["images_that_are_rsna_images"]
    assert sum(patient in of_patients for patient in part.patients or ()) == wanted["images_of_patients_seen_in_rsna"]


def test_references_in_the_task_files_are_the_published_digests() -> None:
    for task, split in DRAWN:
        published = DIGESTS[KEY[task]][f"{task}.{split}"]["parts"]
        reference = task_named(task).split(split).reference
        assert set(reference) == set(published)
        for part, wanted in published.items():
            assert reference[part].rows_sha256 == wanted["sha256_rows_in_produced_order"]
            assert reference[part].set_sha256 == wanted["sha256_sorted_unique_ids"]
            assert (reference[part].rows, reference[part].distinct) == (wanted["rows"], wanted["unique_ids"])


def test_every_known_difference_is_settled_by_a_setting_or_a_split(shared: Path) -> None:
    known = {v["id"] for v in json.loads((shared / "parity/protocol/variants.json").read_text())["variants"]}
    settled = {d for name in TASKS for split in task_named(name).splits.values() for d in split.decides}
    assert known - set(choices()) == settled


def test_groups_are_the_released_experiments_in_their_order(shared: Path) -> None:
    released = json.loads((shared / "parity/protocol/prompt_terms.json").read_text())["experiments"]
    for experiment, task, group in (
        ("chexpert_5x200", "chexpert5x200", "all"),
        ("mimic_5x200", "mimic5x200", "all"),
        ("ssim_train", "siim", "all"),
        ("rsna_train", "rsna", "all"),
        ("covid_train_2class", "covid", "2-class"),
        ("covid_train_3class", "covid", "3-class"),
        ("covid_train_4class", "covid", "all"),
        ("nihlt_train", "nih_lt", "all"),
        ("nihlt_train_base", "nih_lt", "base"),
        ("nihlt_train_new", "nih_lt", "new"),
        ("vindr_train", "vindr", "all"),
        ("vindr_train_base", "vindr", "base"),
        ("vindr_train_new", "vindr", "new"),
    ):
        assert list(task_named(task).group(group)) == released[experiment]["classes"]


def test_an_unknown_split_or_group_names_those_there_are() -> None:
    task = task_named("rsna")
    with pytest.raises(SpecError, match="dlilp-boxes"):
        task.split("dlilp-box")
    with pytest.raises(SpecError, match="it has: all"):
        task.group("base")


def test_a_parameter_that_a_rule_does_not_know_is_refused() -> None:
    spec = task_named("rsna").split("cxrbench-v1")
    wrong = spec.model_copy(update={"params": {**spec.params, "quota": 3}})
    with pytest.raises(SpecError, match="quota"):
        wrong.parameters(HashQuotas)


@given(st.sets(st.text(max_size=12), min_size=1, max_size=40), st.text(max_size=5))
def test_hash_rank_depends_on_nothing_but_salt_and_id(items: set[str], salt: str) -> None:
    order = ranked(salt, items)
    assert sorted(order) == sorted(items)
    assert ranked(salt, reversed(order)) == order
    dropped = order[:-1]
    assert ranked(salt, dropped) == dropped
    assert all(0 <= share(salt, item) < 1 for item in items)


def test_hash_rank_is_the_sha_of_salt_colon_id() -> None:
    assert rank("a", "b") == hashlib.sha256(b"a:b").hexdigest()


@given(st.integers(20, 200), st.integers(0, 5), st.booleans())
def test_three_parts_cover_all_rows_once(n: int, seed: int, stratified: bool) -> None:
    labels = np.arange(n, dtype=np.int64) % 2
    parts = three_parts(labels, ThreeParts(seed=seed, stratified=stratified, first="test"))
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(n))
    assert list(parts) == ["train", "valid", "test"]


def test_too_few_rows_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="Pneumonia has 3 rows, the split takes 5"):
        from_the_top([[0, 1, 2, 3, 4], [5, 6, 7]], {"test": 2, "train": 3}, ["Normal", "Pneumonia"])
    with pytest.raises(DataError, match="too few"):
        random_pair(1, 0.3, 0)


def test_quotas_go_to_the_parts_in_their_order() -> None:
    ids = [f"image{n}" for n in range(10)]
    index = np.arange(10, dtype=np.int64) % 2
    parts = by_hash(ids, index, HashQuotas(salt="s", parts={"test": 1, "train": 2}), ("A", "B"))
    wanted = ranked("s", ids[::2]), ranked("s", ids[1::2])
    assert [ids[row] for row in parts["test"]] == [wanted[0][0], wanted[1][0]]
    assert [ids[row] for row in parts["train"]] == [*wanted[0][1:3], *wanted[1][1:3]]
