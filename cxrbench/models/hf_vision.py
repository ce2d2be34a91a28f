"""Image networks of the Hugging Face hub (ViT, DINOv2 and their kind), by their cards."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.features import ImageFeatures
from cxrbench.models.model_config import beside_weights, model_config, require_agreement, weights_config
from cxrbench.models.scaled_cosine import VisionOnly
from cxrbench.models.transformers_nets import decisive, known_config, network
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.schema import Facts

CONFIG = "config.json"


class Options(Facts):
    """`pooled`: the network's own `pooler` output, the class token `cls` after the last norm, or the mean of `patches`.

    `prefix`: what the published names of its tensors begin with, as where it was saved as a part of another model.
    `config`: the repository's `config.json` on the card; without it, the published file.
    """

    pooled: Literal["pooler", "cls", "patches"]
    prefix: str = ""
    config: Mapping[str, Any] | None = None


class HuggingFaceVision(VisionOnly[Options]):
    """`pooled` as the options say; a transformer takes pixels of the size of its configuration alone."""

    options_type = Options

    def __init__(
        self, card: ModelCard, options: Options, checkpoint: Checkpoint, text_encoder: Path | None, runtime: Runtime
    ) -> None:
        published = beside_weights(checkpoint, CONFIG)
        if published is not None:
            used = decisive(card.name, _config(card, options))
            require_agreement(card, checkpoint, CONFIG, used, decisive(card.name, published))
        self.image_network = options.prefix
        super().__init__(card, options, checkpoint, text_encoder, runtime)

    @classmethod
    def options_digest(cls, card: ModelCard) -> str:
        """See `Adapter.options_digest`; the configuration is part of it."""
        options = cls._options(card)
        return digest.of_json([options.model_dump(mode="json"), _config(card, options)])

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; a pooler that the file lacks is left out where nothing asks for it."""
        net = network(card.name, known_config(card.name, _config(card, options)))
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


def _config(card: ModelCard, options: Options) -> dict[str, Any]:
    return model_config(card, options.config, weights_config(card, CONFIG))
