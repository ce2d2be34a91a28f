"""Pixels of one file as they are kept to train on: 8 bits on the square canvas of the recipe."""

from functools import cache
from importlib import metadata

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

from cxrbench.errors import ImageError
from cxrbench.images import dicom, raster
from cxrbench.images.grey import refusing
from cxrbench.images.pixels import pixels_by
from cxrbench.specs.recipe import Canvas
from cxrbench.store import digest
from cxrbench.system.sources import code_digest

_READERS = ("pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "python-gdcm")
_WITHIN_PILLOW = ("libjpeg_turbo", "jpg_2000", "libtiff", "webp")
_JPEG = b"\xff\xd8"
_EIGHT_BITS = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB"})


def recipe_key(recipe: Canvas) -> str:
    """Hex SHA-256 of what decides the stored bytes of a file, and whether it has any.

    The recipe without mean and std, which come after the store, the code that reads and resizes, and the decoders.
    """
    told = {"recipe": plain(recipe).model_dump(mode="json"), "code": pixel_code(), "decoders": decoders()}
    return digest.of_json(told)


def pixel_code() -> str:
    """Digest of the code between a file's bytes and its stored pixels."""
    return code_digest(__name__)


@cache
def decoders() -> str:
    """The libraries that decode, with their versions: another release may round otherwise, or read more files."""
    within = ((name, features.version(name)) for name in _WITHIN_PILLOW if features.check(name))
    found = [("pillow", version("pillow")), *within, *((name, version(name)) for name in _READERS)]
    return ", ".join(f"{name} {told}" for name, told in found if told)


def version(name: str) -> str:
    """A library's version, "" where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def plain(recipe: Canvas) -> Canvas:
    """The recipe without normalisation."""
    return recipe.model_copy(update={"mean": (0.0,), "std": (1.0,)})


@cache
def _deep(recipe: Canvas) -> Canvas:
    return recipe.model_copy(update={"decode": "radiograph", "polarity": "header"})


def stored(data: bytes, name: str, recipe: Canvas) -> NDArray[np.uint8]:
    """(S, S) uint8: the recipe's 0..1 times 255, rounded half to even; at most half a grey level from the recipe.

    Rasters of more than 8 bits (PadChest's PNG) are stretched from their least to their greatest value, since the
    released arithmetic, which divides every depth by 255, has no use for them. Raises ImageError for what is no
    picture, and for a deep raster of one value.
    """
    asked = plain(recipe)
    with refusing(name):
        if asked.decode == "official" and _is_deep(data):
            asked = _deep(asked)
    made = pixels_by(data, name, asked)
    if asked.decode == "radiograph" and any(note.startswith("every pixel has") for note in made.notes):
        raise ImageError(f"{name}: {made.notes[0]}: nothing can be stretched. Leave it out.")
    return np.rint(np.clip(made.array[0], 0, 1) * 255).astype(np.uint8)


def _is_deep(data: bytes) -> bool:
    if data.startswith(_JPEG) or dicom.is_dicom(data):
        return False
    image: Image.Image = raster.opened(data)
    return image.mode not in _EIGHT_BITS
