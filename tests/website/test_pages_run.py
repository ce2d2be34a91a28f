"""Pages that show commands and their output: what they show is what comes out, in an empty folder."""

import re
import sys
from pathlib import Path

import pytest
from forks import fork

from website.pages import blocks, main, same

CHECKOUT = Path(__file__).resolve().parents[2]
DOCS = CHECKOUT / "docs"
PAGES = ["index.md", "quickstart.md", *sorted(f"tutorials/{page.name}" for page in (DOCS / "tutorials").glob("*.md"))]
RUN = {"console", "python", "text"}


def run_page(page: str) -> None:
    """In a process of its own: exit code 1 where something else came out than is shown."""
    sys.exit(main([page]))


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_page_shows_what_comes_out(page: str, tmp_path: Path) -> None:
    running = fork(run_page, str(DOCS / page), said=tmp_path / "said", cwd=tmp_path, environment={"COLUMNS": "100"})
    assert running.ended(300) == 0, running.told


@pytest.mark.parametrize("page", PAGES)
def test_nothing_of_the_page_is_left_out(page: str) -> None:
    found = list(blocks((DOCS / page).read_text(encoding="utf-8")))
    assert {block.kind for block in found if block.title is None} <= RUN


def test_another_output_is_told_and_written_by_update(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n\n```console\n$ echo one two\none three\n$ exit 3\n$ echo $?\n3\n```\n")
    assert main([str(page)]) == 1
    assert "$ echo one two\n--- shown\none three\n--- came out\none two\n" in capsys.readouterr().out
    assert main(["--update", str(page)]) == 0 and main([str(page)]) == 0
    assert page.read_text() == "# A\n\n```console\n$ echo one two\none two\n$ exit 3\n$ echo $?\n3\n```\n"


def test_files_python_and_elisions_of_a_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        '```toml title="a/b.toml"\nx = 1\n```\n```console\n$ cat a/b.toml\nx = 1\n```\n'
        '```python\nn = 2\n```\n```python\nprint(n + 1)\n```\n```text title="prints"\n4\n```\n'
    )
    assert main([str(page)]) == 1
    assert "--- shown\n4\n--- came out\n3\n" in capsys.readouterr().out
    assert same("read ... images\n...\nend\n", "read 12 images\na\nb\nend\n") and not same("a ... b\n", "a c\n")


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_easy_to_read(page: str) -> None:
    """No sentence of more than 35 words, no page of more than 1,200; code and tables do not count."""
    prose = re.sub(r"```.*?```", "", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for line in prose.splitlines() if not line.startswith(("|", "#"))]
    parts = re.split(r"\n\s*\n|\n(?=- |\d+\. )", "\n".join(lines))
    sentences = [one for part in parts for one in re.split(r"(?<=[.!?:])\s+", " ".join(part.split()))]
    assert len(prose.split()) <= 1200
    assert not [one for one in sentences if len(one.split()) > 35]
