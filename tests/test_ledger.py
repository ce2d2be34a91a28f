"""What a file holds is remembered until the file changes."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench import digest
from cxrbench.ledger import Ledger, Stamp, _quoted, _unquoted, stamp


def remember(cache: Path, root: Path, path: Path) -> None:
    at = stamp(path)
    assert at is not None
    Ledger(cache, root).add([(path, at, digest.of_file(path))])


def test_unchanged_file_is_known_to_a_later_process(tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"1")
    assert Ledger(tmp_path / "cache", path.parent).known(path) is None
    remember(tmp_path / "cache", path.parent, path)
    assert Ledger(tmp_path / "cache", path.parent).known(path) == digest.of_bytes(b"1")


def test_changed_file_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    path.write_bytes(b"2")
    os.utime(path, ns=(1, 1))
    assert Ledger(tmp_path / "cache", tmp_path).known(path) is None


def test_torn_last_line_is_ignored_and_mended(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    remember(tmp_path / "cache", tmp_path, paths[0])
    (file,) = (tmp_path / "cache" / "ledger").glob("*.tsv")
    file.write_bytes(file.read_bytes() + b"0123torn")
    remember(tmp_path / "cache", tmp_path, paths[1])
    ledger = Ledger(tmp_path / "cache", tmp_path)
    assert ledger.known(paths[0]) == digest.of_bytes(b"a")
    assert ledger.known(paths[1]) == digest.of_bytes(b"b")
    assert ledger.known(paths[2]) is None


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_name_survives_the_file(name: str) -> None:
    quoted = _quoted(name)
    assert "\n" not in quoted
    assert "\t" not in quoted
    assert _unquoted(quoted) == name


def test_names_with_line_breaks_and_tabs(tmp_path: Path) -> None:
    path = tmp_path / "a\tb\n\\n.png"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    assert Ledger(tmp_path / "cache", tmp_path).known(path) == digest.of_bytes(b"1")


def test_file_that_is_gone_is_unknown(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "cache", tmp_path)
    ledger.add([(tmp_path / "gone", Stamp(1, 1), "0" * 64)])
    assert ledger.known(tmp_path / "gone") is None


def test_equal_entries_are_written_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    remember(tmp_path / "cache", tmp_path, path)
    (file,) = (tmp_path / "cache" / "ledger").glob("*.tsv")
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("line", ["", "x\ty\n", "0" * 64 + "\t1\tzwei\ta\n"])
def test_foreign_lines_are_ignored(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    (file,) = (tmp_path / "cache" / "ledger").glob("*.tsv")
    file.write_text(line + file.read_text())
    assert Ledger(tmp_path / "cache", tmp_path).known(path) == digest.of_bytes(b"1")
