"""Image networks by name, from torchvision or timm, without their classifier: images to pooled vectors."""

from dataclasses import dataclass

from torch import nn

from cxrbench.errors import SpecError


@dataclass(frozen=True, slots=True)
class NamedTrunk:
    """A network from (n, 3, s, s) to (n, width), with fresh tensors."""

    module: nn.Module
    width: int


def named_trunk(name: str) -> NamedTrunk:
    """`resnet50` is torchvision's, `timm:NAME` timm's; the last linear layer is left out.

    Raises SpecError for a name that the library does not know.
    """
    return _of_timm(name.removeprefix("timm:")) if name.startswith("timm:") else _of_torchvision(name)


def _of_torchvision(name: str) -> NamedTrunk:
    import torchvision

    if name not in torchvision.models.list_models(module=torchvision.models):
        raise SpecError(f"torchvision has no model {name!r}; write timm:{name} for timm's")
    module: nn.Module = torchvision.models.get_model(name, weights=None)
    path, last = [(path, part) for path, part in module.named_modules() if isinstance(part, nn.Linear)][-1]
    parent, _, child = path.rpartition(".")
    setattr(module.get_submodule(parent), child, nn.Identity())
    return NamedTrunk(module, last.in_features)


def _of_timm(name: str) -> NamedTrunk:
    try:
        import timm
    except ModuleNotFoundError as error:
        raise SpecError("timm is not installed; `pip install timm` or name a torchvision model") from error
    if not timm.is_model(name):
        raise SpecError(f"timm has no model {name!r}")
    module: nn.Module = timm.create_model(name, pretrained=False, num_classes=0)
    width: int = getattr(module, "head_hidden_size", None) or module.num_features  # type: ignore[assignment]
    return NamedTrunk(module, width)
