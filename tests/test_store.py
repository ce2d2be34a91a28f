"""Embeddings survive kills, damage and company, and are read back as they were written."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_keys import made_key

from cxrbench.errors import IntegrityError
from cxrbench.store.atomic import sync_file
from cxrbench.store.embeddings import Store, digest
from cxrbench.store.shard import RowFile, mapped_rows, read_shard, shard_folders

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
    found = Store(tmp_path).read(KEY)
    assert image(1) in found
    np.testing.assert_array_equal(found.rows("joint", [image(1)]), vectors([1])["joint"])
    writer.close()


@pytest.mark.parametrize("file", ["ids.bin", "pooled.npy", "joint.npy", "journal.bin"])
def test_damaged_batch_is_left_out_and_counted(tmp_path: Path, file: str) -> None:
    store = Store(tmp_path)
    fill(store, [[1, 2], [3]])
    (shard,) = shard_folders(next(store.entries())[1])
    data = bytearray((shard / file).read_bytes())
    data[-1] ^= 0xFF
    (shard / file).write_bytes(bytes(data))
    found = store.read(KEY)
    assert image(1) in found
    assert image(3) not in found
    (fault,) = read_shard(shard).faults
    assert ("journal.bin is damaged behind its first 1 batches" if file == "journal.bin" else "1 of 2 batches") in fault


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
"""


@pytest.mark.parametrize("wait", [0.02, 0.07, 0.15])
def test_kill_leaves_whole_batches_only(tmp_path: Path, wait: float) -> None:
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
    file = RowFile(path, rows, 1, sync_file)
    file.write(0, np.arange(rows, dtype="<f4").tobytes())
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
    for name in ("ids.bin", "journal.bin", *(f"{tap}.npy" for tap in DIMS)):
        shutil.copy(theirs / name, mine / name)
    assert image(1) not in store.read(KEY)
    assert store.read(KEY).faults
    assert len(store.read(other)) == 2
