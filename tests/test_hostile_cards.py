"""Cards that lead out of their folder, or are no file that a person wrote: refused when they are read."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cxrbench.errors import SpecError
from cxrbench.specs.card import ModelCard, read_card

CARD = """
name = "own"
title = "Own"
adapter = "cxrbench.models.dlilp:DLILP"
licence = "none"
source = "this test"
[options]
strategy = "clip"
vocabulary = {vocabulary}
[weights]
files = [{file}]
where = "nowhere"
url = "https://example.org/a.zip"
fetch = "direct"
member = {member}
[text_encoder]
hub = "text"
folder = {folder}
files = [{text}]
weights = [{text}]
revision_reason = "none"
max_tokens = 8
[recipes.reality-check]
size = 64
[taps]
pooled = 8
joint = 8
"""
SOUND = {
    "vocabulary": "'v.toml'",
    "file": "'a/w.pth'",
    "member": "'a/w.pth'",
    "folder": "'text'",
    "text": "'vocab.txt'",
}
LEADS_OUT = [
    "../w.pth",
    "a/../../w.pth",
    "..",
    "/etc/passwd",
    "C:/w.pth",
    "c:w.pth",
    "..\\\\w.pth",
    "C:\\\\w.pth",
    "\\\\\\\\server\\\\w.pth",
    "a\\u0000b",
    "a\\u001b[2Jb",
    "a\\u202eb",
    "",
]


def written(at: Path, **changes: str) -> Path:
    path = at / "card.toml"
    path.write_text(CARD.format(**{**SOUND, **changes}))
    return path


def test_a_sound_card_is_read(tmp_path: Path) -> None:
    assert isinstance(read_card(written(tmp_path)), ModelCard)


@pytest.mark.parametrize("place", sorted(SOUND.keys() - {"vocabulary"}))
@pytest.mark.parametrize("path", LEADS_OUT)
def test_a_path_that_leads_out_is_refused_by_name(place: str, path: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"card\.toml: .*(leads out of the folder|control character)"):
        read_card(written(tmp_path, **{place: f'"{path}"'}))


@pytest.mark.parametrize("path", LEADS_OUT)
def test_an_option_that_leads_out_is_refused_by_its_adapter(path: str, tmp_path: Path) -> None:
    from cxrbench.models.base import adapter_class

    card = read_card(written(tmp_path, vocabulary=f'"{path}"'))
    with pytest.raises(SpecError, match=r"vocabulary: .*(leads out of the folder|control character)"):
        adapter_class(card).options_digest(card)


def large(path: Path) -> None:
    path.write_text("# comment\n")
    os.truncate(path, 100 << 20)


NO_CARDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a pipe": (os.mkfifo, "is a pipe or device"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "is a pipe or device"),
    "a folder": (Path.mkdir, "is a folder"),
    "100 MB": (large, "more than such a file ever has"),
    "deep lists": (lambda path: path.write_text("a = " + "[" * 100_000 + "]" * 100_000), "is no TOML"),
    "deep tables": (lambda path: path.write_text("a = " + "{a=" * 50_000 + "1" + "}" * 50_000), "is no TOML"),
    "a huge number": (lambda path: path.write_text("a = " + "9" * 10_000), "is no TOML"),
    "no text": (lambda path: path.write_bytes(b"\xff\xfe"), "is no TOML"),
    "nothing": (lambda path: None, "No such file"),
}


@pytest.mark.parametrize("name", NO_CARDS)
def test_what_is_no_card_is_refused_at_once(name: str, tmp_path: Path) -> None:
    make, says = NO_CARDS[name]
    make(tmp_path / "card.toml")
    with pytest.raises(SpecError, match=says) as refusal:
        read_card(tmp_path / "card.toml")
    assert "card.toml" in str(refusal.value)
    assert len(str(refusal.value)) < 600
