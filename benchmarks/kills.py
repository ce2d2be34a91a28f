"""`cxrbench run` killed at random moments, again and again, until it ends by itself: is its outcome bit-equal?

    python -m benchmarks.kills [--kills 100] [--seed 0] [--most 6]

Each round starts the run of `tests/bench/test_kill.py` with two models in an empty folder and kills it by SIGKILL up to
`--most` times, each time after a random part of the time that an undisturbed run takes. Rows become durable at once, 20
times a second, or once a second, in turns. Going on must come to the undisturbed run's records, predictions and stored
vectors, and leave no temporary file and no empty shard that the next run would not remove. Exit code 1 if it did not.

Every run is forked from a process that has imported what a run imports: it is killed at work, and not at imports.
"""

import argparse
import importlib
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

MODELS = ("small_unimodal", "small_clip")
INTERVALS = (0, 0.05, 1.0)  # seconds between two commits
IMPORTED = ("torch", "torchvision", "pandas", "pyarrow.parquet", "sklearn.linear_model", "cxrbench.runner.run")
ROOT = Path(__file__).resolve().parent.parent


def run(words: list[str], every_s: float, log: Path) -> None:
    """The command line, in a forked process; what it says goes to a file."""
    from cxrbench.cli.main import main as command
    from cxrbench.store import committer

    with log.open("ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    committer.EVERY_S = every_s
    sys.argv = ["cxrbench", *words]
    command()


def started(words: list[str], every_s: float, log: Path) -> Any:
    """A run that goes on by itself."""
    process = multiprocessing.get_context("fork").Process(target=run, args=(words, every_s, log))
    process.start()
    return process


def finished(words: list[str], log: Path) -> float:
    """Run to the end; returns seconds."""
    began = time.monotonic()
    process = started(words, INTERVALS[-1], log)
    process.join()
    assert process.exitcode == 0, log.read_text(encoding="utf-8")
    return time.monotonic() - began


def killed(words: list[str], every_s: float, log: Path, moments: Callable[[], float], most: int) -> int:
    """Kill a run so often that it ends by itself, or `most` times; returns how often it was killed."""
    for count in range(most):
        process = started(words, every_s, log)
        process.join(moments())
        if process.exitcode is not None:
            assert process.exitcode == 0, log.read_text(encoding="utf-8")
            return count
        process.kill()
        process.join()
    return most


def main() -> int:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "bench")]
    from lab import build  # type: ignore[import-not-found]
    from test_kill import left_behind, outcome, vectors, words  # type: ignore[import-not-found]

    from cxrbench.store.embeddings import Store
    from cxrbench.store.shard import clear_abandoned

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=6)
    asked = parser.parse_args()
    for name in IMPORTED:
        importlib.import_module(name)
    moments, kills, rounds, wrong = random.Random(asked.seed), 0, 0, 0
    with TemporaryDirectory() as folder:
        lab, log = build(Path(folder) / "lab"), Path(folder) / "said.log"
        undisturbed = Path(folder) / "undisturbed"
        lasts = finished(words(lab, undisturbed, MODELS), log)
        expected = outcome(undisturbed), vectors(undisturbed)
        while kills < asked.kills:
            place, every_s, rounds = Path(folder) / f"round {rounds}", INTERVALS[rounds % len(INTERVALS)], rounds + 1
            told = words(lab, place, MODELS)
            count = killed(told, every_s, log, lambda: moments.uniform(0, lasts), asked.most)
            kills += count
            finished(told, log)
            found = outcome(place), vectors(place)
            equal = found == expected
            empty = len(left_behind(place))
            for journal in place.rglob("journal.bin"):
                os.utime(journal, (1, 1))
            for folder_of_key in Store(place / "cache").folders().values():
                clear_abandoned(folder_of_key)
            left = left_behind(place)
            wrong += not equal or bool(left)
            for name, own in expected[1].items():
                other = [image for image, row in own.items() if found[1].get(name, {}).get(image) != row]
                if other:
                    print(f"round {rounds}: {name[:8]} {len(other)} of {len(own)} vectors differ", flush=True)
            verdict = f"{'bit-equal' if equal else 'DIFFERS'}, {empty} empty shards, {len(left)} left after a minute"
            print(f"round {rounds}: {count} kills, {verdict}", flush=True)
    print(f"{kills} kills in {rounds} rounds over a run of {lasts:.1f} s: {wrong} rounds differ")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
