"""An adapter module beside its card: found without PYTHONPATH, apart from all others, and in its code's digest."""

import random
import sys
from pathlib import Path

import pytest
import torch
from lab import Lab

from cxrbench.errors import SpecError
from cxrbench.models.base import adapter_class, adapter_module, load_adapter
from cxrbench.runner.model import bench_model
from cxrbench.runner.request import Engine, Places
from cxrbench.specs.card import ModelCard, read_card
from cxrbench.system.sources import code_digest

ADAPTER = """from cxrbench.models.base import NoOptions
from cxrbench.models.checkpoint_model import VisionOnly
from cxrbench.models.features import ImageFeatures
from torch import nn

{more}
from .random import factor


class Mine(VisionOnly[NoOptions]):
    options_type = NoOptions
    image_network = ""

    @classmethod
    def networks(cls, tensors, card, options):
        return {{"": nn.Identity()}}

    def image_vectors(self, pixels, runtime):
        return ImageFeatures(pixels.mean(dim=(2, 3)) * factor())
"""
CARD = """name = "mine"
title = "Mine"
adapter = "{adapter}"
licence = "MIT"
source = "me"
weights = {{ made = "it has none" }}
taps = {{ pooled = 3 }}
recipes.reality-check = {{ size = 8 }}
"""


def card(folder: Path, factor: float, more: str = "", adapter: str = "my_adapter:Mine") -> ModelCard:
    """A card with its adapter, and a sibling of that which bears the name of one of Python's modules."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "my_adapter.py").write_text(ADAPTER.format(more=more))
    (folder / "random.py").write_text(f"from . import deeper\n\n\ndef factor():\n    return deeper.FACTOR * {factor}\n")
    (folder / "deeper.py").write_text("FACTOR = 1\n")
    (folder / "unused.py").write_text("A = 1\n")
    (folder / "mine.toml").write_text(CARD.format(adapter=adapter))
    return read_card(folder / "mine.toml")


def code(card: ModelCard) -> str:
    """As a process that has read nothing yet sees it."""
    code_digest.cache_clear()
    for name in ("closure", "_code_of", "_file", "_imported"):
        getattr(sys.modules["cxrbench.system.sources"], name).cache_clear()
    return bench_model(card, Places(), Engine(), "cpu", alone=True).code


def test_equal_names_in_two_folders_stay_apart_and_hide_nothing(tmp_path: Path) -> None:
    path, two = list(sys.path), card(tmp_path / "a", 2)
    three = card(tmp_path / "b", 3)
    pixels = torch.ones(2, 3, 8, 8)
    for own, factor in ((two, 2), (three, 3), (two, 2)):
        assert torch.equal(load_adapter(own).encode_image(pixels).pooled, torch.full((2, 3), float(factor)))
    assert adapter_class(two) is not adapter_class(three) and adapter_class(two) is adapter_class(two)
    assert sys.path == path and sys.modules["random"] is random and "my_adapter" not in sys.modules


def test_the_digest_covers_the_module_and_what_it_imports_wherever_the_folder_lies(tmp_path: Path) -> None:
    own = card(tmp_path / "a", 2)
    before = code(own)
    assert before == code(card(tmp_path / "elsewhere" / "b", 2)) != code(card(tmp_path / "c", 3))
    for name, moved in (("my_adapter", True), ("random", True), ("deeper", True), ("unused", False)):
        file = tmp_path / "a" / f"{name}.py"
        text = file.read_text()
        file.write_text(f"{text}\nMORE = 1\n")
        assert (code(own) != before) == moved, name
        file.write_text(f"# why\n{text}")
        assert code(own) == before, name
        file.write_text(text)


def test_a_package_beside_a_card_is_one_too(tmp_path: Path) -> None:
    own = card(tmp_path, 2, adapter="mine:Mine")
    (tmp_path / "mine").mkdir()
    for name in ("my_adapter", "random", "deeper"):
        (tmp_path / f"{name}.py").rename(tmp_path / "mine" / f"{name}.py")
    (tmp_path / "mine" / "__init__.py").write_text("from .my_adapter import Mine\n")
    assert adapter_class(own).__name__ == "Mine"
    before = code(own)
    (tmp_path / "mine" / "deeper.py").write_text("FACTOR = 2\n")
    assert code(own) != before


def test_a_sibling_that_is_imported_as_if_it_were_installed_is_told_how_to_be(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match=r"No module named 'deeper'; it lies beside the card: write `from . import deeper`"
    ):
        adapter_class(card(tmp_path, 2, more="import deeper"))
    with pytest.raises(SpecError, match=rf"there is no module 'nowhere': no nowhere\.py in {tmp_path}/other, the fol"):
        adapter_class(card(tmp_path / "other", 2, adapter="nowhere:Mine"))


def test_a_dotted_name_is_never_looked_for_beside_a_card(tmp_path: Path) -> None:
    (tmp_path / "cxrbench" / "models").mkdir(parents=True)
    (tmp_path / "cxrbench" / "models" / "controls.py").write_text("raise RuntimeError('run')\n")
    own = card(tmp_path, 2, adapter="cxrbench.models.controls:ClassPrior")
    assert adapter_module(own) == "cxrbench.models.controls"


@pytest.mark.slow
def test_processes_of_a_run_find_it_too(lab: Lab, tmp_path: Path) -> None:
    card(tmp_path / "zoo", 2)
    how = {"groups": ("2-class",), "shots": (2,), "protocols": ["linear-probe"], "device": "cpu,cpu"}
    report = lab.run(tmp_path, [], ["covid"], models=[str(tmp_path / "zoo" / "mine.toml")], **how)
    assert not report.problems and len(report.records) == 1
    assert report.encoded == 0  # the processes did it
