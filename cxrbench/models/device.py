"""Where a model can run here."""

import torch

from cxrbench.errors import SpecError


def known_device(name: str) -> torch.device:
    """The device of that name; raises SpecError if there is none here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SpecError(f"there is no device {name!r}; use cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise SpecError(f"device {name!r}: adapters are checked on cpu and cuda alone; use one of them")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SpecError(f"device {name!r}: this torch sees no CUDA device; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise SpecError(f"device {name!r}: this torch sees {torch.cuda.device_count()} CUDA devices, counted from 0")
    return device
