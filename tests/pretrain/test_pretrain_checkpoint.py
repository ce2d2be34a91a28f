"""Checkpoints are believed as far as their checksum goes, whole at any moment, and refused in our own words."""

import os
import pickle
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cxrbench.errors import IntegrityError
from cxrbench.pretrain import identity, state
from cxrbench.pretrain.identity import Identity, Surroundings, carried_on, difference
from cxrbench.pretrain.log import Logged
from cxrbench.pretrain.loop import BEST, LAST, KeptWeights
from cxrbench.pretrain.state import Head, Position, State, read_head, read_state, write_state
from cxrbench.store import digest
from cxrbench.store.sealed import seal

HEAD = Head(
    Position(best=float("inf"), step=3),
    Identity("c", "d", "e", 32, "32-true", "f", "g"),
    Logged(3, 77),
    {"best.pth": "b"},
    (Surroundings("1", "2", "torch 2", "1 x cpu"),),
)


def written(folder: Path) -> Path:
    write_state(folder, State(HEAD, {"weight": torch.arange(6.0)}, {"state": {}}, {}))
    return folder / state.FILE


def test_a_checkpoint_comes_back_and_its_head_alone_too(tmp_path: Path) -> None:
    written(tmp_path)
    found = read_state(tmp_path)
    assert found is not None
    assert found.head == read_head(tmp_path) == HEAD
    assert torch.equal(found.network["weight"], torch.arange(6.0))
    assert read_state(tmp_path / "none") is None and read_head(tmp_path / "none") is None


class Harm:
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (os.mkdir, ("harm",))


def resealed(path: Path, payload: bytes) -> None:
    """A file whose checksums are right, as one who means harm would write it."""
    sealed = seal({"bytes": len(payload), "sha256": digest.of_bytes(payload), "head": {}})
    path.write_bytes(payload + sealed + struct.pack("<Q8s", len(sealed), b"cxrb-ckp"))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(200 << 30)


HOSTILE: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "sparse": sparse,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_bytes(b"no checkpoint " * 99),
    "plain torch file": lambda path: torch.save({"network": {}}, path),
    "harmful pickle": lambda path: resealed(path, pickle.dumps(Harm())),
    "harmful old torch file": lambda path: resealed(path, pickle.dumps(0x1950A86A20F9469CFC6C) + pickle.dumps(Harm())),
    "no pickle": lambda path: resealed(path, b"PK\x03\x04 not really"),
    "deep head": lambda path: path.write_bytes(b"[" * 100_000 + struct.pack("<Q8s", 100_000, b"cxrb-ckp")),
    "long head": lambda path: path.write_bytes(b"x" * 99 + struct.pack("<Q8s", 1 << 62, b"cxrb-ckp")),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_what_is_no_checkpoint_is_refused_at_once_in_our_words(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    HOSTILE[kind](tmp_path / state.FILE)
    began = time.monotonic()
    with pytest.raises(IntegrityError, match=r"state\.pt: .*Restore it from a copy, or begin again") as told:
        read_state(tmp_path)
    assert time.monotonic() - began < 5
    assert "weights_only" not in str(told.value) and "unsafe" not in str(told.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("name", [BEST, LAST])
@pytest.mark.parametrize("moment", ["before the checkpoint", "after it", "after all"])
def test_a_kill_between_weights_and_checkpoint_leaves_both_of_one_epoch(name: str, moment: str, tmp_path: Path) -> None:
    old, new = {"weight": torch.zeros(3)}, {"weight": torch.ones(3)}
    kept = KeptWeights(tmp_path)
    kept.add(name, old)
    known = dict(kept.sha256)
    kept.settle()
    kept.add(name, new)
    if moment != "before the checkpoint":
        known = dict(kept.sha256)
    if moment == "after all":
        kept.settle()
    again = KeptWeights(tmp_path, dict(known))  # as a run that goes on from that checkpoint
    again.settle()
    found = state.read_tensors(tmp_path / name, known[name], "none")
    assert torch.equal(found["weight"], (old if moment == "before the checkpoint" else new)["weight"])
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("field", ["config", "corpus", "images", "batch", "precision", "weights", "text"])
def test_every_difference_is_named_with_a_way_out(field: str) -> None:
    other = replace(HEAD.identity, **{field: 7 if field == "batch" else "other"})
    assert "another --out" in difference(HEAD.identity, other)
    told = {difference(HEAD.identity, replace(HEAD.identity, **{name: 7})) for name in ("config", "images", "text")}
    assert len(told) == 3


def test_a_run_remembers_what_computed_it_step_by_step() -> None:
    first = HEAD.history[0]
    assert carried_on((first,), replace(first, since=0), 9) == (first,)
    now = replace(first, libraries="torch 3", device="1 x H200")
    assert now.differing(first) == ("libraries", "device")
    assert carried_on((first,), now, 9) == (first, replace(now, since=9))
    assert carried_on((first, replace(now, since=9)), now, 20) == (first, replace(now, since=9))


def test_the_code_that_trains_is_named_by_all_that_decides_weights() -> None:
    from cxrbench.system.sources import closure

    within = closure("cxrbench.pretrain.loop", frozenset({"cxrbench.pretrain.log"}))
    parts = ("engine", "batches", "network", "gather", "loop")
    assert {f"cxrbench.pretrain.{name}" for name in parts} <= set(within)
    assert len(identity.training_code()) == 64
