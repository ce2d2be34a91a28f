"""Bytes of weights that changed: what is noticed when they are read, and what the identity alone tells."""

import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from flips import damages
from made_weights import make_checkpoint, small_card, small_layout

from cxrbench.cli.demonstration import write_text_encoder
from cxrbench.errors import CxrBenchError
from cxrbench.models.checkpoint import read_checkpoint
from cxrbench.models.converted import ConversionOrigin, beside, tensors_digest, write_converted
from cxrbench.models.text import text_files
from cxrbench.specs.card import TextEncoder
from cxrbench.store import digest

FACTS = TextEncoder.model_validate({"hub": "text", "revision_reason": "a local folder", "max_tokens": 16})


@dataclass
class Outcome:
    """How many damaged files were refused, gave the same content, or another one that only the identity tells."""

    refused: int = 0
    same: int = 0
    told_by_identity: int = 0
    silent: int = 0


def campaign(path: Path, read: Callable[[], tuple[str, str]], flips: int, cuts: int) -> Outcome:
    """`read` gives the content's digest and the identity, or refuses."""
    (content, identity), found, good = read(), Outcome(), path.read_bytes()
    for _, damaged in damages(good, flips, cuts):
        path.write_bytes(damaged)
        try:
            now, who = read()
        except CxrBenchError:
            found.refused += 1
            continue
        found.same += now == content
        found.told_by_identity += now != content and who != identity
        found.silent += now != content and who == identity
    path.write_bytes(good)
    assert read() == (content, identity)
    return found


def weights(path: Path) -> Callable[[], tuple[str, str]]:
    def read() -> tuple[str, str]:
        found = read_checkpoint(path)
        return tensors_digest(found.tensors), found.sha256

    return read


LARGEST = 10_000  # numbers of a tensor: 300 kB in 100 tensors, where a bit of what describes them is often flipped


def tensors() -> dict[str, torch.Tensor]:
    """The small tensors of a ResNet-18 in the published layout, with synthetic weights."""
    return make_checkpoint(entry for entry in small_layout("unimodal") if math.prod(entry[1]) <= LARGEST)


def archived(folder: Path) -> Path:
    torch.save(tensors(), folder / "w.pth")
    return folder / "w.pth"


def converted(folder: Path) -> Path:
    source = archived(folder)
    found = read_checkpoint(source)
    told = ConversionOrigin(file=source.name, sha256=found.sha256, tensors=tensors_digest(found.tensors))
    write_converted(beside(source), found.tensors, told)
    source.unlink()
    return beside(source)


def serial(folder: Path) -> Path:
    torch.save(tensors(), folder / "w.pth", _use_new_zipfile_serialization=False)
    return folder / "w.pth"


def published(folder: Path) -> Path:
    from safetensors.torch import save_file

    save_file(tensors(), folder / "w.safetensors")
    return folder / "w.safetensors"


CHECKED, UNCHECKED = (archived, converted), (serial, published)


@pytest.mark.parametrize("make", CHECKED + UNCHECKED)
def test_no_changed_bit_of_weights_is_used_in_silence(make: Callable[[Path], Path], tmp_path: Path) -> None:
    flips, cuts = 250, 60
    path = make(tmp_path)
    found = campaign(path, weights(path), flips, cuts)
    print(make.__name__, found)
    assert found.silent == 0
    assert found.refused >= cuts
    assert found.refused + found.same + found.told_by_identity == flips + cuts
    if make in CHECKED:
        assert found.told_by_identity == 0
    else:
        assert found.told_by_identity > 0


@pytest.mark.parametrize(("flips", "cuts"), [(40, 10), pytest.param(250, 60, marks=pytest.mark.slow)])
def test_no_changed_bit_of_a_text_folder_leaves_its_identity(flips: int, cuts: int, tmp_path: Path) -> None:
    folder = write_text_encoder(["there is edema in the lung", "no finding"], tmp_path / "text")
    names = sorted(path.name for path in folder.iterdir())

    def read() -> tuple[str, str]:
        content = digest.of_json({name: digest.of_file(folder / name) for name in names})
        return content, text_files(FACTS, folder).digest

    for name in names:
        found = campaign(folder / name, read, flips, cuts)
        print(name, found)
        assert found.silent == 0
        assert found.refused + found.told_by_identity + found.same == flips + cuts


def test_a_member_that_is_damaged_is_named(tmp_path: Path) -> None:
    path = archived(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CxrBenchError, match=r"Bad CRC-32 for file '.*data/\d+'.*Download it again"):
        read_checkpoint(path)


def test_damaged_weights_are_neither_pinned_nor_converted(tmp_path: Path) -> None:
    from cxrbench.models.weights.identity import Pins, convert

    card, cache = small_card("unimodal_cm"), tmp_path / "cache"
    path = archived(tmp_path)
    shutil.copy(path, tmp_path / "good")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CxrBenchError, match="damaged"):
        convert(path, card, cache)
    assert not beside(path).exists()
    assert Pins(cache).read(path) is None
    shutil.copy(tmp_path / "good", path)
    convert(path, card, cache)
    assert beside(path).exists()
