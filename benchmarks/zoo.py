"""Every published model at its own resolution: CPU time of the bare image network over that of the whole adapter.

Bare: the library's network of that architecture with random weights, in plain memory, batches of the same size, glibc's
own settings. Ours: the adapter with synthetic weights in the published layout and the recipe `authors`, as `run` has
it, everything that it computes of an image included (heads, tokens, an enlarged input). Transformers have a third arm,
ours with torch's own linear layers, and the largest difference between the two, over a vector's largest value. Peak
memory is that of the arm's process. The image networks are of full depth; the text encoders beside them, which see no
image, are smaller than published, and the last rows are text encoders of full depth by themselves.
"""

import resource
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from unittest.mock import patch

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

    @property
    def linear(self) -> bool:
        """Whether most of its work is linear layers."""
        return not self.network.startswith(("resnet", "densenet"))


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
    "radzero": Bare(
        "vit_base_patch14_dinov2",
        518,
        arguments={"img_size": 518},
        last="vision_model.encoder.layer.3.",
        blocks=12,
        batch=4,
    ),
    "medimageinsight": Bare(
        "davit_huge",
        480,
        arguments={"window_size": 12, "down_kernel_size": 3, "channel_attn_v2": True},
        last="image_encoder.blocks.2.1.",
        blocks=9,
        batch=2,
    ),
    "carzero": Bare("vit_base_patch16_224", 224),
    "mavl": Bare("resnet50", 224, stages=3),
    "xrv_densenet121": Bare("densenet121", 224, arguments={"in_chans": 1}),
    "xrv_resnet50_512": Bare("resnet50", 512),
}


TEXTS = {"bert": "the text encoder of most", "mpnet": "the text encoder of CARZero and RadZero"}
_WORDS, _LENGTH = 64, 32  # texts at once, and tokens of each


def rows(rounds: int) -> list[Row]:
    """A row a certificate: bare over ours, with images a second and peak memory of both; then the text encoders."""
    return [_row(name, rounds) for name in BARE] + [_text_row(kind, rounds) for kind in TEXTS]


def _row(name: str, rounds: int) -> Row:
    known = BARE[name]
    arms = {"bare": partial(child, "zoo:bare", name=name), "ours": partial(child, "zoo:ours", name=name)}
    if known.linear:
        arms["by torch"] = partial(child, "zoo:ours", name=name, own=True)
    return _told(f"{name} ({known.network}, {known.size})", arms, known.batch * BATCHES, "images", rounds)


def _text_row(kind: str, rounds: int) -> Row:
    arms = {arm: partial(child, "zoo:text", kind=kind, how=arm) for arm in ("bare", "ours", "by torch")}
    return _told(f"{kind}, base size ({TEXTS[kind]}), {_LENGTH} tokens", arms, _WORDS * BATCHES, "texts", rounds)


def _told(title: str, arms: Mapping[str, Callable[[], Any]], count: int, what: str, rounds: int) -> Row:
    runs = alternated(arms, rounds)
    speed = {arm: count / min(run["cpu"] for run in told) for arm, told in runs.items()}
    peak = {arm: max(run["peak"] for run in told) for arm, told in runs.items()}
    note = f"{speed['ours']:.3g} against {speed['bare']:.3g} {what} a CPU second; peak {peak['ours']} against "
    note += f"{peak['bare']} MiB; {runs['ours'][0]['format']}"
    spent = {arm: [run["cpu"] for run in told] for arm, told in runs.items()}
    if "by torch" in runs:
        before = np.median(ratios(spent["bare"], spent["by torch"]))
        note += f"; torch's linear layers {before:.3f}, difference {runs['ours'][0]['difference']:.1e}"
    return Row(f"zoo, {title}", ratios(spent["bare"], spent["ours"]), note=note)


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


def ours(name: str, own: bool = False) -> dict[str, Any]:
    """Arm: the adapter on a checkpoint that is made, as a run loads it; with torch's `own` linear layers."""
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
    shape = (known.batch, known.channels, side, side)
    with _products(own):
        found = _clocked(lambda: model.encode_image(torch.rand(shape)))
    told = _difference(lambda: model.encode_image(_drawn(shape)).pooled) if known.linear and not own else 0.0
    return {**found, "format": model.engine.memory_format, "difference": told}


def text(kind: str, how: str) -> dict[str, Any]:
    """Arm: a text encoder of base size with random weights, `bare` as the library has it or as our adapters run it."""
    if how != "bare":
        from cxrbench.system import cpu

        cpu.prepare()
    import torch
    from transformers import AutoConfig, AutoModel

    from cxrbench.models.precision import exact_float32

    network = AutoModel.from_config(AutoConfig.for_model(kind)).eval()
    ids = torch.randint(1000, 20000, (_WORDS, _LENGTH), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)

    def states() -> Any:
        with torch.inference_mode(), nullcontext() if how == "bare" else exact_float32(served=True):
            return network(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0]

    with _products(how == "by torch"):
        found = _clocked(states)
    return {**found, "format": "contiguous", "difference": _difference(states) if how == "ours" else 0.0}


def _products(own: bool) -> AbstractContextManager[object]:
    """Inside, linear layers are torch's `own`, or what the program takes."""
    from cxrbench.models import products

    return patch.object(products, "onednn", lambda: None) if own else nullcontext()


def _difference(vectors: Callable[[], Any]) -> float:
    """Largest relative difference of vectors (N, D) between what the program takes and torch's own linear layers."""
    from cxrbench.models.nets import relative_difference

    found = vectors()
    with _products(own=True):
        return relative_difference(found, vectors())


def _drawn(shape: tuple[int, ...]) -> Any:
    """The same pixels every time, (2, C, H, W)."""
    import torch

    return torch.rand((2, *shape[1:]), generator=torch.Generator().manual_seed(0))


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
