"""What an encoder hands over for a batch of images and for a batch of texts."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class ImageFeatures:
    """Vectors of N images, float32.

    `pooled` (N, D) before any projection; `joint` (N, d) unit vectors of the space shared with text; `label` (N, d)
    unit vectors of a second head for labels; `tokens` (N, T, w) for models that score by interaction.
    """

    pooled: Tensor
    joint: Tensor
    label: Tensor | None = None
    tokens: Tensor | None = None

    @property
    def taps(self) -> dict[str, Tensor]:
        """The vectors by the names that cards use."""
        vectors = {"pooled": self.pooled, "joint": self.joint}
        return vectors if self.label is None else {**vectors, "label": self.label}


@dataclass(frozen=True, slots=True)
class TextFeatures:
    """Vectors of P texts, float32.

    `joint` (P, d) unit vectors of the space shared with images; `tokens` (P, L, w) with `mask` (P, L), true at real
    tokens, for models that score by interaction.
    """

    joint: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None
