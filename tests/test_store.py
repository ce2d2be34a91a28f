"""Embeddings survive kills, damage and company, and are read back as they were written."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_keys import made_key

from cxrbench.errors import IntegrityError
from cxrbench.store.embeddings import Store, digest
from cxrbench.store.shard import read_shard, shard_folders
from cxrbench.store.shard_files import RowFile, mapped_rows

KEY = made_key()
DIMS = {"pooled": 5, "joint": 3}


def image(number: int) -> str:
    return digest.of_bytes(str(number).encode())


def vectors(numbers: list[int]) -> dict[str, np.ndarray]:
    return {
        tap: np.array([np.arange(d) + 10.0 * n for n in numbers], np.float32).reshape(-1, d) for tap, d in DIMS.items()
    }


def fill(store: Store, batches: list[list[int]]) -> None:
    with store.writer(KEY, sum(map(len, batches)), DIMS) as writer:
        for batch in batches:
            writer.append([image(n) for n in batch], vectors(batch))


@given(st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=7), max_size=6))
@settings(max_examples=40, deadline=None)
def test_every_row_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, batches: list[list[int]]) -> None:
    store = Store(tmp_path_factory.mktemp("store"))
    fill(store, batches)
    numbers = sorted({n for batch in batches for n in batch})
    found = store.read(KEY)
    assert len(found) == len(numbers)
    for tap in DIMS:
        if numbers:
            np.testing.assert_array_equal(found.rows(tap, [image(n) for n in numbers]), vectors(numbers)[tap])


def test_taps_are_plain_npy_of_the_rows_written(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writer(KEY, 100, DIMS) as writer:
        writer.append([image(1), image(2)], vectors([1, 2]))
    (shard,) = shard_folders(next(store.entries())[1])
    np.testing.assert_array_equal(np.load(shard / "pooled.npy"), vectors([1, 2])["pooled"])


def test_unclosed_shard_is_read_up_to_its_journal(tmp_path: Path) -> None:
    writer = Store(tmp_path).writer(KEY, 10, DIMS)
    writer.append([image(1)], vectors([1]))
    writer.commit()
    found = Store(tmp_path).read(KEY)
    assert image(1) in found
    np.testing.assert_array_equal(found.rows("joint", [image(1)]), vectors([1])["joint"])
    writer.close()


@pytest.mark.parametrize("file", ["rows.bin", "pooled.npy", "joint.npy", "journal.bin"])
def test_damage_is_told_and_its_rows_are_none(tmp_path: Path, file: str) -> None:
    store = Store(tmp_path)
    with store.writer(KEY, 3, DIMS) as writer:
        for batch in ([1, 2], [3]):
            writer.append([image(n) for n in batch], vectors(batch))
            writer.commit()
    (shard,) = shard_folders(next(store.entries())[1])
    data = bytearray((shard / file).read_bytes())
    data[-1] ^= 0xFF
    (shard / file).write_bytes(bytes(data))
    found = store.read(KEY)
    assert found.check([image(1), image(3)]) == file.endswith(".npy")
    assert image(1) in found and image(3) not in found
    with pytest.raises(IntegrityError, match="no rows of 1 images"):
        found.rows("pooled", [image(1), image(3)])
    np.testing.assert_array_equal(found.rows("pooled", [image(1)]), vectors([1])["pooled"])
    (fault,) = read_shard(shard).verify()
    told = {"journal.bin": "journal.bin is damaged behind its first 1 groups", "rows.bin": "1 of 2 groups"}
    assert told.get(file, "1 of 3 rows do not fit their checksum") in fault


def test_a_damaged_row_asked_for_without_a_check_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, [[1, 2]])
    (path,) = tmp_path.rglob("joint.npy")
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    found = store.read(KEY)
    assert image(2) in found  # nothing is known against it before it is read
    with pytest.raises(IntegrityError, match="1 of which do not have their checksum"):
        found.rows("pooled", [image(2)])
    assert image(2) not in found


def test_of_a_damaged_row_the_next_of_its_image_is_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, [[1, 2]])
    (path,) = tmp_path.rglob("joint.npy")
    fill(store, [[2]])
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    found = store.read(KEY)
    np.testing.assert_array_equal(found.rows("joint", [image(2), image(1)]), vectors([2, 1])["joint"])
    assert image(2) in found and len(found) == 2


def test_images_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    """The index holds eight bytes of each; images that share them are compared as a whole."""
    store, images = Store(tmp_path), [f"{'ab' * 8}{n:048x}" for n in range(4)]
    with store.writer(KEY, 4, DIMS) as writer:
        writer.append(images[:3], vectors([0, 1, 2]))
        writer.commit()
        writer.append(images[1:2], vectors([1]))
    found = store.read(KEY)
    assert found.has(images).tolist() == [True, True, True, False] and len(found) == 3
    np.testing.assert_array_equal(found.rows("pooled", images[2::-1]), vectors([2, 1, 0])["pooled"])


def test_what_is_not_committed_is_there_for_no_reader(tmp_path: Path) -> None:
    writer = Store(tmp_path).writer(KEY, 10, DIMS)
    writer.append([image(1)], vectors([1]))
    assert image(1) not in Store(tmp_path).read(KEY)
    writer.close()
    assert image(1) in Store(tmp_path).read(KEY)


def test_two_writers_do_not_disturb_each_other(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writer(KEY, 4, DIMS) as one, store.writer(KEY, 4, DIMS) as two:
        one.append([image(1)], vectors([1]))
        two.append([image(1), image(2)], vectors([1, 2]))
        one.append([image(3)], vectors([3]))
    found = store.read(KEY)
    assert len(found) == 3
    np.testing.assert_array_equal(found.rows("pooled", [image(3), image(2)]), vectors([3, 2])["pooled"])


def test_another_key_shares_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, [[1]])
    other = made_key(recipe="s" * 64)
    assert image(1) not in store.read(other)


def test_missing_image_and_tap_are_errors(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, [[1]])
    with pytest.raises(IntegrityError, match="run again"):
        store.read(KEY).rows("pooled", [image(2)])
    with pytest.raises(IntegrityError, match="label"):
        store.read(KEY).rows("label", [image(1)])


@pytest.mark.parametrize(
    ("taps", "words"),
    [
        ({"pooled": np.zeros((1, 5), np.float32)}, "announced"),
        ({"pooled": np.zeros((1, 4), np.float32), "joint": np.zeros((1, 3), np.float32)}, "shape"),
        ({"pooled": np.full((1, 5), np.nan, np.float32), "joint": np.zeros((1, 3), np.float32)}, "finite"),
    ],
)
def test_wrong_batch_is_refused(tmp_path: Path, taps: dict[str, np.ndarray], words: str) -> None:
    with Store(tmp_path).writer(KEY, 3, DIMS) as writer, pytest.raises(IntegrityError, match=words):
        writer.append([image(1)], taps)


def test_notes_stay_with_their_image(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.writer(KEY, 2, DIMS) as writer:
        writer.append([image(1), image(2)], vectors([1, 2]), [(), ("all black",)])
    assert store.read(KEY).notes(image(1)) == ()
    assert store.read(KEY).notes(image(2)) == ("all black",)


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3, 5), }"


@pytest.mark.parametrize(
    "other",
    [
        HEADER.replace(b"<f4", b"<i4"),
        HEADER.replace(b"<f4", b">f4"),
        HEADER.replace(b"<f4", b"<f2"),
        HEADER.replace(b"False", b"True "),
        HEADER.replace(b"(3, 5)", b"(5, 3)"),
        HEADER.replace(b"(3, 5)", b"(4, 5)"),
        b"[" * len(HEADER),
    ],
)
def test_a_header_that_tells_other_facts_makes_the_rows_unreadable(other: bytes, tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, [[1, 2], [3]])
    (path,) = tmp_path.rglob("pooled.npy")
    assert path.read_bytes().count(HEADER) == 1
    path.write_bytes(path.read_bytes().replace(HEADER, other))
    found = store.read(KEY)
    assert len(found) == 0
    assert "pooled.npy has not the header of float32 rows of 5 values" in found.faults[path.parent.name][0]
    fill(store, [[1, 2], [3]])
    np.testing.assert_array_equal(store.read(KEY).rows("pooled", [image(3)]), vectors([3])["pooled"])


def shard_of(store: Store, number: int, scale: float, name: str, monkeypatch: pytest.MonkeyPatch, time_ns: int) -> Path:
    """A shard of one image, of a given name and time."""
    monkeypatch.setattr(time, "time_ns", lambda: time_ns)
    before = set(store.root.glob("??/*/shard-*"))
    monkeypatch.setattr("cxrbench.store.embeddings.uuid.uuid4", lambda: SimpleNamespace(hex=name))
    with store.writer(KEY, 1, DIMS) as writer:
        taps = {tap: scale * rows for tap, rows in vectors([number]).items()}
        writer.append([image(number)], taps, [(f"from {name}",)])
    (made,) = set(store.root.glob("??/*/shard-*")) - before
    return made


@pytest.mark.parametrize(("times", "first"), [((10, 20), "b"), ((20, 10), "a"), ((10, 10), "a")])
def test_the_row_that_was_finished_first_stays_whatever_the_shards_are_named(
    times: tuple[int, int], first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(tmp_path)
    shard_of(store, 1, 1.0, "b", monkeypatch, times[0])
    shard_of(store, 1, 1.5, "a", monkeypatch, times[1])
    found, scale = store.read(KEY), {"b": 1.0, "a": 1.5}[first]
    np.testing.assert_array_equal(found.rows("pooled", [image(1)]), np.float32(scale) * vectors([1])["pooled"])
    assert found.notes(image(1)) == (f"from {first}",)
    (conflict, _) = found.conflicts()
    assert {conflict.used, conflict.other} == {"shard-a", "shard-b"} and conflict.used == f"shard-{first}"


def test_rows_that_differ_by_rounding_alone_are_no_conflict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    for number, scale in enumerate((1.0, 1.0 + 1e-5)):
        shard_of(store, 1, scale, str(number), monkeypatch, number)
    assert list(store.read(KEY).conflicts()) == []


def test_a_shard_of_another_key_is_not_believed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, [[1]])
    other = made_key(recipe="s" * 64)
    with store.writer(other, 1, DIMS) as writer:
        writer.append([image(2)], vectors([2]))
    folders = store.folders()
    (shard,) = shard_folders(folders[KEY.digest])
    shard.rename(folders[other.digest] / shard.name)
    found = store.read(other)
    assert image(1) not in found and image(2) in found
    assert found.faults == {shard.name: ("shard.json is of another key",)}


def test_a_damaged_key_hides_no_other_and_no_rows(tmp_path: Path) -> None:
    store = Store(tmp_path)
    fill(store, [[1]])
    other = made_key(recipe="s" * 64)
    with store.writer(other, 1, DIMS) as writer:
        writer.append([image(2)], vectors([2]))
    (store.folders()[KEY.digest] / "key.json").write_text("{")
    assert [key for key, _ in store.entries()] == [other]
    assert image(1) in store.read(KEY)
    with store.writer(KEY, 1, DIMS) as writer:
        writer.append([image(3)], vectors([3]))
    assert len(list(store.entries())) == 2  # the next writer mends it


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_store import DIMS, KEY, image, vectors
from cxrbench.store.embeddings import Store
writer = Store(Path(sys.argv[1])).writer(KEY, 100_000, DIMS)
print("ready", flush=True)
for start in range(0, 100_000, 5):
    batch = list(range(start, start + 5))
    writer.append([image(n) for n in batch], vectors(batch))
    writer.commit()
"""


