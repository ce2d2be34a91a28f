"""The workflows run fixed actions, and commands that this program has."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cxrbench.cli.main import app

WORKFLOWS = sorted((Path(__file__).resolve().parents[2] / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_to_a_commit(path: Path) -> None:
    used = re.findall(r"uses: (.*)", path.read_text())
    assert used
    assert [name for name in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40} # v[\d.]+", name)] == []


def test_the_real_check_uses_options_that_the_verbs_have() -> None:
    text = next(path for path in WORKFLOWS if path.stem == "check-real").read_text()
    commands = re.findall(r"bin/cxrbench (\w+) (.*(?:\n {10}--.*)*)", text)
    assert [verb for verb, _ in commands] == ["run", "check", "audit"]
    for verb, words in commands:
        shown = CliRunner().invoke(app, [verb, "--help"], env={"COLUMNS": "200"}).stdout
        assert [option for option in re.findall(r"--[a-z-]+", words) if option not in shown] == []
