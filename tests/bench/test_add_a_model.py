"""`docs/add-a-model.md`, kept true: its card runs as it stands, and its package installs and runs."""

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import tomllib
from pathlib import Path

import made_hub
import open_clip
import pytest
import torch
from lab import Lab, records_of
from made_package import CHECKOUT, run_cxrbench, write_package
from safetensors.torch import save_file

from cxrbench.models.base import load_adapter
from cxrbench.specs.card import ModelCard, Weights, read_card
from cxrbench.testing import check_adapter

PLUGIN = CHECKOUT / "tests" / "example_plugin"
DOCUMENT = (CHECKOUT / "docs" / "add-a-model.md").read_text(encoding="utf-8")
BLOCKS = [
    textwrap.dedent(block) for block in re.findall(r"^ *```toml\n(.*?)^ *```", DOCUMENT, re.DOTALL | re.MULTILINE)
]


def block(beginning: str) -> str:
    """The one TOML block of the document that begins so."""
    (found,) = (block for block in BLOCKS if block.startswith(beginning))
    return found


CARD = block('name = "my_clip"')
TINY = {
    "embed_dim": 512,
    "vision_cfg": {"image_size": 224, "patch_size": 32, "width": 768, "layers": 1, "head_width": 64},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 4, "layers": 1},
}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the document's card, and a tiny model under the names that the card gives."""
    folder = tmp_path_factory.mktemp("my_clip")
    (folder / "my_clip.toml").write_text(CARD, encoding="utf-8")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY, "preprocess_cfg": {}}))
    model = made_hub.drawn(open_clip.CLIP(**json.loads(json.dumps(TINY))))
    save_file(made_hub.tensors(model), folder / "open_clip_model.safetensors")
    return folder / "my_clip.toml"


def test_the_card_is_about_fifteen_lines_long() -> None:
    assert len([line for line in CARD.splitlines() if line.strip()]) <= 17


def test_the_card_as_it_stands_keeps_the_promises_of_an_adapter(published: Path) -> None:
    check_adapter(load_adapter(read_card(published))).require()


@pytest.mark.slow
def test_the_card_as_it_stands_runs(published: Path, lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, [], ["covid"], models=[str(published)], groups=("2-class",), shots=(2,))
    assert not report.problems
    assert {record.protocol.protocol for record in report.records} == {"zero-shot", "linear-probe"}
    assert {record.model.name for record in report.records} == {"my_clip"}


def test_the_document_shows_the_package_as_it_is() -> None:
    assert (PLUGIN / "cxrbench_heron" / "adapter.py").read_text(encoding="utf-8") in DOCUMENT
    assert block('name = "heron"') == (PLUGIN / "cxrbench_heron" / "heron.toml").read_text(encoding="utf-8")
    assert block("[project.entry-points").strip() in (PLUGIN / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("shown", BLOCKS, ids=lambda shown: shown.partition("\n")[0])
def test_what_the_document_shows_of_cards_is_taken(shown: str) -> None:
    facts = tomllib.loads(shown)
    if "name" in facts:
        ModelCard.model_validate(facts)
    elif "weights" in facts:
        Weights.model_validate(facts["weights"])
    else:
        assert facts.keys() == {"project", "tool"}


@pytest.mark.slow
def test_a_package_of_its_own_is_listed_shown_and_run(lab: Lab, tmp_path: Path) -> None:
    shutil.copytree(PLUGIN, tmp_path / "source")  # building writes beside the sources
    site = tmp_path / "site"
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--target", str(site)]
    subprocess.run([sys.executable, "-m", "pip", "install", *offline, str(tmp_path / "source")], check=True)

    def told(*words: str) -> str:
        done = run_cxrbench(site, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert any(line.startswith("heron ") for line in told("models").splitlines())
    assert json.loads(told("info", "heron", "--json"))["adapter"] == "cxrbench_heron.adapter:Heron"
    generator = torch.Generator().manual_seed(0)
    shapes = {"image.weight": (32, 64), "image.bias": (32,), "words.weight": (512, 32)}
    (tmp_path / "weights").mkdir()
    save_file(
        {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()},
        tmp_path / "weights" / "heron.safetensors",
    )
    run = ["run", "--model", "heron", "--task", lab.task("covid"), "--variant", str(lab.variant), *lab.roots]
    places = [
        "--weights",
        str(tmp_path / "weights"),
        "--out",
        str(tmp_path / "results"),
        "--cache",
        str(tmp_path / "c"),
    ]
    told(*run, *places, "--shots", "2", "--group", "2-class", "--prompts", "names", "--device", "cpu")
    records = records_of(tmp_path)
    assert {(r.model.name, r.protocol.protocol) for r in records} == {("heron", "zero-shot"), ("heron", "linear-probe")}
    assert all(record.synthetic for record in records)


@pytest.mark.slow
def test_listing_imports_no_code_of_a_package(tmp_path: Path) -> None:
    """A package whose import fails is listed all the same; one that is not there is named."""
    package = tmp_path / "site" / "heron_cards"
    (package / "cards").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')\n")
    shutil.copy(PLUGIN / "cxrbench_heron" / "heron.toml", package / "cards" / "heron.toml")
    program = "import cxrbench.specs.catalog as c; print('heron' in c.card_files())"
    env = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{CHECKOUT}"}

    def listed(value: str) -> subprocess.CompletedProcess[str]:
        write_package(tmp_path / "site", "heron", {}, "cxrbench.model_zoo", f"heron = {value}")
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env, timeout=60)

    assert listed("heron_cards.cards").stdout.strip() == "True"
    assert "there is no package 'heron_cards.eggs'" in listed("heron_cards.eggs").stderr
    assert "there is no package 'heron_eggs'" in listed("heron_eggs").stderr
