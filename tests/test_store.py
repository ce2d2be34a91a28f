"""Embeddings survive kills, damage and company, and are read back as they were written."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrbench import digest
from cxrbench.errors import IntegrityError
from cxrbench.shard import read_shard, shard_folders
from cxrbench.store import Key, Store

KEY = Key(adapter="a:B", revision=1, options="o", weights="w" * 64, recipe="r" * 64, precision="float32")
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
    other = Key(**{**{f: getattr(KEY, f) for f in KEY.__slots__}, "recipe": "s" * 64})
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


KILLED = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from test_store import DIMS, KEY, image, vectors
from cxrbench.store import Store
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
