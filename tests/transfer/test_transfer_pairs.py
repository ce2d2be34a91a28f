"""Which rows of one task may train for another, and what keeps the two sides apart."""

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_crossing import FAR, MAPPING, NEAR, laid, made_task, rows

from cxrbench.errors import DataError, NotApplicableError, SpecError
from cxrbench.runner.folds import IdFold
from cxrbench.runner.protocol import TaskData, TrainingPart
from cxrbench.runner.transfer import pair, require_apart, transfer_folds
from cxrbench.specs import catalog
from cxrbench.specs.transfer import LabelMapping
from cxrbench.types import Table

PAPER = catalog.load_variant("paper-code").settings
RANKED = PAPER.model_copy(update={"draw": "hash-rank-v1"})
ONE_POOL = {
    "origins": [{"pool": "city", "images": 20, "known": "assumed", "source": "tests"}],
    "patients": {"kind": "patient", "rule": "the id", "collection": "city"},
}


def near(classes: str = "Effusion Mass Normal Air Effusion Mass Effusion Air", **facts: Any) -> TaskData:
    return laid(made_task("near", NEAR, **facts), {"train": rows("a", classes.split(), NEAR)})


def far(classes: str = "Mass Pneumothorax Normal Pleural-Effusion Mass", **facts: Any) -> TaskData:
    own = [name.replace("-", " ") for name in classes.split()]
    return laid(made_task("far", FAR, **facts), {"train": rows("t", FAR, FAR), "test": rows("a", own, FAR)})


def trained(data: TaskData) -> TrainingPart:
    assert data.trained_on is not None
    return data.trained_on


def drawn(data: TaskData, shots: int = 1) -> list[IdFold]:
    return transfer_folds(trained(data), [shots], RANKED, "test")


def lowest(ids: list[str], fold: int, shots: int) -> list[str]:
    """K ids of the lowest SHA-256 rank, as the data facts define it, under the name of the task that is trained on."""
    return sorted(ids, key=lambda i: sha256(f"cxrbench:fewshot:v1:near:{fold}:{i}".encode()).hexdigest())[:shots]


def test_labels_are_the_shared_ones_in_the_order_of_the_scored_task() -> None:
    found = pair(near(), far(), MAPPING, PAPER)
    assert trained(found).group == "from-near"
    assert found.task.groups["from-near"] == ("Mass", "Pleural Effusion", "Pneumothorax")
    told = trained(found).facts
    assert (told["labels"], told["concepts"]) == (("Mass", "Effusion", "Air"), ("Lump", "Fluid", "Air"))
    assert told["rows_per_label"] == {"Mass": 2, "Effusion": 3, "Air": 2}
    assert (told["part"], told["apart"], told["left_out"]) == ("train", "collections", {})


@pytest.mark.parametrize("shots", [1, 2])
def test_rows_of_a_fold_by_hand(shots: int) -> None:
    """Training rows by class in the scored task's order, of each the lowest ranks; test rows in their order."""
    folds = drawn(pair(near(), far(), MAPPING, PAPER), shots)
    assert [fold.fold for fold in folds] == [0, 1, 2, 3, 4]
    own = {0: ["a1", "a5"], 1: ["a0", "a4", "a6"], 2: ["a3", "a7"]}  # Mass, Pleural Effusion, Pneumothorax
    for fold in folds:
        expected = [(f"near:{i}", label) for label, ids in own.items() for i in lowest(ids, fold.fold, shots)]
        ids, labels = fold.train[shots]
        assert list(zip(ids, labels.tolist(), strict=True)) == expected
        assert fold.test[0] == ("a0", "a1", "a3", "a4")  # a2 is Normal, which the two do not share
        assert fold.test[1].tolist() == [0, 2, 1, 0]


def test_the_released_draw_is_that_of_the_rows_that_may_be_drawn() -> None:
    import random

    other = trained(pair(near(), far(), MAPPING, PAPER))
    order = [0, 1, 3, 4, 5, 6, 7]  # rows of the table without Normal
    labels = {0: 1, 1: 0, 3: 2, 4: 1, 5: 0, 6: 1, 7: 2}
    for fold in transfer_folds(other, [1], PAPER, "test"):
        shuffled = list(range(7))
        random.Random(fold.fold).shuffle(shuffled)
        first = [next(order[place] for place in shuffled if labels[order[place]] == label) for label in (0, 1, 2)]
        assert fold.train[1][0] == tuple(f"near:a{row}" for row in first)


def test_equal_ids_of_two_tasks_are_two_images() -> None:
    found = pair(near(), far(), MAPPING, PAPER)
    paths = found.partition.paths
    assert (paths["a0"], paths["near:a0"]) == (Path("/data/far/a0.png"), Path("/data/near/a0.png"))
    assert [found.owner(i).root for i in ("a0", "near:a0")] == [Path("/data/far"), Path("/data/near")]
    assert found.partition.digest == far().partition.digest  # what the record calls its split


