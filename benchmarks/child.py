"""Runs one arm in a process of its own: `python -m benchmarks.child module:function '{"argument": 1}'`."""

import importlib
import json
import os
import sys
from typing import Any

from benchmarks.rounds import cpu_seconds


def main() -> None:
    """Call the arm and print what it returns as the last line."""
    module, _, function = sys.argv[1].partition(":")
    arm = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    print(json.dumps(arm(**json.loads(sys.argv[2]))))


def about(word: str) -> dict[str, Any]:
    """An arm that tells where it runs."""
    clocked, squares = cpu_seconds(lambda: sum(number * number for number in range(200_000)))
    assert squares > 0
    return {"word": word, "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "clocked": clocked}


if __name__ == "__main__":
    main()
