"""No flipped bit and no cut in a file of ours is used unseen, ends in a traceback, or is waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from flips import KINDS, WRONG, Answer, Kind, campaign, verdict

NAMES = [kind.name for kind in KINDS]


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_damage_is_never_believed(kind: Kind, tmp_path: Path) -> None:
    counts, wrong = campaign(kind, tmp_path, flips=40, cuts=10)
    assert not wrong
    assert counts.total() == 50


def _pipe(file: Path) -> None:
    os.mkfifo(file)


def _zeros(file: Path) -> None:
    file.symlink_to("/dev/zero")


def _sparse(file: Path) -> None:
    with file.open("wb") as made:
        made.truncate(200 << 30)


def _deep(file: Path) -> None:
    file.write_text("[" * 200_000)


def _junk(file: Path) -> None:
    file.write_bytes(b"\x00\xff{" * (70 << 20))


@pytest.mark.parametrize("replace", [_pipe, _zeros, _sparse, _deep, _junk, Path.mkdir], ids=lambda how: how.__name__)
@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_what_is_no_file_of_ours_is_refused_at_once(
    kind: Kind, replace: Callable[[Path], None], tmp_path: Path
) -> None:
    file = kind.make(tmp_path)
    whole = kind.read(tmp_path)
    file.unlink()
    replace(file)
    found, why = verdict(kind, tmp_path, file, whole)
    assert found not in WRONG, why


def test_the_campaign_sees_what_is_believed_unchecked(tmp_path: Path) -> None:
    def make(folder: Path) -> Path:
        (folder / "a").write_text("0123456789")
        return folder / "a"

    credulous = Kind("credulous", make, lambda folder: Answer({"text": (folder / "a").read_bytes()}))
    forgetful = Kind("forgetful", make, lambda folder: Answer({"a": 1} if (folder / "a").stat().st_size > 9 else {}))
    helpless = Kind("helpless", make, lambda folder: Answer({"text": (folder / "a").read_bytes().index(b"0123456789")}))
    for kind, found in ((credulous, "silent"), (forgetful, "silent"), (helpless, "traceback")):
        counts, wrong = campaign(kind, tmp_path, flips=10, cuts=10)
        assert counts[found] >= 10 and len(wrong) >= 10  # type: ignore[index]
