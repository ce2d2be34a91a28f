"""KAD (Zhang et al., Nature Communications 14, 4542, 2023): a query decoder over ResNet-50 tokens, and its own BERT.

The edition for 224 pixels takes the trunk up to its third stage; the others take all four. The published file keeps
two modules under two names each; both must hold the same. The fourth stage of the 224 edition is not in the authors'
forward pass, but in the vectors that the paper probed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from cxrbench.models.base import Runtime, checked_options
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.coverage import Coverage, coverage, look_alikes, require_complete, require_same
from cxrbench.models.nets import frozen, under
from cxrbench.models.query_decoder import (
    STAGES,
    STEM,
    PooledWords,
    QueryDecoder,
    Stages,
    TokenTrunk,
    decoder_like,
    linear_like,
    text_side,
)
from cxrbench.models.text import bert, text_files
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.schema import Spec

IMAGE, DECODER, TEXT, BERT = "image_encoder.", "model.", "text_encoder.", "text_encoder.bert_model."
_NUMBERS = {f"{number}": name for number, name in enumerate((*STEM, *STAGES))}


class Options(Spec):
    """`stages` of the trunk that make the tokens: 3 in the edition for 224 pixels, 4 in the others."""

    stages: Literal[3, 4]


class Trunk(TokenTrunk):
    """`res_features` make the tokens; `resnet.layer4`, where they stop before it, goes into the pooled vector alone."""

    def __init__(self, tensors: Mapping[str, Tensor], stages: int, path: Path) -> None:
        super().__init__(tensors, stages, path)
        self.resnet = nn.ModuleDict({"layer4": Stages(4)[-1]} if stages < 4 else {})

    def pooled(self, trunk: Tensor) -> Tensor:
        """Mean over positions of the fourth stage's map (N, 2048)."""
        for last in self.resnet.values():
            trunk = last(trunk)
        return super().pooled(trunk)


class Decoder(nn.Module):
    """The queries' side of the section `model`; one norm serves image tokens, queries and the decoder's end."""

    def __init__(self, tensors: Mapping[str, Tensor], path: Path) -> None:
        super().__init__()
        self.decoder = decoder_like(tensors, path)
        self.mlp_head = nn.Sequential(linear_like(tensors, "mlp_head.0", path))

    def forward(self, tokens: Tensor, texts: Tensor) -> Tensor:
        """Tokens (N, T, w) and texts (P, w) to two logits each: (N, P, 2)."""
        norm = self.decoder.norm
        assert norm is not None
        queries = norm(texts).expand(len(tokens), -1, -1)
        logits: Tensor = self.mlp_head(self.decoder(queries, norm(tokens)))
        return logits


def text_head(tensors: Mapping[str, Tensor], path: Path) -> nn.Sequential:
    """The section's `mlp_embed`, under its numbers."""
    first, last = (linear_like(tensors, f"mlp_embed.{number}", path) for number in (0, 2))
    return nn.Sequential(first, nn.GELU(), last)


def aliases(names: Sequence[str]) -> dict[str, str]:
    """The second name, to the first, of all tensors that the file keeps twice; `names` are those the model uses."""
    features, norm = f"{IMAGE}res_features.", f"{DECODER}decoder.norm."
    found = {}
    for name in names:
        if name.startswith(features):
            number, _, rest = name.removeprefix(features).partition(".")
            found[f"{IMAGE}resnet.{_NUMBERS[number]}.{rest}"] = name
        elif name.startswith(norm):
            found[f"{DECODER}decoder_norm.{name.removeprefix(norm)}"] = name
    return found


@dataclass(frozen=True, slots=True)
class Networks:
    """What the file holds, on the meta device."""

    trunk: Trunk
    decoder: Decoder
    text_head: nn.Sequential
    bert: nn.Module

    @classmethod
    def like(cls, checkpoint: Checkpoint, options: Options) -> Self:
        """As wide and as deep as the file's tensors; raises IntegrityError where they are no such model's."""
        path, tensors = checkpoint.path, checkpoint.tensors
        with torch.device("meta"):
            trunk = Trunk(under(tensors, IMAGE), options.stages, path)
            decoder, head = Decoder(under(tensors, DECODER), path), text_head(under(tensors, TEXT), path)
        return cls(trunk, decoder, head, bert(under(tensors, BERT), None))

    @property
    def run(self) -> dict[str, nn.Module]:
        """The networks whose form the file alone decides, by the prefix of their tensors."""
        return {IMAGE: self.trunk, DECODER: self.decoder, f"{TEXT}mlp_embed.": self.text_head}

    @property
    def wanted(self) -> dict[str, Tensor]:
        """Every tensor in use, by the file's names."""
        parts = {**self.run, BERT: self.bert}
        return {prefix + name: tensor for prefix, part in parts.items() for name, tensor in part.state_dict().items()}

    @property
    def twice(self) -> dict[str, str]:
        """See `aliases`."""
        return aliases(list(self.wanted))

    def covered(self, checkpoint: Checkpoint, card: ModelCard) -> Coverage:
        """The file's tensors against these, the second names among them."""
        wanted = self.wanted
        seconds = {name: wanted[of] for name, of in self.twice.items()}
        return coverage(checkpoint.tensors, {**wanted, **seconds}, card.weights.ignored)


class KAD(QueryDecoder):
    """The published checkpoints for 224, 512 and 1024 pixels."""

    def __init__(
        self, card: ModelCard, options: Options, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        self._text_encoder = text_encoder
        networks = Networks.like(checkpoint, options)
        self.coverage = networks.covered(checkpoint, card)
        if not self.coverage.complete:
            alike = look_alikes(card, lambda other: _fits(checkpoint, other))
            require_complete(self.coverage, checkpoint.path, card.name, alike)
        require_same(checkpoint.path, checkpoint.tensors, networks.twice)
        tensors = {name: checkpoint.tensors[name] for name in networks.wanted}
        for prefix, network in networks.run.items():
            frozen(network, under(tensors, prefix), runtime.device)
        self._decoder, self._text_head = networks.decoder, networks.text_head
        self._bert = under(tensors, BERT)
        super().__init__(card, networks.trunk, runtime, checkpoint.path)

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`."""
        return digest.of_json(checked_options(card, Options).model_dump())

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """See `Adapter.load`; raises IntegrityError too where a tensor kept under two names has two values."""
        return cls(card, checked_options(card, Options), checkpoint, text_encoder, runtime)

    @cached_property
    def _text(self) -> PooledWords:
        return PooledWords(self._bert, text_files(text_side(self.card), self._text_encoder), self._runtime.device)

    def _text_vectors(self, texts: Sequence[str]) -> Tensor:
        vectors: Tensor = self._text_head(self._text.pooled(texts, text_side(self.card).max_tokens))
        return vectors

    def _decoded(self, tokens: Tensor, texts: Tensor) -> Tensor:
        logits: Tensor = self._decoder(tokens, texts)
        return logits


def _fits(checkpoint: Checkpoint, card: ModelCard) -> bool:
    return Networks.like(checkpoint, checked_options(card, Options)).covered(checkpoint, card).complete
