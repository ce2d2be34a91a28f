"""Every published model at its own resolution: CPU time of the bare image network over that of the whole adapter.

Bare: the library's network of that architecture with random weights, in plain memory, batches of the same size, glibc's
own settings. Ours: the adapter with synthetic weights in the published layout and the recipe `authors`, as `run` has
it, everything that it computes of an image included (heads, tokens, an enlarged input). Peak memory is that of the
arm's process. The image networks are of full depth; the text encoders, which see no image, are smaller than
published.
"""

import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from benchmarks.rounds import Row, alternated, child, cpu_seconds, ratios

BATCHES = 2


@dataclass(frozen=True, slots=True)
class Bare:
    """The image network that the model is built on, and pixels a side of what it sees; `stages` of a ResNet-50.

    `arguments` of timm's network. `last`: the names of the last block that the certificate has, where the published
    file has more, up to `blocks`; `batch`: images at once.
    """

    network: str
    size: int
    stages: int = 4
    arguments: Mapping[str, Any] = field(default_factory=dict)
    last: str = ""
    blocks: int = 0
    batch: int = 16

    @property
    def channels(self) -> int:
        """Of the pictures that the network sees."""
        return int(self.arguments.get("in_chans", 3))


LARGE = {"img_size": 512, "init_values": 1.0}

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
    "eva_x_ti": Bare("eva02_tiny_patch14_224", 224, arguments={"patch_size": 16}),
    "eva_x_s": Bare("eva02_small_patch14_224", 224, arguments={"patch_size": 16}),
    "eva_x_b": Bare("eva02_base_patch14_224", 224, arguments={"patch_size": 16}, last="blocks.2.", blocks=12),
    "ark_plus": Bare(
        "swin_large_patch4_window12_384",
        768,
        arguments={"img_size": 768},
        last="module.layers.2.blocks.1.",
        blocks=18,
        batch=2,
    ),
    "ark6_swin_b": Bare("swin_base_patch4_window7_224", 224, last="layers.2.blocks.1.", blocks=18),
    "chexfound": Bare("vit_large_patch16_224", 512, arguments=LARGE, last="backbone.blocks.3.3.", blocks=24, batch=4),
    "xray_dino": Bare("vit_large_patch16_224", 512, arguments=LARGE, last="blocks.3.3.", blocks=24, batch=4),
    "xrv_densenet121": Bare("densenet121", 224, arguments={"in_chans": 1}),
    "xrv_resnet50_512": Bare("resnet50", 512),
}


def rows(rounds: int) -> list[Row]:
    """A row a certificate: bare over ours, with images a second and peak memory of both."""
    return [_row(name, bare, rounds) for name, bare in BARE.items()]


def _row(name: str, bare: Bare, rounds: int) -> Row:
    arms = {"bare": partial(child, "zoo:bare", name=name), "ours": partial(child, "zoo:ours", name=name)}
    runs = alternated(arms, rounds)
    images = bare.batch * BATCHES
    speed = {arm: images / min(run["cpu"] for run in told) for arm, told in runs.items()}
    peak = {arm: max(run["peak"] for run in told) for arm, told in runs.items()}
    note = f"{speed['ours']:.3g} against {speed['bare']:.3g} images a CPU second; peak {peak['ours']} against "
    note += f"{peak['bare']} MiB; {runs['ours'][0]['format']}"
    measured = ratios([run["cpu"] for run in runs["bare"]], [run["cpu"] for run in runs["ours"]])
    return Row(f"zoo, {name} ({bare.network}, {bare.size})", measured, note=note)


def bare(name: str) -> dict[str, Any]:
    """Arm: the library's network and nothing else."""
    import torch

    known = BARE[name]
    network, shape = _network(known), (known.batch, known.channels, known.size, known.size)
    with torch.inference_mode():
        return {**_clocked(lambda: network(torch.rand(shape))), "format": "contiguous"}


def _network(known: Bare) -> Any:
    import timm
    import torch
    import torchvision

    if known.network != "resnet50":
        return timm.create_model(known.network, pretrained=False, num_classes=0, **known.arguments).eval()
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

    from cxrbench.models.base import Runtime, adapter_class, fill_adapter
    from cxrbench.models.certificate import read_certificate
    from cxrbench.models.checkpoint import Checkpoint
    from cxrbench.specs import paths
    from cxrbench.specs.card import RecipeName, read_card

    zoo = paths.folder("model_zoo")
    certificate = read_certificate(zoo / "certificates" / name)
    card = read_card(zoo / f"{certificate.models[0]}.toml")
    tensors = {
        grown: torch.from_numpy(values)
        for key, values in certificate.weights().items()
        for grown in _grown(key, BARE[name])
    }
    file = Checkpoint(Path(card.weights.files[0]), "", tensors)
    recipe: RecipeName = "authors" if "authors" in card.recipes else "reality-check"
    text = None if certificate.text is None else certificate.place(certificate.text)
    model = fill_adapter(adapter_class(card), card, file, text, Runtime(torch.device("cpu"), recipe=recipe))
    side = card.recipe(recipe).size
    known = BARE[name]
    found = _clocked(lambda: model.encode_image(torch.rand(known.batch, known.channels, side, side)))
    return {**found, "format": model.engine.memory_format}


def _grown(key: str, known: Bare) -> list[str]:
    """The name of a tensor, and of its likes in the blocks that the certificate leaves out."""
    if not known.last or not key.startswith(known.last):
        return [key]
    stem, _, number = known.last.removesuffix(".").rpartition(".")
    return [f"{stem}.{n}.{key.removeprefix(known.last)}" for n in range(int(number), known.blocks)]


def _clocked(batch: Callable[[], object]) -> dict[str, Any]:
    """CPU seconds of all batches after a first one, and the process's peak in MiB."""
    batch()
    spent, _ = cpu_seconds(lambda: [batch() for _ in range(BATCHES)])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"cpu": spent, "peak": int(np.ceil(peak))}
