"""Words of the glossary are words that the documents or the program use."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from cxrbench.cli.main import app

CHECKOUT = Path(__file__).resolve().parent.parent
GLOSSARY = CHECKOUT / "docs" / "glossary.md"
ENTRY = re.compile(r"^- ((?:\*\*.+?\*\*(?:, )?)+): ", re.MULTILINE)
WORDS = [
    word
    for entry in ENTRY.findall(GLOSSARY.read_text(encoding="utf-8"))
    for word in re.findall(r"\*\*(.+?)\*\*", entry)
]


def helps(command: Any) -> Iterator[str]:
    """All that `--help` says of a command and of those below it."""
    yield command.help or ""
    yield from (getattr(param, "help", None) or "" for param in command.params)
    for inner in getattr(command, "commands", {}).values():
        yield inner.name or ""
        yield from helps(inner)


@pytest.fixture(scope="module")
def used() -> str:
    """Documents and help, every run of blanks as one."""
    documents = [CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md", *(CHECKOUT / "docs").glob("*.md")]
    texts = [path.read_text(encoding="utf-8") for path in documents if path != GLOSSARY]
    return " ".join(" ".join([*texts, *helps(typer.main.get_command(app))]).split())


def occurs(word: str, text: str) -> bool:
    """As a word of its own, also in the plural, in either case."""
    edge = r"\b" if word[0].isalnum() else ""
    return re.search(f"{edge}{re.escape(word)}(?:s|es)?{edge}", text, re.IGNORECASE) is not None


@pytest.mark.parametrize("word", WORDS)
def test_each_word_is_used_elsewhere(word: str, used: str) -> None:
    assert occurs(word, used)


def test_every_entry_is_read_and_no_word_has_two() -> None:
    lines = [line for line in GLOSSARY.read_text(encoding="utf-8").splitlines() if line.startswith("- ")]
    assert len(ENTRY.findall(GLOSSARY.read_text(encoding="utf-8"))) == len(lines) > 50
    assert len(set(WORDS)) == len(WORDS)


def test_a_word_that_nobody_uses_is_noticed(used: str) -> None:
    assert not occurs("heronry", used)
    assert not occurs("fol", "a fold")
    assert occurs("fold", "five Folds") and occurs("†", "bears†it")
