"""Weights of a run beside its checkpoint: of the epoch with the lowest validation loss, and of the last one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from cxrbench.pretrain.checkpoint import write_tensors
from cxrbench.pretrain.engine import Engine
from cxrbench.store import digest

BEST, LAST = "best.pth", "last.pth"
_NEXT = ".next"  # ends the name of weights that no checkpoint knows yet


@dataclass
class Kept:
    """The files in `folder`, and the SHA-256 that the checkpoint knows of each; it is written between two steps here.

    First new weights are put beside the old ones, then the checkpoint is written, then they take their place. A kill in
    between is made good by `settle`: no checkpoint is ever without the weights that it speaks of.
    """

    folder: Path
    sha256: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write weights beside those of before."""
        self.sha256[name] = write_tensors(self.folder / f"{name}{_NEXT}", dict(tensors))

    def settle(self) -> None:
        """Put the weights that the checkpoint knows in their places; others were of an epoch that is done again."""
        for name in (BEST, LAST):
            waiting = self.folder / f"{name}{_NEXT}"
            if not waiting.is_file():
                continue
            if digest.of_file(waiting) == self.sha256.get(name):
                waiting.replace(self.folder / name)
            else:
                waiting.unlink()


def exported(engine: Engine) -> dict[str, Tensor]:
    """The network's tensors by the names of the official layout, on the CPU, as plain contiguous memory."""
    return {name: tensor.detach().cpu().contiguous() for name, tensor in engine.network.state_dict().items()}