def test_an_id_that_looks_like_one_of_the_other_task_is_refused() -> None:
    odd = laid(made_task("far", FAR), {"test": Table(("near:a0",), np.eye(1, 4, dtype=np.int8), FAR)})
    with pytest.raises(DataError, match="near:a0 cannot be told from one of near"):
        pair(near(), odd, MAPPING, PAPER)


@pytest.mark.parametrize("source_side", [True, False])
def test_a_task_without_a_test_part_gives_all_its_rows_once(source_side: bool) -> None:
    everything = {"folds": "resplit", "test_percent": 20}
    if source_side:
        whole = laid(made_task("near", NEAR, **everything), {"all": rows("a", ["Mass", "Effusion", "Normal"], NEAR)})
        found = pair(whole, far(), MAPPING, PAPER)
        assert trained(found).facts["part"] == "all" and trained(found).parts["train"].ids == ("a0", "a1")
        return
    whole = laid(made_task("far", FAR, **everything), {"all": rows("b", FAR, FAR)})
    found = pair(near(), whole, MAPPING, PAPER)
    assert [fold.test[0] for fold in drawn(found)] == [("b0", "b1", "b3")] * 5


def of_patients(one: list[str], two: list[str], **changes: Any) -> tuple[TaskData, TaskData]:
    source = laid(
        made_task("near", NEAR, **ONE_POOL),
        {"train": rows("a", ["Mass", "Effusion", "Mass", "Effusion", "Normal"], NEAR, one)},
    )
    target = laid(made_task("far", FAR, **{**ONE_POOL, **changes}), {"test": rows("b", FAR, FAR, two or None)})
    return source, target


def test_training_images_of_patients_who_are_scored_are_left_out_and_counted() -> None:
    source, target = of_patients(["p1", "p2", "p3", "p4", "p1"], ["p1", "p9", "p4", "p8"])
    other = trained(pair(source, target, MAPPING, PAPER))
    assert other.parts["train"].ids == ("a1", "a2")  # p4 is in the scored part, though as Normal
    assert other.facts["left_out"] == {"of patients of the scored part": 2}
    assert (other.facts["apart"], other.facts["doubt"]) == ("patients", "")


@pytest.mark.parametrize(
    ("patients", "changes", "doubt"),
    [
        ([], {}, "both hold images of city, and ids do not tell"),
        (["p1", "p9", "p4", "p8"], {"patients": {"kind": "patient", "rule": "other ids"}}, "both hold images of city"),
        (["p1", "p9", "p4", "p8"], {"origins": [], "patients": {"kind": "patient", "rule": "x"}}, "images of far come"),
    ],
    ids=["unknown patients", "other ids", "no origin"],
)
def test_where_ids_cannot_tell_it_is_said(patients: list[str], changes: dict[str, Any], doubt: str) -> None:
    source, target = of_patients(["p1", "p2", "p3", "p4", "p1"], patients, **changes)
    other = trained(pair(source, target, MAPPING, PAPER))
    assert other.facts["apart"] == "unknown" and doubt in other.facts["doubt"]
    assert len(other.parts["train"]) == 4 and other.facts["left_out"] == {}


def test_an_origin_of_other_classes_is_no_doubt() -> None:
    """Only the Normal images are of the pool, and the two do not share them."""
    pool = [{"pool": "city", "images": 9, "classes": ["Normal"], "known": "assumed", "source": "tests"}]
    other = [{"pool": "hills", "images": 9, "known": "assumed", "source": "tests"}]
    found = pair(
        near(**{**ONE_POOL, "patients": {"kind": "image", "rule": "none"}}),
        far(origins=[*pool, *other]),
        MAPPING,
        PAPER,
    )
    assert trained(found).facts["apart"] == "collections"


def test_a_file_that_both_tasks_name_is_left_out() -> None:
    source, target = near(), far()
    shared = {**source.partition.paths, "a0": target.partition.paths["a4"]}
    source = replace(source, partition=replace(source.partition, paths=shared))
    other = trained(pair(source, target, MAPPING, PAPER))
    assert "a0" not in other.parts["train"].ids
    assert other.facts["left_out"] == {"of files of the scored part": 1}


def test_equal_bytes_under_two_names_are_refused_when_they_are_met() -> None:
    data = pair(near(), far(), MAPPING, PAPER)
    folds = drawn(data)
    contents = {image: image for fold in folds for image in (*fold.train[1][0], *fold.test[0])}
    cell: Any = SimpleNamespace(data=data, shots=1, name="a cell")
    require_apart(cell, folds, contents)
    first = folds[0].train[1][0][0]
    with pytest.raises(
        DataError, match=rf"a cell: 1 training images have the bytes of test images, {first} those of a3"
    ):
        require_apart(cell, folds, {**contents, first: contents["a3"]})
    unread = {image: content for image, content in contents.items() if image != "a3"}
    require_apart(cell, folds, {**unread, first: "a3"})


def several(name: str, labels: tuple[str, ...], **facts: Any) -> TaskData:
    """A multi-label task with rows for training, thresholds and scoring; the first label is unknown in row 1."""
    values = np.array([[1, 0, 1, 0], [-1, 1, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]], np.int8)
    parts = {part: Table(tuple(f"{part}{n}" for n in range(4)), values, labels) for part in ("train", "valid", "test")}
    return laid(made_task(name, labels, kind="multi-label", **facts), parts)


