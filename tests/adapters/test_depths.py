"""Networks as deep as a file's names say are refused before they are built; names that size nothing are not."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from made_weights import small_card
from torch import Tensor

from cxrbench.errors import IntegrityError
from cxrbench.models.biovil import BioViLT, NoOptions
from cxrbench.models.chexzero import CheXzero
from cxrbench.models.container import MOST_LAYERS, layer_count
from cxrbench.models.convirt import roberta
from cxrbench.models.nets import resnet
from cxrbench.models.query_decoder import decoder_like
from cxrbench.models.swin import Swin
from cxrbench.models.text import bert

Names = Mapping[str, Tensor]
PATH = Path("made.pth")


def chexzero(tensors: Names) -> object:
    card = small_card("chexzero")
    return CheXzero.networks(tensors, card, CheXzero.options_type(**dict(card.options)))


# What counts layers by names: the text before each layer's number, and what builds the network.
COUNTS: dict[str, tuple[str, Callable[[Names], object]]] = {
    "bert": ("encoder.layer.", lambda tensors: bert(tensors, None)),
    "roberta": ("encoder.layer.", lambda tensors: roberta(tensors, 768)),
    "swin stages": ("encoder.layers.", lambda tensors: Swin(tensors, PATH)),
    "swin blocks": ("encoder.layers.0.blocks.", lambda tensors: Swin(tensors, PATH)),
    "resnet": ("layer1.", lambda tensors: resnet(tensors, PATH)),
    "queries": ("decoder.layers.", lambda tensors: decoder_like(tensors, PATH)),
    "pairs": (
        "encoder.vit_pooler.blocks.",
        lambda tensors: BioViLT.networks(tensors, small_card("biovil_t"), NoOptions()),
    ),
    "clip images": ("visual.transformer.resblocks.", chexzero),
    "clip texts": ("transformer.resblocks.", chexzero),
}


@pytest.mark.parametrize("name", COUNTS)
def test_more_layers_than_any_network_has_are_refused(name: str) -> None:
    prefix, build = COUNTS[name]
    one = torch.zeros(4, 4)
    tensors = {f"{prefix}{n}.blocks.0.weight": one for n in range(MOST_LAYERS + 1)}
    with pytest.raises(IntegrityError, match=r"layers, more than|which is none of"):
        build({**tensors, "decoder.layers.0.linear1.weight": one, f"{prefix}{'9' * 5000}.weight": one})


def test_layers_are_counted_by_the_part_after_the_prefix() -> None:
    assert layer_count(["a.0.x", "a.0.y", "a.1.x", "b.7.x", "a"], "a.") == 2
    assert layer_count([], "a.") == 0
