"""Runs what a page of the documentation shows, in an empty folder, and holds the shown output against the real one.

`python -m website.pages PAGE...` tells the differences, with `--update` it writes the real output into the pages.

A page is read from top to bottom. A block with a `title` is a file of that name; a `console` block holds commands
after `$ ` and what they print; a `python` block runs, all of a page in one namespace, and a `text` block titled
"prints" after it is what it printed. In shown output `...` stands for any text, as in doctest. A block of any other
kind is not run, so a tutorial has none.
"""

import contextlib
import doctest
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

_BLOCK = re.compile(
    r"^```(?P<kind>\w+)(?: +title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE
)
_COMMAND = re.compile(r"^\$ (?P<command>(?:.*\\\n)*.*)\n(?P<shown>(?:(?!\$ ).*\n)*)", re.MULTILINE)
_SHELL = re.compile(r"[|&;<>$`~]")
_VOLATILE = (  # what no two runs print alike, as a page shows it
    (re.compile(r"(?:^\d+ of \d+ images done, .*\n)+", re.MULTILINE), "...\n"),
    (re.compile(r"(measured by cxrbench) .*"), r"\1 ..."),
    (re.compile(r"^(content_sha256|code) = .*", re.MULTILINE), r'\1 = "..."'),
    (re.compile(r"\d\.\de[+-]\d\d(?=, at most)|(?<=where )\de-\d\d(?= is allowed)"), "..."),
    (re.compile(r"(?<=largest error )\d\.\de[+-]\d\d, \w+"), "..."),
    (re.compile(r"(no weights in) .*"), r"\1 ..."),
    (re.compile(r"\S*/tmp\w+"), "..."),
    (re.compile(r"\d+(?= images decoded, 0 encoded, )"), "..."),
    (re.compile(r", [\d.]+ s$", re.MULTILINE), ", ... s"),
)
PRINTS = "prints"


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page: `start` and `end` of its body in the text of the page."""

    kind: str
    title: str | None
    body: str
    start: int
    end: int


@dataclass(slots=True)
class Session:
    """What running the blocks of a page leaves behind: the Python names, and the last exit code."""

    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})
    code: int = 0
    printed: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """Output that is shown otherwise than it came out; `start` and `end` are its place in the page."""

    what: str
    shown: str
    came: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.what}\n--- shown\n{self.shown}--- came out\n{self.came}"


def blocks(page: str) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    for found in _BLOCK.finditer(page):
        yield Block(found["kind"], found["title"], found["body"], found.start("body"), found.end("body"))


def same(shown: str, came: str) -> bool:
    """Whether output is as shown, where `...` stands for any text; blanks at the ends of lines do not count."""
    stripped = ["\n".join(line.rstrip() for line in one.splitlines()) + "\n" for one in (shown, came)]
    return doctest.OutputChecker().check_output(stripped[0], stripped[1], doctest.ELLIPSIS)


def run(page: str) -> Iterator[Difference]:
    """Run a page's blocks in the current folder; every output that is not as shown."""
    session = Session()
    for block in blocks(page):
        if block.kind == "text" and block.title == PRINTS:
            if not same(block.body, session.printed):
                yield Difference("python", block.body, session.printed, block.start, block.end)
        elif block.title is not None:
            place = Path(block.title)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(block.body, encoding="utf-8")
        elif block.kind == "console":
            yield from _console(block, session)
        elif block.kind == "python":
            code = compile(block.body, "<page>", "exec")
            session.printed = _captured(partial(exec, code, session.names), session)


def _console(block: Block, session: Session) -> Iterator[Difference]:
    for found in _COMMAND.finditer(block.body):
        command, shown = found["command"].replace("\\\n", " "), found["shown"]
        came = _captured(_work(command, session), session)
        if not same(shown, came):
            place = (block.start + found.start("shown"), block.start + found.end("shown"))
            yield Difference(f"$ {command}", shown, came, *place)


def _work(command: str, session: Session) -> Callable[[], None]:
    """What a command does: `cxrbench` in this process, `export` too, all else by the shell."""
    program, _, rest = command.partition(" ")
    if program == "export":
        name, _, value = rest.partition("=")
        return lambda: os.environ.update({name: value})
    if program == "cxrbench" and not _SHELL.search(rest):
        return lambda: _cxrbench(rest)
    return partial(_shell, command, session.code)


def _cxrbench(rest: str) -> None:
    from cxrbench.cli.main import main

    program = sys.modules["__main__"]
    words = [name for word in shlex.split(rest) for name in _files(word)]
    with patch.object(sys, "argv", ["cxrbench", *words]), patch.object(program, "__package__", ""):
        main()


def _files(word: str) -> list[str]:
    """What a shell makes of a word with a glob: the files, or the word itself where there are none."""
    found = sorted(map(str, Path().glob(word))) if re.search(r"[*?]", word) and not word.startswith("/") else []
    return found or [word]


def _shell(command: str, before: int) -> None:
    done = subprocess.run(
        ["bash", "-c", f"(exit {before}); {command}"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
    )
    sys.stdout.write(done.stdout)
    sys.exit(done.returncode)


def _captured(work: Callable[[], object], session: Session) -> str:
    """What some work prints on both streams; its exit code goes to the session."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    session.code = 0
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        try:
            work()
        except SystemExit as stop:
            session.code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    stream.seek(0)
    return stream.read()


def updated(page: str, differences: Sequence[Difference]) -> str:
    """The page with the output that came out."""
    for one in sorted(differences, key=lambda one: one.start, reverse=True):
        came = one.came
        for pattern, shown in _VOLATILE:
            came = pattern.sub(shown, came)
        page = page[: one.start] + came + page[one.end :]
    return page


def main(words: Sequence[str]) -> int:
    """Run pages, each in an empty folder of its own; 1 where output differs and is not updated."""
    update, told = "--update" in words, 0
    for name in (Path(word).resolve() for word in words if word != "--update"):
        page, before = name.read_text(encoding="utf-8"), Path.cwd()
        with tempfile.TemporaryDirectory() as place:
            os.chdir(place)
            os.environ["CXRBENCH_CACHE"] = str(Path(place) / "cache")
            differences = list(run(page))
            os.chdir(before)
        if differences and update:
            name.write_text(updated(page, differences), encoding="utf-8")
        for one in () if update else differences:
            print(f"{name}: {one}")
        told += len(differences)
    return int(bool(told) and not update)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
