"""The model under test, what it makes of the samples, and how two answers are compared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Adapter
from cxrbench.models.features import ImageFeatures, TextFeatures
from cxrbench.models.nets import relative_difference
from cxrbench.system.contained import PASSING
from cxrbench.testing.samples import Samples

_DEPTH = 4  # of attributes, below an adapter


@dataclass
class Subject:
    """An adapter with its samples; each answer is asked for once."""

    adapter: Adapter
    samples: Samples
    reduced: Adapter | None = None  # the same model below float32

    @cached_property
    def images(self) -> ImageFeatures:
        """Of all pictures as one batch."""
        return self.encode(self.samples.pixels)

    def encode(self, pixels: Tensor) -> ImageFeatures:
        """What the model makes of a copy of the pixels: one that writes into its input shall spoil no other check."""
        return self.adapter.encode_image(pixels.clone())

    @cached_property
    def texts(self) -> TextFeatures | None:
        """Of all texts as one batch; None where there is no text side, or no texts to try it on."""
        if not self.samples.texts or not self.adapter.has_text_side():
            return None
        try:
            return self.adapter.encode_text(self.samples.texts)
        except SpecError:
            if any(view.classes == "prompts" for view in self.adapter.card.views.values()):
                raise
            return None

    @property
    def by_interaction(self) -> bool:
        """Whether the card scores all prompts of a task together."""
        return any(view.scoring == "interaction" for view in self.adapter.card.views.values())


def rows(features: ImageFeatures, chosen: Sequence[int]) -> ImageFeatures:
    """The features of some images of a batch."""
    tensors = {field.name: getattr(features, field.name) for field in fields(features)}
    return replace(features, **{name: t[list(chosen)] for name, t in tensors.items() if t is not None})


def parts(features: ImageFeatures | TextFeatures) -> dict[str, Tensor]:
    """All tensors that are there, by name."""
    found = {field.name: getattr(features, field.name) for field in fields(features)}
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def furthest(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[float, str]:
    """The largest relative difference of a row, and the part it is in; infinite where shapes or parts differ."""
    if found.keys() != wanted.keys():
        return float("inf"), "what there is"
    return max((_apart(found[name], wanted[name]), name) for name in wanted)


def _apart(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    if not (found.isfinite().all() and wanted.isfinite().all()):
        return float("inf")
    return relative_difference(found.detach().float().flatten(1), wanted.detach().float().flatten(1))


def score_difference(found: Tensor, wanted: Tensor) -> float:
    """Largest difference over the largest score, or over 1 where all are smaller; infinite for another shape or NaN."""
    if found.shape != wanted.shape or not (found.isfinite().all() and wanted.isfinite().all()):
        return float("inf")
    return float((found - wanted).detach().abs().max() / wanted.detach().abs().max().clamp_min(1))


def refused(ask: Callable[[Any], object], given: object) -> bool:
    """Whether an adapter answers with SpecError; any other error says nothing that helps its user."""
    try:
        ask(given)
    except SpecError:
        return True
    except PASSING:
        raise
    except BaseException:
        return False
    return False


def networks(adapter: object) -> Iterator[nn.Module]:
    """Every torch module that hangs on the adapter's attributes, through plain containers and objects."""
    seen: set[int] = set()

    def within(value: object, depth: int) -> Iterator[nn.Module]:
        if id(value) in seen or depth > _DEPTH or isinstance(value, str | bytes | Tensor | torch.device):
            return
        seen.add(id(value))
        if isinstance(value, nn.Module):
            yield value
            return
        for inner in _inside(value):
            yield from within(inner, depth + 1)

    return within(adapter, 0)


def _inside(value: object) -> Sequence[object]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    if is_dataclass(value) and not isinstance(value, type):
        return [getattr(value, field.name) for field in fields(value)]
    return list(vars(value).values()) if hasattr(value, "__dict__") and not isinstance(value, type) else []


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """One promise of an adapter.

    `passed`: None where the finding is a fact that nobody judges. `figure`: what was measured, `limit` what it may be.
    """

    name: str
    passed: bool | None
    text: str
    figure: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class AdapterReport:
    """All findings about one model, in the order in which they were made."""

    model: str
    findings: tuple[CheckFinding, ...]

    @property
    def failed(self) -> tuple[CheckFinding, ...]:
        """The promises that are broken."""
        return tuple(finding for finding in self.findings if finding.passed is False)

    @property
    def passed(self) -> bool:
        """Whether none is."""
        return not self.failed

    def require(self) -> None:
        """Raise IntegrityError that lists every broken promise, if there is one."""
        if self.failed:
            told = "\n".join(f"- {finding.name}: {finding.text}" for finding in self.failed)
            raise IntegrityError(f"{self.model}: the adapter breaks {len(self.failed)} promises:\n{told}")


def within(name: str, figure: float, limit: float, text: str) -> CheckFinding:
    """A figure that must not be above its limit; NaN is."""
    return CheckFinding(name, figure <= limit, f"{text}: {figure:.1e}, at most {limit:.0e}", figure, limit)


def held(name: str, holds: bool, text: str, otherwise: str) -> CheckFinding:
    """A promise that is kept or not, and what to say in either case."""
    return CheckFinding(name, holds, text if holds else otherwise)
