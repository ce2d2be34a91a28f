"""CUDA devices: the harness over the bare network, several devices over one, and certificates, in five minutes.

    python -m benchmarks.gpu [--images 4096] [--device cuda:0] [--all-devices]

`forward` is the network alone on batches that lie in page-locked memory; `sweep` is everything else as in a run, with
pixels that are made beforehand, in float32 and bfloat16. `parity`: four certificates by `doctor`'s own proof on the
device (TF32 is off in every adapter). `devices`: parts of a folder of PNG by one process a device. Exit code 1 where a
certificate is not met, 2 without a CUDA device. `--device cpu` runs the same code on the processor, to try the script.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

CERTIFIED = ("dlilp_cmp", "medclip", "biovil", "kad")
BATCH = 64


def sweep(device: str, images: int, precision: Any) -> None:
    """Images a second of one ResNet-50: bare, and through the harness."""
    from benchmarks.scale import SIZE, free_sweep
    from cxrbench.runner import decoding
    from cxrbench.runner.model import bench_model
    from cxrbench.runner.request import Engine, Places
    from cxrbench.specs.catalog import load_card

    with TemporaryDirectory() as folder:
        engine, card = Engine(device, precision, BATCH), load_card("random_resnet50")
        model = bench_model(card, Places(cache=Path(folder)), engine, device, alone=True)
        encoder = model.encoder(card.recipe("reality-check"))
        network, keys = encoder.forward(), list(encoder.outputs)
        batch = decoding.new_buffer((BATCH, 1, SIZE, SIZE), encoder.cuda)
        batch[:] = np.random.default_rng(0).normal(size=batch.shape)
        rate = _rate(partial(_forward, network, batch, keys), images)
        took, _ = free_sweep(images, [encoder], batch[0], BATCH, engine.threads)
    print(
        f"{precision} on {device}: forward {rate:,.0f} images/s, sweep {images / took:,.0f} "
        f"({images / took / rate:.2f} of it, start of its threads and last commit included)",
        flush=True,
    )


def _forward(network: Any, batch: Any, keys: Any) -> None:
    for fetch in network(batch, keys).values():
        fetch()


def _rate(once: Any, images: int) -> float:
    for _ in range(5):
        once()
    began, rounds = time.monotonic(), max(images // BATCH, 1)
    for _ in range(rounds):
        once()
    return rounds * BATCH / (time.monotonic() - began)


def parity(device: str) -> bool:
    """Whether four certificates are met on the device."""
    from cxrbench.checks.proof import prove
    from cxrbench.models.certificate import certificate_for
    from cxrbench.specs.catalog import load_card

    sound = True
    for name in CERTIFIED:
        card = load_card(name)
        certificate = certificate_for(card)
        assert certificate is not None
        proof = prove(card, certificate, device)
        worst = proof.worst
        told = (
            "nothing was compared"
            if worst is None
            else f"worst {worst.output} {worst.difference:.1e} of {worst.limit:g}"
        )
        sound &= not proof.faults and worst is not None
        print(f"parity of {name} on {device}: {'; '.join(proof.faults) or 'met'}, {told}", flush=True)
    return sound


def devices(images: int) -> None:
    """Images a second of one device, and of all that are visible, from PNG of 299 x 299 pixels; start-up included."""
    from PIL import Image

    from cxrbench.runner.archive import ArchiveJob
    from cxrbench.runner.executors import local
    from cxrbench.runner.filling import FilePart, Filled
    from cxrbench.runner.model import devices as visible
    from cxrbench.runner.request import Engine, Places

    with TemporaryDirectory() as folder:
        root, rng = Path(folder) / "data", np.random.default_rng(0)
        root.mkdir()
        for n in range(images):
            Image.fromarray(rng.integers(0, 256, (299, 299), np.uint8)).save(root / f"{n}.png", compress_level=1)
        every = visible("auto")
        for chosen in (every[:1], every):
            cache = Path(folder) / f"cache {len(chosen)}"
            job = ArchiveJob(("random_resnet50",), root, Places(cache=cache), Engine(chosen[0], batch_size=BATCH))
            found, began = list[Filled](), time.monotonic()
            local(job, [FilePart(n, len(chosen)) for n in range(len(chosen))], chosen, found.append)
            took = time.monotonic() - began
            assert sum(one.encoded for one in found) == images, found
            print(f"{len(chosen)} devices: {images / took:,.0f} images/s, start-up included", flush=True)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, and hold the certificates."""
    import torch

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4096)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--all-devices", action="store_true")
    asked = parser.parse_args(words)
    if asked.device != "cpu" and not torch.cuda.is_available():
        print("this torch sees no CUDA device")
        return 2
    sound = parity(asked.device)
    for precision in ("float32", "bfloat16"):
        sweep(asked.device, asked.images, precision)
    if asked.all_devices:
        devices(asked.images)
    return int(not sound)


if __name__ == "__main__":
    sys.exit(main())
