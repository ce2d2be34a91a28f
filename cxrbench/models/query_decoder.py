"""Models that answer queries: a decoder lets the texts of a task look at the image's tokens, and at each other.

What MedKLIP and KAD share: a ResNet-50 whose map becomes tokens by an MLP at every position, a pre-norm transformer
decoder over the queries, and two logits a query, of which the second says `present`. A query's score depends on the
whole set asked, so texts are scored together and never in parts; images may be split freely.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import relu
from torch.nn.utils.rnn import pad_sequence

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Adapter, EngineReport, Padding, Runtime, coloured
from cxrbench.models.bert_words import BertWords
from cxrbench.models.container import layer_count
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import settle
from cxrbench.specs.card import ModelCard, TextEncoder

STEM = ("conv1", "bn1", "relu", "maxpool")
STAGES = ("layer1", "layer2", "layer3", "layer4")
_HEADS = 4


class Stages(nn.Sequential):
    """The first children of a torchvision ResNet-50, under their numbers: the stem is 0 to 3, stages are 4 to 7."""

    def __init__(self, stages: int) -> None:
        import torchvision

        whole = torchvision.models.resnet50(weights=None)
        super().__init__(*(whole.get_submodule(name) for name in (*STEM, *STAGES[:stages])))


class TokenTrunk(nn.Module):
    """Pixels (N, 3, H, W) to the trunk's mean (N, D) and to tokens (N, T, w), row-major; the names are the files'."""

    def __init__(self, tensors: Mapping[str, Tensor], stages: int, path: Path) -> None:
        super().__init__()
        self.res_features = Stages(stages)
        self.res_l1 = linear_like(tensors, "res_l1", path)
        self.res_l2 = linear_like(tensors, "res_l2", path)

    def tokens(self, trunk: Tensor) -> Tensor:
        """Of the trunk's map (N, C, h, w)."""
        tokens: Tensor = self.res_l2(relu(self.res_l1(trunk.flatten(2).mT)))
        return tokens

    def pooled(self, trunk: Tensor) -> Tensor:
        """Mean of the map over positions: what the paper's linear probe sees."""
        return trunk.mean(dim=(2, 3))

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Pooled vectors and tokens."""
        trunk = self.res_features(pixels)
        return self.pooled(trunk), self.tokens(trunk)


def linear_like(tensors: Mapping[str, Tensor], name: str, path: Path) -> nn.Linear:
    """A linear layer of the size that `NAME.weight` has; raises IntegrityError where there is no such matrix."""
    weight = tensors.get(f"{name}.weight")
    if weight is None or weight.ndim != 2:
        raise IntegrityError(f"{path}: no matrix {name}.weight; this is not the model's file, or not all of it")
    return nn.Linear(weight.shape[1], weight.shape[0])


def decoder_like(tensors: Mapping[str, Tensor], path: Path) -> nn.TransformerDecoder:
    """A decoder of four heads, pre-norm, ReLU, as deep and as wide as `decoder.*` say; see `linear_like`."""
    wide = linear_like(tensors, "decoder.layers.0.linear1", path)
    depth = layer_count(tensors, "decoder.layers.")
    layer = nn.TransformerDecoderLayer(
        wide.in_features, _HEADS, wide.out_features, dropout=0.0, batch_first=True, norm_first=True
    )
    return nn.TransformerDecoder(layer, depth, nn.LayerNorm(wide.in_features))


def text_side(card: ModelCard) -> TextEncoder:
    """Where the card's text encoder comes from; raises SpecError where it names none."""
    if card.text_encoder is None:
        raise SpecError(f"{card.name}: the card names no text encoder, and texts are the queries")
    return card.text_encoder


