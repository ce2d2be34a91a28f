"""`cxrbench weights`: what people read, and the exit codes that scripts read."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from made_queries import tensors, text_encoder, write
from made_weights import zoo_card

from cxrbench.cli.main import main

HEAVY = ("torch", "torchvision", "transformers", "pandas", "sklearn", "scipy", "requests", "huggingface_hub")


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Weights = Callable[..., Done]


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Weights:
    """The verb in this process, without network and with an empty cache of the hub."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv("CXRBENCH_WEIGHTS", raising=False)

    def run(*words: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["cxrbench", "weights", *words])
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        told = capsys.readouterr()
        assert isinstance(code, int)
        return Done(code, told.out, told.err)

    return run


@pytest.fixture
def medklip(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    return write("medklip", tensors("medklip"), folder / zoo_card("medklip").weights.files[0])


@pytest.mark.parametrize("words", [["--help"], ["fetch", "--help"], ["verify", "--help"], ["info", "--help"]])
def test_help_loads_nothing_heavy(words: list[str]) -> None:
    program = (
        "import sys\n"
        "from cxrbench.cli.main import main\n"
        f"sys.argv = ['cxrbench', 'weights', *{words!r}]\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"assert not [name for name in {HEAVY!r} if name in sys.modules]\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_all_models_without_network_say_everything_that_is_missing_at_once(weights: Weights) -> None:
    told = weights("info", "all")
    assert told.returncode == 0, told.stderr
    verified = weights("verify", "medklip,biovil", "convirt")
    assert verified.returncode == 3
    for part in (
        "medklip: no weights in",
        "biovil: no weights in",
        "convirt: no weights in",
        "medklip: its text encoder's config.json and vocab.txt and pytorch_model.bin or model.safetensors",
        "biovil: its text encoder's config.json and vocab.txt and pytorch_model.bin",
        "convirt: its text encoder's vocab.json and merges.txt",
    ):
        assert part in verified.stderr
    for part in ("gloria: open https://stanfordmedicine.box.com", "`cxrbench weights fetch medclip` gets it from"):
        assert part in told.stdout
    assert told.stdout.count("missing: the weights") >= 25
    assert "Traceback" not in told.stderr + verified.stderr


def test_fetch_offline_says_for_every_model_what_to_do(weights: Weights) -> None:
    done = weights("fetch", "gloria", "medclip", "--no-text")
    assert done.returncode == 3
    assert "gloria: open https://stanfordmedicine.box.com" in done.stderr
    assert "medclip: HF_HUB_OFFLINE forbids the network" in done.stderr


@pytest.mark.slow
def test_verify_convert_and_a_replaced_file(
    medklip: Path, tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = ["--weights", str(medklip.parent)]
    text = ["--text-encoder", str(text_encoder("medklip", tmp_path / "text"))]
    first = weights("verify", "medklip", *places, *text)
    assert first.returncode == 0, first.stderr
    for part in (str(medklip), f"{medklip.stat().st_size} bytes", "recorded now", "format torch", "340 tensors used"):
        assert part in first.stdout
    assert "as first seen" in weights("verify", "medklip", *places, *text).stdout
    converted = weights("convert", "medklip", *places)
    assert f"converted from {medklip.name}" in converted.stdout
    monkeypatch.setenv("CXRBENCH_WEIGHTS", str(medklip.parent))
    told = weights("info", "medklip")
    assert f"here: {medklip}.safetensors" in told.stdout
    Path(f"{medklip}.safetensors").unlink()
    other = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in tensors("medklip").items()}
    torch.save({"model": other}, medklip)
    refused = weights("verify", "medklip", *places, *text)
    assert refused.returncode == 4
    assert "when it was first seen" in refused.stderr
    accepted = weights("verify", "medklip", "--accept", *places, *text)
    assert accepted.returncode == 0, accepted.stderr
    assert weights("verify", "medklip", *places, *text).returncode == 0


def test_a_broken_file_and_a_missing_one_give_the_graver_code(medklip: Path, weights: Weights) -> None:
    medklip.write_bytes(b"<html>Sign in</html>")
    done = weights("verify", "medklip", "gloria", "--weights", str(medklip.parent))
    assert done.returncode == 4
    assert "a web page, not a checkpoint" in done.stderr
    assert "gloria: no weights in" in done.stderr
    assert weights("info", "medklipp").returncode == 2


def test_weights_for_a_model_that_does_not_exist_and_a_model_that_cannot_be_run(weights: Weights) -> None:
    done = weights("verify", "medklip", "--weights", "medclap=/nowhere.pth")
    assert done.returncode == 2
    assert "no model 'medclap'; did you mean" in done.stderr
    absent = weights("info", "sat")
    assert absent.returncode == 2
    assert "cannot be run: Published:" in absent.stderr
