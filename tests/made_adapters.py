"""A tiny adapter as a third party would write it, and what can be wrong with it, one thing a class."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, normalize

from cxrbench.errors import NotApplicableError, SpecError
from cxrbench.models.base import Adapter, EngineReport, Padding, Runtime, checked_pixels
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest

_WIDTH, _JOINT = 8, 6


class Sound(Adapter):
    """Keeps every promise."""

    def __init__(self, card: ModelCard, runtime: Runtime) -> None:
        self.card, self.runtime = card, runtime
        self.engine = EngineReport(str(runtime.device), runtime.precision, "contiguous")
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(3, _WIDTH, 5, stride=4), nn.BatchNorm2d(_WIDTH), nn.ReLU())
        self.head, self.words = nn.Linear(_WIDTH, _JOINT), nn.Embedding(128, _JOINT)
        for part in (self.net, self.head, self.words):
            part.eval().requires_grad_(False)

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        return digest.of_json(dict(card.options))

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        return cls(card, runtime)

    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        with self.runtime.autocast():
            pooled = self.net(checked_pixels(pixels).expand(-1, 3, -1, -1)).float().mean(dim=(2, 3))
        return ImageFeatures(pooled, normalize(self.head(pooled)))

    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        if not texts or isinstance(texts, str):
            raise SpecError("encode_text takes a list of at least one text")
        rows = [self.words(torch.tensor([min(ord(c), 127) for c in text])).mean(dim=0) for text in texts]
        return TextFeatures(normalize(torch.stack(rows)))

    def prototypes(self, classes: Sequence[str]) -> Tensor:
        raise SpecError("there is no label side")

    def logit_scale(self, view: str) -> float:
        if view not in self.card.views:
            raise SpecError(f"there is no view {view!r}")
        return 1.0

    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        assert images.joint is not None
        return images.joint @ texts.joint.T


class TrainingNorm(Sound):
    def __init__(self, card: ModelCard, runtime: Runtime) -> None:
        super().__init__(card, runtime)
        self.net.train()


class BatchDependent(Sound):
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        found = super().encode_image(pixels)
        return replace(found, pooled=found.pooled - found.pooled.mean(dim=0))


class GradientsOn(Sound):
    def __init__(self, card: ModelCard, runtime: Runtime) -> None:
        super().__init__(card, runtime)
        self.net.requires_grad_(True)


class WrongWidth(Sound):
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        found = super().encode_image(pixels)
        return replace(found, pooled=found.pooled[:, 1:])


class RandomDropout(Sound):
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        found = super().encode_image(pixels)
        return replace(found, pooled=dropout(found.pooled, 0.5, training=True))


class HalfPrecision(Sound):
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        found = super().encode_image(pixels)
        return replace(found, pooled=found.pooled.half())


class NotANumber(Sound):
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        found = super().encode_image(pixels)
        return replace(found, pooled=found.pooled / 0)


class WritesPixels(Sound):
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        found = super().encode_image(pixels)
        pixels.zero_()
        return found


class TakesAnyPixels(Sound):
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        return super().encode_image(pixels.float().reshape(-1, *pixels.shape[-3:])[:, :1])


class FirstChannelTwice(Sound):
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        colour = checked_pixels(pixels) * torch.tensor([1.0, 1, 0])[:, None, None]
        return super().encode_image(pixels if pixels.shape[1] == 3 else colour)


class SeesPadding(Sound):
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        longest = max(map(len, texts)) if texts else 0
        return super().encode_text(texts if isinstance(texts, str) else [text.ljust(longest) for text in texts])


class ForgetsOrder(Sound):
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        return super().encode_text(texts if isinstance(texts, str) else sorted(texts))


class TakesAString(Sound):
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        return super().encode_text([texts] if isinstance(texts, str) else texts)


class NoTexts(Sound):
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        raise NotApplicableError("there is no text side")


class ScoresTogether(Sound):
    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        return super().score(images, texts).softmax(dim=0)


class RanksTexts(Sound):
    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        return super().score(images, texts).softmax(dim=1)


class AnyView(Sound):
    def logit_scale(self, view: str) -> float:
        return 1.0


class AnyClass(Sound):
    def prototypes(self, classes: Sequence[str]) -> Tensor:
        return torch.ones(len(classes), _JOINT)


class Falls(Sound):
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        raise KeyError("token")


class NewDigests(Sound):
    drawn: ClassVar[list[int]] = []

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        cls.drawn.append(0)
        return digest.of_json(len(cls.drawn))


def _of_names(texts: Sequence[str]) -> bool:
    """Whether they are those of the prompt set `names`."""
    return any(text.startswith("a radiology image of") for text in texts)


class RefusesTexts(Sound):
    refused: ClassVar[list[tuple[str, ...]]] = []

    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        if _of_names(texts):
            self.refused.append(tuple(texts))
            raise SpecError("these texts are not to be had")
        return super().encode_text(texts)


class LosesTexts(Sound):
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        found = super().encode_text(texts)
        return replace(found, joint=found.joint * float("nan")) if _of_names(texts) else found


class BlindToTexts(Sound):
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        found = super().encode_text(texts)
        return replace(found, joint=torch.zeros_like(found.joint)) if _of_names(texts) else found


def card(kind: type[Sound], **changes: Any) -> ModelCard:
    """A card of such an adapter; no file, for its tensors are made."""
    fields: dict[str, Any] = {
        "name": kind.__name__.lower(),
        "title": "A tiny adapter",
        "adapter": f"{__name__}:{kind.__name__}",
        "licence": "none",
        "source": "tests",
        "weights": {"made": "drawn with seed 0"},
        "recipes": {"reality-check": {"size": 32}},
        "taps": {"pooled": _WIDTH, "joint": _JOINT},
        "zero_shot": {
            "views": {"text": {"tap": "joint", "classes": "prompts"}},
            "default": "text",
            "pooling": "embedding",
        },
    }
    return ModelCard.model_validate({**fields, **changes})