@pytest.mark.parametrize("wait", [0.02, 0.07, 0.15])
def test_kill_leaves_whole_groups_only(tmp_path: Path, wait: float) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(wait)
        os.kill(process.pid, signal.SIGKILL)
    found = Store(tmp_path).read(KEY)
    assert len(found) % 5 == 0
    numbers = list(range(len(found)))
    for tap in DIMS:
        if numbers:
            np.testing.assert_array_equal(found.rows(tap, [image(n) for n in numbers]), vectors(numbers)[tap])
    fill(Store(tmp_path), [[10**6]])
    assert image(10**6) in Store(tmp_path).read(KEY)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts open files as Linux shows them")
@pytest.mark.parametrize(("rows", "held"), [(10, 0), (400_000, 1)])
def test_rows_in_use_hold_no_file_open_but_one_for_a_large_mapping(rows: int, held: int, tmp_path: Path) -> None:
    """Before Python 3.13 a mapping keeps a descriptor of its own; thousands of small shards must not use them up."""
    path = tmp_path / "a.npy"
    file = RowFile(path, rows, 1)
    file.write(0, np.arange(rows, dtype="<f4"))
    file.close(rows)
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = mapped_rows(path, rows, 1, rows)
    assert len(list(Path("/proc/self/fd").iterdir())) - before == (0 if sys.version_info >= (3, 13) else held)
    assert np.array_equal(found[:, 0], np.arange(rows, dtype="<f4")) and not found.flags.writeable


