"""Two-tower models of the Hugging Face hub in the layouts of CLIP and SigLIP, by their cards."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import normalize

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.checkpoint_model import require_size
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.model_config import beside_weights, model_config, require_agreement, weights_config
from cxrbench.models.scaled_cosine import ScaledCosine
from cxrbench.models.text import text_files
from cxrbench.models.text_loading import load_tokenizer
from cxrbench.models.transformers_nets import decisive, known_config, network
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.schema import Facts

CONFIG = "config.json"
KNOWN = ("clip", "siglip")  # model types; SigLIP 2 at a fixed size is `siglip`, too


class Options(Facts):
    """`config`: the repository's `config.json` on the card; without it, the published file."""

    config: Mapping[str, Any] | None = None


class HuggingFaceDual(ScaledCosine[Options]):
    """`pooled`: the image tower's pooled vector; `joint`: its projection (SigLIP: itself) at unit length."""

    options_type = Options
    image_network = ""

    def __init__(
        self, card: ModelCard, options: Options, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        published = beside_weights(checkpoint, CONFIG)
        if published is not None:
            used = decisive(card.name, _config(card, options))
            require_agreement(card, checkpoint, CONFIG, used, decisive(card.name, published))
        super().__init__(card, options, checkpoint, text_encoder, runtime)

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; the configuration is part of it."""
        return digest.of_json(_config(card, cls._options(card)))

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; one network for all."""
        return {"": network(card.name, known_config(card.name, _config(card, options)))}

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


def _config(card: ModelCard, options: Options) -> dict[str, Any]:
    """The configuration of a model of a known kind; raises SpecError for others."""
    told = model_config(card, options.config, weights_config(card, CONFIG))
    if told.get("model_type") not in KNOWN:
        known = " and ".join(KNOWN)
        raise SpecError(
            f"{card.name}: model_type is {told.get('model_type')!r}; this adapter runs {known}. An image network alone "
            "is run by cxrbench.models.hf_vision:HuggingFaceVision; anything else needs an adapter."
        )
    return told
