"""Models as a run sees them: identity first, the network only when an image or a text needs it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import SpecError
from cxrbench.models.base import Adapter, EngineReport, Padding, adapter_class, adapter_module, load_adapter
from cxrbench.models.features import checked_texts
from cxrbench.models.precision import known_device, linear_by
from cxrbench.models.text import text_files
from cxrbench.models.weights.fetch import locate
from cxrbench.models.weights.identity import WeightsIdentity, record, weights_identity
from cxrbench.records.record import ModelIdentity
from cxrbench.runner.code import code_identity, library_versions
from cxrbench.runner.decoding import Encoder
from cxrbench.runner.forward import SCORES, TextSet, forward, give_back_memory, on_cuda
from cxrbench.runner.request import Engine, Places
from cxrbench.runner.wording import ClassPrompts
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.specs.recipe import Recipe
from cxrbench.specs.settings import Settings
from cxrbench.store.array_cache import ArrayCache, CachedArray
from cxrbench.store.array_cache import Engine as EngineFacts
from cxrbench.store.embeddings import Key, digest
from cxrbench.system.sources import code_digest

FloatArray = NDArray[np.float32]
TEXTS_AT_ONCE = 32  # reports in a batch, whatever --batch-size says


def prompt_array(adapter: Adapter, prompts: Sequence[str], padding: Padding, *, projected: bool) -> FloatArray:
    """Vectors (P, d) of prompts, encoded as one batch; `projected`: before they get unit length.

    Raises SpecError where the model keeps no vectors from before.
    """
    features = checked_texts(adapter.encode_text(list(prompts), padding), adapter.card.name, len(prompts))
    vectors = features.projected if projected else features.joint
    if vectors is None:
        raise SpecError(f"{adapter.card.name}: its card pools projected vectors, and its adapter gives none")
    found: FloatArray = vectors.float().cpu().numpy()
    return found


def prototype_array(adapter: Adapter, classes: Sequence[str]) -> FloatArray:
    """Unit class vectors (C, d) of the label side; raises SpecError for a class outside its vocabulary."""
    found: FloatArray = adapter.prototypes(list(classes)).float().cpu().numpy()
    return found


def scale_array(adapter: Adapter, view: str) -> FloatArray:
    """The factor from cosine to logit of a view, without a dimension."""
    return np.array(adapter.logit_scale(view), np.float32)


# From bytes to stored rows; what brings the bytes and keeps the rows changes neither, for both have their digests.
PIXEL_CODE = ("cxrbench.images.pixels", "cxrbench.runner.encode", "cxrbench.runner.forward")
STORED = frozenset(
    {
        "cxrbench.models.base",
        "cxrbench.images.decoder_check",
        "cxrbench.images.radiograph",
        "cxrbench.store.committer",
        "cxrbench.store.file_hashes",
        "cxrbench.store.shard",
        "cxrbench.store.shard_files",
        "cxrbench.store.embeddings",
    }
)
# What these bring to an adapter are tensors and files, which keys name by their own digests.
ENTERING_BY_CONTENT = frozenset(
    {
        "cxrbench.models.checkpoint",
        "cxrbench.models.converted",
        "cxrbench.models.coverage",
        "cxrbench.models.shards",
    }
)


@dataclass
class BenchModel:
    """One card with one file of weights (None: its tensors are made) on one device."""

    card: ModelCard
    weights: WeightsIdentity | None
    device: str
    engine: Engine
    text_encoder: Path | None
    cache: Path
    recipe: RecipeName
    text_engines: list[EngineFacts] = field(default_factory=list)  # of texts and classes asked for since it was cleared
    _report: EngineReport | None = None  # of the network that was loaded, also when it has left its device

    @cached_property
    def adapter(self) -> Adapter:
        """The network, loaded at first use; raises IntegrityError if the file is not the one that was hashed.

        The digest of a file that the model took is recorded as the one to expect there ever after.
        """
        loaded = load_adapter(
            self.card,
            None if self.weights is None else self.weights.file,
            self.text_encoder,
            self.device,
            self.engine.precision,
            sha256=None if self.weights is None else self.weights.sha256,
            recipe=self.recipe,
        )
        if self.weights is not None:
            record(self.weights, self.cache)
        self._report = loaded.engine
        return loaded

    def leave(self) -> None:
        """Take the network off a CUDA device; it is loaded again where it is asked for. On the processor it stays."""
        if on_cuda(self.device) and self.__dict__.pop("adapter", None) is not None:
            give_back_memory()

    @cached_property
    def code(self) -> str:
        """Digest of the code that makes vectors of pixels and texts, known without the weights."""
        own = adapter_module(self.card)
        return code_digest(own, "cxrbench.models.base", stop_at=ENTERING_BY_CONTENT)  # which loads any adapter

    @cached_property
    def _options(self) -> str:
        """Digest of the card's options and of the files they name, read once: every key holds it."""
        return adapter_class(self.card).options_digest(self.card)

    def identity(self, card_digest: str, text_digest: str | None) -> ModelIdentity:
        """What a record says of the model.

        `card_digest`: of what the card says for the record's cell; `text_digest`: of the text files, where prompts
        were used.
        """
        text = self.card.text_encoder
        return ModelIdentity(
            name=self.card.name,
            title=self.card.title,
            adapter=self.card.adapter,
            code=self.code,
            weights_file=self._file,
            weights_sha256=None if self.weights is None else self.weights.published_sha256,
            weights_tensors=self._tensors,
            weights_claimed=None if self.weights is None else self.weights.claimed,
            card_digest=card_digest,
            text_encoder=None if text is None else (self.text_encoder and self.text_encoder.name) or text.place,
            text_encoder_digest=text_digest,
            pretraining="+".join(self.card.pretraining),
            synthetic=self.card.synthetic or (self.weights is not None and self.weights.synthetic),
            control=self.card.control,
        )

    @property
    def _file(self) -> str:
        """What the weights are from; whose they are is known of a file converted elsewhere by its own word alone."""
        if self.weights is None:
            return f"made: {self.card.weights.made}"
        if self.weights.proven:
            return self.weights.published
        return f"{self.weights.published}, as {self.weights.file.name} says"

    @cached_property
    def _tensors(self) -> str:
        """Digest of the tensors; made ones follow from the options and the code, which keys hold beside it."""
        return digest.of_json(None) if self.weights is None else self.weights.tensors

    @cached_property
    def _deciding(self) -> dict[str, str]:
        """What decides every vector of this model, of images and of texts; see `Key`."""
        return {
            "adapter": self.card.adapter,
            "code": self.code,
            "options": self._options,
            "weights": self._tensors,
            "taps": digest.of_json(dict(self.card.taps)),
            "usage": self.recipe,
            "precision": self.engine.precision,
        }

    def key(self, recipe: Recipe) -> Key:
        """The store's key of this model with a recipe.

        Whose recipe it is enters too: adapters may use the network in another way for the authors', and two recipes of
        a card may make the same pixels.
        """
        return Key(**self._deciding, pixels=code_digest(*PIXEL_CODE, stop_at=STORED), recipe=recipe.digest)

    def score_sets(self, recipe: Recipe, words: ClassPrompts, settings: Settings) -> list[tuple[Key, TextSet]]:
        """The sets of texts whose scores are stored, by their keys; one after the other they are `words.texts`.

        All texts are one set, since each may see the others; where the adapter says that none does, the prompts of each
        class are one, so that another group or fold with the same class finds its scores in the store.
        """
        apart = adapter_class(self.card).texts_apart and not words.asked
        asked = [TextSet(texts, settings.padding) for texts in (words.groups if apart else (words.texts,))]
        return [(self._score_key(recipe, one), one) for one in asked]

    def _score_key(self, recipe: Recipe, asked: TextSet) -> Key:
        texts = digest.of_json([asked.texts, asked.padding, self.text_digest])
        return replace(self.key(recipe), texts=texts)

    def encoder(self, recipe: Recipe, asked: Mapping[Key, TextSet] | None = None, name: str = "") -> Encoder:
        """This model with a recipe, ready for a sweep; `asked`: the sets of texts that images are scored by.

        `name` is for messages.
        """
        sets = asked or {}
        widths = {key: {SCORES: len(one.texts)} for key, one in sets.items()}
        outputs = {self.key(recipe): dict(self.card.taps), **widths}
        return Encoder(
            recipe,
            outputs,
            partial(forward, self, sets),
            self._told_engine,
            name or self.card.name,
            cuda=self.device if on_cuda(self.device) else None,
            leave=self.leave,
        )

    def _told_engine(self) -> dict[str, str]:
        report = self._report or self.adapter.engine
        asked = {"device": self.device, "precision": self.engine.precision, "batch_size": str(self.engine.batch_size)}
        code = code_identity()
        sources = {"sources": code.sources, "commit": code.commit or ""}
        way = {"memory_format": report.memory_format, "linear": linear_by(self.device, self.engine.precision)}
        return {**asked, **way, **sources, **library_versions()}

    @cached_property
    def arrays(self) -> ArrayCache:
        """Vectors of texts and classes, kept on disk."""
        return ArrayCache(self.cache)

    def _vector_key(self, **what: object) -> dict[str, object]:
        return {**self._deciding, "taken": code_digest("cxrbench.runner.model", stop_at=STORED), **what}

    @cached_property
    def text_digest(self) -> str | None:
        """Digest of tokenizer and text configuration; raises DataError that says what to fetch when they are absent."""
        text = self.card.text_encoder
        return None if text is None else text_files(text, self.text_encoder).digest

    def prompt_vectors(self, prompts: Sequence[str], settings: Settings, *, projected: bool = False) -> FloatArray:
        """`padded_vectors` with the padding of the settings."""
        return self.padded_vectors(prompts, settings.padding, projected=projected)

    def padded_vectors(self, prompts: Sequence[str], padding: Padding, *, projected: bool = False) -> FloatArray:
        """Vectors (P, d) of one class's prompts, encoded as one batch; `projected`: before they get unit length.

        Raises SpecError where the model keeps no vectors from before.
        """
        key = self._vector_key(prompts=list(prompts), padding=padding, text=self.text_digest, projected=projected)

        return self._kept(key, lambda: prompt_array(self.adapter, prompts, padding, projected=projected))

    def text_vectors(self, texts: Sequence[str]) -> FloatArray:
        """Vectors (n, d) of many texts, encoded in batches of `TEXTS_AT_ONCE` in their order, each of which is kept.

        Padding is masked, whatever the settings say of prompts: no text is to depend on those of its batch.
        """
        starts = range(0, len(texts), TEXTS_AT_ONCE)
        return np.concatenate([self.padded_vectors(texts[s : s + TEXTS_AT_ONCE], "masked") for s in starts])

    def prototypes(self, classes: Sequence[str]) -> FloatArray:
        """Unit class vectors (C, d) of the label side; raises SpecError for a class outside its vocabulary."""
        return self._kept(self._vector_key(prototypes=list(classes)), lambda: prototype_array(self.adapter, classes))

    def logit_scale(self, view: str) -> float:
        """The factor from cosine to logit of a view."""
        key = self._vector_key(logit_scale=view, view=self.card.views[view].model_dump(mode="json"))
        return float(self._kept(key, lambda: scale_array(self.adapter, view)))

    def _kept(self, key: Mapping[str, object], make: Callable[[], FloatArray]) -> FloatArray:
        """An array from the cache, or made; what computed it joins `text_engines`."""
        found = self.arrays.array(key, lambda: CachedArray(make(), self._told_engine()))
        if found.engine not in self.text_engines:
            self.text_engines.append(found.engine)
        return found.array


