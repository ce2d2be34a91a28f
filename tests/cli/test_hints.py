"""Every command that an error, a note or a document names is one that the program takes as it stands."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

import cxrbench
from cxrbench.cli.main import app
from cxrbench.specs import catalog, paths

PACKAGE = Path(cxrbench.__file__).parent
STAND_IN = "1"  # for what an f-string fills in: a name, a path or a number alike
QUOTED = re.compile(r"`cxrbench ([a-z][^`]*)`")
BARE = re.compile(r": cxrbench ([a-z][^`\n]*?)\.?(?=\n|$)")


def told(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a module with its line, joined as it is printed; of docstrings those that a help shows."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.Module, ast.ClassDef) if path.parent.name == "cli" else (ast.Module, ast.ClassDef, ast.FunctionDef)
    silent = {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, kinds) and ast.get_docstring(node)}
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if id(node) in silent:
            continue
        if isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else STAND_IN for part in node.values)
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in inside:
            yield node.lineno, node.value


def hints() -> list[tuple[str, str]]:
    """Where each command of a text stands, and its words after the program's name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for line, text in told(path):
            flowing = re.sub(r"\s*\n\s+", " ", text)
            for words in (*QUOTED.findall(flowing), *BARE.findall(flowing)):
                found.append((f"{path.relative_to(PACKAGE)}:{line}", words))
    return found


def parsed(words: str) -> None:
    """Nothing where the command line takes these words; a verb alone, as in a sentence about it, counts as taken."""
    command, rest = typer.main.get_command(app), shlex.split(words)
    path = []
    while isinstance(command, TyperGroup) and rest:
        path.append(rest[0])
        command, rest = command.commands[rest[0]], rest[1:]
    if rest:
        assert isinstance(command, TyperCommand), words
        command.make_context(" ".join(path), list(rest))


HINTS = hints()


def test_there_are_hints_to_try() -> None:
    assert len(HINTS) > 40
    assert {words for _, words in HINTS} >= {"check --update", "run", f"weights fetch {STAND_IN}", "cache list"}


@pytest.mark.parametrize(("place", "words"), HINTS, ids=[f"{place} {words}" for place, words in HINTS])
def test_a_command_in_a_text_runs_as_printed(place: str, words: str) -> None:
    parsed(words)


@pytest.mark.parametrize("words", ["run --prompts all", "tabel 4", "table 4 --formt csv"])
def test_the_check_itself_refuses_what_the_program_refuses(words: str) -> None:
    with pytest.raises(Exception, match=r"Missing parameter|No such option|tabel"):
        parsed(words)


def test_facts_from_a_file_are_called_by_its_path_where_a_command_is_printed(tmp_path: Path) -> None:
    folder = tmp_path / "my cards"
    folder.mkdir()
    card, task = folder / "gloria.toml", folder / "covid.toml"
    card.write_bytes((paths.folder("model_zoo") / "gloria.toml").read_bytes())
    task.write_bytes((paths.folder("tasks") / "covid.toml").read_bytes())
    for load, path in ((catalog.load_card, card), (catalog.load_task, task)):
        assert shlex.split(load(str(path)).word) == [str(path)]
        assert load(path.stem).word == path.stem