def test_files_of_another_keys_shard_do_not_fit_beside_its_description(tmp_path: Path) -> None:
    """Everything but the description, so that only the batches themselves can tell whose they are."""
    store, other = Store(tmp_path), made_key(weights="other")
    fill(store, [[1, 2]])
    with store.writer(other, 2, DIMS) as writer:
        writer.append([image(1), image(2)], vectors([3, 4]))
    (mine,), (theirs,) = (shard_folders(store.folders()[key.digest]) for key in (KEY, other))
    for name in ("rows.bin", "journal.bin", *(f"{tap}.npy" for tap in DIMS)):
        shutil.copy(theirs / name, mine / name)
    assert image(1) not in store.read(KEY)
    assert store.read(KEY).faults
    assert len(store.read(other)) == 2


def test_shards_of_killed_writers_without_a_row_do_not_pile_up(tmp_path: Path) -> None:
    store = Store(tmp_path)
    for number in range(3):
        store.writer(KEY, 10, DIMS).append([image(number)], vectors([number]))  # killed before its first commit
    fill(store, [[1]])
    folder = store.folders()[KEY.digest]
    assert len(shard_folders(folder)) == 4, "they may be of writers that still live"
    for journal in folder.rglob("journal.bin"):
        os.utime(journal, (1, 1))
    fill(store, [[2]])
    assert len(shard_folders(folder)) == 2 and len(store.read(KEY)) == 2


