"""Bytes of one file to what networks see: decoded once for each need, one array for each recipe."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrbench.errors import ImageError, SpecError
from cxrbench.images import dicom, display, official, raster, steps
from cxrbench.images.grey import FloatArray, Grey, ValueArray, oddities, refusing, value_range
from cxrbench.images.header import is_dicom
from cxrbench.images.steps import ByteArray, Tone
from cxrbench.specs.recipe import Canvas, Given, MinMax, Opening, Recipe, Step, Steps, Stretch


def fitted(height: int, width: int, recipe: Canvas) -> tuple[int, int]:
    """Height and width on the canvas; 0 is possible for pictures more oblong than the size.

    `released` floors a floating-point quotient, which makes the long side one pixel short for some sizes.
    """
    size, longest = recipe.size, max(height, width)
    if height == width:
        return size, size
    if recipe.floor == "exact":
        return height * size // longest, width * size // longest
    scale = longest / size
    return int(height / scale), int(width / scale)


def laid_out(picture: FloatArray, recipe: Canvas) -> NDArray[np.float32]:
    """(C, size, size) float32 from the resized picture (height, width): padded, then mean and std, then the cast.

    C is 1 where mean and std have one value: the three channels are equal and are expanded by whoever needs them.
    """
    canvas = np.zeros((recipe.size, recipe.size))
    canvas[: picture.shape[0], : picture.shape[1]] = picture
    if recipe.mean == (0.0,) and recipe.std == (1.0,):
        return canvas.astype(np.float32)[None]
    mean, std = (np.asarray(row)[:, None, None] for row in (recipe.mean, recipe.std))
    return ((canvas - mean) / std).astype(np.float32)


_PILLOW = (19595, 38470, 7471, 1 << 15, 16)  # weights of red, green and blue, rounding, shift
_LIBPNG = (9797, 19234, 3737, 0, 15)
_CONVERTED = ("P", "PA", "CMYK", "YCbCr", "LAB")  # modes whose samples are no grey and no red, green, blue


def read_alike(image: Image.Image) -> bool:
    """Whether every library gives the same values: 8-bit grey that EXIF does not turn. Reads the header alone."""
    return image.mode == "L" and _orientation(image) == 1


def planes(image: Image.Image, how: Opening, first: Step) -> tuple[ByteArray, ...]:
    """The opened picture as one grey plane (H, W), or as three where `colour` is asked for and channels differ.

    A `first` step that starts from the full depth is done, over all channels: `min-max` in float64, then cut, as
    BioViL's loader does before anything else, or `stretch`. Raises ImageError for values that are not finite.
    """
    if how == "opencv" and image.format in ("JPEG", "MPO"):
        image.draft("L", None)
    by_opencv = how in ("opencv", "opencv-luma")
    values = raster.upright(_samples(image), _orientation(image) if by_opencv else 1)
    match first:
        case MinMax():
            bytes_ = _min_max(values)
        case Stretch():
            bytes_ = steps.stretched_by_opencv(values, *value_range(values))
        case _:
            bytes_ = _eight_bit(values, upper=by_opencv)
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
    values = raster.decode_picture(image)
    return values.astype(np.uint8) * np.uint8(255) if values.dtype == np.bool_ else values


def _orientation(image: Image.Image) -> int:
    """What EXIF asks for; OpenCV turns pictures by it, Pillow does not unless it is told to."""
    found: int = image.getexif().get(raster.EXIF_ORIENTATION, 1)
    return found


def _min_max(values: ValueArray) -> ByteArray:
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


Path = Literal["fast", "reference"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pixels:
    """`array` (C, size, size) float32, normalised; C is 1 where the recipe's channels are equal, else 3."""

    array: NDArray[np.float32]
    notes: tuple[str, ...]


def pixels(data: bytes, name: str, recipes: Sequence[Recipe], path: Path = "fast") -> list[Pixels | ImageError]:
    """What each recipe makes of the file, or why it makes nothing of it; `name` serves messages only.

    A recipe's polarity acts on DICOM files alone, as in the released reader.
    `path` "reference" takes the plain decoders and the plain arithmetic; both give the same float32 values. A result
    does not depend on which other recipes are asked for: where one has no result, as the released arithmetic has none
    for some files, the others have theirs. Raises ImageError with the name and the reason if the file is no picture for
    any recipe, UnreadableError where this machine could not decode it now, and SpecError for vectors that are given.
    """
    if any(isinstance(recipe, Given) for recipe in recipes):
        raise SpecError(
            f"{name}: the vectors of this model are given by a file: it sees no pixels, and encodes no image"
        )
    with refusing(name):
        source = _Source(data, path)
    return [_of_recipe(source, recipe, name) for recipe in recipes]


def pixels_by(data: bytes, name: str, recipe: Recipe, path: Path = "fast") -> Pixels:
    """What one recipe makes of the file; raises as `pixels` does, and ImageError where the recipe has no result."""
    (found,) = pixels(data, name, [recipe], path)
    if isinstance(found, ImageError):
        raise found
    return found


def _of_recipe(source: "_Source", recipe: Recipe, name: str) -> Pixels | ImageError:
    assert not isinstance(recipe, Given)
    try:
        with refusing(name):
            return source.pixels(recipe)
    except ImageError as error:
        return error


