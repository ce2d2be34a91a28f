"""Every file that a pre-training writes and reads back: a damaged one is refused by name, or the answer is right."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMES = (
    "state.pt",
    "best.pth",
    "metrics.jsonl",
    "config.toml",
    "frequencies.json",
    "card.toml",
    "pretraining_vocabulary.toml",
    "text/",
    "pixels.u8",
    "journal.bin",
    "refused.json",
    "size.json",
)


@pytest.fixture(scope="module")
def flips() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT))
        yield importlib.import_module("benchmarks.flips_pretrain")


def test_every_kind_of_file_is_tried(flips: ModuleType) -> None:
    assert tuple(kind.name for kind in flips.KINDS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_no_damaged_file_is_used_in_silence_or_ends_in_a_traceback(flips: ModuleType, name: str) -> None:
    kind = next(kind for kind in flips.KINDS if kind.name == name)
    found = flips.campaign(kind, flips=8, cuts=4, seed=len(name))
    assert sum(found.values()) == 12
    assert set(found) <= set(flips.SOUND), found


def test_the_campaign_sees_what_is_used_in_silence(flips: ModuleType) -> None:
    def make(folder: Path) -> Path:
        (folder / "a.txt").write_bytes(b"abcdefgh")
        return folder / "a.txt"

    def believing(folder: Path) -> object:
        return (folder / "a.txt").read_bytes()

    def breaking(folder: Path) -> object:
        if (folder / "a.txt").read_bytes() != b"abcdefgh":
            raise ValueError
        return 0

    assert flips.campaign(flips.Kind("a", make, believing), 5, 3, 0) == {"silent": 8}
    assert flips.campaign(flips.Kind("a", make, breaking), 5, 3, 0) == {"traceback": 8}
