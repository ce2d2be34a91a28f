"""A folder a class: with and without folders of parts above, and what is not as it should be."""

from pathlib import Path
from typing import Any

import pytest
from made_own import laid_out, own_task, write_image

from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec


def write_folders(root: Path, *folders: str, each: int = 6, suffix: str = ".png") -> None:
    for place, name in enumerate(folders):
        for number in range(each):
            write_image(root / name / f"{place}_{number}{suffix}", number)


def folder_task(home: Path, **facts: Any) -> TaskSpec:
    return own_task(home, source="folder", **facts)


def test_folders_of_classes_are_cut_by_hash_rank(tmp_path: Path) -> None:
    write_folders(tmp_path, "A", "B")
    found = laid_out(folder_task(tmp_path))
    assert {name: part.counts for name, part in found.parts.items()} == {
        "train": {"A": 4, "B": 4},
        "test": {"A": 2, "B": 2},
    }
    assert found.paths["A/0_0.png"] == tmp_path / "A/0_0.png"


@pytest.mark.parametrize(("train", "valid", "test"), [("train", "val", "test"), ("Training", "validation", "Testing")])
def test_folders_above_the_classes_are_the_parts(train: str, valid: str, test: str, tmp_path: Path) -> None:
    write_folders(tmp_path, f"{train}/A", f"{train}/B", f"{valid}/A", f"{test}/A", f"{test}/B", each=3)
    found = laid_out(folder_task(tmp_path))
    assert {name: len(part) for name, part in found.parts.items()} == {"train": 6, "valid": 3, "test": 6}
    assert all(path.is_relative_to(tmp_path / test) for i, path in found.paths.items() if i in found.parts["test"].ids)


def test_images_of_any_kind_lie_at_any_depth_under_odd_names(tmp_path: Path) -> None:
    for name in ("x.dcm", "deep er/Ärger é (1).PNG", "1.2.840.7", "y.jpg.png"):
        write_image(tmp_path / "Schöne Lunge" / name)
        write_image(tmp_path / "B" / name)
    (tmp_path / "B" / "Thumbs.db").write_bytes(b"")
    (tmp_path / "B" / "notes.txt").write_text("no image")
    found = laid_out(folder_task(tmp_path, labels=["Schöne Lunge", "B"]))
    assert sum(map(len, found.parts.values())) == 8 and not found.findings.left_out


def test_other_folders_are_refused_or_left_out_by_count(tmp_path: Path) -> None:
    write_folders(tmp_path, "A", "B", "a", "masks/A")
    write_image(tmp_path / "loose.png")
    with pytest.raises(DataError, match="folder 'a' is none of the classes A, B"):
        laid_out(folder_task(tmp_path))
    found = laid_out(folder_task(tmp_path, folder={"ignore": ["a"], "skip": ["masks"]}))
    assert found.findings.left_out == {"the file is in no folder of a class": 1, "folder 'a' is no class": 6}


def test_folders_of_parts_beside_those_of_classes_are_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, "A", "B", "train/A")
    with pytest.raises(DataError, match=r"has folders of parts \(train\) beside folders of classes \(A, B\)"):
        laid_out(folder_task(tmp_path))


@pytest.mark.parametrize(
    ("folders", "said"),
    [
        (("A",), "class B has no image: looked for a folder 'B' (part train); folders of classes here: A."),
        (("A", "b"), "Is 'b' the one?"),
        (("train/A", "train/B"), "looked for a folder 'A' in a folder test"),
        ((), "folders of classes here: none"),
    ],
)
def test_a_class_without_an_image_is_told(folders: tuple[str, ...], said: str, tmp_path: Path) -> None:
    write_folders(tmp_path, *folders)
    with pytest.raises(DataError) as refused:
        laid_out(folder_task(tmp_path, folder={"ignore": ["*"]}))
    assert said in str(refused.value) and str(tmp_path) in str(refused.value)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is no such folder"):
        laid_out(folder_task(tmp_path, root="nowhere"))
