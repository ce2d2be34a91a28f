"""What is made of a checkpoint before and after its model takes it, whatever the model is."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from torch import Tensor

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.coverage import Coverage
from cxrbench.system.contained import PASSING
from cxrbench.system.printable import printable

ModelT = TypeVar("ModelT")

_WRAPPERS = ("module.", "model.", "_orig_mod.")  # DataParallel, training frameworks, torch.compile
_MASK = "*mask*"  # a buffer whose infinities keep positions apart


def in_single_precision(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint with half-precision tensors as float32, which is exact."""
    single = {n: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for n, t in checkpoint.tensors.items()}
    return replace(checkpoint, tensors=single)


def load_as_float32(checkpoint: Checkpoint, load: Callable[[Checkpoint], ModelT], name: str, *, own: bool) -> ModelT:
    """What `load` makes of the checkpoint's tensors, half-precision ones as float32.

    Raises what `load` does, but says so where a prefix before all names is the fault, and IntegrityError for a tensor
    that is not finite. An adapter of our `own` that stumbles over tensors of other shapes has met another model's file;
    another package's has a fault, whose traceback is wanted.
    """
    checkpoint = in_single_precision(checkpoint)
    try:
        model = load(checkpoint)
    except IntegrityError as error:
        fault = wrong_prefix(checkpoint, load)
        if fault is None:
            raise
        raise IntegrityError(f"{checkpoint.path}: {fault}") from error
    except (LookupError, TypeError, ValueError) as error:
        if not own:
            raise
        raise IntegrityError(
            f"{checkpoint.path}: {name} cannot be built of these tensors ({type(error).__name__}: "
            f"{printable(str(error))[:200]}). It is another model's file, or damaged: take the published one."
        ) from error
    require_finite(checkpoint, getattr(model, "coverage", None))
    return model


def require_finite(checkpoint: Checkpoint, coverage: Coverage | None) -> None:
    """Raise IntegrityError for a tensor in use (all, where nobody tells) that holds a number that is not finite."""
    names = list(checkpoint.tensors) if coverage is None else coverage.used
    wrong = [name for name in names if name in checkpoint.tensors and not _finite(name, checkpoint.tensors[name])]
    if wrong:
        more = f" and {len(wrong) - 3} more tensors" if len(wrong) > 3 else ""
        raise IntegrityError(
            f"{checkpoint.path}: {', '.join(wrong[:3])}{more} hold numbers that are not finite (NaN or infinite). "
            "The training failed, or the file is damaged: take another checkpoint, or download it again."
        )


def _finite(name: str, tensor: Tensor) -> bool:
    if not tensor.is_floating_point() or fnmatchcase(name, _MASK):
        return True
    return bool(torch.isfinite(tensor).all())


def wrong_prefix(checkpoint: Checkpoint, load: Callable[[Checkpoint], object]) -> str | None:
    """What is said of a checkpoint that its model would take if all names had one prefix less, or one more.

    None where the prefix is not the fault.
    """
    names = list(checkpoint.tensors)
    for prefix in _common(names):
        if _loads(checkpoint, {name.removeprefix(prefix): tensor for name, tensor in checkpoint.tensors.items()}, load):
            return (
                f"all {len(names)} tensors are named with the prefix {prefix!r}, as a wrapper around the model leaves "
                "it; without it they are exactly this model's. Save them under their own names: torch.save("
                f"{{name.removeprefix({prefix!r}): tensor for name, tensor in tensors.items()}}, ...)."
            )
    for prefix in _WRAPPERS:
        if _loads(checkpoint, {prefix + name: tensor for name, tensor in checkpoint.tensors.items()}, load):
            return (
                f"all {len(names)} tensors lack the prefix {prefix!r} that the published file has; with it they are "
                "exactly this model's. Take the published file, or save them under its names."
            )
    return None


def _common(names: list[str]) -> list[str]:
    """What all the names begin with, up to each dot, the shortest first."""
    if not names:
        return []
    low, high = min(names), max(names)
    same = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return [low[: at + 1] for at, character in enumerate(low[:same]) if character == "."][:3]


def _loads(checkpoint: Checkpoint, tensors: Mapping[str, Tensor], load: Callable[[Checkpoint], object]) -> bool:
    try:
        load(replace(checkpoint, tensors=dict(tensors)))
    except PASSING:
        raise
    except BaseException:  # whatever a model says to names that are not its own
        return False
    return True
