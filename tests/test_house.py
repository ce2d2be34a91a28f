"""The figures of `benchmarks.house` on a tiny package whose rooms, imports and lines are known."""

import importlib
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    "cxrbench/__init__.py": "from cxrbench.top.run import Run\n",
    "cxrbench/py.typed": "",
    "cxrbench/__pycache__/gone.pyc": "",
    "cxrbench/errors.py": "class SmallError(Exception): ...\n",
    "cxrbench/low/__init__.py": "",
    "cxrbench/low/facts.toml": "",
    "cxrbench/low/table.py": "from ..errors import SmallError\n\n\nclass Row: ...\n",
    "cxrbench/low/page.py": "from cxrbench.low import table\nimport numpy.linalg\n",
    "cxrbench/top/__init__.py": "",
    "cxrbench/top/run.py": (
        "from typing import TYPE_CHECKING\n"
        "import cxrbench.low.table as t\n"
        "if TYPE_CHECKING:\n"
        "    from cxrbench.errors import SmallError\n\n\n"
        "class Row: ...\nclass Run: ...\n"
    ),
    "cxrbench/cli.py": "def main():\n    from cxrbench.top.run import Run\n",
    "tests/test_all.py": "def test():\n    assert True\n",
    "tests/deep/helper.py": "ONE = 1\n",
}
KNOWN = {
    "entries at the top of the package": "4",  # errors.py, low, top, cli.py
    "arrows between rooms": "4",  # low > errors, top > low, top > errors, cli > top
    "floors": "4",  # cli > top > low > errors
    "Python files": "8",
    "median file, lines": "1.5",
    "largest file, lines": "8",
    "modules with exactly one importer": "0",
    "class names in more than one room": "1",  # Row
    "modules that one zero-shot cell loads": "–",
    "lines of the package": "18",
    "lines of the tests": "3",
}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT))
    yield importlib.import_module("benchmarks.house")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "tree"


def test_a_known_package_has_the_known_figures(house: ModuleType, tree: Path) -> None:
    assert house.describe(tree) == KNOWN


def test_one_importer_is_counted_over_modules_not_over_imports(house: ModuleType, tree: Path) -> None:
    """`page` is imported twice by the one `extra`; `cli` by it too."""
    text = "from cxrbench import cli\nfrom cxrbench.low import page\nfrom cxrbench.low.page import numpy\n"
    (tree / "cxrbench" / "low" / "extra.py").write_text(text)
    assert house.describe(tree)["modules with exactly one importer"] == "2"


def test_a_circle_of_rooms_has_no_floors(house: ModuleType, tree: Path) -> None:
    (tree / "cxrbench" / "errors.py").write_text("def late():\n    import cxrbench.top.run\n")
    assert house.describe(tree)["floors"] == "circle"


@pytest.mark.parametrize(
    ("statement", "names"),
    [
        ("import a.b, a.c", ["a.b", "a.c"]),
        ("from a.b import c, d", ["a.b.c", "a.b.d"]),
        ("from . import c", ["a.x.c"]),
        ("from .c import d", ["a.x.c.d"]),
        ("from ..c import d", ["a.c.d"]),
        ("from .. import c", ["a.c"]),
    ],
)
def test_relative_imports_are_resolved(house: ModuleType, statement: str, names: list[str]) -> None:
    assert list(house.imported_names(house.ast.parse(statement), "a.x")) == names


def test_a_revision_is_read_as_it_was_committed(house: ModuleType, tree: Path, tmp_path: Path) -> None:
    def git(*words: str) -> None:
        person = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", str(tree), *person, *words], check=True, capture_output=True)

    git("init")
    git("add", "--force", ".")
    git("commit", "--message", "first")
    (tree / "cxrbench" / "cli.py").unlink()
    assert house.describe(house.extract("HEAD", tmp_path / "old", tree)) == KNOWN
    assert house.describe(tree)["entries at the top of the package"] == "3"


def test_the_table_has_a_column_for_each_tree(house: ModuleType) -> None:
    shown = house.format_table({"old": {"floors": "12"}, "working tree": {"floors": "10"}})
    assert shown.splitlines() == ["|  | old | working tree |", "| --- | ---: | ---: |", "| floors | 12 | 10 |"]


@pytest.mark.slow
def test_one_cell_loads_part_of_the_package(house: ModuleType) -> None:
    assert 10 < house.count_loaded_modules() < len(house.read_modules(ROOT / "cxrbench"))
