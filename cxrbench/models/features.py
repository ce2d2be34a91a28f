"""What an encoder hands over for a batch of images and for a batch of texts."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from cxrbench.errors import SpecError


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Vectors of N images, float32.

    `pooled` (N, D) before any projection; `joint` (N, d) the vectors that the model compares with text, of unit length
    where its similarity is a cosine (None: it compares tokens only); `label` (N, d) unit vectors of a second head for
    labels; `tokens` (N, T, w) for models that score by interaction.
    """

    pooled: Tensor
    joint: Tensor | None = None
    label: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def taps(self) -> dict[str, Tensor]:
        """The vectors by the names that cards use."""
        vectors = {"pooled": self.pooled, "joint": self.joint, "label": self.label}
        return {name: vector for name, vector in vectors.items() if vector is not None}


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """Vectors of P texts, float32.

    `joint` (P, d) the vectors that the model compares with images, of unit length where its similarity is a cosine;
    `projected` (P, d) the same before they were brought to unit length; `tokens` (P, L, w) with `mask` (P, L), true at
    positions that take part, for models that score by interaction.
    """

    joint: Tensor
    projected: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None


def checked_features(found: object, name: str, count: int, taps: Mapping[str, int]) -> ImageFeatures:
    """The same vectors of `count` images; raises SpecError, with the line to write, for what the card does not say.

    `name`: of the card; `taps`: the width of each kind of vector that it states.
    """
    if not isinstance(found, ImageFeatures):
        raise SpecError(
            f"{name}: its adapter makes a {type(found).__name__} of images; end its method with `return "
            "ImageFeatures(pooled)`, or `ImageFeatures(pooled, joint)` (from cxrbench.models.features)"
        )
    odd = [tap for tap, made in found.taps.items() if not isinstance(made, Tensor)]
    if odd:
        raise SpecError(f"{name}: its adapter's ImageFeatures hold no tensor as {', '.join(odd)}")
    shapes = {tap: tuple(made.shape) for tap, made in found.taps.items()}
    if all(shapes.get(tap) == (count, width) for tap, width in taps.items()):
        return found
    told = ", ".join(f"{tap} = {'x'.join(map(str, shape[1:]))}" for tap, shape in shapes.items())
    if all(len(shape) == 2 and shape[0] == count for shape in shapes.values()):
        way = f"If these are right, write taps = {{ {told} }} on the card"
    else:
        way = f"{count} images are {count} rows of vectors: flatten or average what has more axes"
    raise SpecError(f"{name}: the card's taps do not fit the network, which gives {told}. {way}")


def checked_texts(found: object, name: str, count: int) -> TextFeatures:
    """The same vectors of `count` texts; raises SpecError, with the line to write, for anything else."""
    if not isinstance(found, TextFeatures):
        raise SpecError(
            f"{name}: its adapter makes a {type(found).__name__} of texts; end its method with `return "
            "TextFeatures(normalize(projected), projected)` (from cxrbench.models.features)"
        )
    if not isinstance(found.joint, Tensor) or found.joint.ndim != 2 or len(found.joint) != count:
        raise SpecError(f"{name}: its adapter's TextFeatures hold no `joint` of one row for each of {count} texts")
    return found
