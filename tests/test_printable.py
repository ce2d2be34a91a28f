"""What files say cannot steer a terminal."""

import json
import unicodedata
from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from test_hostile_cards import written
from typer.testing import CliRunner

from cxrbench.cli.echo import echo
from cxrbench.cli.main import app
from cxrbench.system.printable import one_line, printable

EVIL = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\r",
    "\x08",
    "\x9b31m",
    "\u202e",
    "\u2066",
    "\u200f",
    "\u2028",
    "\x7f",
    "\ud800",
    "\U000e0001",
]


@given(st.text(st.characters()))
def test_nothing_that_steers_is_left_and_nothing_else_is_touched(text: str) -> None:
    shown = printable(text)
    steering = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert not [c for c in shown if c not in "\n\t" and unicodedata.category(c) in steering]
    if not any(unicodedata.category(c) in steering for c in text):
        assert shown == text
    assert "\n" not in one_line(text)


@pytest.mark.parametrize("evil", EVIL)
def test_json_stays_the_same_json(evil: str) -> None:
    told = {"title": f"a{evil}b"}
    assert json.loads(printable(json.dumps(told, ensure_ascii=False))) == told


@pytest.mark.parametrize("evil", EVIL)
def test_the_one_way_to_the_terminal_escapes(evil: str, capsys: pytest.CaptureFixture[str]) -> None:
    echo(f"a{evil}b")
    assert evil not in capsys.readouterr().out


def test_a_card_cannot_steer_the_terminal(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_text(path.read_text().replace('title = "Own"', 'title = "Own\\u001b[2J\\u202egnp"'))
    for verb in (["info", str(path)], ["weights", "info", str(path)]):
        found = CliRunner().invoke(app, verb)
        assert "Own" in found.output
        assert "\x1b" not in found.output and "\u202e" not in found.output


def test_no_verb_goes_to_the_terminal_another_way() -> None:
    folder = Path(__file__).resolve().parent.parent / "cxrbench/cli"
    direct = [path.name for path in folder.glob("*.py") if path.name != "echo.py" and "typer.echo" in path.read_text()]
    assert not direct
    assert typer.echo is not echo
