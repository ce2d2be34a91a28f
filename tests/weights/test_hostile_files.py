"""Hostile and broken files on the whole way of `weights verify`: each refused with its own words, nothing executed."""

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from made_hostile import Payload, code, foreign, huge_header, tensors, truncated
from made_web import Told
from made_weights import small_card
from safetensors.torch import save_file

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import read_checkpoint
from cxrbench.models.weights.fetch import fetch
from cxrbench.models.weights.identity import Pins
from cxrbench.models.weights.verify import verify

CARD = small_card("unimodal_cm")
NAME = CARD.weights.files[0]


def bare_code(path: Path, proof: Path) -> None:
    path.write_bytes(pickle.dumps(Payload(proof)))


def web_page(path: Path, proof: Path) -> None:
    path.write_bytes(b"<!DOCTYPE html><html><body>Sign in to download</body></html>")


def archive(path: Path, proof: Path) -> None:
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("../evil", b"x")
        opened.writestr("pytorch_model.bin", b"x")


FILES: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "a pickle that would run code": (
        code,
        r"foreign class (posix|nt)\.system, and could run its code; nothing was run",
    ),
    "a bare pickle": (bare_code, r"a bare pickle, which could run anything .*system\); nothing was read"),
    "a foreign class": (foreign, r"foreign class omegaconf\.listconfig\.ListConfig"),
    "a truncated file": (truncated, "truncated"),
    "a header of 10 GB": (huge_header, "1024 bytes, but its header alone claims 10737418240: truncated"),
    "a web page": (web_page, "a web page, not a checkpoint"),
    "an archive": (archive, r"an archive that holds \.\./evil, pytorch_model\.bin, not a checkpoint"),
}


# A card may say that foreign classes stay names: then a file with one is read (see test_inert), and only then.
CASES = [(name, inert) for name in FILES for inert in (False, True) if not (inert and name == "a foreign class")]


@pytest.mark.parametrize(("name", "inert"), CASES)
def test_verify_refuses_and_runs_and_leaves_nothing(name: str, inert: bool, tmp_path: Path) -> None:
    make, says = FILES[name]
    card = CARD.model_copy(
        update={"weights": CARD.weights.model_copy(update={"foreign": "inert" if inert else "refused"})}
    )
    if inert and make is code:
        says = r"posix\.system, which no checkpoint needs: the file was made to run code. Nothing was run"
    path, proof = tmp_path / NAME, tmp_path / "proof"
    make(path, proof)
    with pytest.raises(IntegrityError, match=says) as refusal:
        verify(card, path, tmp_path / "cache")
    assert str(path) in str(refusal.value)
    assert not proof.exists()
    assert {p.name for p in tmp_path.iterdir()} <= {NAME, "cache"}


def test_the_payload_of_these_tests_does_run_where_a_pickle_is_trusted(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Payload(tmp_path / "proof")))
    assert (tmp_path / "proof").exists()


def test_a_file_that_could_not_be_used_is_not_pinned_for_good(tmp_path: Path) -> None:
    path, cache = tmp_path / NAME, tmp_path / "cache"
    web_page(path, tmp_path / "proof")
    with pytest.raises(IntegrityError, match="web page"):
        verify(CARD, path, cache)
    assert Pins(cache).read(path) is None
    truncated(path, tmp_path / "proof")
    with pytest.raises(IntegrityError, match="truncated"):
        verify(CARD, path, cache)
    torch.save(tensors(), path)
    assert verify(CARD, path, cache).identity.fresh


@pytest.mark.parametrize("member", ["../evil", "/tmp/evil-of-cxrbench"])
def test_an_archive_with_a_payload_is_unpacked_nowhere(member: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr(member, b"x")
        opened.writestr("pytorch_model.bin", b"x")
    facts = CARD.weights.model_copy(
        update={"fetch": "direct", "url": "https://127.0.0.1:1/a.zip", "member": "pytorch_model.bin"}
    )
    put = tmp_path / "weights" / CARD.name / "a.zip"
    put.parent.mkdir(parents=True)
    put.write_bytes(stream.getvalue())
    with pytest.raises(IntegrityError, match=f"member {member!r} is"):
        fetch(CARD.model_copy(update={"weights": facts}), None, tmp_path, Told())
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [put]
    assert not Path("/tmp/evil-of-cxrbench").exists()


def test_safetensors_whose_length_spells_the_start_of_a_page_are_read(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(2)}, path, {"filler": ""})
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    save_file({"a": torch.zeros(2)}, path, {"filler": "x" * (0x3C20 - length)})
    assert path.read_bytes()[:3] == b" <\0"
    assert set(read_checkpoint(path).tensors) == {"a"}
