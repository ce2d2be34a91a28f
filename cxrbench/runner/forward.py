"""A batch of images through a network once, and what each key wants of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import CxrBenchError
from cxrbench.models.base import Adapter, Padding
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.runner.decoding import Forward, Taps
from cxrbench.store.embeddings import Key
from cxrbench.system.contained import contained

FloatArray = NDArray[np.float32]

SCORES = "scores"  # the tap of a key that holds scores of a set of texts


@dataclass(frozen=True, slots=True)
class TextSet:
    """Texts that a model scores together, in this order."""

    texts: tuple[str, ...]
    padding: Padding


class Loaded(Protocol):
    """A model whose network is loaded at first use."""

    device: str

    @property
    def adapter(self) -> Adapter:
        """The network."""
        ...


def forward(model: Loaded, asked: Mapping[Key, TextSet]) -> Forward:
    """What the keys of an encoder want of a batch (B, C, H, W) float32: vectors, or scores (B, P) of a set of texts.

    Texts are encoded at the first batch that they are asked for. A set of texts that cannot be scored gets the error,
    and all others what they asked for.
    """
    import torch

    adapter = model.adapter
    texts: dict[Key, TextFeatures] = {}

    def scored(key: Key, images: ImageFeatures) -> FloatArray:
        if key not in texts:
            texts[key] = adapter.encode_text(asked[key].texts, asked[key].padding)
        return adapter.score(images, texts[key]).float().cpu().numpy()

    def scores(key: Key, features: ImageFeatures) -> Taps | CxrBenchError:
        try:
            return {SCORES: scored(key, features)}
        except BaseException as error:
            return contained(error, f"{adapter.card.name}: scores of {len(asked[key].texts)} texts")

    def found(images: FloatArray, keys: Sequence[Key]) -> Mapping[Key, Taps | CxrBenchError]:
        batch = torch.from_numpy(images)
        if model.device.startswith("cuda"):
            batch = batch.pin_memory().to(model.device, non_blocking=True)
        features = adapter.encode_image(batch)
        vectors = {tap: values.float().cpu().numpy() for tap, values in features.taps.items()}
        return {key: scores(key, features) if key in asked else vectors for key in keys}

    return found
