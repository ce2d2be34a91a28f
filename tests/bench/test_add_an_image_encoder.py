"""An image-only adapter in one file of another package: complete without a text side, from raw files to the report."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from lab import Lab, records_of
from made_package import CHECKOUT, run_cxrbench, write_package
from safetensors.torch import save_file

CODE = '''"""Wren: the mean grey of nine cells, and one linear layer over them."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d

from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import CheckpointModel
from cxrbench.models.features import ImageFeatures
from cxrbench.specs.card import ModelCard
from cxrbench.store.schema import Spec


class Options(Spec):
    """None."""


class Wren(CheckpointModel[Options]):
    """`pooled` (8): the layer's output."""

    options_type = Options
    image_network = "layer."

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """The layer."""
        with torch.device("meta"):
            return {"layer.": nn.Linear(9, 8)}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """Of (N, 3, H, W) pixels."""
        return ImageFeatures(self.parts["layer."](adaptive_avg_pool2d(pixels.mean(dim=1, keepdim=True), 3).flatten(1)))
'''
CARD = """name = "wren"
title = "Wren"
adapter = "wren:Wren"
licence = "MIT"
source = "an example"
synthetic = true
weights = { files = ["wren.safetensors"], where = "written by the test" }
recipes.reality-check = { size = 64 }
taps = { pooled = 8 }
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with the package, its card and its weights."""
    files = {"wren/__init__.py": CODE, "wren/wren.toml": CARD}
    generator = torch.Generator().manual_seed(0)
    tensors = {"layer.weight": (8, 9), "layer.bias": (8,)}
    save_file({n: torch.randn(s, generator=generator) for n, s in tensors.items()}, tmp_path / "wren.safetensors")
    return write_package(tmp_path / "site", "wren", files, "cxrbench.model_zoo", "wren = wren")


def test_it_runs_from_files_to_the_report_and_is_skipped_where_texts_are_needed(site: Path, lab: Lab) -> None:
    place = site.parent
    task = ["--task", lab.task("covid"), "--group", "2-class", "--variant", str(lab.variant), "--shots", "2"]
    files = ["--weights", f"wren={place / 'wren.safetensors'}", "--out", str(place / "results")]
    done = run_cxrbench(
        site,
        site.parent,
        "run",
        "--model",
        "wren",
        *task,
        *lab.roots,
        *files,
        "--cache",
        str(place / "c"),
        "--device",
        "cpu",
    )
    assert done.returncode == 0, done.stderr
    assert "wren / covid / zero-shot" in done.stdout + done.stderr
    (record,) = records_of(place)
    assert (record.model.name, record.protocol.protocol) == ("wren", "linear-probe")
    told = run_cxrbench(
        site, site.parent, "report", "--out", str(place / "results"), "--to", str(place / "report.html")
    )
    assert told.returncode == 0, told.stderr
    assert "wren" in (place / "report.html").read_text()


@pytest.mark.slow
def test_doctor_and_check_adapter_find_it_complete(site: Path) -> None:
    done = run_cxrbench(site, site.parent, "doctor", "wren", "--weights", str(site.parent / "wren.safetensors"))
    assert done.returncode == 0, done.stdout + done.stderr
    program = (
        "from pathlib import Path; import cxrbench.models.base as b; from cxrbench.specs.catalog import load_card\n"
        "from cxrbench.testing import check_adapter\n"
        "check_adapter(b.load_adapter(load_card('wren'), Path('wren.safetensors'))).require()"
    )
    env = {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{CHECKOUT}"}
    checked = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=site.parent, env=env)
    assert checked.returncode == 0, checked.stderr
