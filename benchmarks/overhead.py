"""CPU time of one sweep through three models over that of their forward passes alone.

Both arms load the models, run one batch, test the reader and read one file of each kind before the clock starts, so
start-up is in neither. The sweep: read, hash, decode, batch, forward, append to a cold store. The other arm: the same
forward passes by the same engine, on batches that are decoded and stacked already; it also clocks decoding alone, by
the same functions without the harness.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.material import KINDS, Material
from benchmarks.rounds import Row, Target, alternated, child, cpu_seconds, ratios

if TYPE_CHECKING:
    from cxrbench.runner.model import BenchModel

IMAGES = 32  # of each kind: a multiple of the batch size, so that nothing is padded
Kinds = Mapping[str, Sequence[str]]  # kind of file to paths


def rows(material: Material, rounds: int) -> list[Row]:
    """Harness overhead and glue, for each kind of file and for all of them together."""
    arguments: dict[str, object] = {
        "cards": [str(card) for card in material.cards],
        "kinds": {kind: material.files(kind, IMAGES) for kind in KINDS},
    }
    arms = {name: partial(child, f"overhead:{name}", **arguments) for name in ("sweep", "forward")}
    found = alternated(arms, rounds)
    return [row for kind in (*KINDS, "mix") for row in _rows(kind, found, IMAGES * (3 if kind == "mix" else 1))]


def _rows(kind: str, found: Mapping[str, Sequence[Mapping[str, Any]]], images: int) -> list[Row]:
    def seconds(arm: str, clock: str) -> list[float]:
        return [sum(run[clock].values()) if kind == "mix" else run[clock][kind] for run in found[arm]]

    sweep, forward, decode = seconds("sweep", "sweep"), seconds("forward", "forward"), seconds("forward", "decode")
    floor = [a + b for a, b in zip(forward, decode, strict=True)]
    per_forward, per_decode = 1000 * min(forward) / images / 3, 1000 * min(decode) / images
    note = f"{images} images x 3 ResNet-50; forward {per_forward:.1f} ms, decode {per_decode:.1f} ms an image at best"
    return [
        Row(f"harness_overhead, {kind}", ratios(sweep, forward), Target(1.10, at_most=True), note=note),
        Row(f"glue, {kind}", ratios(sweep, floor), Target(1.05, at_most=True), note="sweep over forward plus decode"),
    ]


def sweep(cards: Sequence[str], kinds: Kinds) -> dict[str, Any]:
    """Arm: `cxrbench.runner.encode.encode` on a cold store."""
    from cxrbench.system import cpu

    cpu.prepare()
    import numpy as np

    from cxrbench.runner.encode import Demands, encode
    from cxrbench.runner.request import Engine
    from cxrbench.specs.recipe import Canvas
    from cxrbench.store.embeddings import Store
    from cxrbench.store.file_hashes import FileHashes
    from cxrbench.system.progress import Quiet

    engine = Engine(device="cpu")
    with TemporaryDirectory() as cache:
        models = _ready(cards, kinds, engine, Path(cache))
        encoders = [model.encoder(Canvas()) for model in models]
        keys = [key for encoder in encoders for key in encoder.outputs]
        store, spent = Store(Path(cache)), {}
        for kind, files in kinds.items():
            hashes = FileHashes(Path(cache), Path(files[0]).parent)
            once = partial(
                encode,
                _wanting(Demands, [Path(name) for name in files], dict.fromkeys(keys, np.arange(len(files)))),
                encoders,
                store,
                lambda path, hashes=hashes: hashes,  # type: ignore[misc]
                batch_size=engine.batch_size,
                workers=engine.threads,
                progress=Quiet(),
            )
            spent[kind], told = cpu_seconds(once)
            assert told.encoded == len(models) * len(files), told
    return {"sweep": spent}


def _wanting(kind: Any, files: Sequence[Path], wanted: Mapping[Any, Any]) -> Any:
    """Files of which nothing is known, and which keys want them."""
    return kind(files, [None] * len(files), wanted, wanted)


def forward(cards: Sequence[str], kinds: Kinds) -> dict[str, Any]:
    """Arm: the same batches through the same models; decoding is clocked apart."""
    from cxrbench.system import cpu

    cpu.prepare()
    import numpy as np

    from cxrbench.runner.request import Engine

    engine, spent, decode = Engine(device="cpu"), {}, {}
    with TemporaryDirectory() as cache:
        forwards = [_forward(model) for model in _ready(cards, kinds, engine, Path(cache))]
    for kind, files in kinds.items():
        decode[kind], images = cpu_seconds(partial(_pixels, files))
        size = engine.batch_size
        batches = [np.stack(images[first : first + size]) for first in range(0, len(images), size)]
        spent[kind], _ = cpu_seconds(partial(_all, forwards, batches))
    return {"forward": spent, "decode": decode}


def _ready(cards: Sequence[str], kinds: Kinds, engine: Any, cache: Path) -> "list[BenchModel]":
    """Models that have run a batch, in a process that has read a file of each kind."""
    import numpy as np

    from cxrbench.images.decoder_check import self_test
    from cxrbench.runner.model import bench_model
    from cxrbench.runner.request import Places
    from cxrbench.specs.catalog import load_card

    models = [bench_model(load_card(card), Places(cache=cache), engine, "cpu", alone=True) for card in cards]
    for model in models:
        _forward(model)(np.zeros((engine.batch_size, 1, 224, 224), np.float32))
    self_test()
    for files in kinds.values():
        _pixels(files[:1])
    return models


def _forward(model: "BenchModel") -> Any:
    """The network alone: a batch to its vectors."""
    from cxrbench.specs.recipe import Canvas

    encoder = model.encoder(Canvas())
    network, keys = encoder.forward(), list(encoder.outputs)

    def encoded(images: Any) -> list[Any]:
        return [fetch() for fetch in network(images, keys).values() if callable(fetch)]

    return encoded


def _pixels(files: Sequence[str]) -> list[Any]:
    """Decoding without the harness: (1, 224, 224) float32 each."""
    from cxrbench.images.pixels import pixels_by
    from cxrbench.images.radiograph import read_bytes
    from cxrbench.specs.recipe import Canvas

    return [pixels_by(read_bytes(Path(file)), file, Canvas()).array for file in files]


def _all(forwards: Sequence[Any], batches: Sequence[Any]) -> None:
    """Every batch through every model, in the order of a sweep."""
    for batch in batches:
        for forward in forwards:
            forward(batch)
