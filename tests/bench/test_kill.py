"""`cxrbench run` killed in the middle, or run twice at once: finished work is kept, and the numbers are the same."""

import itertools
import re
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from forks import Fork, command_line, fork
from lab import Lab, numbers, records_of
from made_weights import TEXT_ENCODER

from cxrbench.records.record import record_path
from cxrbench.store.embeddings import Store, digest
from cxrbench.store.shard import read_shard
from cxrbench.store.shard_files import HEAD_BYTES

pytestmark = pytest.mark.slow

TASKS = ("covid", "chexpert5x200")
PATIENCE = 120.0  # seconds, many times what a run takes


def words(lab: Lab, place: Path, models: Sequence[str]) -> list[str]:
    """What the command line is told, with small batches so that there are many moments to be killed at."""
    said = ["run", *(w for model in models for w in ("--model", lab.model(model)))]
    said += [w for task in TASKS for w in ("--task", lab.task(task))]
    said += ["--data-root", str(lab.data[""]), "--variant", str(lab.variant), "--shots", "1,2,3,4", "--batch-size", "2"]
    said += ["--text-encoder", str(TEXT_ENCODER)]
    return [
        *said,
        "--device",
        "cpu",
        "--workers",
        "1",
        "--out",
        str(place / "results"),
        "--cache",
        str(place / "cache"),
    ]


def at_once(words: tuple[str, ...]) -> None:
    """The command line, with every batch durable at once."""
    from cxrbench.store import committer

    committer.EVERY_S = 0
    command_line(words)


def start(lab: Lab, place: Path, models: Sequence[str] = ("small_unimodal",)) -> Fork:
    """The command line in a process of its own."""
    said = next(path for n in itertools.count() if not (path := place / f"said{n}").exists())
    said.touch()
    return fork(at_once, tuple(words(lab, place, models)), said=said, cwd=place)


def finish(fork: Fork) -> int:
    """How many images the command says it encoded."""
    assert fork.ended(PATIENCE) == 0, fork.told
    found = re.search(r"(\d+) images decoded, (\d+) encoded", fork.told)
    assert found is not None, fork.told
    return int(found[2])


def kill_when(fork: Fork, ready: Callable[[], bool]) -> None:
    """SIGKILL as soon as something is so; fails if the process ends before."""
    end = time.monotonic() + PATIENCE
    while not ready():
        assert fork.process.is_alive() and time.monotonic() < end, f"it ended before it could be killed: {fork.told}"
        time.sleep(0.002)
    fork.process.kill()
    assert fork.ended(PATIENCE) == -signal.SIGKILL


def outcome(place: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """By record: its numbers and the digest of its predictions."""
    found = {}
    for record in records_of(place):
        path = record_path(place / "results", record.data.task, record.model.name, record.id)
        found[record.id] = (numbers(record), digest.of_file(path.with_name(record.predictions)))
    return found


def vectors(place: Path) -> dict[str, dict[str, bytes]]:
    """Every stored vector by key, tap and image."""
    stored = {key.digest: Store(place / "cache").read(key) for key, _ in Store(place / "cache").entries()}
    return {
        f"{key} {tap}": {
            image: row.tobytes() for image, row in zip(known.images, known.rows(tap, known.images), strict=True)
        }
        for key, known in stored.items()
        for tap in ("pooled", "joint")
    }


def left_behind(place: Path) -> list[Path]:
    """Temporary files, and shards without a row that was kept."""
    shards = [path for path in (place / "cache").rglob("shard-*") if not len(read_shard(path))]
    return [*place.rglob("*.tmp"), *shards]


@pytest.fixture(scope="module")
def undisturbed(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    place = tmp_path_factory.mktemp("undisturbed")
    return place, finish(start(lab, place))


def journalled(place: Path) -> int:
    """Batches that the journals of a cache speak of."""
    return sum(path.stat().st_size // HEAD_BYTES for path in (place / "cache").rglob("journal.bin"))


MOMENTS: dict[str, Callable[[Path], bool]] = {
    "first batch": lambda place: journalled(place) >= 1,
    "soon again": lambda place: journalled(place) >= 8,
    "half of the images": lambda place: journalled(place) >= 18,
    "some records": lambda place: len(list((place / "results").rglob("[0-9a-f]*.json"))) >= 2,
}


def test_a_run_that_is_killed_again_and_again_goes_on_to_the_same_result(
    lab: Lab, undisturbed: tuple[Path, int], tmp_path: Path
) -> None:
    (reference, total), kept = undisturbed, 0
    for moment, ready in MOMENTS.items():
        kill_when(start(lab, tmp_path), partial(ready, tmp_path))
        ((key, _),) = Store(tmp_path / "cache").entries()
        before, kept = kept, len(Store(tmp_path / "cache").read(key))
        assert kept > before, moment
        assert (kept < total) == (moment != "some records")
    assert 2 <= len(records_of(tmp_path)) < len(outcome(reference))
    assert finish(start(lab, tmp_path)) == 0
    assert outcome(tmp_path) == outcome(reference)
    assert vectors(tmp_path) == vectors(reference)


def test_two_processes_at_once_come_to_the_same_result(lab: Lab, undisturbed: tuple[Path, int], tmp_path: Path) -> None:
    reference, total = undisturbed
    both = [start(lab, tmp_path), start(lab, tmp_path)]
    encoded = [finish(process) for process in both]
    assert total <= sum(encoded) <= 2 * total
    assert outcome(tmp_path) == outcome(reference)
    assert vectors(tmp_path) == vectors(reference)
    assert finish(start(lab, tmp_path)) == 0
