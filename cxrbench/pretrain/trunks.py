"""The trunk that training starts from: untrained, or with published ImageNet weights from a local file."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import read_checkpoint
from cxrbench.models.named_trunk import NamedTrunk, named_trunk

_CLASSIFIERS = ("fc.", "head.", "heads.", "classifier.")  # what published ImageNet weights hold beyond the trunk


def trunk(name: str, weights: Path | None) -> NamedTrunk:
    """The named trunk, filled from a file where one is given.

    Raises SpecError for a name that is not known, IntegrityError if the file is not that network's.
    """
    made = named_trunk(name)
    if weights is not None:
        _fill(made.module, read_checkpoint(weights).tensors, weights, name)
    return made


def _fill(module: nn.Module, tensors: Mapping[str, Tensor], path: Path, name: str) -> None:
    """Put published weights into the trunk; those of the classifier are left out."""
    own = module.state_dict()
    kept = {key: tensor for key, tensor in tensors.items() if key in own}
    strange = [key for key in tensors if key not in kept and not key.startswith(_CLASSIFIERS)]
    # Files older than these counters lack them; torch starts them at 0.
    missing = [key for key in own if key not in kept and not key.endswith(".num_batches_tracked")]
    if missing or strange:
        raise IntegrityError(
            f"{path}: not the weights of {name}: {len(missing)} tensors are missing ({', '.join(missing[:3])}), "
            f"{len(strange)} are of another network ({', '.join(strange[:3])})"
        )
    try:
        module.load_state_dict(kept)
    except RuntimeError as error:
        raise IntegrityError(f"{path}: not the weights of {name}: {str(error).splitlines()[-1].strip()}") from error
