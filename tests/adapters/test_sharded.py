"""Checkpoints in several files with an index: read whole, or refused by what is wrong with them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from made_weights import zoo_card
from safetensors.torch import save_file, save_model
from torch import Tensor, nn

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models.base import find_weights
from cxrbench.models.checkpoint import file_format, read_checkpoint
from cxrbench.models.weights import fetch as fetching
from cxrbench.models.weights.identity import convert, weights_identity
from cxrbench.store import digest
from cxrbench.system.progress import TransferLines

TENSORS = {f"layer.{number}.weight": torch.full((2,), float(number)) for number in range(3)}
PLACES = {"layer.0.weight": 1, "layer.1.weight": 2, "layer.2.weight": 2}
INDEX = {".safetensors": "model.safetensors.index.json", ".bin": "pytorch_model.bin.index.json"}
Edit = Callable[[dict[str, Any]], None]


def part(number: int, kind: str = ".safetensors") -> str:
    return f"{'model' if kind == '.safetensors' else 'pytorch_model'}-0000{number}-of-00002{kind}"


def saved(folder: Path, kind: str = ".safetensors") -> Path:
    """The index of three tensors in two files."""
    folder.mkdir(exist_ok=True)
    for number in (1, 2):
        held = {name: TENSORS[name] for name, place in PLACES.items() if place == number}
        (save_file if kind == ".safetensors" else torch.save)(held, folder / part(number, kind))
    told = {"metadata": {"total_size": 24}, "weight_map": {name: part(n, kind) for name, n in PLACES.items()}}
    path = folder / INDEX[kind]
    path.write_text(json.dumps(told, indent=2))
    return path


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return saved(tmp_path / "saved")


def edited(path: Path, edit: Edit) -> Path:
    told = json.loads(path.read_text())
    edit(told)
    path.write_text(json.dumps(told))
    return path


def equal(found: Any, wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[name], wanted[name]) for name in wanted)


@pytest.mark.parametrize("kind", INDEX)
def test_all_shards_are_read_as_one_checkpoint(kind: str, tmp_path: Path) -> None:
    path = saved(tmp_path, kind)
    found = read_checkpoint(path)
    assert equal(found.tensors, TENSORS) and found.path == path and file_format(path) == "sharded"


@pytest.mark.parametrize("own", ["", "medsiglip"])
def test_an_index_is_found_in_place_of_the_whole_file(index: Path, own: str, tmp_path: Path) -> None:
    place = tmp_path / own if own else index.parent
    if own:
        index.parent.rename(place)
    assert find_weights(zoo_card("medsiglip"), tmp_path if own else place) == place / index.name


def test_one_whole_file_comes_before_an_index(index: Path) -> None:
    card = zoo_card("medsiglip")
    several = card.weights.model_copy(update={"files": ("model.safetensors", "pytorch_model.bin")})
    other, whole = index.parent / "pytorch_model.bin", index.parent / "model.safetensors"
    torch.save(TENSORS, other)
    assert find_weights(card.model_copy(update={"weights": several}), index.parent) == other
    save_file(TENSORS, whole)
    assert find_weights(card, index.parent) == whole


def test_vectors_of_shards_and_of_the_whole_file_share_their_keys_and_each_byte_counts(
    index: Path, tmp_path: Path
) -> None:
    card, cache = zoo_card("medsiglip"), tmp_path / "cache"
    whole = tmp_path / "whole.safetensors"
    save_file(TENSORS, whole)
    found, one = weights_identity(index, card, cache), weights_identity(whole, card, cache)
    assert (found.tensors, found.sha256 == one.sha256) == (one.tensors, False)
    assert found.size == sum(file.stat().st_size for file in index.parent.iterdir())
    assert found.sha256 == read_checkpoint(index).sha256 != digest.of_file(index)
    pinned = card.model_copy(update={"weights": card.weights.model_copy(update={"sha256": found.sha256})})
    assert weights_identity(index, pinned, cache).sha256 == found.sha256
    save_file({"layer.0.weight": torch.ones(2)}, index.parent / part(1))
    with pytest.raises(IntegrityError, match=r"sha256 is .*the card of medsiglip says"):
        weights_identity(index, pinned, cache)
    changed = weights_identity(index, card, cache)
    assert changed.sha256 != found.sha256 and changed.tensors != found.tensors


def lost(told: dict[str, Any]) -> None:
    del told["weight_map"]["layer.1.weight"]


def too_many(told: dict[str, Any]) -> None:
    told["weight_map"]["layer.9.weight"] = part(2)


def elsewhere(told: dict[str, Any]) -> None:
    told["weight_map"]["layer.0.weight"] = part(2)
    told["weight_map"]["layer.1.weight"] = part(1)


def into(name: str) -> Edit:
    return lambda told: told["weight_map"].update({"layer.0.weight": name})


FAULTS: dict[str, tuple[Edit, str]] = {
    "a tensor that no shard is said to hold": (
        lost,
        r"00002-of-00002.*: holds layer\.1\.weight, which .* does not say",
    ),
    "a tensor that its shard does not hold": (too_many, r"00002-of-00002.*: does not hold layer\.9\.weight, which"),
    "two that changed places": (elsewhere, r"00001-of-00002.*: does not hold layer\.1\.weight"),
    "a shard above": (into("../secret.safetensors"), r"names the file .*secret.*leads out of its folder"),
    "a shard at an absolute place": (into("/etc/passwd"), "leads out of its folder; nothing was read"),
    "a shard of another drive": (into("C:/model.safetensors"), "leads out of its folder"),
    "a number as a shard": (lambda told: told["weight_map"].update(a=3), "without a weight_map"),
    "no tensor": (lambda told: told["weight_map"].clear(), "without a weight_map"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_index_that_is_not_that_of_its_shards_is_refused(fault: str, index: Path) -> None:
    edit, told = FAULTS[fault]
    with pytest.raises(IntegrityError, match=told):
        read_checkpoint(edited(index, edit))


def test_a_shard_that_is_not_there_is_named_wherever_the_weights_are_looked_for(index: Path) -> None:
    (index.parent / part(2)).unlink()
    card = zoo_card("medsiglip")
    for ask in (
        lambda: read_checkpoint(index),
        lambda: find_weights(card, index),
        lambda: find_weights(card, index.parent),
    ):
        with pytest.raises(DataError, match=rf"an index of 2 shards, of which 1 is not beside it: {part(2)}"):
            ask()


@pytest.mark.parametrize("name", ["model-00003-of-00003.safetensors", "model-00001-of-00001.safetensors"])
def test_a_shard_that_the_index_does_not_name_is_told(name: str, index: Path) -> None:
    save_file({"layer.3.weight": torch.zeros(2)}, index.parent / name)
    with pytest.raises(IntegrityError, match=rf"{name} beside it is named as its shards are.*remove it"):
        read_checkpoint(index)


def test_other_files_beside_an_index_are_nobodys_matter(index: Path) -> None:
    for name in ("model.safetensors.bak", "adapter-00001-of-00002.safetensors", "tokenizer.json"):
        (index.parent / name).write_bytes(b"{}")
    assert equal(read_checkpoint(index).tensors, TENSORS)


def test_an_index_is_no_shard(index: Path) -> None:
    (index.parent / part(1)).write_bytes(index.read_bytes())
    with pytest.raises(IntegrityError, match=rf"{part(1)}: is an index itself, and not the shard"):
        read_checkpoint(index)


def test_all_shards_are_fetched_of_a_hub_and_those_that_an_interrupted_fetch_left_out(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def download(repository: str, name: str, *, revision: str | None, local_dir: Path) -> None:
        asked.append((name, str(revision)))
        shutil.copy(index.parent / name, local_dir / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(fetching, "offline", lambda: False)
    monkeypatch.setattr(fetching, "require_hub", lambda name, way_out: None)
    card = zoo_card("medsiglip")
    facts = {"files": (index.name,), "fetch": "hub", "hub": "a/b", "hub_revision": "v1"}
    sharded = card.model_copy(update={"weights": card.weights.model_copy(update=facts)})
    for _ in range(2):
        found = fetching.fetch(sharded, None, tmp_path / "cache", TransferLines())
        assert equal(read_checkpoint(found).tensors, TENSORS)
        assert asked == [(name, "v1") for name in (index.name, part(1), part(2))]
        asked.clear()
        found.with_name(part(2)).unlink()


def test_a_damaged_shard_is_named(index: Path) -> None:
    (index.parent / part(1)).write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(IntegrityError, match=rf"{part(1)}: a Git LFS pointer"):
        read_checkpoint(index)


def test_keys_within_a_file_and_conversion_are_refused_for_shards(index: Path, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="container and sections name keys within one file"):
        read_checkpoint(index, ["state_dict"])
    with pytest.raises(SpecError, match="is in shards, which are read as they are"):
        convert(index, zoo_card("medsiglip"), tmp_path)


@pytest.mark.parametrize("text", ['{"weight_map": 3}', '{"a": 1}', "{", "[]"])
def test_other_json_is_no_checkpoint_at_all(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(text)
    with pytest.raises(IntegrityError, match="neither a torch nor a safetensors file"):
        read_checkpoint(path)
    with pytest.raises(DataError, match="no weights in"):
        find_weights(zoo_card("medsiglip"), tmp_path)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.read, self.write = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
        self.write.weight = self.read.weight


def test_a_tied_tensor_that_a_library_dropped_is_what_it_says_it_is_tied_to(tmp_path: Path) -> None:
    model = Tied()
    save_model(model, str(tmp_path / "tied.safetensors"))
    found = read_checkpoint(tmp_path / "tied.safetensors")
    assert equal(found.tensors, dict(model.state_dict()))
    torch.save(model.state_dict(), tmp_path / "tied.pt")
    card = zoo_card("medsiglip")
    one, other = (weights_identity(tmp_path / name, card, tmp_path) for name in ("tied.safetensors", "tied.pt"))
    assert one.tensors == other.tensors


def test_an_index_tells_its_tied_tensors_too_and_other_metadata_ties_nothing(index: Path) -> None:
    more = {"write": "layer.0.weight", "layer.1.weight": "layer.0.weight", "a": "b", "format": "pt"}
    found = read_checkpoint(edited(index, lambda told: told["metadata"].update(more))).tensors
    assert equal(found, {**TENSORS, "write": TENSORS["layer.0.weight"]})
