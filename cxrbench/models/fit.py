"""What is made of a checkpoint before and after its model takes it, whatever the model is."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import TypeVar

import torch
from torch import Tensor

from cxrbench.errors import IntegrityError
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.coverage import Coverage, LayoutError
from cxrbench.models.renaming import rename_tensors
from cxrbench.specs.card import ModelCard
from cxrbench.system.contained import PASSING
from cxrbench.system.printable import printable

ModelT = TypeVar("ModelT")

_WRAPPERS = ("module.", "model.", "_orig_mod.")  # DataParallel, training frameworks, torch.compile
_MOST_PREFIXES = 3  # of which each costs building the model once
_MASK = "*mask*"  # a buffer whose infinities keep positions apart


def in_single_precision(checkpoint: Checkpoint) -> Checkpoint:
    """The same checkpoint with half-precision tensors as float32, which is exact."""
    single = {n: t.float() if t.dtype in (torch.float16, torch.bfloat16) else t for n, t in checkpoint.tensors.items()}
    return replace(checkpoint, tensors=single)


def load_as_float32(
    checkpoint: Checkpoint, load: Callable[[Checkpoint], ModelT], card: ModelCard, *, own: bool
) -> ModelT:
    """What `load` makes of the checkpoint's tensors by the card's names, half-precision ones as float32.

    Raises what `load` does, but says so where a prefix before all names is at fault, and IntegrityError for a tensor
    that is not finite. An adapter of our `own` that stumbles over tensors of other shapes has met another model's file;
    another package's has a fault, whose traceback is wanted.
    """
    checkpoint = in_single_precision(checkpoint)
    own_names = rename_tensors(checkpoint, card.weights.rename)
    try:
        model = load(own_names)
    except (IntegrityError, LookupError, TypeError, ValueError) as error:
        known = isinstance(error, IntegrityError)
        if not (own or known):
            raise
        fault = wrong_prefix(checkpoint, load, card.weights.rename, error)
        if fault is not None:
            raise IntegrityError(f"{checkpoint.path}: {fault}") from error
        if known:
            raise
        raise IntegrityError(
            f"{checkpoint.path}: {card.name} cannot be built of these tensors ({type(error).__name__}: "
            f"{printable(str(error))[:200]}). It is another model's file, or damaged: take the published one."
        ) from error
    require_finite(own_names, getattr(model, "coverage", None))
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


def wrong_prefix(
    checkpoint: Checkpoint, load: Callable[[Checkpoint], object], named: Mapping[str, str], refusal: Exception
) -> str | None:
    """What is said of a checkpoint that fits its model, or fits it better, if all names had another prefix.

    `named`: the prefixes that the card renames, under which `load` gave the `refusal`. None where no prefix is at
    fault.
    """
    names = list(checkpoint.tensors)
    nearer: tuple[int, str] = (_fitting(refusal), "")
    for prefix in _common(names):
        prefixes = _without(prefix, named, names)
        second = _refusal(rename_tensors(checkpoint, prefixes), load)
        told = f"all {len(names)} tensors are named with the prefix {prefix!r}, as a wrapper around the model leaves it"
        if second is None:
            return f"{told}; without it they are exactly this model's. {_line(prefixes)}"
        if _fitting(second) > nearer[0]:
            nearer = (_fitting(second), f"{told}. {_line(prefixes)} What is amiss without it: {second}")
    for prefix in dict.fromkeys((*_lacking(refusal), *_WRAPPERS)):
        prefixes = {"": prefix, **{old: prefix + new for old, new in named.items()}}
        second = _refusal(rename_tensors(checkpoint, prefixes), load)
        told = f"all {len(names)} tensors lack the prefix {prefix!r} that this model's have"
        if second is None:
            return f"{told}; with it they are exactly this model's. Take the published file, or: {_line(prefixes)}"
        if _fitting(second) > nearer[0]:
            nearer = (_fitting(second), f"{told}. {_line(prefixes)} What is amiss with it: {second}")
    return nearer[1] or None


def _lacking(refusal: BaseException) -> list[str]:
    """What the names of all missing tensors begin with, the longest first, where the refusal says that none fits."""
    if not isinstance(refusal, LayoutError) or refusal.fitting:
        return []
    return _common(list(refusal.missing))[::-1]


def _fitting(refusal: BaseException) -> int:
    """How many tensors were the model's, as far as the refusal tells."""
    return refusal.fitting if isinstance(refusal, LayoutError) else 0


def _without(prefix: str, named: Mapping[str, str], names: list[str]) -> dict[str, str]:
    """The card's prefixes for names with one more before them, as far as they fit any, and nothing for that one."""
    within = {prefix + old: new for old, new in named.items()}
    return {prefix: ""} | {old: new for old, new in within.items() if any(name.startswith(old) for name in names)}


def _line(prefixes: Mapping[str, str]) -> str:
    """What to put on a card for these prefixes."""
    told = ", ".join(f"{json.dumps(old)} = {json.dumps(new)}" for old, new in prefixes.items())
    return f"Put this line under [weights] of the card: rename = {{ {told} }}"


def _common(names: list[str]) -> list[str]:
    """What all the names begin with, up to each dot, the shortest first."""
    if not names:
        return []
    low, high = min(names), max(names)
    same = next((n for n, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)))
    return [low[: at + 1] for at, character in enumerate(low[:same]) if character == "."][:_MOST_PREFIXES]


def _refusal(checkpoint: Checkpoint, load: Callable[[Checkpoint], object]) -> BaseException | None:
    """What a model says to tensors that it does not take; None where it takes them."""
    try:
        load(checkpoint)
    except PASSING:
        raise
    except BaseException as error:  # whatever a model says to names that are not its own
        return error
    return None
