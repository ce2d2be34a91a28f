"""Models of the Hugging Face hub by their cards: image networks, and two towers in the layouts of CLIP and SigLIP."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.checkpoint_model import PrefixedVision, PrefixOptions, require_size
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.model_config import beside_weights, model_config, require_agreement, weights_config
from cxrbench.models.preprocessor import hold_recipe
from cxrbench.models.scaled_cosine import ScaledCosine
from cxrbench.models.text import text_files
from cxrbench.models.text_loading import load_tokenizer
from cxrbench.models.transformers_nets import decisive, known_config, network
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.schema import Spec

CONFIG = "config.json"


class VisionOptions(PrefixOptions):
    """`pooled`: the network's own `pooler` output, the class token `cls` after the last norm, or the mean of `patches`.

    `prefix`: what the published names of its tensors begin with, as where it was saved as a part of another model.
    `config`: the repository's `config.json` on the card; without it, the published file.
    """

    pooled: Literal["pooler", "cls", "patches"]
    config: Mapping[str, Any] | None = None


class HuggingFaceVision(PrefixedVision[VisionOptions]):
    """`pooled` as the options say; a transformer takes pixels of the size of its configuration alone."""

    options_type = VisionOptions

    def __init__(
        self,
        card: ModelCard,
        options: VisionOptions,
        checkpoint: Checkpoint,
        text_encoder: Path | None,
        runtime: Runtime,
    ) -> None:
        _require_agreement(card, checkpoint, lambda: _vision_config(card, options))
        super().__init__(card, options, checkpoint, text_encoder, runtime)

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; the configuration is part of it."""
        options = cls._options(card)
        return digest.of_json([options.model_dump(mode="json"), _vision_config(card, options)])

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: VisionOptions) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; a pooler that the file lacks is left out where nothing asks for it."""
        net = network(card.name, known_config(card.name, _vision_config(card, options)))
        stored = any(name.startswith(f"{options.prefix}pooler.") for name in tensors)
        if options.pooled != "pooler" and not stored and getattr(net, "pooler", None) is not None:
            net.pooler = None  # type: ignore[assignment]
        return {options.prefix: net}

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for pixels that the network cannot take."""
        try:
            with runtime.autocast():
                found = self.parts[self.image_network](pixel_values=pixels)
        except ValueError as error:  # the library's own complaint of a size
            raise SpecError(f"{self.card.name}: pixels are {tuple(pixels.shape)}: {error}") from error
        return ImageFeatures(self._pooled(found, pixels).float())

    def _pooled(self, found: Any, pixels: Tensor) -> Tensor:
        states: Tensor = found.last_hidden_state
        if self.options.pooled == "pooler":
            if found.get("pooler_output") is None:
                raise SpecError(f"{self.card.name}: this network has no pooler; take `cls` or `patches`")
            own: Tensor = found.pooler_output
            return own.flatten(1)
        if states.ndim != 3:
            if self.options.pooled == "cls":
                raise SpecError(f"{self.card.name}: this network has no class token; take `pooler` or `patches`")
            return states.mean(dim=(2, 3))
        return states[:, 0] if self.options.pooled == "cls" else self._patches(states, pixels).mean(dim=1)

    def _patches(self, states: Tensor, pixels: Tensor) -> Tensor:
        """The last states, one a patch: class, distillation and register tokens stand before them."""
        side: int = self.parts[self.image_network].config.patch_size  # type: ignore[assignment, union-attr]
        count = (pixels.shape[2] // side) * (pixels.shape[3] // side)
        if not 0 < count <= states.shape[1]:
            raise SpecError(f"{self.card.name}: {states.shape[1]} states for {count} patches; take `pooler` or `cls`")
        return states[:, -count:]


def _require_agreement(card: ModelCard, checkpoint: Checkpoint, used: Callable[[], Mapping[str, Any]]) -> None:
    """`require_agreement` and `hold_recipe` with the files beside the weights, where they lie there."""
    hold_recipe(card, checkpoint)
    published = beside_weights(checkpoint, CONFIG)
    if published is not None:
        told = decisive(card.name, used()), decisive(card.name, published)
        require_agreement(card, checkpoint, CONFIG, *told)


def _vision_config(card: ModelCard, options: VisionOptions) -> dict[str, Any]:
    return model_config(card, options.config, weights_config(card, CONFIG))


KNOWN = ("clip", "siglip")  # model types; SigLIP 2 at a fixed size is `siglip`, too


class DualOptions(Spec):
    """`config`: the repository's `config.json` on the card; without it, the published file."""

    config: Mapping[str, Any] | None = None


class HuggingFaceDual(ScaledCosine[DualOptions]):
    """`pooled`: the image tower's pooled vector; `joint`: its projection (SigLIP: itself) at unit length."""

    options_type = DualOptions
    image_network = ""

    def __init__(
        self, card: ModelCard, options: DualOptions, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        _require_agreement(card, checkpoint, lambda: _dual_config(card, options))
        super().__init__(card, options, checkpoint, text_encoder, runtime)

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; the configuration is part of it."""
        return digest.of_json(_dual_config(card, cls._options(card)))

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: DualOptions) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; one network for all."""
        return {"": network(card.name, known_config(card.name, _dual_config(card, options)))}

    @property
    def _model(self) -> Any:
        return self.parts[""]

    @property
    def scale_and_bias(self) -> tuple[float, float]:
        """See `ScaledCosine.scale_and_bias`."""
        bias = getattr(self._model, "logit_bias", None)
        return float(self._model.logit_scale.exp()), 0.0 if bias is None else float(bias)

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for another size than the network's."""
        require_size(pixels, self._model.config.vision_config.image_size, self.card.name)
        with runtime.autocast():
            pooled = self._model.vision_model(pixel_values=pixels).pooler_output
        pooled = pooled.float()
        return ImageFeatures(pooled, normalize(self._projected(pooled, "visual_projection")))

    def _projected(self, pooled: Tensor, head: str) -> Tensor:
        found: Tensor = getattr(self._model, head)(pooled) if hasattr(self._model, head) else pooled
        return found

    def text_vectors(self, texts: Sequence[str]) -> TextFeatures:
        """See `CheckpointModel.text_vectors`; cut at the card's limit. DataError if the tokenizer is not at hand."""
        with self.runtime.autocast():
            pooled = self._model.text_model(**self.tokens(texts)).pooler_output
        projected = self._projected(pooled.float(), "text_projection")
        return TextFeatures(normalize(projected), projected)

    def tokens(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Ids (P, card's limit), all padded to it, and the mask if the tokenizer's own configuration gives one."""
        tokenizer = self.tokenizer  # refuses a card without text encoder
        assert self.card.text_encoder is not None
        batch = tokenizer(
            list(texts),
            padding="max_length",
            truncation=True,
            max_length=self.card.text_encoder.max_tokens,
            return_tensors="pt",
        )
        return {k: batch[k].to(self.runtime.device) for k in ("input_ids", "attention_mask") if k in batch}

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the card's text encoder.

        Raises SpecError where the card does not fit, DataError that says what to fetch when it is not at hand.
        """
        encoder, config = self.card.text_encoder, self._model.config.text_config
        if encoder is None:
            raise SpecError(f"{self.card.name}: the card names no text encoder")
        if encoder.max_tokens > config.max_position_embeddings:
            raise SpecError(f"{self.card.name}: max_tokens is {encoder.max_tokens} of {config.max_position_embeddings}")
        folder = text_files(encoder, self.text_encoder).folder
        found = load_tokenizer("AutoTokenizer", folder)
        if len(found) > config.vocab_size:
            raise IntegrityError(f"{folder}: more tokens than the checkpoint has word embeddings for")
        return found


def _dual_config(card: ModelCard, options: DualOptions) -> dict[str, Any]:
    """The configuration of a model of a known kind; raises SpecError for others."""
    told = model_config(card, options.config, weights_config(card, CONFIG))
    if told.get("model_type") not in KNOWN:
        known = " and ".join(KNOWN)
        raise SpecError(
            f"{card.name}: model_type is {told.get('model_type')!r}; this adapter runs {known}. An image network alone "
            "is run by cxrbench.models.hf:HuggingFaceVision; anything else needs an adapter."
        )
    return told
