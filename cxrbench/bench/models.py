"""Models as a run sees them: identity first, the network only when an image or a text needs it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench import digest
from cxrbench.adapters.base import Adapter, adapter_class, find_weights, load_adapter
from cxrbench.adapters.text import text_files
from cxrbench.bench.request import Engine, Places
from cxrbench.card import ModelCard, RecipeName
from cxrbench.encode import Encoder, Forward
from cxrbench.errors import IntegrityError
from cxrbench.ledger import Ledger, stamp
from cxrbench.memo import Memo
from cxrbench.recipe import Canvas, Recipe
from cxrbench.record import ModelIdentity
from cxrbench.settings import Settings
from cxrbench.store import Key

FloatArray = NDArray[np.float32]


@dataclass
class BenchModel:
    """One card with one weights file on one device."""

    card: ModelCard
    weights: Path
    sha256: str
    device: str
    engine: Engine
    text_encoder: Path | None
    memo: Memo

    @cached_property
    def adapter(self) -> Adapter:
        """The network, loaded at first use."""
        return load_adapter(self.card, self.weights, self.text_encoder, self.device, self.engine.precision)

    @property
    def revision(self) -> int:
        """The adapter's revision, known without its weights."""
        return adapter_class(self.card).revision

    @property
    def identity(self) -> ModelIdentity:
        """What a record says of the model."""
        text = self.card.text_encoder
        return ModelIdentity(
            name=self.card.name,
            title=self.card.title,
            adapter=self.card.adapter,
            revision=self.revision,
            weights_file=self.weights.name,
            weights_sha256=self.sha256,
            card_digest=self.card.digest,
            text_encoder=None if text is None else (self.text_encoder and self.text_encoder.name) or text.hub,
            pretraining="+".join(self.card.pretraining),
            synthetic=self.card.synthetic,
        )

    def key(self, recipe: Recipe) -> Key:
        """The store's key of this model with a recipe."""
        return Key(
            adapter=self.card.adapter,
            revision=self.revision,
            options=adapter_class(self.card).options_digest(self.card),
            weights=self.sha256,
            recipe=recipe.digest,
            precision=self.engine.precision,
        )

    def encoder(self, recipe: Recipe) -> Encoder:
        """This model with a recipe, ready for a sweep."""
        return Encoder(self.key(recipe), recipe, dict(self.card.taps), self._forward)

    def _forward(self) -> Forward:
        import torch

        adapter = self.adapter

        def forward(images: FloatArray) -> Mapping[str, FloatArray]:
            batch = torch.from_numpy(images)
            if self.device.startswith("cuda"):
                batch = batch.pin_memory().to(self.device, non_blocking=True)
            taps = adapter.encode_image(batch).taps
            return {tap: values.float().cpu().numpy() for tap, values in taps.items()}

        return forward

    def _vector_key(self, **what: object) -> dict[str, object]:
        return {
            "adapter": self.card.adapter,
            "revision": self.revision,
            "options": adapter_class(self.card).options_digest(self.card),
            "weights": self.sha256,
            "precision": self.engine.precision,
            **what,
        }

    @cached_property
    def _text(self) -> str | None:
        """Digest of tokenizer and text configuration; raises DataError that says what to fetch when they are absent."""
        text = self.card.text_encoder
        return None if text is None else text_files(text, self.text_encoder).digest

    def prompt_vectors(self, prompts: Sequence[str], settings: Settings) -> FloatArray:
        """Unit vectors (P, d) of one class's prompts, encoded as one batch."""
        key = self._vector_key(prompts=list(prompts), padding=settings.padding, text=self._text)
        return self.memo.array(
            key, lambda: self.adapter.encode_text(list(prompts), settings.padding).joint.float().cpu().numpy()
        )

    def prototypes(self, classes: Sequence[str]) -> FloatArray:
        """Unit class vectors (C, d) of the label side; raises SpecError for a class outside its vocabulary."""
        key = self._vector_key(prototypes=list(classes))
        return self.memo.array(key, lambda: self.adapter.prototypes(list(classes)).float().cpu().numpy())

    def logit_scale(self, view: str) -> float:
        """The factor from cosine to logit of a view."""
        key = self._vector_key(logit_scale=view)
        return float(self.memo.array(key, lambda: np.array(self.adapter.logit_scale(view), np.float32)))


def bench_model(card: ModelCard, places: Places, engine: Engine, device: str) -> BenchModel:
    """The model of a card with its weights found and hashed; raises DataError or IntegrityError for a wrong file."""
    path = find_weights(card, places.weights.get(card.name) or places.weights.get(""))
    sha256 = _hashed(path, places.cache)
    if card.weights.sha256 not in (None, sha256):
        raise IntegrityError(f"{path}: sha256 is {sha256}, the card of {card.name} says {card.weights.sha256}")
    return BenchModel(card, path, sha256, device, engine, places.text_encoder, Memo(places.cache))


def _hashed(path: Path, cache: Path) -> str:
    ledger = Ledger(cache, path.parent)
    known = ledger.known(path)
    if known is not None:
        return known
    at = stamp(path)
    sha256 = digest.of_file(path)
    if at is not None:
        ledger.add([(path, at, sha256)])
    return sha256


def chosen_device(name: str) -> str:
    """The device asked for; `auto` is CUDA where torch sees one."""
    if name != "auto":
        return name
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def recipe_for(card: ModelCard, settings: Settings, polarity: str) -> tuple[str, Recipe]:
    """The card's recipe with the variant's choices applied, and its name.

    `polarity` is how the released reader treats this data set's grey values (`stored` or `negated`).
    """
    name: RecipeName = (
        "reality-check" if settings.preprocessing == "released" or "authors" not in card.recipes else "authors"
    )
    recipe = card.recipe(name)
    changes: dict[str, object] = {}
    if isinstance(recipe, Canvas):
        changes |= {"antialias": settings.antialias == "on", "floor": settings.canvas_floor}
    if settings.decode == "radiograph":
        changes |= {"decode": "radiograph", "polarity": "header"}
    elif polarity == "negated" and recipe.decode == "official":
        changes |= {"polarity": "negated" if settings.vindr_polarity == "released" else "header"}
    return name, type(recipe).model_validate({**recipe.model_dump(), **changes})
