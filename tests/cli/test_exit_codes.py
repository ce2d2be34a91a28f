"""One table of exit codes: what the program does, its help and docs/ agree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrbench import errors
from cxrbench.cli.main import app
from cxrbench.errors import EXIT_CODES, SEVERAL, CxrBenchError

CHECKOUT = Path(__file__).resolve().parents[2]
CLI = CHECKOUT / "cxrbench" / "cli"
TOLD = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").glob("*.md")), *sorted(CLI.glob("*.py"))]


def kinds(base: type[CxrBenchError] = CxrBenchError) -> Iterator[type[CxrBenchError]]:
    yield base
    for kind in base.__subclasses__():
        yield from kinds(kind)


def test_every_error_has_a_code_of_the_table() -> None:
    assert {kind.exit_code for kind in kinds()} <= set(EXIT_CODES) - {0, 1}


def test_one_is_no_error() -> None:
    """It means a finding: results that changed, or what a strict audit found."""
    assert "finding" in EXIT_CODES[1]
    assert not [kind for kind in kinds() if kind.exit_code == 1]


def test_the_help_says_what_the_table_says() -> None:
    text = " ".join(CliRunner().invoke(app, ["--help"], terminal_width=80).stdout.split())
    assert all(f"{code} {meaning}" in text for code, meaning in EXIT_CODES.items()) and SEVERAL in text


def test_the_page_says_what_the_table_says() -> None:
    section = (CHECKOUT / "docs" / "exit-codes.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", section, re.MULTILINE))
    assert rows == {str(code): meaning for code, meaning in EXIT_CODES.items()}
    assert SEVERAL in section


@pytest.mark.parametrize("path", TOLD, ids=lambda path: path.name)
def test_codes_that_are_told_elsewhere_are_of_the_table(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    named = re.findall(r"\b(?:[Ee]xit(?:s)?(?: with)?(?: code)?|with code|[Ee]xit code) (\d+)\b", text)
    assert {int(code) for code in named} <= set(EXIT_CODES)


def test_the_program_leaves_with_no_other_code() -> None:
    """Numbers that a verb gives to `typer.Exit`, and those it names as constants."""
    found = set()
    for path in CLI.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Exit":
                numbers = [n.value for argument in node.args for n in ast.walk(argument) if isinstance(n, ast.Constant)]
                found |= {number for number in numbers if isinstance(number, int)}
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"MOVED", "FOUND", "_INTERRUPTED"}:
                found.add(ast.literal_eval(node.value))
    assert {1, 2, 5, 130} <= found <= set(EXIT_CODES)


def test_the_errors_are_those_of_the_module() -> None:
    """An error class elsewhere takes the code of its base, so the table stays whole."""
    own = {kind for kind in kinds() if kind.__module__ == errors.__name__}
    for kind in set(kinds()) - own:
        assert "exit_code" not in vars(kind), kind
