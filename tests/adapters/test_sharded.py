"""Checkpoints in several files: refused by name, wherever they are met."""

import json
from pathlib import Path

import pytest
import torch
from made_weights import zoo_card
from safetensors.torch import save_file

from cxrbench.errors import DataError, IntegrityError
from cxrbench.models.base import find_weights
from cxrbench.models.checkpoint import read_checkpoint

PARTS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]


@pytest.fixture
def index(tmp_path: Path) -> Path:
    for number, part in enumerate(PARTS):
        save_file({f"layer.{number}.weight": torch.zeros(2)}, tmp_path / part)
    told = {"metadata": {"total_size": 16}, "weight_map": {f"layer.{n}.weight": part for n, part in enumerate(PARTS)}}
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(told, indent=2))
    return path


def test_an_index_is_refused_with_the_names_of_its_parts(index: Path) -> None:
    with pytest.raises(
        IntegrityError, match=r"an index of 2 files .*model-00001-of-00002\.safetensors, model-00002"
    ) as e:
        read_checkpoint(index)
    assert "not beside it" not in str(e.value)
    assert "join them into one model.safetensors" in str(e.value)


def test_a_part_that_is_not_there_is_named(index: Path) -> None:
    (index.parent / PARTS[1]).unlink()
    with pytest.raises(IntegrityError, match=rf"1 of them are not beside it: {PARTS[1]}"):
        read_checkpoint(index)


@pytest.mark.parametrize("own", ["", "medsiglip"])
def test_a_folder_with_parts_alone_is_no_folder_without_weights(index: Path, own: str, tmp_path: Path) -> None:
    if own:
        (tmp_path / own).mkdir()
        index.rename(tmp_path / own / index.name)
    with pytest.raises(IntegrityError, match="an index of 2 files"):
        find_weights(zoo_card("medsiglip"), tmp_path)


def test_one_whole_file_comes_before_an_index(index: Path) -> None:
    whole = index.parent / "model.safetensors"
    save_file({"layer.0.weight": torch.zeros(2)}, whole)
    assert find_weights(zoo_card("medsiglip"), index.parent) == whole


@pytest.mark.parametrize("text", ['{"weight_map": 3}', '{"a": 1}', "{", '{"weight_map": {"a": ["b"]}}'])
def test_other_json_is_no_checkpoint_at_all(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(IntegrityError, match="neither a torch nor a safetensors file"):
        read_checkpoint(tmp_path / "a.json")
    with pytest.raises(DataError, match="no weights in"):
        find_weights(zoo_card("medsiglip"), tmp_path)


def test_another_whole_file_comes_before_an_index(index: Path) -> None:
    card = zoo_card("medsiglip")
    several = card.weights.model_copy(update={"files": ("model.safetensors", "pytorch_model.bin")})
    whole = index.parent / "pytorch_model.bin"
    torch.save({"layer.0.weight": torch.zeros(2)}, whole)
    assert find_weights(card.model_copy(update={"weights": several}), index.parent) == whole
