"""A package of a user's own, outside the checkout, as `pip install` leaves it; and the command line beside it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent


def write_package(site: Path, name: str, files: Mapping[str, str], group: str, *points: str) -> Path:
    """Files and entry points of a package below `site`, a folder for Python's path; returns the folder."""
    about = {"METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n"}
    about["entry_points.txt"] = "\n".join([f"[{group}]", *points, ""])
    for place, text in {**files, **{f"{name}-1.dist-info/{file}": text for file, text in about.items()}}.items():
        path = site / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return site


def run_cxrbench(site: Path, place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own in the folder `place`, where the package can be imported."""
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{CHECKOUT}"}
    command = [sys.executable, "-c", "from cxrbench.cli.main import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=place, env=env, timeout=300)