class QueryDecoder(Adapter):
    """The model-independent half of such an adapter; widths are read off a picture of `least_side` pixels a side."""

    least_side: ClassVar[int] = 64

    def __init__(self, card: ModelCard, trunk: TokenTrunk, runtime: Runtime, path: Path) -> None:
        self.card, self._trunk, self._runtime = card, trunk, runtime
        self._check_widths(path)
        self.engine = self._engine()

    @abstractmethod
    def _text_vectors(self, texts: Sequence[str]) -> Tensor: ...

    @abstractmethod
    def _decoded(self, tokens: Tensor, texts: Tensor) -> Tensor: ...

    def _outputs(self, pixels: Tensor, runtime: Runtime) -> dict[str, Tensor]:
        features = self._encoded(pixels, runtime)
        assert features.tokens is not None
        return {**features.taps, "tokens": features.tokens.flatten(1)}

    def _engine(self) -> EngineReport:
        runtime, size = self._runtime, self.card.size("reality-check")
        device, precision = str(runtime.device), runtime.precision
        if runtime.memory_format == "contiguous":
            return EngineReport(device, precision, "contiguous")
        exact = replace(runtime, precision="float32")  # below it, rounding would hide what the check looks for
        chosen, differences = settle(self._trunk, lambda pixels: self._outputs(pixels, exact), size)
        return EngineReport(device, precision, chosen, differences)

    def _check_widths(self, path: Path) -> None:
        found = self._encoded(
            torch.zeros((1, 3, self.least_side, self.least_side), device=self._runtime.device), self._runtime
        ).taps
        widths = {tap: vectors.shape[1] for tap, vectors in found.items()}
        if widths != dict(self.card.taps):
            raise IntegrityError(
                f"{path}: vectors of widths {widths}, the card of {self.card.name} says {self.card.taps}"
            )

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """See `Adapter.encode_image`; `joint`, where the card has it, is the mean token and not of unit length."""
        return self._encoded(coloured(pixels, self._runtime.device, self.engine), self._runtime)

    @torch.inference_mode()
    def _encoded(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        with runtime.autocast():
            pooled, tokens = self._trunk(pixels)
        pooled, tokens = pooled.float(), tokens.float()
        return ImageFeatures(pooled, tokens.mean(dim=1) if "joint" in self.card.taps else None, tokens=tokens)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        """See `Adapter.encode_text`; padding is masked in the released code too, so both settings give the same."""
        if not texts or isinstance(texts, str):
            raise SpecError("encode_text takes a list of at least one text")
        with self._runtime.autocast():
            vectors = self._text_vectors(texts)
        return TextFeatures(vectors.float())

    @torch.inference_mode()
    def logits(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Two logits (N, P, 2) of every text, absent and present, all texts asked in one set.

        Raises SpecError for features without tokens: pooled vectors alone cannot be scored.
        """
        if images.tokens is None:
            raise SpecError(f"{self.card.name} scores image tokens, and these features have none")
        with self._runtime.autocast():
            found = self._decoded(images.tokens, texts.joint.to(images.tokens.device))
        return found.float()

    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Log-odds (N, P) of `present`: their logistic function is the authors' softmax; see `logits`."""
        absent, present = self.logits(images, texts).unbind(dim=2)
        return present - absent

    def prototypes(self, classes: Sequence[str]) -> Tensor:
        """See `Adapter.prototypes`; there are none."""
        raise SpecError(f"{self.card.name} has no class vectors: it scores a set of texts against image tokens")

    def logit_scale(self, view: str) -> float:
        """See `Adapter.logit_scale`; 1: no temperature takes part. Raises SpecError for a view not on the card."""
        if view not in self.card.views:
            raise SpecError(f"{self.card.name} has no view {view!r}; known: {', '.join(self.card.views)}")
        return 1.0


class UnclosedWords(BertWords):
    """A text is `[CLS]` and its pieces, with no `[SEP]` after them."""

    def tokens(self, texts: Sequence[str], limit: int | None) -> dict[str, Tensor]:
        """See `BertWords.tokens`; the limit counts `[CLS]`."""
        room = None if limit is None else limit - 1
        bare = self._tokenizer(
            list(texts), add_special_tokens=False, truncation=limit is not None, max_length=room
        ).input_ids
        rows = [torch.tensor([self._tokenizer.cls_token_id, *pieces]) for pieces in bare]
        ids = pad_sequence(rows, batch_first=True, padding_value=self._tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        return {"input_ids": ids.to(self._device), "attention_mask": mask.to(self._device)}


class PooledWords(BertWords):
    """A BERT read off through its own pooler, a linear layer and a tanh on the state of `[CLS]`."""

    forced = True

    def pooled(self, texts: Sequence[str], limit: int) -> Tensor:
        """Vectors (P, hidden)."""
        vectors: Tensor = self._model(**self.tokens(texts, limit)).pooler_output
        return vectors
