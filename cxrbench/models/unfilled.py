"""Networks of other libraries without values: built by their own code, filled from a checkpoint afterwards."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from cxrbench.errors import SpecError

_MADE = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_LARGE = 1 << 24  # numbers; a parameter of more has no memory even while it is made
_MOST = 1 << 31  # numbers of one tensor; the largest embedding of an encoder has some 2^28
_MOST_PARAMETERS = 8_000


@contextmanager
def without_values() -> Iterator[None]:
    """Modules built in here by this thread hold parameters without values (on the meta device), and real buffers.

    Building on the meta device as a whole would lose the buffers that no checkpoint holds: masks, position numbers.
    Raises SpecError for a network of more parameters, or with a larger tensor, than any encoder has.
    """
    own, count = threading.get_ident(), 0

    def emptied(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        nonlocal count
        if parameter is None or threading.get_ident() != own:
            return None
        count += 1
        if count > _MOST_PARAMETERS:
            raise SpecError(f"a network of more than {_MOST_PARAMETERS:,} parameters; no encoder here has so many")
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(emptied)  # type: ignore[arg-type]
    try:
        with _Sizes():
            yield
    finally:
        handle.remove()


def compute_buffers_when_filled(network: nn.Module) -> nn.Module:
    """The same network; once its parameters have values, buffers of timm's that follow from sizes get theirs, too.

    timm makes some of them (masks of shifted windows) where the parameters are, so without values at first.
    """

    def compute(module: nn.Module, incompatible: object) -> None:
        for part in module.modules():
            if any(buffer.is_meta for buffer in part.buffers(recurse=False)):
                part.init_non_persistent_buffers()  # type: ignore[operator]

    network.register_load_state_dict_post_hook(compute)
    return network


class _Sizes(TorchFunctionMode):
    """Tensors are made without memory where they are large, and not at all where no network has such."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """See `TorchFunctionMode`."""
        given = dict(kwargs or {})
        if func in _MADE:
            numbers = _numbers(args, given)
            if numbers > _MOST:
                raise SpecError(f"a network with a tensor of {numbers:,} numbers; no encoder here has one so large")
            if func is torch.empty and numbers > _LARGE:
                given["device"] = "meta"
        return func(*args, **given)


def _numbers(args: tuple[Any, ...], given: Mapping[str, Any]) -> int:
    size = given.get("size", args[0] if args and isinstance(args[0], tuple | list) else args)
    return math.prod(axis for axis in size if isinstance(axis, int))
