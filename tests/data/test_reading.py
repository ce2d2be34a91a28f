"""The files of a split read once: what they hold, which are missing, which are no pictures."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrbench.data.manifest import content_differences, contents, read_all, read_before
from cxrbench.errors import ImageError, MissingImageError
from cxrbench.images.radiograph import read_bytes
from cxrbench.specs.recipe import Canvas
from cxrbench.store import digest
from cxrbench.store.file_hashes import FileHashes
from cxrbench.system.progress import Quiet


@pytest.fixture
def paths(tmp_path: Path) -> dict[str, Path]:
    """A picture, a file that is none, and two that are not there."""
    folder = tmp_path / "data"
    folder.mkdir()
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(folder / "good.png")
    (folder / "bad.png").write_bytes(b"<html>")
    (folder / "dead.png").symlink_to(folder / "nowhere.png")
    return {name: folder / f"{name}.png" for name in ("good", "bad", "dead", "gone")}


def test_missing_files_and_unreadable_ones_are_told_apart(paths: dict[str, Path], tmp_path: Path) -> None:
    read = read_all(paths, Canvas(), FileHashes(tmp_path / "cache", tmp_path), 2, Quiet())
    assert read.missing.keys() == {"dead", "gone"}
    assert read.unreadable.keys() == {"bad"}
    assert read.contents.keys() == {"good", "bad"}
    assert read.lost == 3


def test_who_was_interrupted_goes_on_and_what_is_wrong_is_told_again(
    paths: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = list[str]()

    def looked(path: Path) -> bytes:
        seen.append(path.stem)
        return read_bytes(path)

    def read(recipe: Canvas, rehash: bool = False) -> dict[str, str]:
        seen.clear()
        hashes = FileHashes(tmp_path / "cache", tmp_path)
        before = read_before(tmp_path / "cache", tmp_path, recipe, paths, rehash=rehash)
        found = read_all(paths, recipe, hashes, 1, Quiet(), before)
        assert (found.missing.keys(), found.unreadable.keys()) == ({"dead", "gone"}, {"bad"})
        return found.contents

    monkeypatch.setattr("cxrbench.data.manifest.read_bytes", looked)
    first = read(Canvas())
    assert seen == list(paths)
    assert read(Canvas()) == first and seen == ["bad", "dead", "gone"]
    assert read(Canvas(size=64)) == first and seen == list(paths), "another recipe may refuse other files"
    assert read(Canvas(), rehash=True) == first and seen == list(paths)
    Image.new("L", (8, 8)).save(paths["good"])
    assert read(Canvas())["good"] == digest.of_file(paths["good"]) and "good" in seen


@pytest.mark.parametrize("name", ["gone", "dead", "good/inside", "nowhere/inside"])
def test_a_file_that_is_not_there_is_missing(paths: dict[str, Path], name: str) -> None:
    folder = paths["good"].parent
    with pytest.raises(MissingImageError, match="no such file"):
        read_bytes(paths[name] if name in paths else folder / name.replace("good", "good.png"))


def test_a_file_that_is_there_is_not_missing(paths: dict[str, Path]) -> None:
    for path in (paths["good"].parent, Path(os.devnull)):
        with pytest.raises(ImageError) as refused:
            read_bytes(path)
        assert not isinstance(refused.value, MissingImageError)


def test_files_are_hashed_once_and_again_where_they_changed(paths: dict[str, Path], tmp_path: Path) -> None:
    def now(rehash: bool = False) -> tuple[dict[str, str], int]:
        found = contents(paths, FileHashes(tmp_path / "cache", tmp_path, rehash=rehash), 2, Quiet())
        assert found.lost.keys() == {"dead", "gone"}
        return dict(found.sha256), found.read

    first, read = now()
    assert first == {name: digest.of_file(paths[name]) for name in ("good", "bad")}
    assert (read, now()) == (4, (first, 2))  # those that are not there are looked for again
    assert now(rehash=True) == (first, 4)
    before = paths["bad"].stat()
    paths["bad"].write_bytes(b"<HTML>")
    os.utime(paths["bad"], ns=(before.st_atime_ns, before.st_mtime_ns))
    assert now() == ({**first, "bad": digest.of_bytes(b"<HTML>")}, 3)


def test_other_bytes_are_told_for_images_that_both_sides_know() -> None:
    assert content_differences({"a": "1", "b": "2"}, {"a": "1", "c": "3"}) == []
    assert content_differences({"a": "1", "b": "2"}, {"a": "1", "b": "3"})[0].startswith(
        "1 of 2 images hold other bytes than the manifest says, such as b"
    )
    assert content_differences({"a": "1"}, {"a": "2"})[0].startswith("all images hold other bytes")