def bench_model(
    card: ModelCard, places: Places, engine: Engine, device: str, *, alone: bool, recipe: RecipeName = "reality-check"
) -> BenchModel:
    """The model of a card with its weights found and hashed, and its options read: no key of it can fail later.

    A general --weights that is a file serves a model that is asked for `alone`, or one that publishes that name. Raises
    DataError, IntegrityError or SpecError for what is missing or wrong.
    """
    general = places.weights.get("")
    if general is not None and general.is_file() and not alone and general.name not in card.weights.files:
        general = general.parent
    found = None
    if card.given:  # nothing runs: neither device nor precision is anything that its vectors hang on
        device, engine = "cpu", replace(engine, device="cpu", precision="float32")
    if card.weights.made is None:
        path = locate(card, places.weights.get(card.name) or general, places.cache)
        found = weights_identity(path, card, places.cache)
    model = BenchModel(card, found, device, engine, places.text_encoder, places.cache, recipe)
    _ = model._deciding
    return model


def chosen_device(name: str) -> str:
    """The device asked for; `auto` is CUDA where torch sees one. Raises SpecError for a device that is not there."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return str(known_device(name))


def devices(text: str) -> tuple[str, ...]:
    """The devices that `--device` names: `cuda:0,1` is two, `auto` every CUDA device that is visible, or `cpu`.

    Raises SpecError for one that is not there.
    """
    import torch

    if text == "auto":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return tuple(f"cuda:{number}" for number in range(count)) if count > 1 else (chosen_device(text),)
    first, *others = text.split(",")
    kind = first.partition(":")[0]
    return tuple(
        chosen_device(name if ":" in name or not name.isdecimal() else f"{kind}:{name}") for name in (first, *others)
    )
