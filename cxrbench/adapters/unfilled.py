"""Networks of other libraries without values: built by their own code, filled from a checkpoint afterwards."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules built in here by this thread hold parameters without values (on the meta device), and real buffers.

    Building on the meta device as a whole would lose the buffers that no checkpoint holds: masks, position numbers.
    """
    own = threading.get_ident()

    def without_values(module: nn.Module, name: str, parameter: nn.Parameter) -> nn.Parameter | None:
        if parameter is None or threading.get_ident() != own:
            return None
        return nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)

    handle = register_module_parameter_registration_hook(without_values)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()
