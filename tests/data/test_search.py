"""The search for a data set's folder: few folders are read, and what refuses is said."""

import errno
import os
from pathlib import Path

import pytest

from cxrbench.data import listing
from cxrbench.data.search import folders, has_table, located
from cxrbench.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def visited(root: Path, crowded: int = 2000) -> list[str]:
    return [folder.path.relative_to(root).as_posix() for folder in folders(root, crowded=crowded)]


def refuse(monkeypatch: pytest.MonkeyPatch, name: str, call: str) -> None:
    """The system refuses a call of `os` for paths that end in `name`."""
    real = getattr(os, call)

    def refusing(path: str | Path, *rest: object, **options: object) -> object:
        if str(path).endswith(name):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, *rest, **options)

    monkeypatch.setattr(os, call, refusing)


def test_crowded_folders_are_not_searched_below(tmp_path: Path) -> None:
    touch(tmp_path, *(f"images/p{n}/a.png" for n in range(12)), "tables/labels.csv")
    assert visited(tmp_path, crowded=10) == [".", "images", "tables"]


def test_folders_of_one_patient_are_not_searched(tmp_path: Path) -> None:
    touch(tmp_path, "train/patient00001/study1/a.jpg", "files/p10/p10000032/s50414267/a.jpg", "2.0.0/labels.csv")
    touch(tmp_path, "dicom/1.2.276.0.7230010.3.1.2.8323329.1000/1.2.276.0.7230010.3.1.3.8323329.999/a.dcm", "p10/b.csv")
    assert visited(tmp_path) == [".", "2.0.0", "dicom", "files", "p10", "train", "files/p10"]


def test_a_crowded_folder_is_read_in_part_but_its_table_is_found(tmp_path: Path) -> None:
    touch(tmp_path, *(f"all/{n}.png" for n in range(200)), "all/labels.csv.gz")
    folder = next(f for f in folders(tmp_path, crowded=10) if f.path.name == "all")
    assert (folder.whole, len(folder.names)) == (False, 10)
    assert has_table("labels")(folder)
    assert not has_table("others")(folder)


def test_a_folder_that_refuses_is_named_when_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "shut/labels.csv", "open/other.csv")
    refuse(monkeypatch, "shut", "scandir")
    with pytest.raises(DataError, match=f"found no labels.*not readable: {tmp_path}/shut\\)"):
        located(tmp_path, "A set", has_table("labels"), wanted="labels.csv")


def test_presence_tells_absent_from_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "folder/file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert listing.is_file(tmp_path / "folder/file")
    assert listing.is_folder(tmp_path / "folder")
    for absent in ("folder", "folder/none", "folder/file/below", "loop", "x" * 300):
        assert not listing.is_file(tmp_path / absent)
    refuse(monkeypatch, "folder/file", "stat")
    with pytest.raises(DataError, match="folder/file: cannot be looked at: Permission denied"):
        listing.is_file(tmp_path / "folder/file")
