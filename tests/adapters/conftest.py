"""Models with synthetic weights, loaded once for all tests of the adapters."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from made_weights import (
    FIXTURES,
    TEXT_ENCODER,
    certificate,
    make_checkpoint,
    official_layout,
    small_card,
    small_layout,
    zoo_card,
)
from safetensors.torch import save_file

from cxrbench.models.base import Adapter, load_adapter

Golden = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def golden() -> Golden:
    """What the authors' code made of the synthetic weights, seed 0."""
    told = certificate("dlilp")
    arrays: Golden = told.golden() | {"images": told.images()}
    for part in ("pixels", "antialias", "images", "features"):
        with np.load(FIXTURES / f"dlilp_{part}.npz") as stored:
            arrays.update({name: stored[name] for name in stored.files})
    return arrays


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Adapter]:
    """The official layout of a strategy with synthetic weights, behind its C+M card (ResNet-50, four text layers)."""
    loaded: dict[str, Adapter] = {}
    made: dict[str, torch.Tensor] = {}  # equal names have equal values in all four files

    def load(strategy: str) -> Adapter:
        if strategy not in loaded:
            layout = official_layout(strategy)
            made.update(make_checkpoint(entry for entry in layout if entry[0] not in made))
            path = tmp_path_factory.mktemp(strategy) / f"{strategy}_CM.pth"
            torch.save({name: made[name] for name, *_ in layout}, path)
            loaded[strategy] = load_adapter(zoo_card(f"{strategy}_cm"), weights=path, text_encoder=TEXT_ENCODER)
        return loaded[strategy]

    return load


@pytest.fixture(scope="session")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DLILP checkpoint with a ResNet-18, as safetensors."""
    path = tmp_path_factory.mktemp("small") / "small.safetensors"
    save_file(make_checkpoint(small_layout("dlilp")), path)
    return path


@pytest.fixture(scope="session")
def small(small_file: Path) -> Adapter:
    """The DLILP adapter on `small_file`."""
    return load_adapter(small_card("dlilp_cm"), weights=small_file, text_encoder=TEXT_ENCODER)
