"""Converted files of the published layouts: the same tensors to the bit, the same model, and no pickle."""

from collections.abc import Callable
from pathlib import Path

import made_cosines
import made_pairs
import made_queries
import pytest
import torch
from made_lightning import save_lightning
from made_weights import zoo_card
from torch import Tensor

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import Checkpoint, read_checkpoint
from cxrbench.models.weights.identity import convert
from cxrbench.models.weights.verify import verify
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest

ZOO = {
    "medklip": made_queries,  # a container
    "biovil": made_cosines,  # none
    "kad_224": made_queries,  # sections, and tensors under two names
    "gloria": made_pairs,  # a container among foreign classes
    "cxr_clip": made_cosines,  # the same, editions told by the file's name
}
slow = pytest.mark.slow


def read(path: Path, card: ModelCard) -> Checkpoint:
    facts = card.weights
    return read_checkpoint(path, facts.container, sections=facts.sections, foreign=facts.foreign)


def published(name: str, folder: Path) -> Path:
    path = folder / zoo_card(name).weights.files[0]
    path.parent.mkdir(parents=True)
    ZOO[name].write(name, ZOO[name].tensors(name), path)
    return path


@pytest.mark.parametrize("name", ["medklip", *(pytest.param(n, marks=slow) for n in ZOO if n != "medklip")])
def test_a_published_layout_comes_back_the_same(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card, path = zoo_card(name), published(name, tmp_path / "weights")
    before, verdict = read(path, card), verify(card, path, tmp_path / "cache")
    found = convert(path, card, tmp_path / "cache")
    after = read(found.file, card)
    assert set(after.tensors) == set(before.tensors)
    for tensor_name, tensor in before.tensors.items():
        assert after.tensors[tensor_name].dtype == tensor.dtype
        assert torch.equal(after.tensors[tensor_name], tensor)
    assert (after.sha256, after.name, after.other) == (digest.of_file(found.file), path.name, before.other)
    assert after.container == before.container
    path.unlink()
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle is read"))
    again = verify(card, path.parent, tmp_path / "cache")
    assert again.coverage is not None
    assert verdict.coverage is not None
    assert set(again.coverage.used) == set(verdict.coverage.used)
    assert again.coverage.ignored == verdict.coverage.ignored
    assert again.identity.published_sha256 == verdict.identity.sha256
    assert again.identity.tensors == verdict.identity.tensors
    assert again.format == f"safetensors, converted from {path.name}"


@pytest.mark.slow
def test_a_converted_model_encodes_the_same_and_is_still_told_by_its_published_name(tmp_path: Path) -> None:
    card, path = zoo_card("cxr_clip"), published("cxr_clip", tmp_path / "weights")
    from cxrbench.models.base import load_adapter

    pixels = torch.rand((2, 1, 224, 224), generator=torch.Generator().manual_seed(0))
    plain = load_adapter(card, path).encode_image(pixels).taps
    converted = convert(path, card, tmp_path / "cache").file
    path.unlink()
    for tap, vectors in load_adapter(card, path.parent).encode_image(pixels).taps.items():
        assert torch.equal(vectors, plain[tap])
    with pytest.raises(IntegrityError, match=r"the card cxr_clip_m wants"):
        load_adapter(zoo_card("cxr_clip_m"), converted)


def lit(path: Path, tensors: dict[str, Tensor]) -> None:
    save_lightning(path, tensors)


TIED = torch.arange(24.0)
ODD: dict[str, Tensor] = {
    "turned": TIED[12:].reshape(4, 3).T,
    "tied": TIED,
    "tied again": TIED,
    "part": TIED[5:7],
    "count": torch.tensor(7),
    "half": torch.tensor([1.5, -2.0]).half(),
    "brain": torch.tensor([1.5, float("nan")]).bfloat16(),
    "mask": torch.tensor([True, False]),
    "none": torch.empty(0, 3),
}


@pytest.mark.parametrize("write", [lit, lambda path, tensors: torch.save({"state_dict": tensors}, path)])
def test_tied_turned_empty_and_half_tensors_come_back(
    write: Callable[[Path, dict[str, Tensor]], None], tmp_path: Path
) -> None:
    card = zoo_card("gloria")
    path = tmp_path / card.weights.files[0]
    write(path, ODD)
    after = read(convert(path, card, tmp_path / "cache").file, card)
    assert set(after.tensors) == set(ODD)
    for name, tensor in ODD.items():
        assert (after.tensors[name].dtype, after.tensors[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(after.tensors[name].nan_to_num(), tensor.nan_to_num())


def test_a_failed_write_leaves_the_published_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cxrbench.models import converted

    card = zoo_card("gloria")
    path = tmp_path / card.weights.files[0]
    lit(path, ODD)

    def full(tensors: object, name: str, metadata: object) -> None:
        Path(name).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(converted, "save_file", full)
    with pytest.raises(OSError, match="No space"):
        convert(path, card, tmp_path / "cache")
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == [path.name]
