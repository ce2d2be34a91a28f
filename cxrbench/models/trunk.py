"""Image networks of torchvision and timm by name, with the tensors of a local file: baselines without a text side."""

from collections.abc import Mapping
from typing import Any, Literal

from torch import Tensor, nn

from cxrbench.errors import SpecError
from cxrbench.models.base import Runtime
from cxrbench.models.checkpoint_model import PrefixedVision, PrefixOptions
from cxrbench.models.features import ImageFeatures
from cxrbench.models.settings_check import network_settings
from cxrbench.models.unfilled import compute_buffers_when_filled, without_values
from cxrbench.specs.card import ModelCard

_FETCHING = ("pretrained", "weights", "checkpoint")  # arguments that begin so would bring tensors of their own


class Options(PrefixOptions):
    """`architecture` of a `library`, with `arguments` of its constructor.

    `head`: torchvision's layers that make classes of the pooled vector, by their module's name; timm knows its own.
    `prefix`: what the names of the tensors in the file begin with. `channels` of the pictures: 1 takes the first.
    """

    library: Literal["torchvision", "timm"]
    architecture: str
    arguments: Mapping[str, bool | int | float | str] = {}
    head: str = "fc"
    channels: Literal[1, 3] = 3


class Trunk(PrefixedVision[Options]):
    """`pooled`: what the library's classifier would see. The classifier's tensors are ignored by name on the card."""

    options_type = Options

    @classmethod
    def networks(cls, tensors: Mapping[str, Tensor], card: ModelCard, options: Options) -> dict[str, nn.Module]:
        """See `CheckpointModel.networks`; raises SpecError for a name or an argument that the library does not know."""
        wrong = [name for name in options.arguments if name.startswith(_FETCHING)]
        if wrong or ":" in options.architecture:
            raise SpecError(f"{card.name}: tensors are read from a file alone, not by {wrong or options.architecture}")
        network_settings(card.name, options.arguments)
        try:
            with without_values():
                net = _torchvision(options) if options.library == "torchvision" else _timm(options)
        except (ValueError, TypeError, RuntimeError, AttributeError) as error:
            raise SpecError(f"{card.name}: {options.library} cannot build {options.architecture!r}: {error}") from error
        return {options.prefix: net}

    @property
    def checked_size(self) -> int:
        """See `CheckpointModel.checked_size`."""
        return self.card.size(self.runtime.recipe)

    def image_vectors(self, pixels: Tensor, runtime: Runtime) -> ImageFeatures:
        """See `CheckpointModel.image_vectors`; raises SpecError for pixels that the network cannot take."""
        try:
            with runtime.autocast():
                pooled = self.parts[self.image_network](pixels[:, : self.options.channels])
        except AssertionError as error:  # both libraries complain of a size so
            raise SpecError(f"{self.card.name}: pixels are {tuple(pixels.shape)}: {error}") from error
        return ImageFeatures(pooled.flatten(1).float())


def _torchvision(options: Options) -> nn.Module:
    import torchvision

    if options.architecture.lower() not in torchvision.models.list_models(module=torchvision.models):
        raise ValueError("no network of torchvision.models; detectors and their kind would fetch tensors of their own")
    net: nn.Module = torchvision.models.get_model(options.architecture, weights=None, **options.arguments)
    above, _, own = options.head.rpartition(".")
    net.get_submodule(options.head)  # raises AttributeError where there is none
    setattr(net.get_submodule(above), own, nn.Identity())
    first = next(part for part in net.modules() if isinstance(part, nn.Conv2d))
    first.in_channels = options.channels
    first.weight = nn.Parameter(first.weight[:, : options.channels])
    return net


def _timm(options: Options) -> nn.Module:
    import timm

    arguments: dict[str, Any] = {"num_classes": 0, "in_chans": options.channels, **options.arguments}
    net: nn.Module = timm.create_model(options.architecture, pretrained=False, **arguments)
    return compute_buffers_when_filled(net)
