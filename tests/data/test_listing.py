"""Folders as they are met: clutter, links, loops, near names, and a listing kept between runs."""

import errno
import os
import random
import tarfile
import time
from pathlib import Path, PurePosixPath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.data.listing import (
    IMAGE_SUFFIXES,
    Listing,
    image_stem,
    listing,
    matches,
    stem_key,
    without_image_suffix,
)
from cxrbench.store.folded_names import near
from cxrbench.store.sealed import read_sealed, write_sealed


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_clutter_and_skipped_folders_are_left_out(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/c.PNG", "._b.png", ".DS_Store", "Thumbs.db", "a/desktop.ini", ".hidden.png")
    touch(tmp_path, "__MACOSX/x.png", "masks/b.png", "Masks/b.png", "a/masks/b.png")
    assert listing(tmp_path, frozenset({"masks"})).files == ("a/c.PNG", "b.png")
    assert "masks/b.png" in listing(tmp_path).files


def test_odd_names_are_files_like_others(tmp_path: Path) -> None:
    names = ["name with  spaces (1).png", "radiografía_ñ_日本.png", "comma,semicolon;'quote.png", "trailing .png "]
    touch(tmp_path, *names)
    assert set(listing(tmp_path).files) == set(names)


def test_a_folder_named_like_an_image_is_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "directory.png/inside.png")
    assert listing(tmp_path).files == ("directory.png/inside.png",)


def test_links_are_followed_but_loops_are_not(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.png")
    (tmp_path / "real" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing.png")
    (tmp_path / "linked.png").symlink_to(tmp_path / "real" / "a.png")
    assert listing(tmp_path).files == ("linked.png", "real/a.png")


def test_a_linked_data_set_is_listed(tmp_path: Path) -> None:
    touch(tmp_path, "disk/images/a.png")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "data").symlink_to(tmp_path / "disk")
    assert listing(tmp_path / "root").files == ("data/images/a.png",)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert listing(tmp_path).files == ()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0)
    assert listing(tmp_path).unreadable == ("shut",)


def test_what_refuses_to_be_looked_at_is_named_and_never_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    touch(root, "a/one.png", "shut/two.png")
    (root / "away.png").symlink_to(tmp_path / ("x" * 300))  # of which the system says neither file nor folder
    real = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "shut":
            raise PermissionError(errno.EACCES, "Permission denied")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refusing)
        found = listing(root, cache=cache)
    assert (found.files, found.unreadable) == (("a/one.png",), ("away.png", "shut"))
    (root / "away.png").unlink()
    assert listing(root, cache=cache).files == ("a/one.png", "shut/two.png")


@pytest.mark.slow
def test_fifty_thousand_files_are_listed_sorted_and_once(tmp_path: Path) -> None:
    for number in range(50_000):
        (tmp_path / f"{number}.png").touch()
    files = listing(tmp_path).files
    assert list(files) == sorted(f"{number}.png" for number in range(50_000))


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour after the folders were made, so that their listings are kept."""
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 3600 * 10**9)


def edited(cache: Path, **changes: Any) -> None:
    """Change a kept listing as only its own writer could."""
    path = next(cache.rglob("*.json"))
    write_sealed(path, read_sealed(path) | changes)


@pytest.mark.usefixtures("later")
def test_a_kept_listing_is_taken_until_a_folder_changes(tmp_path: Path) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    touch(root, "a/one.png", "b/two.png")
    assert listing(root, cache=cache) == Listing(root, ("a/one.png", "b/two.png"))
    edited(cache, files=["a/kept.png", "b/two.png"])
    assert listing(root, cache=cache) == Listing(root, ("a/kept.png", "b/two.png"), kept=True)  # no second walk
    assert listing(root, cache=cache, afresh=True).files == ("a/one.png", "b/two.png")
    assert listing(root, cache=cache).kept
    touch(root, "b/three.png")
    assert listing(root, cache=cache) == Listing(root, ("a/one.png", "b/three.png", "b/two.png"))


@pytest.mark.usefixtures("later")
def test_a_folder_whose_time_was_set_back_is_walked_again(tmp_path: Path) -> None:
    """Two archives with one folder between them, each with the folder's old time: the second leaves it as the first."""
    root, cache, source = tmp_path / "data", tmp_path / "cache", tmp_path / "source"
    touch(source, "images/one.png", "images/two.png")
    os.utime(source / "images", (1e9, 1e9))
    seen = []
    for name in ("one", "two"):
        with tarfile.open(tmp_path / f"{name}.tar", "w") as archive:
            archive.add(source / "images", "images", recursive=False)
            archive.add(source / f"images/{name}.png", f"images/{name}.png")
        with tarfile.open(tmp_path / f"{name}.tar") as archive:
            archive.extractall(root, filter="tar")
        seen.append(listing(root, cache=cache).files)
    assert (root / "images").stat().st_mtime == 1e9
    assert seen == [("images/one.png",), ("images/one.png", "images/two.png")]


@pytest.mark.usefixtures("later")
def test_a_folder_put_in_anothers_place_is_walked(tmp_path: Path) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    touch(root, "a/one.png")
    touch(tmp_path, "other/two.png")
    listing(root, cache=cache)
    (root / "a").rename(tmp_path / "away")
    (tmp_path / "other").rename(root / "a")
    assert listing(root, cache=cache).files == ("a/two.png",)


