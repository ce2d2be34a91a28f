"""A package of a user's own, outside the checkout, as `pip install` leaves it; and the command line beside it."""

import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from forks import command_line, fork

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
    with tempfile.TemporaryDirectory() as folder:
        begun = fork(_with_package, str(site), words, said=Path(folder) / "said", cwd=place)
        code = begun.ended(300)
        said, warned = (path.read_text(encoding="utf-8") for path in (begun.said, begun.warned))
    return subprocess.CompletedProcess(["cxrbench", *words], code, said, warned)


def _with_package(site: str, words: tuple[str, ...]) -> None:
    sys.path.insert(0, site)
    command_line(words)
