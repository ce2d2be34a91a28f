"""Files whole or not at all: with the permissions that were asked for, on mounts that cannot sync, after kills."""

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cxrbench.store import atomic
from cxrbench.store import atomic as durable
from cxrbench.store.atomic import (
    clear_dead,
    naming,
    sync_file,
    sync_folder,
    temporary_beside,
    write_atomically,
    written_whole,
)

UNIX = pytest.mark.skipif(os.name == "nt", reason="no umask, no flock")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def umask() -> Iterator[Callable[[int], None]]:
    before = os.umask(0o022)

    def choose(mask: int) -> None:
        os.umask(mask)

    yield choose
    os.umask(before)


@UNIX
@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600), (0o000, 0o666)])
def test_files_have_the_permissions_that_the_umask_leaves(
    mask: int, mode: int, umask: Callable[[int], None], tmp_path: Path
) -> None:
    umask(mask)
    for _ in range(2):  # new, and in place of another
        write_atomically(tmp_path / "new" / "file", b"content")
        assert (tmp_path / "new" / "file").stat().st_mode & 0o777 == mode


def test_an_error_leaves_what_was_there_and_no_temporary_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"before")
    with pytest.raises(KeyError), written_whole(path) as made:
        made.write_bytes(b"half")
        raise KeyError
    assert path.read_bytes() == b"before" and names(tmp_path) == ["file"]


def test_a_name_may_be_as_long_as_the_system_allows(tmp_path: Path) -> None:
    for name in ("n" * 255, "ü" * 127, "日" * 85):
        write_atomically(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF, errno.EACCES])
def test_a_mount_that_cannot_sync_folders_ends_nothing(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    sync_folder(tmp_path)
    write_atomically(tmp_path / "file", b"content")
    assert (tmp_path / "file").read_bytes() == b"content"


def test_a_disk_that_fails_to_sync_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        sync_folder(tmp_path)
    monkeypatch.setattr(os, "fdatasync", fail, raising=False)
    with pytest.raises(OSError, match="Input/output") as told:
        write_atomically(tmp_path / "file", b"content")
    assert told.value.filename == str(tmp_path / "file") and names(tmp_path) == []


def test_a_system_without_fdatasync_syncs_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[int] = []
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(os, "fsync", done.append)
    with (tmp_path / "file").open("wb") as file:
        file.write(b"content")
        sync_file(file)
        assert (tmp_path / "file").read_bytes() == b"content" and done == [file.fileno()]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_an_error_of_writing_names_the_file(number: int, tmp_path: Path) -> None:
    with pytest.raises(OSError) as told, written_whole(tmp_path / "file"):
        raise OSError(number, os.strerror(number))
    assert (told.value.errno, told.value.filename) == (number, str(tmp_path / "file"))
    with pytest.raises(OSError) as other, naming(tmp_path / "file"):
        raise OSError(number, os.strerror(number), "/elsewhere")
    assert other.value.filename == "/elsewhere"


def test_a_mount_that_cannot_rename_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(self), None, str(target))

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError) as told:
        write_atomically(tmp_path / "file", b"content")
    assert (told.value.filename, told.value.filename2) == (str(tmp_path / "file"), None)
    assert names(tmp_path) == []


WRITER = """
import sys, time
from pathlib import Path
from cxrbench.store.atomic import written_whole
with written_whole(Path(sys.argv[1])) as made:
    made.write_bytes(b"half of a checkpoint")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def writer(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process in the middle of writing `checkpoint`."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "checkpoint")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "writing\n"
    yield process
    process.kill()
    process.communicate()


@UNIX
def test_what_a_killed_writer_left_goes_at_the_next_write_and_a_living_ones_file_stays(
    writer: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    (left,) = names(tmp_path)
    assert clear_dead(tmp_path) == []
    writer.kill()
    writer.wait()
    (tmp_path / "my.tmp").write_bytes(b"somebody's own")
    atomic.clear_once.cache_clear()  # as in another process
    write_atomically(tmp_path / "next", b"x")
    assert names(tmp_path) == ["my.tmp", "next"], left


@UNIX
def test_files_of_other_machines_go_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock on a network drive may be unknown here."""
    monkeypatch.setattr(atomic, "_machine", lambda: "0123456789ab")
    with temporary_beside(tmp_path / "file") as made:
        made.write_bytes(b"half")
        monkeypatch.setattr(atomic, "_machine", lambda: "ba9876543210")
        assert clear_dead(tmp_path) == [] and made.exists()
        yesterday = time.time() - 25 * 3600
        os.utime(made, (yesterday, yesterday))
        assert clear_dead(tmp_path) == [made]


@UNIX
def test_without_locks_age_alone_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    fcntl = atomic.fcntl
    assert fcntl is not None
    lock = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", refuse)
    with temporary_beside(tmp_path / "file") as made:
        monkeypatch.setattr(fcntl, "flock", lock)  # a mount that gives locks by now must not take it for a dead one's
        assert clear_dead(tmp_path) == [] and made.exists()


@UNIX
def test_a_file_taken_before_it_was_locked_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fcntl = atomic.fcntl
    assert fcntl is not None
    lock, taken = fcntl.flock, list[str]()

    def late(handle: int, how: int) -> None:
        if not taken:
            taken.extend(names(tmp_path))
            (tmp_path / taken[0]).unlink()
        lock(handle, how)

    monkeypatch.setattr(fcntl, "flock", late)
    write_atomically(tmp_path / "file", b"content")
    assert len(taken) == 1 and (tmp_path / "file").read_bytes() == b"content"


def test_durable_files_are_used_by_all_that_writes(tmp_path: Path) -> None:
    """No module syncs by itself: what a mount or a system lacks is known in one place."""
    package = Path(durable.__file__).parents[1]
    files = list(package.rglob("*.py"))
    alone = {
        path.relative_to(package).as_posix()
        for path in files
        if path.name != "atomic.py" and any(word in path.read_text() for word in ("os.fsync(", "os.fdatasync("))
    }
    assert len(files) > 100 and alone == set()
