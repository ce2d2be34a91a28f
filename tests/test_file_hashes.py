"""What a file holds is remembered until the file changes, and believed only from records that are whole."""

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrbench.store import digest
from cxrbench.store.file_hashes import RECORD, FileHashes, Stamp, stamp


def remember(cache: Path, root: Path, path: Path) -> None:
    at = stamp(path)
    assert at is not None
    FileHashes(cache, root).add([(path, at, digest.of_file(path))])


def logs(cache: Path) -> list[Path]:
    return sorted((cache / "file_hashes").rglob("*.log"))


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


def test_every_record_of_many_is_its_own_and_the_last_of_a_name_counts(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.png" for n in range(300)]
    for number, path in enumerate(paths):
        path.write_bytes(bytes([number % 7]) * (number + 1))
    told = [(path, at, digest.of_file(path)) for path in paths if (at := stamp(path)) is not None]
    wrong = (paths[5], told[5][1], "0" * 64)
    FileHashes(tmp_path / "cache", tmp_path).add([wrong, *told])
    assert FileHashes(tmp_path / "cache", tmp_path).known_all(paths) == [content for _, _, content in told]


def test_names_with_line_breaks_and_tabs(tmp_path: Path) -> None:
    path = tmp_path / "a\tb\n\\n.png"
    path.write_bytes(b"1")
    remember(tmp_path / "cache", tmp_path, path)
    assert FileHashes(tmp_path / "cache", tmp_path).known(path) == digest.of_bytes(b"1")


def test_file_that_is_gone_is_unknown(tmp_path: Path) -> None:
    hashes = FileHashes(tmp_path / "cache", tmp_path)
    hashes.add([(tmp_path / "gone", Stamp(1, 1, 1, 1), "0" * 64)])
    assert hashes.known(tmp_path / "gone") is None


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
    assert not logs(tmp_path / "cache")


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


def written(root: Path, names: str) -> list[Path]:
    """Files below `root`, each with its name for content."""
    paths = [root / name for name in names]
    for path in paths:
        path.write_bytes(path.name.encode())
    return paths


def test_a_record_that_a_kill_cut_off_is_ignored(tmp_path: Path) -> None:
    paths, cache = written(tmp_path, "abc"), tmp_path / "cache"
    remember(cache, tmp_path, paths[0])
    (log,) = logs(cache)
    log.write_bytes(log.read_bytes() + b"0123torn")
    remember(cache, tmp_path, paths[1])
    hashes = FileHashes(cache, tmp_path)
    assert hashes.known_all(paths) == [digest.of_bytes(b"a"), digest.of_bytes(b"b"), None]
    assert [hashes.known(path) for path in paths] == hashes.known_all(paths)


def test_a_log_goes_on_behind_what_a_full_disk_cut_off(tmp_path: Path) -> None:
    paths, cache = written(tmp_path, "ab"), tmp_path / "cache"
    hashes = FileHashes(cache, tmp_path)
    for path in paths:
        at = stamp(path)
        assert at is not None
        hashes.add([(path, at, digest.of_file(path))])
        (log,) = logs(cache)
        log.write_bytes(log.read_bytes() + b"0123torn")
    assert FileHashes(cache, tmp_path).known_all(paths) == [digest.of_file(path) for path in paths]


def test_equal_entries_are_written_once(tmp_path: Path) -> None:
    (path,), cache = written(tmp_path, "a"), tmp_path / "cache"
    remember(cache, tmp_path, path)
    remember(cache, tmp_path, path)
    assert sum(log.stat().st_size for log in logs(cache)) == RECORD.itemsize


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_log_gives_no_other_hash_and_the_files_are_hashed_again(tmp_path: Path, seed: int) -> None:
    paths, cache = written(tmp_path, "01234"), tmp_path / "cache"
    hashes, rng = FileHashes(cache, tmp_path), random.Random(seed)
    for path in paths:
        at = stamp(path)
        assert at is not None
        hashes.add([(path, at, digest.of_file(path))])
    (log,) = logs(cache)
    whole, truth = log.read_bytes(), [digest.of_file(path) for path in paths]
    for _ in range(25):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        for damaged in (bytes(data), whole[: rng.randrange(len(whole))]):
            log.write_bytes(damaged)
            found = FileHashes(cache, tmp_path)
            assert all(known in (None, true) for known, true in zip(found.known_all(paths), truth, strict=True))
            assert [found.known(path) for path in paths] == found.known_all(paths)
            for path in paths:
                remember(cache, tmp_path, path)
            assert FileHashes(cache, tmp_path).known_all(paths) == truth
            for other in logs(cache):
                other.unlink() if other != log else None


def test_a_record_without_its_checksum_is_counted_and_an_older_one_serves(tmp_path: Path) -> None:
    (path,), cache = written(tmp_path, "a"), tmp_path / "cache"
    remember(cache, tmp_path, path)
    (log,) = logs(cache)
    data = bytearray(log.read_bytes())
    data[20] ^= 1  # of the content
    (log.parent / "later.log").write_bytes(data)
    hashes = FileHashes(cache, tmp_path)
    assert hashes.known_all([path]) == [digest.of_file(path)] and hashes.damaged <= 1
    log.unlink()
    hashes = FileHashes(cache, tmp_path)
    assert hashes.known(path) is None and hashes.damaged == 1


def test_two_processes_write_side_by_side_without_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On some mounts of a cluster a lock is given to everybody; nothing here asks for one."""
    monkeypatch.setattr("fcntl.flock", lambda *_: None)
    paths, cache = written(tmp_path, "abcd"), tmp_path / "cache"
    one, two = FileHashes(cache, tmp_path), FileHashes(cache, tmp_path)
    for place, path in enumerate(paths):
        at = stamp(path)
        assert at is not None
        (one, two)[place % 2].add([(path, at, digest.of_file(path))])
    assert FileHashes(cache, tmp_path).known_all(paths) == [digest.of_file(path) for path in paths]
    assert len(logs(cache)) == 2


def rest(cache: Path) -> None:
    """Let all logs be of processes that ended long ago."""
    for log in logs(cache):
        os.utime(log, (1, 1))


def test_many_logs_and_stamps_of_files_as_they_were_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrbench.store.file_hashes._LOGS", 5)
    cache, most = tmp_path / "cache", 0
    for turn in range(12):
        for name in "abc":
            path = tmp_path / name
            path.write_bytes(f"{name}{turn}".encode())
            remember(cache, tmp_path, path)
        rest(cache)
        most = max(most, len(logs(cache)))
    assert 5 < most <= 9
    paths = [tmp_path / name for name in "abc"]
    assert FileHashes(cache, tmp_path).known_all(paths) == [digest.of_file(path) for path in paths]
    (tmp_path / "d").write_bytes(b"d")
    remember(cache, tmp_path, tmp_path / "d")
    sizes = sum(log.stat().st_size for log in logs(cache)) // RECORD.itemsize
    assert sizes < 12 * 3


def test_logs_of_processes_that_may_still_write_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrbench.store.file_hashes._LOGS", 1)
    cache, paths = tmp_path / "cache", written(tmp_path, "abcd")
    for path in paths:
        remember(cache, tmp_path, path)
    assert len(logs(cache)) == len(paths)
    rest(cache)
    (tmp_path / "e").write_bytes(b"e")
    remember(cache, tmp_path, tmp_path / "e")
    assert len(logs(cache)) == 2
    assert FileHashes(cache, tmp_path).known_all(paths) == [digest.of_file(path) for path in paths]


def test_a_file_is_known_by_whichever_way_its_root_was_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (path,) = written(tmp_path / "data", "a")
    (tmp_path / "link").symlink_to("data")
    remember(tmp_path / "cache", tmp_path / "link", tmp_path / "link" / "a")
    for root, asked in ((tmp_path / "data", path), (tmp_path / "link", tmp_path / "link" / "a")):
        assert FileHashes(tmp_path / "cache", root).known(asked) == digest.of_bytes(b"a")


def too_large(path: Path) -> None:
    os.truncate(path, 5 << 30)


def a_folder(path: Path) -> None:
    path.unlink()
    (path / "below").mkdir(parents=True)


def a_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("spoil", [too_large, a_folder, a_pipe])
def test_a_log_that_cannot_be_read_is_named_and_left_out(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    (path,), cache = written(tmp_path, "a"), tmp_path / "cache"
    remember(cache, tmp_path, path)
    (log,) = logs(cache)
    assert not FileHashes(cache, tmp_path).unread
    spoil(log)
    hashes = FileHashes(cache, tmp_path)
    assert str(log) in hashes.unread and hashes.known(path) is None
    remember(cache, tmp_path, path)
    assert FileHashes(cache, tmp_path).known(path) == digest.of_file(path)
