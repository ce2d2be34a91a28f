"""What every model offers, and how a card becomes one."""

import importlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Literal, Self, TypeVar

import torch
from pydantic import ValidationError
from torch import Tensor

from cxrbench.errors import DataError, IntegrityError, NotApplicableError, SpecError
from cxrbench.models.checkpoint import Checkpoint, read_published
from cxrbench.models.converted import prefer_converted
from cxrbench.models.coverage import Coverage
from cxrbench.models.entities import EntityQueries
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.fit import load_as_float32
from cxrbench.models.nets import MemoryFormat
from cxrbench.models.precision import exact, exact_float32, known_device
from cxrbench.models.renaming import rename_tensors
from cxrbench.models.shards import SUFFIX, is_index, read_index
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.store.schema import Spec, complaints
from cxrbench.store.sealed import require_regular_file
from cxrbench.system.sources import beside

Precision = Literal["float32", "bfloat16", "float16"]
Padding = Literal["released", "masked"]
OptionsT = TypeVar("OptionsT", bound=Spec)

_DTYPES: dict[Precision, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
_HIGHEST_LOG_SCALE = 4.6052  # the clamp of training and of compute_logits: a factor of 100


@dataclass(frozen=True, slots=True)
class EngineReport:
    """How the network is run; recorded with results, but equal in float32, so no part of a key.

    `differences`: per tap, the largest relative difference between channels-last and plain memory on a random batch.
    """

    device: str
    precision: Precision
    memory_format: MemoryFormat
    differences: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where and how a model is to run. `auto` takes channels-last memory where that changes nothing in float32.

    `recipe`: whose way of using the network this is, beside whose pixels it sees. What the authors do inside the model
    but the paper did not (upsampling before the trunk, say) is done for `authors` alone.
    """

    device: torch.device
    precision: Precision = "float32"
    memory_format: Literal["auto", "contiguous"] = "auto"
    recipe: RecipeName = "reality-check"

    def autocast(self) -> AbstractContextManager[object]:
        """Autocast, below float32, around a network; `precision.exact_float32` is around every call of an adapter."""
        if self.precision != "float32":
            return torch.autocast(self.device.type, _DTYPES[self.precision])
        return nullcontext()


class Adapter(ABC):
    """A loaded model, in evaluation mode and without gradients.

    An image side is complete by itself; a text side, a label side and scores are there where a class defines them.
    Its code is part of the key of every stored vector, so a change of it makes them anew. `coverage` tells the tensors
    that it uses; a card that ignores some needs it. `texts_apart`: no text sees another, though images are scored by
    interaction. Every call from outside runs within `precision.exact_float32`, which no adapter needs to enter itself.
    """

    card: ModelCard
    engine: EngineReport
    coverage: Coverage | None = None
    texts_apart: ClassVar[bool] = False

    @classmethod
    def slip(cls) -> str | None:
        """What a class that derives from this one lacks so that none can be made of it, and the line to write."""
        left = sorted(getattr(cls, "__abstractmethods__", ()))
        return f"it lacks the method{'s' * (len(left) > 1)} {', '.join(left)}" if left else None

    @classmethod
    @abstractmethod
    def options_digest(cls, card: ModelCard) -> str:
        """Digest of the card's options and of the files that they name: part of the key of every stored vector.

        Raises SpecError for options or files that this adapter cannot use; needs no weights.
        """

    @classmethod
    @abstractmethod
    def load(cls, card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime) -> Self:
        """Raises IntegrityError unless every tensor of the file is used, or ignored by name on the card."""

    @abstractmethod
    def encode_image(self, pixels: Tensor) -> ImageFeatures:
        """Pixels (N, C, H, W) float32, C 1 or 3, as the card's recipe makes them, to vectors on the model's device."""

    @classmethod
    def has_text_side(cls) -> bool:
        """Whether it takes texts."""
        return cls.encode_text is not Adapter.encode_text

    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        """P texts as one batch, padded to the longest; with `released` padding a vector depends on its batch mates.

        Raises SpecError if the model has no text side, DataError if its tokenizer is not at hand.
        """
        raise SpecError(f"{self.card.name} has no text side; only protocols without texts can score it")

    def prototypes(self, classes: Sequence[str]) -> Tensor:
        """Unit class vectors (C, d) of the label side; raises SpecError for a class that it does not know."""
        raise SpecError(f"{self.card.name} has no label side: score {', '.join(classes)} by prompts")

    @classmethod
    def require_prototypes(cls, card: ModelCard, classes: Sequence[str]) -> None:
        """Raises NotApplicableError for a class without a prototype, where that is known without the weights."""
        return  # a subclass without that knowledge says so when it scores

    @classmethod
    def require_texts(cls, card: ModelCard, texts: Sequence[str]) -> None:
        """Raises NotApplicableError for texts of another form than the model reads."""
        return  # most read any text

    @classmethod
    def entity_queries(cls, card: ModelCard, classes: Sequence[str], text_encoder: Path | None) -> EntityQueries:
        """The one set of queries that its authors always ask, and where the classes stand in it.

        Raises NotApplicableError for a model without such a set, or a class outside it; DataError where the authors'
        texts are not at hand.
        """
        raise NotApplicableError(f"{card.name} has no closed set of queries of its own; score it by a set of prompts")

    def logit_scale(self, view: str) -> float:
        """The factor from cosine to logit of a view on the card, clamped where the published zero-shot clamps it."""
        raise SpecError(f"{self.card.name} has no view {view!r}: it scores neither texts nor prototypes")

    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Logits (N, P); a row depends on its own image alone."""
        raise SpecError(f"{self.card.name} scores no texts")


class DualEncoder(Adapter):
    """Models whose score is a cosine times a temperature."""

    log_scale: float

    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Logits (N, P): cosine times exp(log scale), the log scale clamped to 0..4.6052 as in training."""
        if images.joint is None:
            raise SpecError("these images have no joint vectors to compare with texts")
        return images.joint @ texts.joint.T * clamped_factor(self.log_scale)


def clamped_factor(log_scale: float) -> float:
    """exp(log scale), the log scale clamped to 0..4.6052."""
    return float(torch.tensor(log_scale).clamp(0, _HIGHEST_LOG_SCALE).exp())


def find_weights(card: ModelCard, given: Path | None, fetched: Path | None = None) -> Path:
    """The weights' file: `given` itself, or a published name in it, then beside the card, then in the folder `fetched`.

    `fetched` is the folder that `weights fetch` fills. In a folder the model's own subfolder comes first; a converted
    file beside a published one is taken instead of it, and where there is no whole file the index of its shards. Raises
    DataError that says what to download from where, and for shards that are not there, IntegrityError for a damaged
    converted file and what `shards.read_index` and `ShardIndex.require_files` refuse.
    """
    if given is not None and given.exists() and not given.is_dir():
        require_regular_file(given, None)
        return _whole(prefer_converted(given))
    alone = given is not None and not given.is_dir()  # a path that leads nowhere is a slip, not a folder to look past
    folders = [folder for folder in ((given,) if alone else (given, card.home, fetched)) if folder is not None]
    indices = []
    for place in (folder / own / name for folder in folders for own in (card.name, "") for name in card.weights.files):
        found = prefer_converted(place)
        if found.exists() and not found.is_dir():  # a pipe is refused where it is read, and not passed over
            return _whole(found)
        indices.append(found.with_name(found.name + SUFFIX))
    for index in indices:
        if index.is_file() and is_index(index):
            return _whole(index)
    at = f" ({card.weights.url})" if card.weights.url else ""
    how = "" if card.weights.fetch == "by-hand" else f"`cxrbench weights fetch {card.word}` gets it. "
    raise DataError(
        f"{card.name}: no weights in {' or '.join(map(str, folders))}. {how}"
        f"Get {' or '.join(card.weights.files)}: {card.weights.where}{at}. "
        "Then give the file, or the folder that holds it, as --weights."
    )


def _whole(path: Path) -> Path:
    """The path itself; raises what `ShardIndex.require_files` does if it is an index."""
    if is_index(path):
        read_index(path).require_files()
    return path


def load_adapter(
    card: ModelCard,
    weights: Path | None = None,
    text_encoder: Path | None = None,
    device: str = "cpu",
    precision: Precision = "float32",
    *,
    memory_format: Literal["auto", "contiguous"] = "auto",
    sha256: str | None = None,
    recipe: RecipeName = "reality-check",
) -> Adapter:
    """The model of a card with the weights of a file, on a device, for the pixels of one of its recipes.

    `sha256`, where given, must be that of the file, as `weights.identity` found and judged it; without it, a digest on
    the card must be the file's own. A card whose tensors are made needs no file, and its adapter gets a checkpoint
    without tensors.

    The tokenizer is looked for (in the folder `text_encoder`, else at the hub) when texts are first asked for.
    Raises SpecError (adapter, options, device), DataError (no file), IntegrityError (not the published file).
    """
    kind = adapter_class(card)
    how = Runtime(known_device(device), precision, memory_format, recipe)
    if card.weights.made is not None:
        return fill_adapter(kind, card, Checkpoint(card.home, kind.options_digest(card), {}), text_encoder, how)
    path = find_weights(card, weights)
    checkpoint = read_published(path, card)
    if sha256 not in (None, checkpoint.sha256):
        raise IntegrityError(f"{path}: sha256 is {checkpoint.sha256}; it was {sha256} a moment ago. Run again.")
    if sha256 is None and card.weights.sha256 not in (None, checkpoint.sha256):
        raise IntegrityError(
            f"{path}: sha256 is {checkpoint.sha256}, the card of {card.name} says {card.weights.sha256}"
        )
    return fill_adapter(kind, card, checkpoint, text_encoder, how)


def fill_adapter(
    kind: type[Adapter], card: ModelCard, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
) -> Adapter:
    """The adapter with the tensors of a checkpoint, whose every call from outside runs within `exact_float32`.

    Raises what `Adapter.load` and `fit.load_as_float32` do.
    """
    own = kind.__module__.startswith("cxrbench.models.")
    with exact_float32():
        found = load_as_float32(checkpoint, lambda one: kind.load(card, one, text_encoder, runtime), card, own=own)
    _require_ignored(found, rename_tensors(checkpoint, card.weights.rename))
    return exact(found, served=runtime.device.type == "cpu" and runtime.precision == "float32")


def _require_ignored(adapter: Adapter, checkpoint: Checkpoint) -> None:
    """Raise SpecError unless what the card ignores is truly unused: ignored tensors are in no key."""
    card = adapter.card
    ignored = [n for n in checkpoint.tensors if any(fnmatchcase(n, pattern) for pattern in card.weights.ignored)]
    covered = adapter.coverage
    if ignored and covered is None:
        raise SpecError(
            f"{card.name}: its card ignores tensors, and its adapter has no `coverage` to show that it uses none of "
            f"them; give it one, or drop them from the file ({', '.join(ignored[:3])})"
        )
    if covered is not None and (used := sorted({*covered.used} & {*ignored})):
        raise SpecError(
            f"{card.name}: its card ignores {', '.join(used[:3])}, which its adapter uses; name the others more closely"
        )


def adapter_module(card: ModelCard) -> str:
    """The dotted name of the module that the card names; nothing of it is run.

    A module without a dot in its name that lies beside the card is that one, whatever else bears its name. Raises
    SpecError where it is neither there nor installed.
    """
    module = card.adapter.partition(":")[0]
    found = (card.home / f"{module}.py", card.home / module / "__init__.py")
    if card.home.is_absolute() and "." not in module and any(path.is_file() for path in found):
        return beside(card.home, module)
    if "." not in module and module not in sys.modules and find_spec(module) is None:
        raise SpecError(
            f"{card.name}: adapter {card.adapter!r}: there is no module {module!r}: no {module}.py in "
            f"{card.home.resolve()}, the folder of the card, and none is installed"
        )
    return module


def adapter_class(card: ModelCard) -> type[Adapter]:
    """The class that the card names; raises SpecError if there is none."""
    module, name = adapter_module(card), card.adapter.partition(":")[2]
    try:
        found = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise SpecError(f"{card.name}: adapter {card.adapter!r}: {error}{_siblings(card, error)}") from error
    if not isinstance(found, type) or not issubclass(found, Adapter):
        raise SpecError(
            f"{card.name}: adapter {card.adapter!r}: {module} has no such adapter (a subclass of models.base.Adapter)"
        )
    if (slip := found.slip()) is not None:
        raise SpecError(f"{card.name}: adapter {card.adapter!r}: {slip}")
    return found


def _siblings(card: ModelCard, error: ModuleNotFoundError) -> str:
    """How to import a module that is not found, where it lies beside the card."""
    name = (error.name or "").partition(".")[0]
    there = name and ((card.home / f"{name}.py").is_file() or (card.home / name).is_dir())
    return f"; it lies beside the card: write `from . import {name}`" if there else ""


class NoOptions(Spec):
    """A card of such an adapter has no options."""


def checked_options(card: ModelCard, kind: type[OptionsT]) -> OptionsT:
    """The card's options as the adapter's own type; raises SpecError for a key or value that it does not know."""
    try:
        return kind.model_validate(dict(card.options))
    except ValidationError as error:
        raise SpecError(f"{card.name}: options: {complaints(error)}") from error


def coloured(pixels: Tensor, device: torch.device, engine: EngineReport) -> Tensor:
    """Pixels (N, 1 or 3, H, W) as three channels on the device, in the memory format that the engine settled on.

    Raises SpecError as `checked_pixels` does.
    """
    colour = checked_pixels(pixels).to(device, non_blocking=True).expand(-1, 3, -1, -1)
    if engine.memory_format == "channels_last":
        return colour.contiguous(memory_format=torch.channels_last)
    return colour


def checked_pixels(pixels: Tensor) -> Tensor:
    """The same pixels; raises SpecError unless they are (N, 1 or 3, H, W) float32."""
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or pixels.dtype != torch.float32:
        raise SpecError(f"pixels are {tuple(pixels.shape)} {pixels.dtype}; wanted (N, 1 or 3, H, W) torch.float32")
    return pixels