def test_findings_keep_every_row_and_thresholds_are_the_sources() -> None:
    data = pair(several("near", NEAR), several("far", FAR), MAPPING, PAPER)
    folds = drawn(data)
    assert data.task.groups["from-near"] == ("Mass", "Pleural Effusion", "Pneumothorax")
    for fold in folds:
        assert fold.test[0] == ("test0", "test1", "test2", "test3")
        assert fold.test[1].tolist() == [[1, 0, 0], [-1, 1, 0], [0, 0, 0], [0, 1, 1]]
        assert fold.valid is not None
        assert fold.valid[0] == ("near:valid0", "near:valid1", "near:valid2", "near:valid3")
        assert fold.valid[1].tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 1, 1]]  # Mass, Effusion, Air of near
        assert all(i.startswith("near:train") for i in fold.train[1][0])
    assert [data.owner(i).task.name for i in folds[0].scored[3:5]] == ["far", "near"]


@pytest.mark.parametrize(
    ("source", "target", "told"),
    [
        (near(), several("far", FAR), "near is a single-label task and far a multi-label one"),
        (
            several("near", NEAR),
            laid(made_task("far", ("Fracture",), kind="multi-label"), {"test": rows("b", ["Fracture"], ("Fracture",))}),
            "both have no label by the mapping, and one is needed; near has Normal .not mapped., Effusion .Fluid., .*; "
            "far has Fracture .not mapped.",
        ),
        (
            near(),
            laid(made_task("far", ("Mass", "Normal")), {"test": rows("b", ["Mass"], ("Mass", "Normal"))}),
            "both have Lump alone by the mapping, and two classes are needed",
        ),
        (
            laid(made_task("near", NEAR), {"test": rows("a", ["Mass"], NEAR)}),
            far(),
            "near: split one has no training part, .* --set near.split=NAME",
        ),
    ],
    ids=["kinds", "no label", "one class", "no training part"],
)
def test_pairs_that_do_not_meet_are_refused_with_the_reason(source: TaskData, target: TaskData, told: str) -> None:
    with pytest.raises(NotApplicableError, match=told):
        pair(source, target, MAPPING, PAPER)


def test_the_way_out_is_the_choice_by_which_they_meet() -> None:
    with pytest.raises(NotApplicableError, match="--mapping as-named or rsna-classes lets them meet"):
        task, other = catalog.load_task("rsna"), catalog.load_task("covid")
        pair(TaskData(task, far().partition, Path()), TaskData(other, far().partition, Path()), MAPPING, PAPER)


def test_a_mapping_is_in_the_name_of_the_group_only_where_it_adds_something() -> None:
    more = replace(MAPPING, added={"None": {"near": "Normal", "far": "Normal"}}, name="mine")
    found = trained(pair(near(), far(), more, PAPER))
    assert (found.group, found.facts["mapping"], len(found.shared)) == ("from-near+mine", "mine", 4)
    other = LabelMapping(MAPPING.strict, {"None": {"near": "Normal"}}, "mine")
    assert trained(pair(near(), far(), other, PAPER)).group == "from-near"
    assert trained(pair(near(), far(), other, PAPER)).facts["mapping"] is None


def test_a_group_of_the_tasks_own_that_is_named_so_is_refused() -> None:
    taken = far(groups={"all": list(FAR), "from-near": ["Mass", "Normal"]})
    with pytest.raises(SpecError, match="far has a group 'from-near' of its own"):
        pair(near(), taken, MAPPING, PAPER)


@pytest.mark.parametrize("whose", ["p2", "image:a1"])
def test_an_image_without_a_known_patient_leaves_the_two_sides_in_doubt(whose: str) -> None:
    """RSNA's images that no mapping names are patients of their own, and may yet be the other side's."""
    classes = ["Effusion", "Mass", "Air", "Effusion"]
    source = laid(made_task("near", NEAR, **ONE_POOL), {"train": rows("a", classes, NEAR, ["p1", whose, "p3", "p4"])})
    own = ["Mass", "Pneumothorax", "Pleural Effusion"]
    parts = {"train": rows("t", FAR, FAR), "test": rows("b", own, FAR, ["p1", "q2", "q3"])}
    told = trained(pair(source, laid(made_task("far", FAR, **ONE_POOL), parts), MAPPING, PAPER)).facts
    assert told["left_out"] == {"of patients of the scored part": 1}
    assert told["apart"] == ("patients" if whose == "p2" else "unknown")
    assert ("of 1 rows" in told["doubt"]) == (whose != "p2")


@pytest.mark.parametrize("turned", [False, True])
def test_a_retrieval_task_meets_no_other_and_is_named(turned: bool) -> None:
    retrieval = laid(catalog.load_task("retrieval_mimic5x200"), {"all": rows("r", ["Normal"], FAR)})
    both = (far(), retrieval) if turned else (retrieval, far())
    with pytest.raises(NotApplicableError, match="nothing is fitted to a retrieval task"):
        pair(*both, MAPPING, PAPER)
