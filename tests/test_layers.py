"""Imports point down: the drawing of the architecture, kept true."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "cxrbench"

# From the ground up; a layer may import itself and what stands before it. Neighbours in braces never import each other.
LAYERS: list[set[str]] = [
    {
        "errors",
        "facts",
        "digest",
        "printable",
        "contained",
        "logbook",
        "temporary",
        "durable",
        "sealed",
        "sources",
        "cpu",
        "made",
    },
    {"schema"},
    {
        "recipe",
        "index",
        "settings",
        "prompts",
        "published",
        "task",
        "features",
        "ledger",
        "memo",
        "store",
        "shard",
        "journal",
        "npy",
        "progress",
    },
    {"card"},
    {"catalog", "certificate", "card_facts"},
    {"data", "adapters", "evaluate"},
    {"encode", "decoding", "batch", "weights", "testing"},
    {"records"},
    {"analysis"},
    {"bench", "pretrain", "reports"},
    {"checks"},
    {"demo"},
    {"cli"},
    {"__main__"},
]
FLOOR = {name: floor for floor, names in enumerate(LAYERS) for name in names}
NEIGHBOURS = {"data", "adapters", "evaluate"}


def imports() -> list[tuple[str, str, str]]:
    """(file, its layer, imported layer) of every import inside the package, late ones included."""
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


def test_every_module_has_a_floor() -> None:
    modules = {p.relative_to(PACKAGE).parts[0].removesuffix(".py") for p in PACKAGE.rglob("*.py")} - {"__init__"}
    assert modules == set(FLOOR)


@pytest.mark.parametrize(("file", "own", "other"), [i for i in imports() if i[1] != "__init__"])
def test_imports_point_down(file: str, own: str, other: str) -> None:
    assert FLOOR[other] <= FLOOR[own], f"{file} imports {other}"
    assert own == other or not {own, other} <= NEIGHBOURS, f"{file} imports its neighbour {other}"


def test_evaluators_know_no_torch() -> None:
    program = (
        "import sys, pkgutil, importlib, cxrbench.evaluate as e\n"
        "for m in pkgutil.iter_modules(e.__path__): importlib.import_module(f'cxrbench.evaluate.{m.name}')\n"
        "assert not {'torch', 'pandas'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = "import sys, cxrbench\nassert not {'torch', 'numpy', 'pydantic', 'rich'} & set(sys.modules), sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_no_module_is_longer_than_it_should_be() -> None:
    long = {
        str(p.relative_to(PACKAGE)): n for p in PACKAGE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 300
    }
    assert not long
