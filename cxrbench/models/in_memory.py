"""A model that is in memory already: a network or function with a name, a width and a recipe, without card or file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import SpecError
from cxrbench.models.base import Adapter, EngineReport, Padding, Precision, Runtime, checked_pixels
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.precision import exact
from cxrbench.models.visible import Visible
from cxrbench.specs.card import IN_MEMORY, NOT_TOLD, ModelCard
from cxrbench.specs.recipe import Given, Recipe
from cxrbench.store import digest
from cxrbench.store.schema import complaints


@dataclass(frozen=True, eq=False)
class InMemory:
    """A model of one process; see `cxrbench.in_memory`. `card` holds its facts, as a card states them."""

    card: ModelCard
    network: Callable[..., Any]
    vectors: Callable[[Any], Tensor] | None
    encode_text: Callable[[list[str]], Tensor] | None
    channels: int

    def __repr__(self) -> str:
        return f"<{self.card.name}: in memory, {self.card.taps['pooled']} numbers an image>"

    def __reduce__(self) -> NoReturn:
        raise SpecError(
            f"{self.card.name} is in the memory of this process: other processes, SLURM and Ray cannot have it. Run it "
            "by `cxrbench.run` here, or write a card with an adapter beside it (docs/add-a-model.md)"
        )

    def seen(self) -> Visible:
        """Its state and its code as they are now; raises SpecError for what cannot be looked into."""
        told = {"network": self.network, "vectors": self.vectors, "encode_text": self.encode_text}
        try:
            found = Visible({name: value for name, value in told.items() if value is not None})
        except SpecError as error:
            raise SpecError(f"{self.card.name}: {error}") from error
        kinds = {t.dtype for t in found.tensors if t.is_floating_point() and isinstance(t, nn.Parameter)}
        if odd := kinds - {torch.float32}:
            raise SpecError(
                f"{self.card.name}: its parameters are {', '.join(sorted(map(str, odd)))}, and vectors are compared in "
                "float32: call .float() on the network, and ask for another `precision` of the run if you want it"
            )
        devices = sorted({str(t.device) for t in found.tensors if isinstance(t, nn.Parameter)})
        if len(devices) > 1:
            raise SpecError(f"{self.card.name}: its parameters lie on {', '.join(devices)}; bring them to one device")
        return found

    def adapter(self, found: Visible, precision: Precision) -> Adapter:
        """The model as every other one is used, where its parameters lie; `found` is what `seen` returned."""
        device = next((t.device for t in found.tensors if isinstance(t, nn.Parameter)), torch.device("cpu"))
        kind = HeldImages if self.encode_text is None else HeldPair
        served = device.type == "cpu" and precision == "float32"
        return exact(kind(self, found.networks, Runtime(device, precision)), served=served)


def in_memory(
    name: str,
    network: Callable[..., Any],
    width: int,
    recipe: Recipe | Mapping[str, Any],
    vectors: Callable[[Any], Tensor] | None,
    encode_text: Callable[[list[str]], Tensor] | None,
    pretraining: Sequence[str] | None,
    title: str,
    channels: int,
) -> InMemory:
    """See `cxrbench.in_memory`."""
    for what, value in (("network", network), ("vectors", vectors), ("encode_text", encode_text)):
        if value is not None and not callable(value):
            raise TypeError(f"{what}: a network or function is wanted, not a {type(value).__name__}")
    if isinstance(pretraining, str):
        raise TypeError(f"pretraining: a list is wanted, such as [{pretraining!r}]; [] says that it saw no collection")
    kind = HeldImages if encode_text is None else HeldPair
    facts: dict[str, Any] = {
        "name": name,
        "title": title or name,
        "adapter": f"{__name__}:{kind.__name__}",
        "pretraining": (NOT_TOLD,) if pretraining is None else tuple(pretraining),
        "licence": NOT_TOLD,
        "source": IN_MEMORY,
        "options": {"channels": channels},
        "weights": {"made": IN_MEMORY},
        "recipes": {"reality-check": recipe},
        "taps": {"pooled": width} | ({} if encode_text is None else {"joint": width}),
    }
    if encode_text is not None:
        views = {"text": {"tap": "joint", "classes": "prompts"}}
        facts["zero_shot"] = {"views": views, "default": "text", "pooling": "unit-embedding"}
    try:
        card = ModelCard.model_validate(facts)
    except ValidationError as error:
        raise SpecError(f"in_memory({name!r}): {complaints(error)}") from error
    pixels = card.recipe("reality-check")
    if isinstance(pixels, Given):
        raise SpecError(f"{name}: a model in memory sees pixels; the recipe says that its vectors are given")
    if channels not in (1, 3) or (channels == 1 and len(pixels.mean) != 1):
        raise SpecError(f"{name}: channels is 3, or 1 with one `mean` and one `std`")
    return InMemory(card, network, vectors, encode_text, channels)


class HeldImages(Adapter):
    """`pooled`: what the network gives, through `vectors` where there is one. It runs where its parameters lie."""

    def __init__(self, held: InMemory, networks: Sequence[nn.Module], runtime: Runtime) -> None:
        self.card, self.held, self.networks, self.runtime = held.card, held, networks, runtime
        self.engine = EngineReport(str(runtime.device), runtime.precision, "contiguous")

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`."""
        return digest.of_json(dict(card.options))

    @classmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """Raises SpecError: there is nothing to load."""
        raise SpecError(f"{card.name} was in the memory of one process; give `cxrbench.run` the object itself")

    @torch.no_grad()
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """See `Adapter.encode_image`; raises SpecError for what is not one row of the stated width an image."""
        given = checked_pixels(pixels).to(self.runtime.device)
        if self.held.channels < given.shape[1]:
            raise SpecError(f"{self.card.name}: takes one channel, and these pixels have {given.shape[1]}")
        own = given.expand(-1, self.held.channels, -1, -1).clone()  # which the network may write into
        with evaluating(self.networks), self.runtime.autocast():
            found = self.held.network(own)
            found = found if self.held.vectors is None else self.held.vectors(found)
        return self._features(self._rows(found, len(pixels), "network"))

    def _features(self, rows: Tensor) -> ImageFeatures:
        return ImageFeatures(rows)

    def _rows(self, found: object, count: int, what: str) -> Tensor:
        """The vectors (count, width) as float32; raises SpecError for anything else."""
        width = self.card.taps["pooled"]
        wanted = f"{self.card.name}: {what} must give a floating-point tensor ({count}, {width}) of {count} inputs"
        if not isinstance(found, Tensor):
            way = "vectors=lambda out: out.pooler_output" if what == "network" else "return the tensor alone"
            raise SpecError(f"{wanted}, and gave a {type(found).__name__}; say which part of it, such as {way}")
        if tuple(found.shape) != (count, width) or not found.is_floating_point():
            raise SpecError(
                f"{wanted}, and gave {tuple(found.shape)} {found.dtype}; set `width`, or shape it by `vectors`"
            )
        return found.detach().float()