def test_a_writer_whose_shard_was_removed_says_so(tmp_path: Path) -> None:
    writer = Store(tmp_path).writer(KEY, 10, DIMS)
    writer.append([image(1)], vectors([1]))
    (shard,) = tmp_path.rglob("shard-*")
    shutil.rmtree(shard)
    with pytest.raises(IntegrityError, match="was removed while rows were written"):
        writer.commit()


@pytest.mark.parametrize("cut", [True, False], ids=["the entry can be taken back", "it cannot"])
def test_a_journal_that_cannot_be_synced_costs_its_last_group_alone(
    cut: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a disk that fills up, or a mount that fails, at the worst moment."""
    writer = Store(tmp_path).writer(KEY, 10, DIMS)
    writer.append([image(1), image(2)], vectors([1, 2]))
    writer.commit()
    writer.append([image(3)], vectors([3]))

    def sync(file: Any) -> None:
        if file.name.endswith("journal.bin"):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr("cxrbench.store.shard.sync_file", sync)
        if not cut:
            real = writer._journal

            class Stuck:
                name = real.name

                def __getattr__(self, name: str) -> Any:
                    if name == "truncate":
                        raise OSError(errno.EIO, os.strerror(errno.EIO))
                    return getattr(real, name)

            patch.setattr(writer, "_journal", Stuck())
        with pytest.raises(OSError):
            writer.commit()
        with pytest.raises(OSError):
            writer.close()
    found = Store(tmp_path).read(KEY)
    assert image(1) in found and image(2) in found
    np.testing.assert_array_equal(found.rows("pooled", [image(2)]), vectors([2])["pooled"])


def test_a_journal_that_speaks_of_more_than_the_files_hold_is_read_as_far_as_they_do(tmp_path: Path) -> None:
    with Store(tmp_path).writer(KEY, 10, DIMS) as writer:
        writer.append([image(1)], vectors([1]))
        writer.commit()
        writer.append([image(2)], vectors([2]))
    (path,) = tmp_path.rglob("joint.npy")
    os.truncate(path, path.stat().st_size - 4)
    found = Store(tmp_path).read(KEY)
    assert image(1) in found and image(2) not in found
    assert "joint.npy holds 1 rows, and the journal speaks of 2" in next(iter(found.faults.values()))[0]
