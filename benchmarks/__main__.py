"""All benchmarks in one go: `python -m benchmarks [--quick] [--data DIR] [--json FILE] [--only NAME ...]`."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from importlib import metadata
from pathlib import Path

from benchmarks import against_official, decode, folds, forward, intervals, overhead, pretrain, probe_solver, zoo
from benchmarks.material import Material, prepared
from benchmarks.rounds import Row, Target

FULL, QUICK = 5, 3  # rounds
WITHOUT_MATERIAL = {"probe", "zoo", "intervals", "report"}  # measurements that need no images
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "pillow", "pydicom")


def probe_rows(rounds: int) -> list[Row]:
    """`probe_solver` as rows."""
    return [
        Row(
            f"probe, {one.classes} classes, {one.rows} rows",
            one.ratios,
            Target(probe_solver.TARGET),
            bool(one.converged_gradient <= one.sklearn_gradient),
            f"{one.sklearn_ms:.1f} against {one.converged_ms:.2f} ms at equal quality",
        )
        for one in probe_solver.compare(rounds)
    ]


def measurements(material: Material, rounds: int) -> Mapping[str, Callable[[], Iterable[Row]]]:
    """Every measurement by name."""
    return {
        "decode": lambda: decode.rows(material, rounds),
        "forward": lambda: forward.rows(material, rounds),
        "probe": lambda: probe_rows(rounds),
        "folds": lambda: folds.rows(material, rounds),
        "overhead": lambda: overhead.rows(material, rounds),
        "official": lambda: against_official.rows(material, rounds),
        "zoo": lambda: zoo.rows(rounds),
        "pretrain": lambda: pretrain.rows(material, rounds),
        "intervals": lambda: intervals.interval_rows(rounds),
        "report": lambda: intervals.report_rows(rounds),
    }


def machine() -> dict[str, object]:
    """What the figures were taken on."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    told = {key.strip(): value.strip() for key, value in told.items()}
    return {
        "processor": told.get("model name", platform.processor()),
        "family": told.get("cpu family"),
        "cores": os.cpu_count(),
        "libc": " ".join(platform.libc_ver()),
        "load": os.getloadavg(),
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in LIBRARIES},
    }


def line(row: Row) -> str:
    """One line of the table."""
    target = "" if row.target is None else str(row.target)
    return f"{row.metric:52} {target:>8} {row.median:8.3f} {row.iqr:7.3f}  {row.verdict:31} {row.note}"


def main() -> int:
    """Measure, print the table, write the JSON; 0 unless a target was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} rounds instead of {FULL}")
    parser.add_argument("--data", type=Path, help="folder for drawn images and synthetic weights, kept and used again")
    parser.add_argument("--json", type=Path, default=Path("benchmarks.json"), help="where the figures go")
    names = tuple(measurements(Material(Path()), 0))
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="some of the measurements")
    asked = parser.parse_args()
    rounds = QUICK if asked.quick else FULL
    found: list[Row] = []
    facts = {"machine": machine(), "rounds": rounds}
    with ExitStack() as stack:
        root = asked.data or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        wanted = set(asked.only) - WITHOUT_MATERIAL
        every = measurements(prepared(root.resolve()) if wanted else Material(root.resolve()), rounds)
        print(f"{'metric':52} {'target':>8} {'median':>8} {'IQR':>7}  {'verdict':31} note", flush=True)
        for name in asked.only:
            for row in every[name]():
                found.append(row)
                print(line(row), flush=True)
                asked.json.write_text(json.dumps({**facts, "rows": [row.facts() for row in found]}, indent=1) + "\n")
    return int(any(row.verdict == "missed" for row in found))


if __name__ == "__main__":
    sys.exit(main())
