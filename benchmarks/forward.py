"""CPU time of plain eager torch over that of our engine, one ResNet-50, with the largest feature difference beside it.

Plain: torchvision's network in plain memory, batches of 16, glibc's own allocator settings. Ours: the adapter at the
batch size that `run` takes by default, after `cpu.prepare()`: once in plain memory, where features must be equal bit
for bit, and once as it chooses itself (channels-last), within 5e-5. Loading and one batch come before the clock.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.material import KINDS, Material
from benchmarks.rounds import Row, Target, alternated, child, cpu_seconds, ratios

IMAGES = 64
CLOSE = 5e-5


def rows(material: Material, rounds: int) -> list[Row]:
    """The bit-equal tier and the float32 tier."""
    with TemporaryDirectory() as folder:
        pixels = Path(folder) / "pixels.npy"
        child("forward:decoded", files=material.files(next(iter(KINDS)), IMAGES), out=str(pixels))
        card = str(material.cards[0])
        arms = {
            name: partial(child, f"forward:{name}", card=card, pixels=str(pixels), out=f"{folder}/{name}.npy")
            for name in ("plain", "exact", "chosen")
        }
        runs = alternated(arms, rounds)
        features = {name: np.load(f"{folder}/{name}.npy") for name in arms}
    wanted = features["plain"]
    scale = np.abs(wanted).max(axis=1)
    found = []
    for arm, title, target, limit in (
        ("exact", "bit-equal", Target(1.6), 0.0),
        ("chosen", "float32 tier", Target(1.7), CLOSE),
    ):
        worst = float((np.abs(features[arm] - wanted).max(axis=1) / scale).max())
        best = {name: 1000 * min(run["cpu"] for run in runs[name]) / IMAGES for name in ("plain", arm)}
        note = f"largest relative difference {worst:.1e}; {best['plain']:.1f} against {best[arm]:.1f} ms an image"
        note += f" ({runs['plain'][0]['system']:.0%} and {runs[arm][0]['system']:.0%} of it in the kernel)"
        measured = ratios([run["cpu"] for run in runs["plain"]], [run["cpu"] for run in runs[arm]])
        found.append(Row(f"forward, {title} ({runs[arm][0]['format']})", measured, target, worst <= limit, note))
    return found


def decoded(files: Sequence[str], out: str) -> dict[str, Any]:
    """No arm: pixels (n, 1, 224, 224) of the files, for all arms."""
    from cxrbench.images.pixels import pixels_by
    from cxrbench.specs.recipe import Canvas

    np.save(out, np.stack([pixels_by(Path(file).read_bytes(), file, Canvas()).array for file in files]))
    return {}


def plain(card: str, pixels: str, out: str) -> dict[str, Any]:
    """Arm: what torch does when nobody asks for more."""
    import torch

    from benchmarks.official import BATCH, encoded, network

    trunk, images = network(Path(card).with_suffix(".safetensors")), np.load(pixels)[:, 0]
    with torch.no_grad():
        trunk(torch.zeros(BATCH, 3, 224, 224))
    return _clocked(lambda: encoded(trunk, images), out, "plain")


def exact(card: str, pixels: str, out: str) -> dict[str, Any]:
    """Arm: the adapter held to plain memory."""
    return _ours(card, pixels, out, "contiguous")


def chosen(card: str, pixels: str, out: str) -> dict[str, Any]:
    """Arm: the adapter as `run` has it."""
    return _ours(card, pixels, out, "auto")


def _ours(card: str, pixels: str, out: str, memory_format: Any) -> dict[str, Any]:
    from cxrbench.system import cpu

    cpu.prepare()
    import torch

    from cxrbench.models.base import load_adapter
    from cxrbench.runner.request import Engine
    from cxrbench.specs.catalog import load_card

    adapter = load_adapter(load_card(card), memory_format=memory_format)
    batches = torch.from_numpy(np.load(pixels)).split(Engine().batch_size)
    adapter.encode_image(batches[0])

    def all_batches() -> Any:
        return torch.cat([adapter.encode_image(batch).pooled for batch in batches]).numpy()

    return _clocked(all_batches, out, adapter.engine.memory_format)


def _clocked(call: Any, out: str, memory_format: str) -> dict[str, Any]:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_stime
    spent, features = cpu_seconds(call)
    system = resource.getrusage(resource.RUSAGE_SELF).ru_stime - before
    np.save(out, features)
    return {"cpu": spent, "system": system / spent, "format": memory_format}
