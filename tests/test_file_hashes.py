"""What a file holds is remembered until the file changes, and believed only from lines that are whole."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrbench.store import digest
from cxrbench.store.file_hashes import FileHashes, Stamp, _quoted, _unquoted, stamp


def remember(cache: Path, root: Path, path: Path) -> None:
    at = stamp(path)
    assert at is not None
    FileHashes(cache, root).add([(path, at, digest.of_file(path))])


def test_unchanged_file_is_known_to_a_later_process(tmp_path: Path) -> None:
    path = tmp_path / "data" / "a.png"
    path.parent.mkdir()
    path.write_bytes(b"1")
    assert FileHashes(tmp_path / "cache", path.parent).known(path) is None
    remember(tmp_path / "cache", path.parent, path)
    assert FileHashes(tmp_path / "cache", path.parent).known(path) == digest.of_bytes(b"1")


def test_changed_file_is_unknown(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    path.write_bytes(b"2")
    os.utime(path, ns=(1, 1))
    assert FileHashes(tmp_path / "cache", tmp_path).known(path) is None


def test_torn_last_line_is_ignored_and_mended(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path in paths:
        path.write_bytes(path.name.encode())
    remember(tmp_path / "cache", tmp_path, paths[0])
    (file,) = (tmp_path / "cache" / "file_hashes").glob("*.tsv")
    file.write_bytes(file.read_bytes() + b"0123torn")
    remember(tmp_path / "cache", tmp_path, paths[1])
    hashes = FileHashes(tmp_path / "cache", tmp_path)
    assert hashes.known(paths[0]) == digest.of_bytes(b"a")
    assert hashes.known(paths[1]) == digest.of_bytes(b"b")
    assert hashes.known(paths[2]) is None


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
    assert FileHashes(tmp_path / "cache", tmp_path).known(path) == digest.of_bytes(b"1")


def test_file_that_is_gone_is_unknown(tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "cache", tmp_path)
    hashes.add([(tmp_path / "gone", Stamp(1, 1, 1, 1), "0" * 64)])
    assert hashes.known(tmp_path / "gone") is None


def test_equal_entries_are_written_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    remember(tmp_path / "cache", tmp_path, path)
    (file,) = (tmp_path / "cache" / "file_hashes").glob("*.tsv")
    assert len(file.read_text().splitlines()) == 1


@pytest.mark.parametrize("line", ["", "x\ty\n", "0" * 64 + "\t1\tzwei\ta\n"])
def test_foreign_lines_are_ignored(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    (file,) = (tmp_path / "cache" / "file_hashes").glob("*.tsv")
    file.write_text(line + file.read_text())
    assert FileHashes(tmp_path / "cache", tmp_path).known(path) == digest.of_bytes(b"1")


def in_place(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def in_its_place(path: Path, data: bytes) -> None:
    made = path.with_name("other")
    made.write_bytes(data)
    made.replace(path)


def as_copied(path: Path, data: bytes) -> None:
    made = path.with_name("other")
    made.write_bytes(data)
    shutil.copystat(path, made)
    shutil.copy2(made, path)


@pytest.mark.parametrize("change", [in_place, in_its_place, as_copied])
def test_equal_size_and_time_are_no_proof_of_equal_bytes(tmp_path: Path, change: Callable[[Path, bytes], None]) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    remember(tmp_path / "cache", tmp_path, path)
    before = path.stat()
    change(path, b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert FileHashes(tmp_path / "cache", tmp_path).known(path) is None


def test_a_hash_of_bytes_that_changed_while_they_were_read_is_not_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    at, content = stamp(path), digest.of_file(path)
    assert at is not None
    path.write_bytes(b"two")
    hashes = FileHashes(tmp_path / "cache", tmp_path)
    hashes.add([(path, at, content)])
    assert hashes.known(path) is None
    assert not list((tmp_path / "cache").rglob("*.tsv"))


def test_a_stamp_that_a_later_change_could_share_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    changed = path.stat().st_ctime_ns
    monkeypatch.setattr("cxrbench.store.file_hashes.time.time_ns", lambda: changed + 10**6)  # the clock stands still
    at = stamp(path)
    assert at is not None
    assert not at.settled
    hashes = FileHashes(tmp_path / "cache", tmp_path)
    hashes.add([(path, at, digest.of_file(path))])
    assert hashes.known(path) is None


def test_nothing_is_believed_where_all_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    remember(tmp_path / "cache", tmp_path, path)
    hashes = FileHashes(tmp_path / "cache", tmp_path, rehash=True)
    assert hashes.known(path) is None
    at = stamp(path)
    assert at is not None
    hashes.add([(path, at, "f" * 64)])  # as a disk would have it that lost a bit of the file
    assert list(hashes.changed_unseen) == [path]
    assert FileHashes(tmp_path / "cache", tmp_path).known(path) == "f" * 64


def test_a_name_that_is_no_utf8_is_known_again(tmp_path: Path) -> None:
    root = tmp_path / os.fsdecode(b"fa\xe7ade")
    path = root / os.fsdecode(b"radiograf\xeda.png")
    try:
        root.mkdir()
        path.write_bytes(b"1")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes UTF-8 names only")
    remember(tmp_path / "cache", root, path)
    assert FileHashes(tmp_path / "cache", root).known(path) == digest.of_bytes(b"1")


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_table_gives_no_other_hash_and_is_mended(tmp_path: Path, seed: int) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path in paths:
        path.write_bytes(path.name.encode())
        remember(tmp_path / "cache", tmp_path, path)
    (file,) = (tmp_path / "cache" / "file_hashes").glob("*.tsv")
    whole, rng = file.read_bytes(), random.Random(seed)
    for _ in range(25):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        for damaged in (bytes(data), whole[: rng.randrange(len(whole))]):
            file.write_bytes(damaged)
            hashes = FileHashes(tmp_path / "cache", tmp_path)
            assert {hashes.known(path) for path in paths} <= {None, *(digest.of_bytes(p.name.encode()) for p in paths)}
            for path in paths:
                assert hashes.known(path) in (None, digest.of_file(path))
                remember(tmp_path / "cache", tmp_path, path)
            mended = FileHashes(tmp_path / "cache", tmp_path)
            assert [mended.known(path) for path in paths] == [digest.of_file(path) for path in paths]
            assert mended.damaged == 0


def test_damaged_lines_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    (file,) = (tmp_path / "cache" / "file_hashes").glob("*.tsv")
    line = file.read_bytes()
    file.write_bytes(line.replace(b"a.png", b"b.png") + line)
    assert FileHashes(tmp_path / "cache", tmp_path).damaged == 1


def table(cache: Path) -> Path:
    (file,) = (cache / "file_hashes").glob("*.tsv")
    return file


def test_stamps_of_files_as_they_were_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrbench.store.file_hashes._STALE", 8)
    paths, cache = [tmp_path / name for name in "abc"], tmp_path / "cache"
    hashes, most = FileHashes(cache, tmp_path), 0
    for turn in range(12):
        for path in paths:
            path.write_bytes(f"{path.name}{turn}".encode())
            at = stamp(path)
            assert at is not None
            hashes.add([(path, at, digest.of_file(path))])
        other = tmp_path / f"other{turn}"  # that another process reads meanwhile
        other.write_bytes(other.name.encode())
        remember(cache, tmp_path, other)
        most = max(most, len(table(cache).read_bytes().splitlines()))
    assert 12 < most <= 3 + 12 + 8 + 8
    there = [*paths, *(tmp_path / f"other{turn}" for turn in range(12))]
    for known in (FileHashes(cache, tmp_path), hashes):
        assert [known.known(path) for path in paths] == [digest.of_file(path) for path in paths]
    assert [FileHashes(cache, tmp_path).known(path) for path in there] == [digest.of_file(path) for path in there]


def test_a_table_of_files_that_do_not_change_is_only_appended_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cxrbench.store.file_hashes._STALE", 1)
    hashes, number = FileHashes(tmp_path / "cache", tmp_path), set[int]()
    for name in "abcdefgh":
        (tmp_path / name).write_bytes(b"1")
        at = stamp(tmp_path / name)
        assert at is not None
        hashes.add([(tmp_path / name, at, digest.of_bytes(b"1"))])
        number.add(table(tmp_path / "cache").stat().st_ino)
    assert len(number) == 1


def too_large(path: Path) -> None:
    os.truncate(path, 2 << 30)


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "below").mkdir(parents=True)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [too_large, a_folder, a_pipe])
def test_a_table_that_cannot_be_read_is_begun_anew(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    path, cache = tmp_path / "a", tmp_path / "cache"
    path.write_bytes(b"1")
    remember(cache, tmp_path, path)
    file = table(cache)
    assert not FileHashes(cache, tmp_path).unread
    spoil(file)
    hashes = FileHashes(cache, tmp_path)
    assert str(file) in hashes.unread
    assert hashes.known(path) is None
    remember(cache, tmp_path, path)
    found = FileHashes(cache, tmp_path)
    assert (found.known(path), found.unread, found.damaged) == (digest.of_bytes(b"1"), "", 0)
    assert file.stat().st_size < 1000