class HeldPair(HeldImages):
    """Images and texts in one space: `joint` is `pooled` at unit length, and the score its cosine with a text's."""

    def _features(self, rows: Tensor) -> ImageFeatures:
        return ImageFeatures(rows, normalize(rows))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        """See `Adapter.encode_text`; how texts are padded is for the function that was given."""
        if not texts or isinstance(texts, str):
            raise SpecError("encode_text takes a list of at least one text")
        assert self.held.encode_text is not None
        with evaluating(self.networks), self.runtime.autocast():
            found = self.held.encode_text(list(texts))
        rows = self._rows(found, len(texts), "encode_text").to(self.runtime.device)
        return TextFeatures(normalize(rows), rows)

    def logit_scale(self, view: str) -> float:
        """1: the cosines are the scores; raises SpecError for another view than the card's."""
        return 1.0 if view in self.card.views else super().logit_scale(view)

    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Cosines (N, P)."""
        if images.joint is None:
            raise SpecError(f"{self.card.name} scores joint vectors, and these images have none")
        return images.joint @ texts.joint.T


@contextmanager
def evaluating(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Every network in evaluation mode inside, and each as it was afterwards; nothing else of them is touched."""
    training = [one for one in networks if one.training]
    for one in training:
        one.training = False
    try:
        yield
    finally:
        for one in training:
            one.training = True
