"""Imports point down: the drawing of the architecture, kept true."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "cxrbench"

# From the ground up, one room a floor: a room imports those before it and no other.
ROOMS = (
    "errors",
    "store",  # what is kept on disk, and how
    "system",  # of the machine and the program: cores, progress, contained faults, logs, digests of code
    "types",
    "specs",  # what a fact file says, and the catalog of them
    "evaluate",  # arrays in, numbers out
    "images",  # from bytes to pixels
    "models",  # one file an architecture; checkpoints, texts, published weights
    "data",  # from label tables to a partition
    "records",  # the one place that writes, reads, chooses, names and trusts records
    "testing",  # what an adapter promises
    "phantom",  # synthetic data sets
    "pretrain",
    "runner",  # where models, data and protocols meet
    "analysis",  # what may be concluded: returns data, formats nothing
    "reports",  # how it looks
    "notebook",  # the words of the command line in Python: what they return shows itself
    "checks",  # is it right?
    "cli",
    "__main__",
)

NEIGHBOURS = {"evaluate", "models", "data"}  # meet in `runner` alone


def imports() -> list[tuple[str, str, str]]:
    """(file, its room, imported room) of every import inside the package, late ones included."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        own = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("cxrbench"):
                names = [node.module] if node.module != "cxrbench" else [f"cxrbench.{a.name}" for a in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names if alias.name.startswith("cxrbench.")]
            found += [(str(path.relative_to(PACKAGE)), own, name.split(".")[1]) for name in names]
    return found


def wrong(found: list[tuple[str, str, str]]) -> list[str]:
    """Imports of a room above the importer's own."""
    return [f"{file} imports {other}" for file, own, other in found if ROOMS.index(other) > ROOMS.index(own)]


def test_every_module_has_a_room() -> None:
    rooms = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")} - {"__init__"}
    assert rooms == set(ROOMS)


def test_imports_point_down() -> None:
    found = [one for one in imports() if one[1] != "__init__"]
    assert len(found) > 1000 and wrong(found) == []
    assert [one for one in found if one[1] != one[2] and {one[1], one[2]} <= NEIGHBOURS] == []


@pytest.mark.parametrize("above", range(1, len(ROOMS)))
def test_an_import_from_below_is_found(above: int) -> None:
    """Each room, entered from the one just below it."""
    below, room = ROOMS[above - 1], ROOMS[above]
    assert wrong([(f"{below}/some.py", below, room)]) == [f"{below}/some.py imports {room}"]


def test_records_and_what_reads_them_know_no_torch() -> None:
    program = (
        "import sys, pkgutil, importlib\n"
        "for room in ('evaluate', 'records', 'analysis', 'reports'):\n"
        "    place = importlib.import_module(f'cxrbench.{room}').__path__\n"
        "    for m in pkgutil.walk_packages(place, f'cxrbench.{room}.'): importlib.import_module(m.name)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_evaluators_know_no_torch() -> None:
    program = (
        "import sys, pkgutil, importlib, cxrbench.evaluate as e\n"
        "for m in pkgutil.walk_packages(e.__path__, 'cxrbench.evaluate.'): importlib.import_module(m.name)\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pandas", "pyarrow", "pydantic", "tqdm"}
    program = f"import sys, cxrbench\nassert not {heavy} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_no_module_is_longer_than_it_should_be() -> None:
    long = {
        str(p.relative_to(PACKAGE)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 500
    }
    assert not long


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement at the top of a module binds."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Import | ast.ImportFrom):
        return [(alias.asname or alias.name).split(".")[0] for alias in node.names]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]


def test_no_module_binds_a_name_twice() -> None:
    """Else one of two constants is the other: no type tells, and only numbers change."""
    twice = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        names = [name for node in ast.parse(path.read_text()).body for name in _bound(node) if name != "_"]
        if again := sorted({name for name in names if names.count(name) > 1}):
            twice[str(path.relative_to(PACKAGE))] = again
    assert not twice
