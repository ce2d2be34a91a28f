"""Whether the tensors of a file are those that a model wants: all of them, and no others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from cxrbench.errors import CxrBenchError, IntegrityError
from cxrbench.specs import paths
from cxrbench.specs.card import ModelCard, card_files, read_card


@dataclass(frozen=True, slots=True)
class Coverage:
    """Tensor names of a file against those of a model, in the file's or the model's order."""

    used: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    wrong_shape: Mapping[str, str]  # name to "(found) instead of (wanted)"
    wrong_dtype: Mapping[str, str]
    ignored: Mapping[str, str]  # name to the reason on the card
    absent: Mapping[str, str] = field(default_factory=dict)  # of a wanted tensor that the file may lack, likewise
    idle: tuple[str, ...] = ()  # what the card ignores, and the file does not hold

    @property
    def complete(self) -> bool:
        """Every wanted tensor is there in its shape and dtype, and nothing is left over."""
        return not (self.missing or self.unexpected or self.wrong_shape or self.wrong_dtype)


def coverage(
    found: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
    ignored: Mapping[str, str],
    absent: Mapping[str, str] | None = None,
) -> Coverage:
    """Compare names, shapes and dtypes; `wanted` may lie on the meta device, `ignored` may name tensors not found.

    `absent` names wanted tensors that the file may lack, and may name others. In the names of both, `*` stands for any
    letters, as a shell has it.
    """
    lacking = {name: reason for name, reason in _named(absent or {}, wanted).items() if name not in found}
    unneeded = _named(ignored, found)
    both = [name for name in wanted if name in found]
    shapes = {
        name: f"{tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in both
        if found[name].shape != wanted[name].shape
    }
    dtypes = {
        name: f"{found[name].dtype} instead of {wanted[name].dtype}"
        for name in both
        if found[name].dtype != wanted[name].dtype
    }
    return Coverage(
        used=tuple(both),
        missing=tuple(name for name in wanted if name not in found and name not in lacking),
        unexpected=tuple(name for name in found if name not in wanted and name not in unneeded),
        wrong_shape=shapes,
        wrong_dtype=dtypes,
        ignored={name: reason for name, reason in unneeded.items() if name not in wanted},
        absent=lacking,
        idle=tuple(pattern for pattern in ignored if not _named({pattern: ""}, found)),
    )


def _named(reasons: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """Those of the names that a pattern fits, with its reason."""
    known = list(names)
    return {name: reason for pattern, reason in reasons.items() for name in known if fnmatchcase(name, pattern)}


class LayoutError(IntegrityError):
    """A file whose tensors are not those of its model; `fitting` of them are, and `missing` are not there."""

    fitting: int = 0
    missing: tuple[str, ...] = ()


def require_complete(found: Coverage, path: Path, wanted: str, looks_like: Sequence[str] = ()) -> None:
    """Raise LayoutError that lists what is amiss, unless `found` is complete.

    `wanted` says what the file should be; `looks_like` are cards whose layout the file does have.
    """
    if found.complete:
        return
    faults = [
        _listed("missing", found.missing),
        _listed("left over", found.unexpected),
        _listed("of another shape", [f"{name} {what}" for name, what in found.wrong_shape.items()]),
        _listed("of another dtype", [f"{name} {what}" for name, what in found.wrong_dtype.items()]),
    ]
    hint = f" It has the layout of {' / '.join(looks_like)}." if looks_like else _way_out(found)
    told = f"{path}: not the tensors of {wanted}: {'; '.join(filter(None, faults))}.{hint}{_idle(found)}"
    error = LayoutError(told)
    error.fitting = len(found.used) - len(found.wrong_shape.keys() | found.wrong_dtype.keys())
    error.missing = found.missing
    raise error


def require_same(path: Path, tensors: Mapping[str, Tensor], twice: Mapping[str, str]) -> None:
    """Raise IntegrityError where two names of one tensor have two values; `twice` maps the second name to the first."""
    apart = [f"{again} and {name}" for again, name in twice.items() if not torch.equal(tensors[again], tensors[name])]
    if apart:
        raise IntegrityError(
            f"{path}: {len(apart)} tensors are kept under two names, but with two values: {', '.join(apart[:4])}. "
            "The published file keeps one value under both: get it again."
        )


def _way_out(found: Coverage) -> str:
    """What to do about tensors that are only too many; nothing is known of others."""
    if found.missing or found.wrong_shape or found.wrong_dtype:
        return ""
    computed = all(name.endswith("position_ids") for name in found.unexpected)
    why = " (older versions of transformers saved these numbers, which are computed)" if computed else ""
    return f" If the model does not need them{why}, name them with the reason in weights.ignored of the card."


def _idle(found: Coverage) -> str:
    """Which names that the card ignores are none of the file's, where tensors are left over."""
    if not found.idle or not found.unexpected:
        return ""
    some = found.idle[:3]
    begun = [name for name in some if any(left.startswith(name) for left in found.unexpected)]
    names, what = " and ".join(map(repr, some)), "is the name" if len(some) == 1 else "are the names"
    way = f", or {' and '.join(repr(name + '*') for name in begun)}" if begun else "; * stands for any letters"
    return f" weights.ignored: {names} {what} of no tensor; give whole names{way}."


def look_alikes(card: ModelCard, fits: Callable[[ModelCard], bool]) -> list[str]:
    """Names of the zoo's other cards with the same adapter that a file `fits`."""
    others = map(read_card, card_files(paths.folder("model_zoo")))
    alike = [other for other in others if other.adapter == card.adapter and other.name != card.name]
    return [other.name for other in alike if _true(fits, other)]


def _true(fits: Callable[[ModelCard], bool], other: ModelCard) -> bool:
    """Whether a file fits; a layout that cannot even be laid over it does not, and is no news."""
    try:
        return fits(other)
    except CxrBenchError:
        return False


def _listed(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f", and {len(names) - 4} more" if len(names) > 4 else ""
    return f"{len(names)} {what}: {', '.join(names[:4])}{more}"
