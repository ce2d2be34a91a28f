"""How the package is laid out: one Markdown table with a column for each revision and one for the working tree.

    python -m benchmarks.house [REV ...]

A room is a file or folder at the top of `cxrbench/`. An arrow runs from a room to another one that it imports, wherever
the import stands: at the top of a file, in a function, or under `if TYPE_CHECKING`. Modules that are loaded by name
(`importlib`) and imports in `cxrbench/__init__.py` make no arrow. Floors are the rooms on the longest chain of arrows.
Revisions are read by `git archive`; nothing of them is run, so the modules that one zero-shot cell loads are counted
in the working tree alone.
"""

import argparse
import ast
import io
import json
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.rounds import ROOT, child

PACKAGE = "cxrbench"
UNKNOWN = "–"
LOADED = "modules that one zero-shot cell loads"


@dataclass(frozen=True, slots=True)
class Module:
    """One Python file: its dotted name, its room (None: the package's own `__init__`), and what stands in it."""

    name: str
    room: str | None
    lines: int
    imports: frozenset[str]  # other modules of the package, by name
    classes: frozenset[str]


def read_modules(package: Path) -> list[Module]:
    """Every module below the folder of a package."""
    files = {_module_name(path, package): path for path in _files(package) if path.suffix == ".py"}
    modules = []
    for name, path in files.items():
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text, str(path))
        anchor = name if path.name == "__init__.py" else name.rpartition(".")[0]
        modules.append(
            Module(
                name,
                name.split(".")[1] if "." in name else None,
                len(text.splitlines()),
                frozenset(_owners(imported_names(tree, anchor), files)) - {name},
                frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)),
            )
        )
    return modules


def imported_names(tree: ast.AST, anchor: str) -> Iterator[str]:
    """Dotted names of all that a module imports; relative ones start from the package `anchor`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                start = anchor.split(".")[: len(anchor.split(".")) - node.level + 1]
                base = ".".join([*start, base]).rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def find_arrows(modules: Sequence[Module]) -> set[tuple[str, str]]:
    """Ordered pairs of different rooms, the first of which imports the second."""
    rooms = {module.name: module.room for module in modules}
    pairs = {(module.room, rooms[other]) for module in modules for other in module.imports}
    return {(one, other) for one, other in pairs if one and other and one != other}


def count_floors(arrows: set[tuple[str, str]]) -> int | None:
    """Rooms on the longest chain of arrows; None where the arrows close a circle."""
    below: dict[str, set[str]] = defaultdict(set)
    for one, other in arrows:
        below[one].add(other)
    floor: dict[str, int] = {}
    try:
        for room in TopologicalSorter(below).static_order():
            floor[room] = 1 + max((floor[other] for other in below.get(room, ())), default=0)
    except CycleError:
        return None
    return max(floor.values(), default=1)


def describe(tree: Path, package: str = PACKAGE) -> dict[str, str]:
    """The rows of the table for a folder that holds the package and `tests/`."""
    folder = tree / package
    modules = read_modules(folder)
    arrows, lines = find_arrows(modules), [module.lines for module in modules]
    importers = Counter(other for module in modules for other in module.imports)
    homes: dict[str, set[str]] = defaultdict(set)
    for module in modules:
        for name in module.classes:
            homes[name].add(module.room or "")
    entries = {path.relative_to(folder).parts[0] for path in _files(folder)} - {"__init__.py", "py.typed"}
    tests = [path for path in _files(tree / "tests") if path.suffix == ".py"]
    rows = {
        "entries at the top of the package": len(entries),
        "arrows between rooms": len(arrows),
        "floors": count_floors(arrows) or "circle",
        "Python files": len(modules),
        "median file, lines": f"{median(lines):g}",
        "largest file, lines": max(lines),
        "modules with exactly one importer": sum(count == 1 for count in importers.values()),
        "class names in more than one room": sum(len(rooms) > 1 for rooms in homes.values()),
        LOADED: UNKNOWN,
        "lines of the package": sum(lines),
        "lines of the tests": sum(len(path.read_text(encoding="utf-8").splitlines()) for path in tests),
    }
    return {name: f"{value:,}" if isinstance(value, int) else value for name, value in rows.items()}


def extract(revision: str, place: Path, repository: Path = ROOT) -> Path:
    """The package and the tests of a revision below `place`; raises CalledProcessError for one that git lacks."""
    command = ["git", "-C", str(repository), "archive", "--format=tar", revision, PACKAGE, "tests"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(place, filter="data")
    return place


def format_table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """Markdown: a line for each row of the first column, a column for each tree."""
    names = next(iter(columns.values()))
    lines = [["", *columns], ["---", *["---:"] * len(columns)]]
    lines += [[name, *(column[name] for column in columns.values())] for name in names]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def count_loaded_modules() -> int:
    """Modules of the package in a fresh process after one zero-shot cell on a synthetic data set."""
    with TemporaryDirectory() as folder:
        request = child("house:prepare_cell", place=folder)
        return int(child("house:run_cell", request=request["arguments"])["modules"])


def prepare_cell(place: str) -> dict[str, Any]:
    """Draw the data set and write a model; what `cxrbench.run` takes to measure one cell of them."""
    sys.path[:0] = [str(ROOT / "tests" / "bench"), str(ROOT / "tests")]
    from lab import build  # type: ignore[import-not-found]

    lab = build(Path(place), strategies=("clip",))
    arguments = lab.arguments(Path(place), ["small_clip"], ["covid"], protocols=["zero-shot"], groups=["2-class"])
    return {"arguments": json.loads(json.dumps(arguments, default=str))}


def run_cell(request: dict[str, Any]) -> dict[str, Any]:
    """Measure, and count the modules that this process has loaded."""
    import cxrbench

    report = cxrbench.run(**request)
    assert len(report.records) == 1 and not report.problems, (len(report.records), report.problems)
    return {"modules": sum(name.split(".")[0] == PACKAGE for name in sys.modules)}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)


def _module_name(path: Path, package: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _owners(names: Iterable[str], known: Mapping[str, Path]) -> Iterator[str]:
    """The module that each name lies in: the longest beginning that is one. Names of other packages have none."""
    for name in names:
        owner = name
        while owner and owner not in known:
            owner = owner.rpartition(".")[0]
        if owner:
            yield owner


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.house", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("revisions", nargs="*", metavar="REV", help="a commit, tag or branch")
    columns = {}
    for revision in parser.parse_args().revisions:
        with TemporaryDirectory() as folder:
            columns[revision] = describe(extract(revision, Path(folder)))
    columns["working tree"] = describe(ROOT) | {LOADED: str(count_loaded_modules())}
    print(format_table(columns))


if __name__ == "__main__":
    main()
