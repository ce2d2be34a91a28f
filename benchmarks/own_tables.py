"""Indexing a CSV table of one's own with a million rows: CPU seconds and peak memory, as ratios to pandas reading it.

    python -m benchmarks.own_tables [--rows N] [--rounds N]

Each arm runs in a process of its own. `pandas` is `read_csv` of the whole table with all defaults; `index` reads the
columns that the task names, settles labels, checks ids, and lays the parts out (`cxrbench.data.sources.csv.tables`):
with a column that says the part, with shares of images, and with shares of patients by hash rank. Imports come before
the clock; peak memory is the whole process's (Linux: VmHWM), also less what it was after the imports. No image is
there: joining needs a walk of the folder, which `benchmarks.scale` measures.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.rounds import alternated, child, cpu_seconds, ratios

ARMS = ("column", "images", "patients")
FINDINGS = ("Normal", "Effusion", "Mass", "Edema")


def write_table(path: Path, rows: int) -> None:
    """A table as hospitals export it: path, patient, sex, age, view, finding, part, and a column of free words."""
    rng = np.random.default_rng(0)
    patients = rng.integers(0, rows // 4 + 1, rows).tolist()
    findings, parts = rng.integers(0, 4, rows).tolist(), rng.random(rows).tolist()
    with path.open("w", encoding="utf-8") as file:
        file.write("path,patient_id,sex,age,view,finding,split,remark\n")
        for n, (patient, finding, part) in enumerate(zip(patients, findings, parts, strict=True)):
            where = "train" if part < 0.7 else "test"
            file.write(
                f"files/p{patient % 100:02d}/p{patient:07d}/{n:09d}.dcm,p{patient:07d},{'FM'[patient % 2]},"
                f"{20 + patient % 70},{'AP' if n % 3 else 'PA'},{FINDINGS[finding]},{where},seen {n % 977} times\n"
            )


def by_pandas(path: str) -> dict[str, Any]:
    """The whole table, as pandas reads it."""
    import pandas as pd

    start = _peak_bytes()
    seconds, frame = cpu_seconds(lambda: pd.read_csv(path))
    return {"seconds": seconds, "rows": len(frame), "peak": _peak_bytes(), "start": start}


def by_index(path: str, split: str) -> dict[str, Any]:
    """The parts of a task on the table."""
    import pandas as pd

    from cxrbench.data.sources import csv
    from cxrbench.specs.task import TaskSpec

    table = Path(path)
    described = {"table": table.name, "image": "path", "label": "finding", "patient": "patient_id"}
    if split == "images":
        del described["patient"]
    rule = {"rule": "column", "params": {"column": "split"}} if split == "column" else {"rule": "ratios"}
    facts = {"name": "mine", "source": "csv", "labels": FINDINGS, "csv": described, "splits": {"own": rule}}
    task, call = TaskSpec.model_validate(facts), csv.tables
    assert pd.DataFrame is not None
    start = _peak_bytes()
    seconds, found = cpu_seconds(lambda: call(table.parent, task, "own"))
    return {"seconds": seconds, "rows": sum(map(len, found.parts.values())), "peak": _peak_bytes(), "start": start}


def _peak_bytes() -> int:
    """The most memory that this process has held so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


def measure(rows: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Ratios of every arm to pandas, round by round: CPU seconds, peak memory, and growth of memory."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "labels.csv"
        write_table(path, rows)
        calls: dict[str, Callable[[], dict[str, Any]]] = {
            "pandas": lambda: child("own_tables:by_pandas", path=str(path)),
            **{name: _arm(path, name) for name in ARMS},
        }
        found = alternated(calls, rounds)
    assert all(one["rows"] == rows for arm in found.values() for one in arm)
    told = {"pandas": _figures(found["pandas"])}
    for name in ARMS:
        told[name] = _figures(found[name]) | {
            f"{key} ratio": list(
                ratios([_of(one, key) for one in found[name]], [_of(one, key) for one in found["pandas"]])
            )
            for key in ("seconds", "peak", "growth")
        }
    return told


def _arm(path: Path, split: str) -> Callable[[], dict[str, Any]]:
    return lambda: child("own_tables:by_index", path=str(path), split=split)


def _figures(arm: list[dict[str, Any]]) -> dict[str, list[float]]:
    return {key: [_of(one, key) for one in arm] for key in ("seconds", "peak", "growth")}


def _of(one: dict[str, Any], key: str) -> float:
    return float(one["peak"] - one["start"] if key == "growth" else one[key])


def main() -> None:
    """Print the medians, and all rounds as JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.own_tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    found = measure(asked.rows, asked.rounds)
    for name, figures in found.items():
        told = {key: float(np.median(values)) for key, values in figures.items()}
        line = f"{name}: {told['seconds']:.2f} s, peak {told['peak'] / 2**20:.0f} MiB"
        if name != "pandas":
            line += (
                f"; over pandas: CPU {told['seconds ratio']:.2f}, peak {told['peak ratio']:.2f}, "
                f"memory beyond imports {told['growth ratio']:.2f}"
            )
        print(line)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
