"""Runs one arm in a process of its own: `python -m benchmarks.child module:function '{"argument": 1}'`."""

import importlib
import json
import sys


def main() -> None:
    """Call the arm and print what it returns as the last line."""
    module, _, function = sys.argv[1].partition(":")
    arm = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    print(json.dumps(arm(**json.loads(sys.argv[2]))))


if __name__ == "__main__":
    main()
