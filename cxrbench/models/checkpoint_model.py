"""What models share whose networks are filled from one checkpoint, with a text side or without one."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Generic, Self, TypeVar, cast

import torch
from torch import Tensor, nn

from cxrbench.errors import SpecError
from cxrbench.models.base import Adapter, EngineReport, OptionsT, Padding, Runtime, checked_options, coloured
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.coverage import Coverage, coverage, look_alikes, require_complete
from cxrbench.models.features import ImageFeatures, TextFeatures, checked_features, checked_texts
from cxrbench.models.nets import frozen, settle, under
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.schema import Spec

_CHECKED_SIZE = 224


class CheckpointModel(Adapter, Generic[OptionsT]):
    """Layout, coverage and engine; a subclass brings its options, its networks and what they make of a batch.

    Its score is the plain cosine, as many published ones are; subclasses scale it, or compare otherwise.
    `image_network`: the prefix of the one among `networks` that sees pixels.
    """

    options_type: ClassVar[type]
    image_network: str

    def __init__(
        self, card: ModelCard, options: OptionsT, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        self.card, self.options, self.runtime, self.text_encoder = card, options, runtime, text_encoder
        kind = type(self)
        self.coverage = covered(kind, checkpoint, card, options)
        if not self.coverage.complete:
            alike = look_alikes(card, lambda other: covered(kind, checkpoint, other, kind._options(other)).complete)
            require_complete(self.coverage, checkpoint.path, card.name, alike)
        used = {name: checkpoint.tensors[name] for name in self.coverage.used}
        used |= {name: torch.zeros((), dtype=torch.int64) for name in self.coverage.absent}  # counters, see the card
        made = self.networks(used, card, options)
        self.parts = {prefix: frozen(net, under(used, prefix), runtime.device) for prefix, net in made.items()}
        self.engine = self._engine()

    @classmethod
    def slip(cls) -> str | None:
        """See `Adapter.slip`."""
        kind = getattr(cls, "options_type", None)
        if not isinstance(kind, type) or not issubclass(kind, Spec):
            return (
                "it lacks the line options_type = NoOptions (from cxrbench.models.base), or a class of its own that "
                "derives from cxrbench.store.schema.Spec"
            )
        return super().slip()

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`."""
        return digest.of_json(cls._options(card).model_dump(mode="json"))

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """See `Adapter.load`; raises SpecError for options that this adapter does not know."""
        return cls(card, cls._options(card), checkpoint, text_encoder, runtime)

    @classmethod
    def _options(cls, card: ModelCard) -> OptionsT:
        return cast(OptionsT, checked_options(card, cls.options_type))

    @classmethod
    @abstractmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: OptionsT) -> dict[str, nn.Module]:
        """All networks by the prefix of their tensors' names, on the meta device.

        Only depths and the vocabulary are read off `tensors`, which may be those of any file.
        """

    @abstractmethod
    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """Features of (N, 3, H, W) pixels on the model's device."""

    @classmethod
    def has_text_side(cls) -> bool:
        """Whether a subclass makes vectors of texts."""
        own = cls.encode_text is not CheckpointModel.encode_text
        return own or cls.text_vectors is not CheckpointModel.text_vectors

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """Features of at least one text; none depends on its batch mates."""
        raise SpecError(f"{self.card.name} has no text side; only protocols without texts can score it")

    def _engine(self) -> EngineReport:
        device, precision = str(self.runtime.device), self.runtime.precision
        network = self._image_network()
        plain = not any(isinstance(part, nn.BatchNorm2d) for part in network.modules())  # nothing to gain without
        if plain or self.runtime.memory_format == "contiguous":
            return EngineReport(device, precision, "contiguous")
        exact = replace(self.runtime, precision="float32")  # below it, rounding would hide what the check looks for
        with torch.inference_mode():
            chosen, found = settle(network, lambda pixels: self._features(pixels, exact).taps, self.checked_size)
        return EngineReport(device, precision, chosen, found)

    def _image_network(self) -> nn.Module:
        prefix = getattr(self, "image_network", None)
        if prefix in self.parts:
            return self.parts[prefix]
        line = f"image_network = {json.dumps(next(iter(self.parts)))}"
        found = "is not there" if prefix is None else f"is {prefix!r}, no prefix that its `networks` gives"
        raise SpecError(
            f"{self.card.name}: image_network of {type(self).__name__} {found}; write {line}, the prefix of the "
            f"network that sees pixels ({', '.join(map(repr, self.parts))})"
        )

    @property
    def checked_size(self) -> int:
        """Pixels a side of the random batch on which memory formats are compared."""
        return _CHECKED_SIZE

    def on_device(self, pixels: Tensor) -> Tensor:
        """Pixels (N, 3, H, W) as the network wants them, from (N, 1 or 3, H, W) float32; SpecError for others."""
        return coloured(pixels, self.runtime.device, self.engine)

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """See `Adapter.encode_image`."""
        return self._features(self.on_device(pixels), self.runtime)

    def _features(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        return checked_features(self.image_vectors(pixels, runtime), self.card.name, len(pixels), self.card.taps)

    @torch.inference_mode()
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        """See `Adapter.encode_text`; padding enters no vector, so both ways of it give the same."""
        if not texts or isinstance(texts, str):
            raise SpecError("encode_text takes a list of at least one text")
        return checked_texts(self.text_vectors(texts), self.card.name, len(texts))

    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Cosines (N, P)."""
        if images.joint is None:
            raise SpecError(f"{self.card.name} scores joint vectors, and these images have none")
        return images.joint @ texts.joint.T

    def logit_scale(self, view: str) -> float:
        """1: the cosines are the scores; raises SpecError for a view that the card does not have."""
        if view not in self.card.views:
            raise SpecError(f"{self.card.name} has no view {view!r}; known: {', '.join(self.card.views)}")
        return 1.0


def require_size(pixels: Tensor, size: int, name: str) -> None:
    """Raise SpecError unless the pixels are size x size: a transformer's positions fit no other."""
    if pixels.shape[-2:] != (size, size):
        raise SpecError(f"{name}: pixels are {tuple(pixels.shape)}; its image network takes {size} x {size} alone")


def covered(
    kind: type[CheckpointModel[OptionsT]], checkpoint: Checkpoint, card: ModelCard, options: OptionsT
) -> Coverage:
    """The file against the layout; names on the card may have `*` for what the depth decides."""
    found = checkpoint.tensors
    networks = kind.networks(found, card, options).items()
    wanted = {prefix + name: tensor for prefix, net in networks for name, tensor in net.state_dict().items()}
    return coverage(found, wanted, card.weights.ignored, card.weights.absent)


def require_widths(images: ImageFeatures, name: str, taps: Mapping[str, int]) -> None:
    """Raise SpecError unless every tap has the width that the card states."""
    found = {tap: tuple(vectors.shape[1:]) for tap, vectors in images.taps.items()}
    if found != {tap: (width,) for tap, width in taps.items()}:
        told = ", ".join(f"{tap} = {'x'.join(map(str, shape))}" for tap, shape in found.items())
        raise SpecError(f"{name}: the card's taps do not fit the network, which gives {told}")


class VisionOnly(CheckpointModel[OptionsT]):
    """`pooled` alone; its width is held against the card's."""

    @torch.inference_mode()
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """See `Adapter.encode_image`; raises SpecError where a vector is not as wide as the card says."""
        found = super().encode_image(pixels)
        require_widths(found, self.card.name, self.card.taps)
        return found


class PrefixOptions(Spec):
    """`prefix`: what the names of the file's tensors begin with."""

    prefix: str = ""


PrefixedT = TypeVar("PrefixedT", bound=PrefixOptions)


class PrefixedVision(VisionOnly[PrefixedT]):
    """A network alone, whose tensors begin with the prefix that the card's options name."""

    def __init__(
        self, card: ModelCard, options: PrefixedT, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        self.image_network = options.prefix
        super().__init__(card, options, checkpoint, text_encoder, runtime)
