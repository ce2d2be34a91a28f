"""Copies on the hub whose files nobody has listed: a person names one, and its tensors decide whether it is taken."""

from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import RemoteEntryNotFoundError
from made_weights import make_checkpoint, small_card, small_layout
from safetensors.torch import save_file
from torch import Tensor

from cxrbench.errors import DataError, IntegrityError, SpecError
from cxrbench.models import coverage
from cxrbench.models.weights import fetch as fetching
from cxrbench.models.weights.fetch import fetch, fetch_copy, locate
from cxrbench.models.weights.identity import Pins
from cxrbench.models.weights.verify import take_copy
from cxrbench.specs import catalog
from cxrbench.system.progress import Transfer

CARD = small_card("dlilp_cm")
FILE = "model.safetensors"
TENSORS = make_checkpoint(small_layout("dlilp"))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Tensor]]:
    """A hub with one repository, of files that the test puts in."""
    held: dict[str, dict[str, Tensor]] = {}

    def download(repository: str, file: str, *, local_dir: Path) -> str:
        assert repository == CARD.weights.hub_copy
        if file not in held:
            raise RemoteEntryNotFoundError("404", response=MagicMock())
        save_file(held[file], local_dir / file)
        return str(local_dir / file)

    monkeypatch.setattr(fetching, "require_hub", lambda name, way_out: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", lambda self, repository: ["README.md", *held])
    monkeypatch.setattr(coverage, "card_files", lambda folder: ())
    return held


def test_the_file_that_a_person_names_is_taken_where_its_tensors_fit(
    hub: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    hub[FILE] = TENSORS
    copy = fetch_copy(CARD, FILE, None, tmp_path)
    found = take_copy(CARD, copy, None, tmp_path)
    assert found.coverage is not None and found.coverage.complete and not copy.exists()
    assert locate(CARD, None, tmp_path) == tmp_path / "weights" / "dlilp_cm" / "dlilp_CM.pth" == found.identity.file
    with pytest.raises(DataError, match=r"there are weights at .* already"):
        fetch_copy(CARD, FILE, None, tmp_path)


def test_what_is_not_the_models_is_put_aside_with_the_line_for_its_card(
    hub: dict[str, dict[str, Tensor]], tmp_path: Path
) -> None:
    hub[FILE] = {f"model.{name}": tensor for name, tensor in TENSORS.items()}
    copy = fetch_copy(CARD, FILE, None, tmp_path)
    with pytest.raises(IntegrityError, match=r'rename = \{ "model\." = "" \} It was left at .*model\.safetensors'):
        take_copy(CARD, copy, None, tmp_path)
    assert copy.is_file() and Pins(tmp_path).read(copy) is None
    with pytest.raises(DataError, match="no weights in"):
        locate(CARD, None, tmp_path)
    renamed = CARD.weights.model_copy(update={"rename": {"model.": ""}})
    assert take_copy(CARD.model_copy(update={"weights": renamed}), copy, None, tmp_path).identity.size


def test_a_name_that_is_not_there_lists_those_that_are(hub: dict[str, dict[str, Tensor]], tmp_path: Path) -> None:
    hub[FILE] = {"a": torch.zeros(2)}
    with pytest.raises(DataError, match=r"jusiro2/DLILP_CM has no 'any\.pth'; it holds README\.md, model\.safetensors"):
        fetch_copy(CARD, "any.pth", None, tmp_path)
    for way_out in ("../any.pth", "/any.pth", "C:any.pth"):
        with pytest.raises(SpecError, match="--file"):
            fetch_copy(CARD, way_out, None, tmp_path)
    with pytest.raises(SpecError, match="its card knows of none"):
        fetch_copy(catalog.load_card("gloria"), FILE, None, tmp_path)


def test_who_fetches_such_a_model_is_told_of_the_copy(tmp_path: Path) -> None:
    quiet: Any = Transfer
    with pytest.raises(DataError, match=r"copy on the hub, jusiro2/DLILP_CM: .* fetch dlilp_cm --file FILE"):
        fetch(CARD, None, tmp_path, quiet)