@dataclass(frozen=True, slots=True)
class _Decoded:
    """Values (H, W) on the way to a recipe's pixels; equal `key`, equal values."""

    key: Hashable
    values: ValueArray
    tone: Tone
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Start:
    """One 8-bit plane (H, W) for all channels, or one for each of three."""

    planes: tuple[ByteArray, ...]
    notes: tuple[str, ...]


def _each(step: Step, planes: tuple[ByteArray, ...]) -> tuple[ByteArray, ...]:
    return tuple(steps.after(step, plane) for plane in planes)


class _Source:
    """One file's bytes, with what has been made of them so far."""

    def __init__(self, data: bytes, path: Path) -> None:
        self._data = data
        self._reference = path == "reference"
        self._resize = steps.literal if self._reference else steps.quick
        self._stored = dicom.decode_stored(data, self._reference) if is_dicom(data) else None
        self._made: dict[Hashable, Any] = {}

    def pixels(self, recipe: Canvas | Steps) -> Pixels:
        return self._stepped(recipe) if isinstance(recipe, Steps) else self._on_canvas(recipe)

    def _stepped(self, recipe: Steps) -> Pixels:
        first = recipe.steps[0]
        how = self._opening(recipe)
        full_depth = first.op if isinstance(first, MinMax | Stretch) else None
        key: Hashable = ("full", recipe.decode, recipe.polarity, how, recipe.dicom, full_depth)
        start = self._once(key, lambda: self._start(recipe, how))
        planes = start.planes
        for step in recipe.steps:
            key, before = (key, step), planes
            planes = self._once(key, partial(_each, step, before))
        return Pixels(steps.normalise(planes, recipe), start.notes)

    def _opening(self, recipe: Steps) -> Opening:
        """How this file is to be opened; all ways are one where it is DICOM, 8-bit grey, or read by its header."""
        if recipe.decode == "radiograph" or self._stored is not None:
            return "first"
        alike = self._once("alike", lambda: read_alike(raster.open_picture(self._data)))
        return "first" if alike else recipe.files

    def _start(self, recipe: Steps, how: Opening) -> _Start:
        """What the steps of a recipe start from, at the file's full size."""
        if how != "first":
            opened = planes(raster.open_picture(self._data), how, recipe.steps[0])
            return _Start(opened, oddities(opened[0]))
        grey = self._full(recipe)
        dicom_file = self._stored is not None
        return _Start((steps.first_picture(grey, recipe.steps[0], dicom=dicom_file),), grey.notes)

    def _full(self, recipe: Steps) -> Grey:
        """The grey picture at the file's full size."""
        if recipe.decode == "radiograph":
            return self._shown(None)[1]
        plain = self._plain(None)[1]
        if recipe.dicom == "over-maximum" and self._stored is not None:
            return official.over_maximum(plain)
        return official.grey(plain, recipe)

    def _on_canvas(self, recipe: Canvas) -> Pixels:
        decode = self._official if recipe.decode == "official" else self._radiograph
        need = (recipe.decode, recipe.polarity, recipe.size, recipe.floor)
        found = self._once(need, lambda: decode(recipe))
        rows, columns = found.values.shape
        height, width = fitted(rows, columns, recipe)
        notes = found.notes
        if min(height, width) < 1:
            if recipe.decode == "official":
                raise ImageError(official.too_oblong(columns, rows, recipe.size))
            height, width = max(height, 1), max(width, 1)
            notes += ("more oblong than the canvas: its short side was made one pixel wide",)
        picture = self._once(
            (found.key, height, width, recipe.antialias),
            lambda: self._resize(found.values, height, width, recipe.antialias, found.tone),
        )
        return Pixels(laid_out(picture, recipe), notes)

    def _official(self, recipe: Canvas) -> _Decoded:
        key, plain = self._plain(recipe)
        return _Decoded((key, recipe.polarity), plain.values, official.tone_of(plain, recipe), plain.notes)

    def _radiograph(self, recipe: Canvas) -> _Decoded:
        key, grey = self._shown(recipe)
        return _Decoded(key, grey.values, steps.window(grey.low, grey.high), grey.notes)

    def _plain(self, recipe: Canvas | None) -> tuple[Hashable, official.Plain]:
        """What the released reader decodes; JPEG at a scale that is enough for the canvas, full without one."""
        if self._stored is not None:
            stored, key = self._stored, ("official", 0, 0)
            return key, self._once(key, lambda: official.from_dicom(stored))
        image = raster.open_picture(self._data)
        official.draft(image, None if recipe is None else recipe.size)
        key = ("official", *image.size)
        return key, self._once(key, lambda: official.from_raster(raster.decode_picture(image)))

    def _shown(self, recipe: Canvas | None) -> tuple[Hashable, Grey]:
        """What the header asks for; JPEG at a scale that is enough for the canvas, full without one."""
        if self._stored is not None:
            stored, key = self._stored, ("radiograph", 0, 0)
            return key, self._once(key, lambda: display.grey(stored))
        image = raster.open_picture(self._data)
        if recipe is not None:
            height, width = fitted(image.height, image.width, recipe)
            raster.draft(image, max(height, 1), max(width, 1))
        key = ("radiograph", *image.size)
        return key, self._once(key, lambda: raster.grey(image))

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]
