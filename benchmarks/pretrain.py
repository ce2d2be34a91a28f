"""Pre-training: the input pipeline beside the network, and what the store of decoded images costs.

Pipeline: from the store, warm as from the second epoch on, to batches with drawn texts, cut into tokens; and the same
with augmentation, which a GPU does itself. Network: whole steps of the released recipe (ResNet-50 at 224 pixels, a BERT
of base size, AdamW) on batches that are there already. Store: decoding and keeping against decoding alone.
"""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.material import KINDS, Material
from benchmarks.rounds import Row, Target, alternated, child, cpu_seconds, ratios

BATCH = 8  # as many as fit beside a BERT of base size on a small machine
STEPS = 2
EPOCHS = 20  # of the pipeline, so that the clock sees more than a moment
PER_CLASS = 8
IMAGES = 48  # that the store is filled with
CACHE_TARGET = 1.10
BASE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072}


def rows(material: Material, rounds: int) -> list[Row]:
    """The pipeline with and without augmentation against the network; the store against decoding."""
    prepared(material.root)
    arms = {name: partial(child, f"pretrain:{name}", root=str(material.root)) for name in ("fed", "augmented", "steps")}
    runs = alternated(arms, rounds)
    found = []
    for name, title in (("fed", "pipeline, store to batch"), ("augmented", "pipeline, store to augmented batch")):
        own, network = [run["cpu"] for run in runs[name]], [run["cpu"] for run in runs["steps"]]
        note = f"{1 / min(own):.0f} against {1 / min(network):.1f} images a second of one core"
        found.append(Row(f"{title}, over the network's speed", ratios(network, own), Target(1.0), None, note))
    return [*found, *store_rows(material, rounds)]


def store_rows(material: Material, rounds: int) -> list[Row]:
    """A row for each kind of picture that pre-training reads."""
    found = []
    for kind in ("JPEG 2500x3000", "PNG 299x299"):
        assert kind in KINDS
        files = material.files(kind, IMAGES)
        arms = {name: partial(child, f"pretrain:{name}", files=files) for name in ("kept", "decoded")}
        runs = alternated(arms, rounds)
        kept, plain = [run["cpu"] for run in runs["kept"]], [run["cpu"] for run in runs["decoded"]]
        equal = len({run["content"] for arm in runs.values() for run in arm}) == 1
        first = runs["kept"][0]
        note = f"{1000 * min(kept):.1f} against {1000 * min(plain):.1f} ms an image; {first['size'] / 1000:.1f} kB each"
        note += f", opened again in {1000 * min(run['again'] for run in runs['kept']):.2f} ms an image"
        target = Target(CACHE_TARGET, at_most=True)
        found.append(Row(f"store, filling over decoding, {kind}", ratios(kept, plain), target, equal, note))
    return found


def prepared(root: Path) -> None:
    """A drawn MIMIC-CXR-JPG with sentences, and a BERT of base size that knows their words."""
    from cxrbench.cli.demonstration import write_text_encoder
    from cxrbench.phantom.reports import phrases
    from cxrbench.phantom.write import write_corpus

    write_corpus("MIMIC", root / "pretraining", images_per_class=PER_CLASS)
    told = [
        text
        for kinds in (phrases().present, phrases().absent, phrases().unsure)
        for of in kinds.values()
        for text in of
    ]
    folder = write_text_encoder(told, root / "text")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **BASE}))


def fed(root: str) -> dict[str, Any]:
    """Arm: batches alone."""
    return {"cpu": _pipeline(root, lambda batch, config: batch)}


def augmented(root: str) -> dict[str, Any]:
    """Arm: batches and their augmentation."""
    from cxrbench.pretrain.engine import pixels

    return {"cpu": _pipeline(root, pixels)}


