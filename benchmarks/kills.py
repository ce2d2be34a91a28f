"""`cxrbench run` killed at random moments, again and again, until it ends by itself: is its outcome bit-equal?

    python -m benchmarks.kills [--kills 100] [--seed 0] [--most 6]

Each round starts the run of `tests/bench/test_kill.py` in an empty folder and kills it by SIGKILL up to `--most` times,
each time after a random part of the time that an undisturbed run takes. Going on must come to the undisturbed run's
records, predictions and stored vectors. Exit code 1 if it did not.
"""

import argparse
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent


def main() -> int:
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "bench")]
    from lab import build  # type: ignore[import-not-found]
    from test_kill import finish, outcome, start, vectors  # type: ignore[import-not-found]

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
        finish(start(lab, undisturbed))
        lasts = time.monotonic() - begun
        expected = outcome(undisturbed), vectors(undisturbed)
        while kills < asked.kills:
            place, before, rounds = Path(folder) / f"round {rounds}", kills, rounds + 1
            for _ in range(asked.most):
                process = start(lab, place)
                try:
                    process.communicate(timeout=moments.uniform(0, lasts))
                    break  # it ended first
                except subprocess.TimeoutExpired:
                    process.send_signal(signal.SIGKILL)
                    process.communicate()
                    kills += 1
            finish(start(lab, place))
            equal = (outcome(place), vectors(place)) == expected
            wrong += not equal
            print(f"round {rounds}: {kills - before} kills, {'bit-equal' if equal else 'DIFFERS'}", flush=True)
    print(f"{kills} kills in {rounds} rounds over a run of {lasts:.1f} s: {wrong} rounds differ")
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
