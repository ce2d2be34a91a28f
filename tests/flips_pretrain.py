"""The kinds of files that a pre-training writes and later reads; see `flips`."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from flips import Answer, Kind
from PIL import Image

from cxrbench.models.dlilp_layout import Vocabulary
from cxrbench.pretrain import frequencies, state
from cxrbench.pretrain.config import build_config, config_toml
from cxrbench.pretrain.frequencies import CountedFindings, FindingShare, Frequencies
from cxrbench.pretrain.identity import Identity, Surroundings
from cxrbench.pretrain.images import WantedImages, fill_pixel_store
from cxrbench.pretrain.log import Log, Logged, LogRow, read_rows
from cxrbench.pretrain.pixel_store import pixel_store_folders, pixel_store_in
from cxrbench.pretrain.state import Head, Position, State
from cxrbench.specs.card import read_card
from cxrbench.specs.recipe import Canvas
from cxrbench.store import digest
from cxrbench.store.schema import read_toml
from cxrbench.store.sealed import check_folder, seal_folder, seal_text


def _tensors() -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(1)
    return {f"layer.{n}": torch.from_numpy(rng.random((9, 7), np.float32)) for n in range(5)}


def _of(tensors: object) -> str:
    """A digest of nested tensors and plain values."""
    if isinstance(tensors, torch.Tensor):
        return digest.of_bytes(tensors.numpy().tobytes())
    if isinstance(tensors, dict):
        return digest.of_json([[str(key), _of(value)] for key, value in tensors.items()])
    return repr(tensors)


IDENTITY = Identity("c" * 64, "d" * 64, "e" * 64, 32, "32-true", "f" * 64, "a" * 64)
HISTORY = (Surroundings("1" * 64, "2" * 64, "torch 2", "1 x cpu"),)


def _make_state(folder: Path) -> Path:
    log = _logged(folder)
    head = Head(Position(best=0.25, epoch=1, step=9), IDENTITY, log.at, {"best.pth": "b" * 64}, HISTORY)
    state.write_state(folder, State(head, _tensors(), {"state": {0: {"exp_avg": torch.ones(5)}}}, {}))
    return folder / state.FILE


def _read_state(folder: Path) -> object:
    found = state.read_state(folder)
    assert found is not None
    return found.head, state.read_head(folder), _of([found.network, found.optimiser, found.scaler])


def _make_weights(folder: Path) -> Path:
    known = state.write_tensors(folder / "best.pth", _tensors())
    head = Head(Position(best=0.25), IDENTITY, Logged(), {"best.pth": known}, HISTORY)
    state.write_state(folder, State(head, {}, {}, {}))
    return folder / "best.pth"


def _read_weights(folder: Path) -> object:
    head = state.read_head(folder)
    assert head is not None
    return _of(state.read_tensors(folder / "best.pth", head.kept["best.pth"], "Restore it."))


def _logged(folder: Path) -> Log:
    log = Log(folder)
    log.write(LogRow(kind="step", step=n + 1, epoch=n // 5, loss=1 / (n + 1), rate=1e-4, norm=2.5) for n in range(9))
    log.write([LogRow(kind="validation", step=9, epoch=1, loss=0.25)])
    return log


def _make_log(folder: Path) -> Path:
    _make_state(folder)
    return folder / "metrics.jsonl"


def _read_log(folder: Path) -> object:
    """As `plot` does, and then as a run that goes on."""
    head = state.read_head(folder)
    assert head is not None
    rows = read_rows(folder, head.logged)
    log = Log(folder)
    log.rewind(head.logged)
    return rows, log.at


def _make_config(folder: Path) -> Path:
    path = folder / "config.toml"
    path.write_text(config_toml(build_config(None, {"seed": "7", "data.batch_size": "64"})))
    return path


def _make_frequencies(folder: Path) -> Path:
    counted = CountedFindings(
        images=90, sentences=7, of_images={"edema": FindingShare(positive=8, of=90)}, of_sentences={}
    )
    frequencies.write(
        Frequencies(corpus="d" * 64, all=counted, sources={"MIMIC": counted}), folder / "frequencies.json"
    )
    return folder / "frequencies.json"


CARD = """
name = "x"
title = "CLIP (C), pre-trained here"
adapter = "cxrbench.models.dlilp:DLILP"
pretraining = ["C"]
licence = "none"
source = "made by `cxrbench pretrain`"
[options]
strategy = "clip"
[weights]
files = ["weights.safetensors"]
where = "beside this card"
sha256 = "%s"
[text_encoder]
hub = "text"
folder = "text"
revision_reason = "a local folder"
max_tokens = 77
[recipes.reality-check]
kind = "canvas"
size = 224
[recipes.authors]
kind = "canvas"
size = 224
[taps]
pooled = 512
joint = 128
[zero_shot]
default = "text"
pooling = "embedding"
[zero_shot.views.text]
tap = "joint"
classes = "prompts"
[probe]
"""


def _make_card(folder: Path) -> Path:
    path = folder / "card.toml"
    path.write_text(seal_text(CARD % ("9" * 64)))
    return path


def _make_vocabulary(folder: Path) -> Path:
    path = folder / "pretraining_vocabulary.toml"
    path.write_text(
        seal_text('title = "x"\nsource = "y"\ncategories = ["edema", "nodule"]\n[aliases]\nedemas = ["edema"]\n')
    )
    return path


def _make_text(folder: Path) -> Path:
    (folder / "vocab.txt").write_text("".join(f"word{n}\n" for n in range(99)))
    (folder / "config.json").write_text('{"model_type": "bert"}')
    seal_folder(folder, ["vocab.txt", "config.json"])
    return folder / "vocab.txt"


def _read_text(folder: Path) -> object:
    check_folder(folder)
    return (folder / "vocab.txt").read_bytes(), (folder / "config.json").read_bytes()


def _drawn(n: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(n).integers(0, 256, (40, 50), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def _pixel_store(name: str) -> Callable[[Path], Path]:
    """A store of two batches and a refusal; the file of that name is damaged."""

    def make(folder: Path) -> Path:
        (folder / "images").mkdir()
        for n in range(6):
            (folder / f"images/{n}.png").write_bytes(_drawn(n) if n != 4 else b"no picture")
        for count in (3, 6):
            fill_pixel_store(_wanted(folder, count))
        return pixel_store_folders(folder)[0] / name

    return make


def _wanted(folder: Path, count: int = 6) -> WantedImages:
    return WantedImages([folder / f"images/{n}.png" for n in range(count)], Canvas(size=32), folder)


def _read_pixel_store(folder: Path) -> object:
    """As a pre-training does, and then another one over what the first has mended."""
    told = []
    for _ in range(2):
        found = fill_pixel_store(_wanted(folder))
        rows = np.flatnonzero(found.readable)
        told.append([found.unreadable, found.digest, rows.tolist(), found.pixels[rows].tobytes()])
    return told


def _read_size(folder: Path) -> object:
    """As `cxrbench cache` does."""
    pixel_store = pixel_store_in(pixel_store_folders(folder)[0])
    return pixel_store.size, sorted(pixel_store.rows()), pixel_store.damaged()


def _kind(name: str, make: Callable[[Path], Path], read: Callable[[Path], object]) -> Kind:
    """A kind whose reader gives one value, equal for equal answers."""
    return Kind(name, make, lambda folder: Answer({"value": read(folder)}))


KINDS = (
    _kind("state.pt", _make_state, _read_state),
    _kind("best.pth", _make_weights, _read_weights),
    _kind("metrics.jsonl", _make_log, _read_log),
    _kind("config.toml", _make_config, lambda folder: build_config(folder / "config.toml", {}).model_dump()),
    _kind("frequencies.json", _make_frequencies, lambda folder: frequencies.read(folder / "frequencies.json")),
    _kind("card.toml", _make_card, lambda folder: read_card(folder / "card.toml").model_dump()),
    _kind(
        "pretraining_vocabulary.toml",
        _make_vocabulary,
        lambda folder: read_toml(folder / "pretraining_vocabulary.toml", Vocabulary).model_dump(),
    ),
    _kind("text/", _make_text, _read_text),
    _kind("pixels.u8", _pixel_store("pixels.u8"), _read_pixel_store),
    _kind("journal.bin", _pixel_store("journal.bin"), _read_pixel_store),
    _kind("refused.json", _pixel_store("refused.json"), _read_pixel_store),
    _kind("size.json", _pixel_store("size.json"), _read_size),
)