@pytest.mark.usefixtures("later")
def test_a_link_that_dies_or_comes_to_life_is_seen(tmp_path: Path) -> None:
    """Neither changes the folder of the link, so nothing else shows it."""
    root, cache, disk = tmp_path / "data", tmp_path / "cache", tmp_path / "disk"
    touch(disk, "one.png")
    root.mkdir()
    (root / "one.png").symlink_to(disk / "one.png")
    assert listing(root, cache=cache).files == ("one.png",)
    assert listing(root, cache=cache).kept
    (disk / "one.png").unlink()
    assert listing(root, cache=cache).files == ()
    touch(disk, "one.png")
    assert listing(root, cache=cache).files == ("one.png",)


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize(
    "changes",
    [
        {"files": "one.png"},
        {"files": [1]},
        {"files": ["../secret.png"]},
        {"files": ["/etc/passwd"]},
        {"files": ["a/../../b.png"]},
        {"folders": {}},
        {"folders": {"": [1, 2]}},
        {"folders": {"": ["1", "2", "3"]}},
        {"folders": []},
        {"links": {"a": 1}},
        {"started": "now"},
        {"more": 1},
    ],
)
def test_a_kept_listing_of_another_kind_is_not_taken(tmp_path: Path, changes: dict[str, Any]) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    touch(root, "one.png")
    listing(root, cache=cache)
    edited(cache, **changes)
    assert listing(root, cache=cache) == Listing(root, ("one.png",))


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("seed", range(4))
def test_no_flip_or_cut_of_a_kept_listing_changes_what_is_listed(tmp_path: Path, seed: int) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    touch(root, "a/one.png", "a/two.png", "b/three.png")
    whole = listing(root, cache=cache)
    path = next(cache.rglob("*.json"))
    data, rng = path.read_bytes(), random.Random(seed)
    for _ in range(20):
        flipped = bytearray(data)
        flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        for damaged in (bytes(flipped), data[: rng.randrange(len(data))]):
            path.write_bytes(damaged)
            assert listing(root, cache=cache).files == whole.files


@pytest.mark.usefixtures("later")
def test_names_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    root, cache = tmp_path / os.fsdecode(b"fa\xe7ade"), tmp_path / "cache"
    name = os.fsdecode(b"radiograf\xeda.png")
    try:
        touch(root, name)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    assert listing(root, cache=cache).files == (name,)
    assert listing(root, cache=cache) == Listing(root, (name,), kept=True)


def test_a_listing_of_a_fresh_folder_is_not_trusted(tmp_path: Path) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    touch(root, "one.png")
    listing(root, cache=cache)
    (root / "two.png").touch()
    assert listing(root, cache=cache).files == ("one.png", "two.png")


def test_a_damaged_kept_listing_is_made_anew(tmp_path: Path) -> None:
    root, cache = tmp_path / "data", tmp_path / "cache"
    touch(root, "one.png")
    listing(root, cache=cache)
    next(cache.rglob("*.json")).write_text("{")
    assert listing(root, cache=cache).files == ("one.png",)


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.png", "a"),
        ("A.JPEG", "A"),
        ("00000003_000.dicom", "00000003_000"),
        ("1.2.276.0.823981", "1.2.276.0.823981"),
        ("1.2.276.0.823981.dcm", "1.2.276.0.823981"),
        ("a.webp", "a"),
        ("a.dcm.png", "a"),
        ("1.2.276.0.823981.dcm.PNG", "1.2.276.0.823981"),
        ("a.JP2", "a"),
        ("no_extension", "no_extension"),
        ("table.csv", None),
        ("table.csv.gz", None),
    ],
)
def test_image_stems(name: str, stem: str | None) -> None:
    assert image_stem(name) == stem
    assert stem_key(f"some/folder.d/{name}") == stem


@given(st.text("ab.1 /", max_size=9), st.sampled_from(["", ".png", ".dcm.png", ".PNG", ".gz"]))
def test_the_suffix_of_a_name_is_that_of_its_last_part(name: str, ending: str) -> None:
    path = f"{name}{ending}".rstrip("/.")
    bare = path
    while PurePosixPath(bare).suffix.casefold() in IMAGE_SUFFIXES:
        bare = bare.removesuffix(PurePosixPath(bare).suffix)
    assert without_image_suffix(path) == bare
    assert without_image_suffix(f"{path}/") == f"{path}/"


def test_the_first_of_several_files_is_taken_and_the_key_reported() -> None:
    found = matches(["a/x.png", "b/x.jpg", "b/y.png"], stem_key)
    assert found.files == {"x": "a/x.png", "y": "b/y.png"}
    assert found.duplicates == ("x",)


def test_near_names_differ_in_case_or_unicode_form() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert near(["view1", composed, "other"], ["VIEW1", decomposed]) == {"view1": "VIEW1", composed: decomposed}


@given(st.lists(st.text("abAB", max_size=4), unique=True), st.lists(st.text("abAB", max_size=4), unique=True))
def test_near_names_are_names_that_are_there(wanted: list[str], there: list[str]) -> None:
    found = near(wanted, there)
    assert set(found) <= set(wanted)
    assert set(found.values()) <= set(there)
    assert all(key.casefold() == value.casefold() for key, value in found.items())
