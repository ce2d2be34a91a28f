"""Every published model at its own resolution: CPU time of the bare image network over that of the whole adapter.

Bare: the library's network of that architecture with random weights, in plain memory, batches of the same size, glibc's
own settings. Ours: the adapter with synthetic weights in the published layout and the recipe `authors`, as `run` has
it, everything that it computes of an image included (heads, tokens, an enlarged input). Peak memory is that of the
arm's process. The image networks are of full depth; the text encoders, which see no image, are smaller than
published.
"""

import resource
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from benchmarks.rounds import Row, alternated, child, cpu_seconds, ratios

BATCH, BATCHES = 16, 2


@dataclass(frozen=True, slots=True)
class Bare:
    """The image network that the model is built on, and pixels a side of what it sees; `stages` of a ResNet-50."""

    network: str
    size: int
    stages: int = 4


BARE = {
    "medclip": Bare("resnet50", 224),
    "medclip_vit": Bare("swin_tiny_patch4_window7_224", 224),
    "gloria": Bare("resnet50", 299),
    "biovil": Bare("resnet50", 480),
    "biovil_t": Bare("resnet50", 448),
    "cxr_clip": Bare("resnet50", 224),
    "cxr_clip_swin": Bare("swin_tiny_patch4_window7_224", 224),
    "medklip": Bare("resnet50", 224, stages=3),
    "kad": Bare("resnet50", 512),
    "kad_224": Bare("resnet50", 224),
    "chexzero": Bare("vit_base_patch32_clip_224", 224),
    "mgca": Bare("resnet50", 224),
    "mgca_vit": Bare("vit_base_patch16_224", 224),
    "convirt": Bare("resnet50", 224),
    "dlilp": Bare("resnet50", 224),
}


def rows(rounds: int) -> list[Row]:
    """A row a certificate: bare over ours, with images a second and peak memory of both."""
    return [_row(name, bare, rounds) for name, bare in BARE.items()]


def _row(name: str, bare: Bare, rounds: int) -> Row:
    arms = {"bare": partial(child, "zoo:bare", name=name), "ours": partial(child, "zoo:ours", name=name)}
    runs = alternated(arms, rounds)
    images = BATCH * BATCHES
    speed = {arm: images / min(run["cpu"] for run in told) for arm, told in runs.items()}
    peak = {arm: max(run["peak"] for run in told) for arm, told in runs.items()}
    note = f"{speed['ours']:.1f} against {speed['bare']:.1f} images a CPU second; peak {peak['ours']} against "
    note += f"{peak['bare']} MiB; {runs['ours'][0]['format']}"
    measured = ratios([run["cpu"] for run in runs["bare"]], [run["cpu"] for run in runs["ours"]])
    return Row(f"zoo, {name} ({bare.network}, {bare.size})", measured, note=note)


def bare(name: str) -> dict[str, Any]:
    """Arm: the library's network and nothing else."""
    import torch

    network, size = _network(BARE[name]), BARE[name].size
    with torch.inference_mode():
        return {**_clocked(lambda: network(torch.rand(BATCH, 3, size, size))), "format": "contiguous"}


def _network(known: Bare) -> Any:
    import timm
    import torch
    import torchvision

    if known.network != "resnet50":
        return timm.create_model(known.network, pretrained=False, num_classes=0).eval()
    whole = torchvision.models.resnet50(weights=None)
    layers = [whole.conv1, whole.bn1, whole.relu, whole.maxpool]
    layers += [whole.layer1, whole.layer2, whole.layer3, whole.layer4][: known.stages]
    return torch.nn.Sequential(*layers).eval()


def ours(name: str) -> dict[str, Any]:
    """Arm: the adapter on a checkpoint that is made, as a run loads it."""
    from cxrbench.system import cpu

    cpu.prepare()
    from pathlib import Path

    import torch

    from cxrbench.models.base import Runtime, adapter_class
    from cxrbench.models.certificate import read_certificate
    from cxrbench.models.checkpoint import Checkpoint
    from cxrbench.specs import paths
    from cxrbench.specs.card import RecipeName, read_card

    zoo = paths.folder("model_zoo")
    certificate = read_certificate(zoo / "certificates" / name)
    card = read_card(zoo / f"{certificate.models[0]}.toml")
    tensors = {key: torch.from_numpy(values) for key, values in certificate.weights().items()}
    file = Checkpoint(Path(card.weights.files[0]), "", tensors)
    recipe: RecipeName = "authors" if "authors" in card.recipes else "reality-check"
    text = None if certificate.text is None else certificate.place(certificate.text)
    model = adapter_class(card).load(card, file, text, Runtime(torch.device("cpu"), recipe=recipe))
    side = card.recipe(recipe).size
    found = _clocked(lambda: model.encode_image(torch.rand(BATCH, 3, side, side)))
    return {**found, "format": model.engine.memory_format}


def _clocked(batch: Callable[[], object]) -> dict[str, Any]:
    """CPU seconds of all batches after a first one, and the process's peak in MiB."""
    batch()
    spent, _ = cpu_seconds(lambda: [batch() for _ in range(BATCHES)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": spent, "peak": int(np.ceil(peak))}
