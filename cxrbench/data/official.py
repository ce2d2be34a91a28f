"""The released reader's arithmetic: what its files become before they are resized, quirks included.

Raster files: JPEG decoded at 1/2, 1/4 or 1/8 where the result is not below the request, colour JPEG as luma, the first
channel of other colour pictures, palette indices as grey, every depth divided by 255. DICOM: stored values, stretched
to 0..255 only if one is negative or above 255; no rescale, window or photometric interpretation. The negation that it
applies to VinDr's DICOM files is the recipe's `polarity`. Here content decides what is DICOM, not the path.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cxrbench.data import dicom, tone
from cxrbench.data.grey import ValueArray, oddities
from cxrbench.data.tone import Tone
from cxrbench.errors import ImageError
from cxrbench.recipe import Recipe

JPEGS = ("JPEG", "MPO")


@dataclass(frozen=True, slots=True)
class Plain:
    """Decoded values (H, W), whether the header calls small values bright (None: no DICOM), and notes."""

    values: ValueArray
    inverted: bool | None
    notes: tuple[str, ...]


def draft(image: Image.Image, size: int) -> None:
    """Ask Pillow for a JPEG at a reduced scale and as luma, as the released code does; raises ImageError.

    Other formats ignore the request. It is width over scale, a fraction, by the floor of height over scale.
    """
    width, height = image.size
    scale = max(width, height) / size
    asked = width / scale, height // scale
    if image.format in JPEGS and asked[1] == 0:
        raise ImageError(too_oblong(width, height, size))
    image.draft("L", asked)  # type: ignore[arg-type]


def too_oblong(width: int, height: int, size: int) -> str:
    """Why the released reader has no result for such a picture."""
    return (
        f"{width} x {height} pixels leave nothing of the short side on a canvas of {size}: the released reader fails "
        "on it. Leave it out, or use the decode `radiograph`."
    )


def from_dicom(stored: dicom.Stored) -> Plain:
    """Raises ImageError for colour, of which the released reader makes no picture."""
    if stored.values.ndim != 2:
        raise ImageError("a colour DICOM: the released reader knows one sample per pixel")
    return Plain(stored.values, stored.inverted, stored.notes + oddities(stored.values))


def from_raster(values: ValueArray) -> Plain:
    """The first channel; bilevel pictures as 0 and 1."""
    first = values if values.ndim == 2 else np.ascontiguousarray(values[..., 0])
    first = first.astype(np.uint8) if first.dtype == np.bool_ else first
    return Plain(first, None, oddities(first))


def tone_of(plain: Plain, recipe: Recipe) -> Tone:
    """How stored values become 0..1 under the recipe's polarity; raises ImageError where nothing can be stretched."""
    if plain.inverted is None:
        return tone.over_255()
    negate = plain.inverted if recipe.polarity == "header" else recipe.polarity == "negated"
    low, high = int(plain.values.min()), int(plain.values.max())
    if low >= 0 and high <= 255:
        return tone.over_255_negated() if negate else tone.over_255()
    if low == high:
        raise ImageError(f"every pixel has the value {low}: the released reader divides by zero")
    return tone.stretched_negated(low, high) if negate else tone.stretched(low, high)
