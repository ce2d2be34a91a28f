"""CLIP, UniCL, unimodal and DLILP as trained by Silva-Rodriguez et al. (IPMI 2025): one backbone, four layouts.

A ResNet trunk (`pooled`), a linear head without bias into the space shared with text (`joint`), a BERT whose token
states are averaged, and, on the label side, one prototype per category with a temperature of its own. Unimodal has no
text; DLILP has a second linear head (`label`). The BERT's pooler is in the files, is loaded, and is used by nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import linear, normalize

from cxrbench.errors import IntegrityError, NotApplicableError, SpecError
from cxrbench.models.base import DualEncoder, EngineReport, Padding, Runtime, checked_options, coloured
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.coverage import look_alikes, require_complete
from cxrbench.models.dlilp_layout import (
    BERT,
    HEADS,
    PROTOTYPES,
    SCALES,
    TEXT_HEAD,
    TRUNK,
    Options,
    Vocabulary,
    covered,
    fits,
    image_network,
    vocabulary,
)
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import frozen, settle, under
from cxrbench.models.text import BertText, text_files
from cxrbench.models.transformers_nets import OwnText
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest


class DLILP(DualEncoder):
    """The official checkpoints of all four strategies."""

    def __init__(
        self, card: ModelCard, options: Options, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        self.card, self._options, self._runtime, self._text_encoder = card, options, runtime, text_encoder
        self._vocabulary = vocabulary(card, options)
        self.coverage = covered(checkpoint, card, options)
        if not self.coverage.complete:
            alike = look_alikes(card, partial(fits, checkpoint))
            require_complete(self.coverage, checkpoint.path, f"{card.name} ({options.strategy})", alike)
        tensors = {name: checkpoint.tensors[name] for name in self.coverage.used}
        self._bert = under(tensors, BERT)
        self._own = {n: t.to(runtime.device) for n, t in tensors.items() if not n.startswith((TRUNK, BERT))}
        self.log_scale = float(self._own[SCALES["joint"]])
        made = image_network(checkpoint, options)
        if made.width != card.taps["pooled"]:
            found = f"{checkpoint.path}: pooled vectors of width {made.width}"
            raise IntegrityError(f"{found}, the card of {card.name} says {card.taps['pooled']}")
        self._trunk = frozen(made.module, under(tensors, TRUNK), runtime.device)
        self.engine = self._engine()

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; the vocabulary's content is in it."""
        options = checked_options(card, Options)
        words = vocabulary(card, options)
        told = options.model_dump(exclude=set() if options.trunk else {"trunk"})  # keys of before there was one stay
        return digest.of_json([told, words and words.model_dump(mode="json")])

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """See `Adapter.load`; raises SpecError for options that this adapter does not know."""
        return cls(card, checked_options(card, Options), checkpoint, text_encoder, runtime)

    def _engine(self) -> EngineReport:
        runtime = self._runtime
        device, precision = str(runtime.device), runtime.precision
        if runtime.memory_format == "contiguous":
            return EngineReport(device, precision, "contiguous")
        size = self.card.size("reality-check")
        exact = replace(runtime, precision="float32")  # below it, rounding would hide what the check looks for
        chosen, differences = settle(self._trunk, lambda pixels: self._encoded(pixels, exact).taps, size)
        return EngineReport(device, precision, chosen, differences)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """See `Adapter.encode_image`; `label` is there for DLILP alone. Raises SpecError for other pixels."""
        return self._encoded(coloured(pixels, self._runtime.device, self.engine), self._runtime)

    @torch.inference_mode()
    def _encoded(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        with runtime.autocast():
            pooled = self._trunk(pixels)
        pooled = pooled.float()
        heads = {tap: normalize(linear(pooled, self._own[n])) for tap, n in HEADS.items() if n in self._own}
        return ImageFeatures(pooled, heads["joint"], heads.get("label"))

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        """See `Adapter.encode_text`. `released`: padding enters the mean over positions; `masked`: it does not."""
        if not texts or isinstance(texts, str):
            raise SpecError("encode_text takes a list of at least one text")
        with self._runtime.autocast():
            states = self._text.mean_states(texts, real_only=padding == "masked")
        return TextFeatures(normalize(linear(states.float(), self._own[TEXT_HEAD])))

    @cached_property
    def _text(self) -> BertText:
        encoder = self.card.text_encoder
        if encoder is None or TEXT_HEAD not in self._own:
            raise NotApplicableError(f"{self.card.name} has no text side: it is scored by prototypes")
        files = text_files(encoder, self._text_encoder)
        kind = BertText if encoder.beside is None else OwnText
        return kind(self._bert, files, encoder.max_tokens, self._runtime.device)

    def prototypes(self, classes: Sequence[str]) -> Tensor:
        """See `Adapter.prototypes`; a class of several categories is the mean of their raw rows at unit length."""
        rows = [self._words.rows(name) for name in classes]
        return torch.stack([normalize(self._own[PROTOTYPES][row].mean(dim=0), dim=0) for row in rows])

    @classmethod
    def require_prototypes(cls, card: ModelCard, classes: Sequence[str]) -> None:
        """Raise NotApplicableError for a class without a prototype, by the card's vocabulary alone."""
        if (words := vocabulary(card, checked_options(card, Options))) is not None:
            for name in classes:
                words.rows(name)

    @property
    def _words(self) -> Vocabulary:
        if self._vocabulary is None:
            raise NotApplicableError(f"{self.card.name} has no label side: it is scored by prompts")
        return self._vocabulary

    def logit_scale(self, view: str) -> float:
        """See `Adapter.logit_scale`; raises SpecError for a view that the card does not have."""
        if view not in self.card.views:
            raise SpecError(f"{self.card.name} has no view {view!r}; known: {', '.join(self.card.views)}")
        return float(self._own[SCALES[self.card.views[view].tap]].exp())
