"""What a split consists of, written down without the images and checked again."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cxrbench.data.manifest import check, manifest, read_manifest
from cxrbench.errors import IntegrityError
from cxrbench.store.sealed import CHECKSUM, with_checksum
from cxrbench.types import UNKNOWN, Partition, Table


def partition(ids: tuple[str, ...] = ("a", "b", "b"), labels: tuple[int, ...] = (0, 1, 1)) -> Partition:
    one_hot = np.eye(2, dtype=np.int8)[list(labels)]
    train = Table(ids, one_hot, ("Normal", "Pneumonia"), tuple(f"patient of {name}" for name in ids))
    return Partition("rsna", "s", {"train": train}, {"a": Path("/private/home/a.dcm")})


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    made = manifest(partition())
    made.write(tmp_path / "m.json")
    assert read_manifest(tmp_path / "m.json") == made
    assert check(read_manifest(tmp_path / "m.json"), partition()) == []
    assert made.digest == partition().digest
    part = made.parts["train"]
    assert (part.rows, part.distinct, part.counts) == (3, 2, {"Normal": 1, "Pneumonia": 2})
    assert part.labels == ((0,), (1,), (1,))


def test_labels_that_nobody_can_tell_are_read_back(tmp_path: Path) -> None:
    labels = np.array([[1, 0], [UNKNOWN, 1], [0, UNKNOWN]], np.int8)
    made = Partition("t", "s", {"test": Table(("a", "b", "c"), labels, ("x", "y"))}, {})
    manifest(made).write(tmp_path / "m.json")
    read = read_manifest(tmp_path / "m.json")
    assert read.digest == made.digest and check(read, made) == []
    assert (read.parts["test"].labels, read.parts["test"].unknown) == (((0,), (1,), ()), ((), (0,), (1,)))
    assert read.parts["test"].counts == {"x": 1, "y": 1}


def test_a_manifest_tells_neither_folders_nor_patients(tmp_path: Path) -> None:
    manifest(partition()).write(tmp_path / "m.json")
    text = (tmp_path / "m.json").read_text()
    assert "private" not in text
    assert "patient of" not in text


@pytest.mark.parametrize(
    ("ids", "labels", "said"),
    [
        (("a", "b", "c"), (0, 1, 1), "0 images are not here and 1 are new, such as c"),
        (("b", "a", "b"), (1, 0, 1), "the same images stand in another order"),
        (("a", "b"), (0, 1), "3 rows in the manifest, 2 here, of the same images"),
        (("a", "b", "b"), (0, 0, 1), "rows per class"),
        (("a", "b", "b"), (1, 0, 1), "some images carry another label"),
    ],
)
def test_differences_are_named(ids: tuple[str, ...], labels: tuple[int, ...], said: str) -> None:
    differences = check(manifest(partition()), partition(ids, labels))
    assert any(said in line and line.startswith("part train: ") for line in differences)


def test_other_bytes_under_the_same_ids_are_a_difference(tmp_path: Path) -> None:
    manifest(partition(), {"a": "1" * 64}).write(tmp_path / "m.json")
    read = read_manifest(tmp_path / "m.json")
    assert check(read, partition(), {"a": "1" * 64, "b": "3" * 64}) == []
    assert "hold other bytes" in check(read, partition(), {"a": "2" * 64})[0]
    (tmp_path / "m.json").write_text((tmp_path / "m.json").read_text().replace("1" * 64, "2" * 64))
    with pytest.raises(IntegrityError, match="does not have its checksum"):
        read_manifest(tmp_path / "m.json")


def test_another_split_is_named() -> None:
    other = Partition("rsna", "t", {"test": partition().parts["train"]}, {})
    assert check(manifest(partition()), other) == [
        "split: 's' in the manifest, 't' here",
        "parts: ('train',) in the manifest, ('test',) here",
    ]


def test_a_manifest_whose_ids_were_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    manifest(partition()).write(path)
    text = path.read_text()
    path.write_text(text.replace('["a", "b", "b"]', '["a", "c", "b"]'))
    assert path.read_text() != text
    with pytest.raises(IntegrityError, match="does not have its checksum"):
        read_manifest(path)
    path.write_text("{")
    with pytest.raises(IntegrityError, match="is no JSON"):
        read_manifest(path)
    path.write_text(json.dumps(with_checksum({"task": "rsna"})))
    with pytest.raises(IntegrityError, match="is no manifest"):
        read_manifest(path)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda m: m["parts"]["train"].update(rows=4), "part train: rows: "),
        (lambda m: m["parts"]["train"].update(distinct=3), "part train: distinct: "),
        (lambda m: m["parts"]["train"]["counts"].update(Normal=2), "part train: counts: "),
        (lambda m: m["parts"]["train"].update(set_sha256="0" * 64), "part train: set_sha256: "),
        (lambda m: m["parts"]["train"].update(labels_sha256="0" * 64), "part train: labels_sha256: "),
        (lambda m: m["parts"]["train"].update(labels=[[1], [0], [1]]), "part train: labels_sha256: "),
        (lambda m: m["parts"]["train"].update(labels=[[0], [0], [1]]), "part train: counts, labels_sha256: "),
        (lambda m: m["parts"]["train"].update(labels=[[0], [1]]), "part train: labels: "),
        (lambda m: m["parts"]["train"].update(labels=[[0], [1], [2]]), "part train: labels: "),
        (lambda m: m["parts"]["train"].update(labels=[[0], [1], [-1]]), "part train: labels: "),
        (lambda m: m["parts"]["train"].update(labels=[[0], [1], [1, 1]]), "part train: labels: "),
        (lambda m: m.update(classes=["Pneumonia", "Normal"]), "part train: counts: "),
        (lambda m: m.update(digest="0" * 64), ": digest: "),
        (lambda m: m["parts"].update(test=m["parts"]["train"]), ": digest: "),
        (lambda m: m.update(parts={}), ": digest: "),
    ],
)
def test_every_edit_of_a_manifest_is_seen_and_named(
    edit: Callable[[dict[str, Any]], None], said: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.json"
    manifest(partition()).write(path)
    content = json.loads(path.read_text())
    del content[CHECKSUM]
    edit(content)
    path.write_text(json.dumps(with_checksum(content)))
    with pytest.raises(IntegrityError, match=f"{path}: .*changed after it was written") as refused:
        read_manifest(path)
    assert said in str(refused.value)


def test_a_label_that_nobody_can_tell_is_not_taken_for_one_that_holds(tmp_path: Path) -> None:
    labels = np.array([[1, -1], [0, 1], [-1, -1]], dtype=np.int8)
    unsure = Partition("t", "s", {"train": Table(("a", "b", "c"), labels, ("Edema", "Mass"))}, {})
    manifest(unsure).write(tmp_path / "m.json")
    read = read_manifest(tmp_path / "m.json")
    part = read.parts["train"]
    assert (part.labels, part.unknown) == (((0,), (1,), ()), ((1,), (), (0, 1)))
    assert check(read, unsure) == []
    sure = Partition("t", "s", {"train": Table(("a", "b", "c"), np.maximum(labels, 0), ("Edema", "Mass"))}, {})
    assert any("another label" in line for line in check(read, sure))
