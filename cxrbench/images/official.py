"""The released reader's arithmetic: what its files become before they are resized, quirks included.

Raster files: JPEG decoded at 1/2, 1/4 or 1/8 where the result is not below the request, colour JPEG as luma, the first
channel of other colour pictures, palette indices as grey, every depth divided by 255. DICOM: stored values, stretched
to 0..255 only if one is negative or above 255; no rescale, window or photometric interpretation. The negation that it
applies to VinDr's DICOM files is the recipe's `polarity`. Here content decides what is DICOM, not the path.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from cxrbench.errors import ImageError
from cxrbench.images import dicom, steps
from cxrbench.images.grey import Grey, ValueArray, oddities
from cxrbench.images.steps import Tone
from cxrbench.specs.recipe import Reading

JPEGS = ("JPEG", "MPO")


@dataclass(frozen=True, slots=True)
class Plain:
    """Decoded values (H, W), whether the header calls small values bright (None: no DICOM), and notes."""

    values: ValueArray
    inverted: bool | None
    notes: tuple[str, ...]


def draft(image: Image.Image, size: int | None) -> None:
    """Ask Pillow for a JPEG as luma and, for a canvas of `size`, at a reduced scale, as the released code does.

    Other formats ignore the request. It is width over scale, a fraction, by the floor of height over scale.
    Raises ImageError where nothing of the short side would be left.
    """
    if size is None:
        image.draft("L", None)
        return
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


def from_dicom(stored: dicom.StoredValues) -> Plain:
    """Raises ImageError for colour, of which the released reader makes no picture."""
    if stored.values.ndim != 2:
        raise ImageError("a colour DICOM: the released reader knows one sample per pixel")
    notes = stored.notes + oddities(stored.labelled)
    if stored.labelled is not stored.values:
        notes += ("the released reader takes the header's sign at its word: its picture wraps",)
    return Plain(stored.labelled, stored.inverted, notes)


def from_raster(values: ValueArray) -> Plain:
    """The first channel; bilevel pictures as 0 and 1."""
    first = values if values.ndim == 2 else np.ascontiguousarray(values[..., 0])
    first = first.astype(np.uint8) if first.dtype == np.bool_ else first
    return Plain(first, None, oddities(first))


def tone_of(plain: Plain, recipe: Reading) -> Tone:
    """How stored values become 0..1 under the recipe's polarity; raises ImageError where nothing can be stretched."""
    negate, bounds = _negate(plain, recipe), _stretch(plain)
    if bounds is None:
        return steps.over_255_negated() if negate else steps.over_255()
    return steps.stretched_negated(*bounds) if negate else steps.stretched(*bounds)


def grey(plain: Plain, recipe: Reading) -> Grey:
    """The same values on 0..255, or on the range that is stretched to it, at their full depth; same errors.

    Rasters above 255, which the released reader lets beyond 1, are white there.
    """
    bounds = _stretch(plain)
    low, high = (0, 255) if bounds is None else bounds
    notes = plain.notes
    if bounds is None and plain.values.max() > high:
        notes += ("values above 255 count as white for the released reader's scale",)
    if not _negate(plain, recipe):
        return Grey(plain.values, low, high, notes)
    wide = plain.values.astype(np.float64 if plain.values.dtype.kind == "f" else np.int64)
    return Grey(low + high - wide, low, high, notes)


def over_maximum(plain: Plain) -> Grey:
    """A DICOM file as MGCA's loader reads it: stored values times 255 / maximum, rounded half to even to 8 bits.

    Then 255 minus that where the header calls small values bright. Raises ImageError where the maximum is not positive.
    """
    most = plain.values.max().item()
    if most <= 0:
        raise ImageError(f"no stored value is above {most}: the authors' loader divides by the maximum. Leave it out.")
    level = np.clip(np.rint(plain.values.astype(np.float64) * (255 / most)), 0, 255).astype(np.uint8)
    return Grey(255 - level if plain.inverted else level, 0, 255, plain.notes)


def _negate(plain: Plain, recipe: Reading) -> bool:
    if plain.inverted is None:
        return False
    return plain.inverted if recipe.polarity == "header" else recipe.polarity == "negated"


def _stretch(plain: Plain) -> tuple[float, float] | None:
    """Least and greatest value of a DICOM file that is stretched; None for everything that is only divided by 255."""
    if plain.inverted is None:
        return None
    low, high = plain.values.min().item(), plain.values.max().item()
    if low >= 0 and high <= 255:
        return None
    if low == high:
        raise ImageError(f"every pixel has the value {low}: the released reader divides by zero")
    return low, high
