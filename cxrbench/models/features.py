"""What an encoder hands over for a batch of images and for a batch of texts."""

from dataclasses import dataclass

from torch import Tensor


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
