"""`cxrbench run` killed at random moments, again and again, until it ends by itself: is its outcome bit-equal?

    python -m benchmarks.kills [--kills 100] [--seed 0] [--most 6]

Each round starts the run of `tests/bench/test_kill.py` with two models in an empty folder and kills it by SIGKILL up to
`--most` times, each time after a random part of the time that an undisturbed run takes. Rows become durable at once, 20
times a second, or once a second, in turns. Going on must come to the undisturbed run's records, predictions and stored
vectors, and leave no temporary file and no empty shard that the next run would not remove. Exit code 1 if it did not.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

MODELS = ("small_unimodal", "small_clip")
INTERVALS = (0, 0.05, 1.0)  # seconds between two commits
ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "bench")]
    from lab import build  # type: ignore[import-not-found]
    from test_kill import finish, left_behind, outcome, start, vectors  # type: ignore[import-not-found]

    from cxrbench.store.embeddings import Store
    from cxrbench.store.shard import clear_abandoned

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most", type=int, default=6)
    asked = parser.parse_args()
    moments, kills, rounds, wrong = random.Random(asked.seed), 0, 0, 0
    with TemporaryDirectory() as folder:
        lab = build(Path(folder) / "lab")
        undisturbed = Path(folder) / "undisturbed"
        begun = time.monotonic()
        finish(start(lab, undisturbed, MODELS))
        lasts = time.monotonic() - begun
        expected = outcome(undisturbed), vectors(undisturbed)
        while kills < asked.kills:
            place, before, rounds = Path(folder) / f"round {rounds}", kills, rounds + 1
            for _ in range(asked.most):
                process = start(lab, place, MODELS, INTERVALS[rounds % len(INTERVALS)])
                try:
                    process.communicate(timeout=moments.uniform(0, lasts))
                    break  # it ended first
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
                    kills += 1
            finish(start(lab, place, MODELS))
            found = outcome(place), vectors(place)
            equal = found == expected
            empty = len(left_behind(place))
            for journal in place.rglob("journal.bin"):
                os.utime(journal, (1, 1))
            for folder_of_key in Store(place / "cache").folders().values():
                clear_abandoned(folder_of_key)
            left = left_behind(place)
            wrong += not equal or bool(left)
            told = f"{'bit-equal' if equal else 'DIFFERS'}, {empty} empty shards, {len(left)} left after a minute"
            for name, own in expected[1].items():
                other = [image for image, row in own.items() if found[1].get(name, {}).get(image) != row]
                if other:
                    print(f"round {rounds}: {name[:8]} {len(other)} of {len(own)} vectors differ", flush=True)
            print(f"round {rounds}: {kills - before} kills, {told}", flush=True)
    print(f"{kills} kills in {rounds} rounds over a run of {lasts:.1f} s: {wrong} rounds differ")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
