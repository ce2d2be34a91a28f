"""Elementwise maps from stored values to the 0..1 scale, each in two steps: `literal(v)` is `last(first(v))`.

`last` is affine, so it commutes with a resize whose weights sum to 1 and may be applied to the few pixels that are
left after it. `first` gives exact integers in float64, or does all the work where no such split keeps small results
exact.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrbench.images.grey import FloatArray, ValueArray


@dataclass(frozen=True, slots=True)
class Tone:
    """`first` maps values of any type to float64; `last` is affine and elementwise."""

    first: Callable[[ValueArray], FloatArray]
    last: Callable[[FloatArray], FloatArray]

    def literal(self, values: ValueArray) -> FloatArray:
        """Both steps on every pixel."""
        return self.last(self.first(values))


def over_255() -> Tone:
    """v / 255, whatever the depth."""
    return Tone(lambda values: values.astype(np.float64), lambda small: small / 255.0)


def over_255_negated() -> Tone:
    """(255 - v) / 255."""
    return Tone(lambda values: 255.0 - values.astype(np.float64), lambda small: small / 255.0)


def stretched(low: float, high: float) -> Tone:
    """Least value to 0, greatest to 255, then / 255."""
    return Tone(lambda values: values.astype(np.float64) - low, lambda small: small / (high - low) * 255.0 / 255.0)


def stretched_negated(low: float, high: float) -> Tone:
    """255 minus the stretched value, then / 255; 255 - x has few digits left near 0, so no step is put off."""

    def first(values: ValueArray) -> FloatArray:
        return (255.0 - (values.astype(np.float64) - low) / (high - low) * 255.0) / 255.0

    return Tone(first, lambda small: small)


def window(low: float, high: float) -> Tone:
    """`low` to 0, `high` to 1, values outside clipped."""
    return Tone(lambda values: np.clip(values.astype(np.float64), low, high) - low, lambda small: small / (high - low))
