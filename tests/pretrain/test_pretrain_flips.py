"""Every file that a pre-training writes and reads back: a damaged one is refused by name, or the answer is right."""

from pathlib import Path

import pytest
from flips import Kind, campaign
from flips_pretrain import KINDS

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


def test_every_kind_of_file_is_tried() -> None:
    assert tuple(kind.name for kind in KINDS) == NAMES


@pytest.mark.parametrize("kind", KINDS, ids=NAMES)
def test_no_damaged_file_is_used_in_silence_or_ends_in_a_traceback(kind: Kind, tmp_path: Path) -> None:
    counts, wrong = campaign(kind, tmp_path, flips=8, cuts=4)
    assert counts.total() == 12
    assert not wrong
    assert set(counts) <= {"same", "refused"}
