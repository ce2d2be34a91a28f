"""Raster files as the authors of published models open them: by Pillow in grey or in colour, or by OpenCV in grey.

Colour becomes grey by the integer arithmetic of each library: Pillow's convert("L"), and libpng's conversion behind
OpenCV's imread(path, 0), which for JPEG takes the luma that is stored in the file. Of 8-bit PNG and of JPEG no level is
off. OpenCV greys other colour files (BMP, TIFF, WebP, JPEG 2000, palette BMP, 16-bit PNG) by other weights: up to one
level off, two for CMYK JPEG.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.images import raster
from cxrbench.images.grey import ValueArray, value_range
from cxrbench.specs.recipe import Opening

ByteArray = NDArray[np.uint8]

_PILLOW = (19595, 38470, 7471, 1 << 15, 16)  # weights of red, green and blue, rounding, shift
_LIBPNG = (9797, 19234, 3737, 0, 15)
_CONVERTED = ("P", "PA", "CMYK", "YCbCr", "LAB")  # modes whose samples are no grey and no red, green, blue


def read_alike(image: Image.Image) -> bool:
    """Whether every library gives the same values: 8-bit grey that EXIF does not turn. Reads the header alone."""
    return image.mode == "L" and _orientation(image) == 1


def planes(image: Image.Image, how: Opening, *, stretched: bool) -> tuple[ByteArray, ...]:
    """The opened picture as one grey plane (H, W), or as three where `colour` is asked for and channels differ.

    `stretched`: least value of all channels to 0, greatest to 255, in float64 from the file's full depth, then cut, as
    BioViL's loader does before anything else. Raises ImageError for values that are not finite.
    """
    if how == "opencv" and image.format in ("JPEG", "MPO"):
        image.draft("L", None)
    by_opencv = how in ("opencv", "opencv-luma")
    values = raster.upright(_samples(image), _orientation(image) if by_opencv else 1)
    bytes_ = _stretched(values) if stretched else _eight_bit(values, upper=by_opencv)
    if bytes_.ndim == 2:
        return (bytes_,)
    if bytes_.shape[2] == 2:  # grey and alpha
        return (np.ascontiguousarray(bytes_[..., 0]),)
    red, green, blue = (np.ascontiguousarray(bytes_[..., c]) for c in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return (red,)
    return (red, green, blue) if how == "colour" else (_grey(bytes_, _LIBPNG if how == "opencv" else _PILLOW),)


def _samples(image: Image.Image) -> ValueArray:
    """Samples (H, W) or (H, W, bands), palettes and other colour spaces as red, green, blue; bilevel as 0 and 255."""
    if image.mode in _CONVERTED:
        raster.decode(image)
        return np.asarray(image.convert("RGB"))
    values = raster.loaded(image)
    return values.astype(np.uint8) * np.uint8(255) if values.dtype == np.bool_ else values


def _orientation(image: Image.Image) -> int:
    """What EXIF asks for; OpenCV turns pictures by it, Pillow does not unless it is told to."""
    found: int = image.getexif().get(raster.EXIF_ORIENTATION, 1)
    return found


def _stretched(values: ValueArray) -> ByteArray:
    least, greatest = value_range(values)
    found: ByteArray = ((values.astype(np.float64) - least) / (greatest - least) * 255).astype(np.uint8)
    return found


def _eight_bit(values: ValueArray, *, upper: bool) -> ByteArray:
    if values.dtype == np.uint8:
        return values
    if upper and values.dtype == np.uint16:
        return (values >> 8).astype(np.uint8)
    return np.clip(values, 0, 255).astype(np.uint8)


def _grey(values: ByteArray, weights: tuple[int, int, int, int, int]) -> ByteArray:
    red, green, blue, half, shift = weights
    wide = values.astype(np.int32)
    found: ByteArray = ((wide[..., 0] * red + wide[..., 1] * green + wide[..., 2] * blue + half) >> shift).astype(
        np.uint8
    )
    return found
