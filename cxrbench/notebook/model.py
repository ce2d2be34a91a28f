"""A model that takes files and arrays as well as prepared pixels; adapters themselves see pixels alone."""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cxrbench.errors import SpecError
from cxrbench.images.decoder_check import self_test
from cxrbench.images.pixels import Pixels, pixels_by
from cxrbench.images.radiograph import read_bytes
from cxrbench.models.base import Adapter, EngineReport, Padding, Precision, load_adapter
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.in_memory import InMemory
from cxrbench.models.weights.fetch import locate
from cxrbench.notebook.records import warn_of
from cxrbench.runner.decoding import batch_of
from cxrbench.runner.model import chosen_device
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.specs.paths import default_cache
from cxrbench.specs.recipe import Recipe

Picture = str | Path | NDArray[np.uint8]  # a file, or grey values


@dataclass(frozen=True, slots=True)
class Model:
    """An adapter with the recipe that a run would prepare its images by, and the images of a forward pass."""

    adapter: Adapter
    recipe: Recipe
    batch_size: int

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SpecError(f"batch_size must be at least 1, not {self.batch_size}")

    def __repr__(self) -> str:
        return f"<{self.card.name}: {self.card.title}; {self.engine.device}, {self.engine.precision}>"

    @property
    def card(self) -> ModelCard:
        """What is known of the model."""
        return self.adapter.card

    @property
    def engine(self) -> EngineReport:
        """How the network is run."""
        return self.adapter.engine

    def encode_image(self, images: Tensor | Picture | Sequence[Picture]) -> ImageFeatures:
        """Vectors of N images on the model's device: of prepared pixels, or of files and arrays, one or a list of them.

        A tensor holds prepared pixels, (N, C, H, W) float32, C 1 or 3, and goes through the network as it is. Files
        (PNG, JPEG, TIFF, BMP, WebP, JPEG 2000, DICOM) are read and prepared as a run does it, by the model's own
        recipe, and encoded in batches of `batch_size`, the last one filled up: the vectors are those of a run with that
        batch size, bit for bit on the same machine. A `batch_size` of 1 is quickest for single images, and moves a
        vector by about 1e-6.

        An array stands for an 8-bit picture without a header, and is prepared like a PNG of it: uint8, (H, W) grey or
        (H, W, 3) red, green, blue; 0 is black, as air is shown, and 255 white. Other types are refused, since nothing
        says which of their values are black and white: save 12 or 16 bits as DICOM, or map them to 0 to 255 yourself.

        Raises SpecError for such arrays and for an empty list, ImageError for a file that is no radiograph or is not
        there, UnreadableError for one that this machine cannot read now. Warns of what is odd about a file.
        """
        if isinstance(images, Tensor):
            return self.adapter.encode_image(images)
        return _joined([self._encoded(batch) for batch in self._prepared(images, "encode_image")])

    def prepare(self, images: Picture | Sequence[Picture]) -> Tensor:
        """The pixels (N, C, S, S) float32 that `encode_image` makes of N files or arrays, on the CPU.

        One image or a list of them, as `encode_image` takes them; C is 1 where the recipe has one mean and std (the
        network then sees it three times) and 3 otherwise, S the recipe's size. `encode_image` of this tensor gives the
        vectors of one batch of N, which differ by about 1e-6 from those of another batch size. All N are in memory.
        Raises and warns as `encode_image` does, and SpecError for a model whose vectors a file gives.
        """
        return torch.from_numpy(np.concatenate([np.stack(batch) for batch in self._prepared(images, "prepare")]))

    def _prepared(self, images: Picture | Sequence[Picture], verb: str) -> Iterator[list[NDArray[np.float32]]]:
        """Pixels in batches, each prepared as it is asked for; warns of odd files at the end."""
        pictures = [images] if isinstance(images, str | Path | np.ndarray) else list(images)
        if not pictures:
            raise SpecError(f"{verb}: there is no image in the list; name at least one file or array")
        reader: Literal["fast", "reference"] = "fast" if self_test().passed else "reference"
        named, odd = [_named(picture, place) for place, picture in enumerate(pictures)], list[str]()
        for start in range(0, len(named), self.batch_size):
            prepared = list[NDArray[np.float32]]()
            for name, picture in named[start : start + self.batch_size]:
                made: Pixels = pixels_by(_content(picture), name, self.recipe, reader)
                prepared.append(made.array)
                odd += [f"{name}: {note}" for note in made.notes]
            yield prepared
        if odd:
            warn_of(f"{len(odd)} remark{'s' * (len(odd) > 1)} on the images:", odd, "take fewer images to see them")

    def _encoded(self, prepared: list[NDArray[np.float32]]) -> ImageFeatures:
        """Vectors of a batch, which is filled up as in a run."""
        count = len(prepared)
        features = self.adapter.encode_image(torch.from_numpy(batch_of(prepared, self.batch_size)))
        return _each(features, lambda name: getattr(features, name)[:count])

    def encode_text(self, texts: Sequence[str], padding: Padding = "released") -> TextFeatures:
        """Vectors of P texts as one batch; see `models.base.Adapter`. Raises TypeError for a string."""
        if isinstance(texts, str):
            raise TypeError(f"encode_text: a list of texts is wanted, such as [{texts!r}]")
        return self.adapter.encode_text(texts, padding)

    def prototypes(self, classes: Sequence[str]) -> Tensor:
        """Unit class vectors (C, d) of the label side; raises SpecError for a class that it does not know."""
        return self.adapter.prototypes(classes)

    def logit_scale(self, view: str) -> float:
        """The factor from cosine to logit of a view on the card."""
        return self.adapter.logit_scale(view)

    def score(self, images: ImageFeatures, texts: TextFeatures) -> Tensor:
        """Logits (N, P); a row depends on its own image alone."""
        return self.adapter.score(images, texts)


