"""Without a network a fetch says so at once, and what to do."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from made_web import Told
from made_weights import small_card

import cxrbench
from cxrbench.errors import DataError
from cxrbench.models.text import text_files
from cxrbench.models.weights.fetch import fetch, fetch_text
from cxrbench.models.weights.verify import missing_text
from cxrbench.specs.card import ModelCard

SOON = 20.0  # seconds, most of them Python's own start; the hub's library would try for a minute
PROGRAM = [sys.executable, "-c", "from cxrbench.cli.main import main; main()", "weights", "fetch"]


def fetched(tmp_path: Path, *words: str, **environment: str) -> tuple[int, str, float]:
    told = {**os.environ, "HF_HOME": str(tmp_path / "hub"), "HF_ENDPOINT": "http://127.0.0.1:9", **environment}
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy", "HF_HUB_OFFLINE"):
        if name not in environment:
            told.pop(name, None)
    began = time.monotonic()
    done = subprocess.run(
        [*PROGRAM, *words, "--cache", str(tmp_path / "cache")], capture_output=True, text=True, env=told, timeout=300
    )
    return done.returncode, done.stderr, time.monotonic() - began


def test_weights_and_texts_of_the_hub_are_refused_at_once(tmp_path: Path) -> None:
    code, said, seconds = fetched(tmp_path, "biomedclip")
    assert code == DataError.exit_code
    assert said.count("http://127.0.0.1:9 cannot be reached") == 2  # the weights, and the text encoder
    assert "put it at" in said and "--text-encoder FOLDER" in said
    assert "Traceback" not in said
    assert seconds < SOON * 3


def test_the_offline_switch_is_obeyed_and_named(tmp_path: Path) -> None:
    code, said, _ = fetched(tmp_path, "biomedclip", HF_HUB_OFFLINE="1")
    assert code == DataError.exit_code
    assert said.count("HF_HUB_OFFLINE forbids the network") == 2


def direct(url: str) -> ModelCard:
    card = small_card("unimodal_cm")
    return card.model_copy(update={"weights": card.weights.model_copy(update={"fetch": "direct", "url": url})})


@pytest.mark.parametrize("url", ["https://127.0.0.1:9/w.pth", "https://nobody.invalid/w.pth"])
def test_a_server_that_is_not_there_is_tried_once(url: str, tmp_path: Path) -> None:
    began = time.monotonic()
    with pytest.raises(DataError, match="put it at"):
        fetch(direct(url), None, tmp_path, Told())
    assert time.monotonic() - began < SOON


def test_only_a_fetch_asks_the_hub_for_a_text_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(name: str, _: str) -> None:
        asked.append(name)
        raise DataError(name)

    monkeypatch.setattr("cxrbench.models.text.require_hub", ask)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("requests.sessions.Session.send", lambda *_, **__: pytest.fail("the network was asked"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("the network was asked"))
    card = small_card("dlilp_cm")
    assert card.text_encoder is not None
    with pytest.raises(DataError, match=r"not in the hub's cache. `cxrbench weights fetch MODEL` gets them"):
        text_files(card.text_encoder, None)
    assert missing_text(card, None)
    assert not asked
    with pytest.raises(DataError):
        fetch_text(card, None)
    assert len(asked) == 1


ASKING = {"models/hub.py", "models/text.py", "models/weights/fetch.py", "pretrain/network.py"}


def test_no_other_code_can_ask_the_hub() -> None:
    """What docs/cluster.md promises of `run`, `weights verify` and `doctor`, read off the sources."""
    root, words = Path(cxrbench.__file__).parent, ("fetched_text_files", "require_hub", "snapshot_download", "hf_hub_")
    found = {p.relative_to(root).as_posix() for p in root.rglob("*.py") if any(word in p.read_text() for word in words)}
    assert found <= ASKING
    assert "pretrain/network.py" in found
