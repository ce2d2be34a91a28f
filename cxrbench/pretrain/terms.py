"""The loss of one batch: vectors of all processes, put into the objective of the run."""

from dataclasses import dataclass

import torch
from torch import Tensor

from cxrbench.pretrain.augment import augmented, unit
from cxrbench.pretrain.batches import Batch
from cxrbench.pretrain.config import Config, Objective
from cxrbench.pretrain.gather import gathered
from cxrbench.pretrain.network import Network
from cxrbench.pretrain.objectives import (
    Labelled,
    Pairs,
    clip_loss,
    dlilp_loss,
    unicl_loss,
    unicl_targets,
    unimodal_loss,
)


@dataclass(frozen=True, slots=True)
class Whole:
    """Vectors of the whole batch: (n, d) images, (n, d) their second head, (k, d) texts that count.

    `said` (n, C): categories of the texts, where the objective asks for them.
    """

    joint: Tensor
    label: Tensor | None
    text: Tensor | None
    said: Tensor | None = None


def pixels(batch: Batch, config: Config) -> Tensor:
    """The own images as the network takes them: (m, 3, s, s) float32 in [0, 1], augmented where the batch says so."""
    images = unit(batch.pixels)
    if batch.chances is not None:
        images = augmented(images, batch.chances, config.augmentation)
    colour = images.expand(-1, 3, -1, -1)
    return colour.contiguous(memory_format=torch.channels_last) if config.engine.channels_last else colour.contiguous()


def forward(network: Network, images: Tensor, batch: Batch, rank: int, objective: Objective) -> Whole:
    """Own images (as `pixels` makes them) and texts through the network, then everybody's."""
    own = network(images.to(network.dtype), batch.tokens)
    text = None if own.text is None else gathered(own.text, batch.text_counts, rank)[batch.texts]
    label = None if own.label is None else gathered(own.label, batch.counts, rank)
    said = gathered(batch.text_labels, batch.counts, rank) if objective == "unicl" else None
    return Whole(gathered(own.joint, batch.counts, rank), label, text, said)


def loss(network: Network, found: Whole, batch: Batch, config: Config) -> Tensor:
    """The objective of the run over the whole batch, the same number on every process."""
    match config.objective:
        case "clip":
            return clip_loss(_pairs(network, found, batch))
        case "unicl":
            assert found.said is not None
            targets = unicl_targets(batch.labels, found.said)
            return unicl_loss(_pairs(network, found, batch), targets)
        case "unimodal":
            return unimodal_loss(_labelled(network, found.joint, "joint", batch))
        case "dlilp":
            assert found.label is not None
            labelled = _labelled(network, found.label, "label", batch)
            reports = None if found.text is None else _pairs(network, found, batch)
            return dlilp_loss(labelled, reports, config.head.contrastive_weight)


def _pairs(network: Network, found: Whole, batch: Batch) -> Pairs:
    assert found.text is not None
    return Pairs(found.joint[batch.pairs], found.text, network.scale("joint"))


def _labelled(network: Network, image: Tensor, tap: str, batch: Batch) -> Labelled:
    return Labelled(image, network.prototypes, network.scale(tap), batch.labels, batch.mask)