def steps(root: str) -> dict[str, Any]:
    """Arm: steps of the network on batches that wait."""
    from cxrbench.pretrain.engine import Processes, TrainingEngine

    config, corpus, feed = _feed(root)
    engine = TrainingEngine(config, len(corpus.classes), _files(config), Processes(config))
    batches = [batch for batch, _ in zip(feed.training(_all(corpus), 1), range(STEPS + 1), strict=False)]
    engine.step(batches[0], 1e-5, 0)
    spent, _ = cpu_seconds(lambda: [engine.step(batch, 1e-5, n) for n, batch in enumerate(batches[1:], 1)])
    return {"cpu": spent / STEPS / BATCH}


def kept(files: list[str]) -> dict[str, Any]:
    """Arm: every file decoded into a fresh store; then the time to open the full one."""
    from cxrbench.store import digest
    from cxrbench.system import cpu

    cpu.prepare()
    import numpy as np

    from cxrbench.pretrain.images import WantedImages, fill_pixel_store
    from cxrbench.specs.recipe import Canvas

    _decode(files[:1])
    with TemporaryDirectory() as folder:
        wanted = WantedImages([Path(file) for file in files], Canvas(), Path(folder))
        spent, found = cpu_seconds(lambda: fill_pixel_store(wanted))
        again, _ = cpu_seconds(lambda: fill_pixel_store(wanted))
        size = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
        content = digest.of_bytes(found.pixels[np.arange(len(files))].tobytes())
    each = len(files)
    return {"cpu": spent / each, "again": again / each, "size": size / each, "content": content}


def decoded(files: list[str]) -> dict[str, Any]:
    """Arm: every file read and decoded, kept nowhere."""
    from cxrbench.store import digest
    from cxrbench.system import cpu

    cpu.prepare()
    _decode(files[:1])
    spent, found = cpu_seconds(lambda: _decode(files))
    return {"cpu": spent / len(files), "content": digest.of_bytes(b"".join(array.tobytes() for array in found))}


def _decode(files: list[str]) -> list[Any]:
    from cxrbench.pretrain.image_files import read
    from cxrbench.specs.recipe import Canvas

    found = [read(Path(file), Canvas()).array for file in files]
    assert all(array is not None for array in found)
    return found


def _pipeline(root: str, last: Callable[[Any, Any], object]) -> float:
    """CPU seconds an image of all epochs but the first."""
    config, corpus, feed = _feed(root)

    def run(epochs: range) -> int:
        return sum(
            len(batch.pixels)
            for epoch in epochs
            for batch in feed.training(_all(corpus), epoch)
            if last(batch, config) is not None
        )

    run(range(1))
    spent, images = cpu_seconds(lambda: run(range(1, 1 + EPOCHS)))
    return spent / images


def _feed(root: str) -> tuple[Any, Any, Any]:
    """Configuration, corpus and feed over a full store."""
    from cxrbench.system import cpu

    cpu.prepare()
    from cxrbench.pretrain.batches import BatchPlace, Feed
    from cxrbench.pretrain.config import build_config
    from cxrbench.pretrain.corpus.build import CorpusRequest, build
    from cxrbench.pretrain.corpus.variants import corpus_variant
    from cxrbench.pretrain.images import WantedImages, fill_pixel_store

    place = Path(root)
    choices = {"text.folder": str(place / "text"), "text.initial": "random", "engine.accelerator": "cpu"}
    config = build_config(None, choices | {"objective": "clip", "data.batch_size": str(BATCH), "text.max_tokens": "64"})
    corpus = build(CorpusRequest({"MIMIC": place / "pretraining"}, corpus_variant("as-published"))).corpus
    images = fill_pixel_store(WantedImages(corpus.paths, config.canvas, place / "cache"))
    return config, corpus, Feed(corpus, images.pixels, config, BatchPlace(), _files(config))


def _files(config: Any) -> Any:
    from cxrbench.pretrain.network import find_text_encoder

    return find_text_encoder(config)


def _all(corpus: Any) -> Any:
    import numpy as np

    return np.arange(len(corpus))