def adapter_of(
    card: ModelCard, weights: Path | None, text_encoder: Path | None, device: str, precision: Precision, use: RecipeName
) -> Adapter:
    """The adapter of a card, its weights looked for where a run looks for them; raises what `load_adapter` does."""
    found = None if card.weights.made is not None else locate(card, weights, default_cache())
    return load_adapter(card, found, text_encoder, chosen_device(device), precision, recipe=use)


def held_adapter(
    held: InMemory, weights: Path | None, text_encoder: Path | None, device: str, precision: Precision
) -> Adapter:
    """The adapter of a model in memory, where its parameters lie; raises SpecError for what only a card's model has."""
    if weights is not None or text_encoder is not None:
        raise SpecError(f"{held.card.name} is in memory with all that it needs: leave out weights and text_encoder")
    found = held.adapter(held.seen(), precision)
    if device not in ("auto", found.engine.device):
        raise SpecError(
            f"{held.card.name} is in memory, its parameters on {found.engine.device}: move the network itself to "
            f"{device}, and leave out device"
        )
    return found


def _named(picture: Picture, place: int) -> tuple[str, Path | NDArray[np.uint8]]:
    """The picture and what messages call it; raises SpecError for what is neither a path nor an 8-bit array."""
    if isinstance(picture, str | Path):
        return Path(picture).name, Path(picture)
    name = f"image {place}"
    if not isinstance(picture, np.ndarray):
        raise SpecError(
            f"{name}: is a {type(picture).__name__}; give a path, a uint8 array, or one tensor of all pixels"
        )
    if picture.dtype != np.uint8:
        raise SpecError(
            f"{name}: an array of {picture.dtype}, of which nothing says what is black and white; map it to uint8, 0 "
            "black (air) to 255 white, or give the path of its file. Prepared pixels go in as a float32 tensor."
        )
    if picture.ndim != 2 and (picture.ndim != 3 or picture.shape[2] != 3):
        raise SpecError(
            f"{name}: an array of shape {picture.shape}; one image is (H, W) grey or (H, W, 3) red, green, blue, and "
            "several are a list of such arrays"
        )
    if not picture.size:
        raise SpecError(f"{name}: an array of shape {picture.shape} holds no pixel")
    return name, picture


def _content(picture: Path | NDArray[np.uint8]) -> bytes:
    """The bytes of a file, or those of a PNG of the array."""
    if isinstance(picture, Path):
        return read_bytes(picture)
    out = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def _joined(found: Sequence[ImageFeatures]) -> ImageFeatures:
    """The vectors of all batches; those of one kind are there of every batch or of none."""
    return _each(found[0], lambda name: torch.cat([getattr(one, name) for one in found]))


def _each(like: ImageFeatures, make: Callable[[str], Tensor]) -> ImageFeatures:
    """Vectors of the kinds that `like` has, each by its name."""
    return replace(like, **{f.name: make(f.name) for f in fields(like) if getattr(like, f.name) is not None})
