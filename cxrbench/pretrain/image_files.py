"""Pixels of one file as the store keeps them: 8 bits on the square canvas of the training recipe."""

from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench import digest
from cxrbench.data import dicom, raster
from cxrbench.data.grey import refusing
from cxrbench.data.images import read_bytes
from cxrbench.data.pixels import pixels
from cxrbench.errors import ImageError
from cxrbench.ledger import Stamp, stamp
from cxrbench.recipe import Canvas

REVISION = 1  # counts up when the same file and recipe come to give other bytes
_DECODERS = ("pillow", "pydicom", "pylibjpeg", "pylibjpeg-libjpeg", "pylibjpeg-openjpeg", "python-gdcm")
_JPEG = b"\xff\xd8"
_EIGHT_BITS = frozenset({"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "LAB"})


@dataclass(frozen=True, slots=True)
class Read:
    """What one file came to: `array` (S, S) uint8, or a `reason` why there is none.

    `content` is the SHA-256 of its bytes; "" where there were none to be had, or memory was short: that may pass.
    """

    at: Stamp | None
    content: str = ""
    array: NDArray[np.uint8] | None = None
    reason: str = ""


def recipe_key(recipe: Canvas) -> str:
    """Hex SHA-256 of what decides the stored bytes: the recipe without mean and std, which come after the store."""
    return digest.of_json({"revision": REVISION, "recipe": plain(recipe).model_dump(mode="json")})


def plain(recipe: Canvas) -> Canvas:
    """The recipe without normalisation."""
    return recipe.model_copy(update={"mean": (0.0,), "std": (1.0,)})


@cache
def _deep(recipe: Canvas) -> Canvas:
    return recipe.model_copy(update={"decode": "radiograph", "polarity": "header"})


def read(path: Path, recipe: Canvas) -> Read:
    """The file's pixels, or the reason why it has none; the stamp is taken before the bytes are."""
    at, content = stamp(path), ""
    try:
        data = read_bytes(path)
        content = digest.of_bytes(data)
        return Read(at, content, stored(data, path.name, recipe))
    except ImageError as error:
        lasting = not isinstance(error.__cause__, MemoryError)
        return Read(at, content if lasting else "", reason=str(error))


@cache
def decoders() -> str:
    """The libraries that read images, with their versions: what one cannot read, another may."""
    return ", ".join(f"{name} {found}" for name in _DECODERS if (found := _version(name)))


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


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
    made = pixels(data, name, [asked])[0]
    if asked.decode == "radiograph" and any(note.startswith("every pixel has") for note in made.notes):
        raise ImageError(f"{name}: {made.notes[0]}: nothing can be stretched. Leave it out.")
    return np.rint(np.clip(made.array[0], 0, 1) * 255).astype(np.uint8)


def _is_deep(data: bytes) -> bool:
    if data.startswith(_JPEG) or dicom.is_dicom(data):
        return False
    image: Image.Image = raster.opened(data)
    return image.mode not in _EIGHT_BITS
