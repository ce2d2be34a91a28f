"""Preprocessing as data: everything that happens between the bytes of a file and the pixels that a network sees."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from cxrbench.store import digest
from cxrbench.store.schema import Spec

Side = Annotated[int, Field(ge=1, le=4096)]
Opening = Literal["first", "luma", "colour", "opencv", "opencv-luma"]
UNBOUNDED = 1 << 31
_WIDEST = 2.0  # the largest std on the scale 0..1; pixels that cover all of it have 0.5


def _each_channel(value: Any) -> Any:
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


PerChannel = Annotated[tuple[float, ...], BeforeValidator(_each_channel)]


class Reading(Spec):
    """What both kinds of recipe share; the digest is part of every embedding's key.

    `decode`: `official` is the arithmetic of the paper's released reader (stored DICOM values, min-max only outside
    0..255, first channel of colour PNG, palette indices as grey); `radiograph` follows the file's own header (rescale,
    VOI window, photometric interpretation, palette, bit depth, EXIF orientation).
    `polarity` (official only): grey values as stored, negated whatever the header says, or by the header.
    `mean`, `std`: one value, or one for each of three channels; a number alone is a list of one. They are on the scale
    that the pixels have when they are subtracted: 0..1, or 0..255 under `divisor` 1.
    """

    decode: Literal["official", "radiograph"] = "official"
    polarity: Literal["stored", "negated", "header"] = "stored"
    mean: PerChannel = (0.0,)
    std: PerChannel = (1.0,)

    @model_validator(mode="after")
    def _readable(self) -> "Reading":
        if len(self.mean) not in (1, 3) or len(self.std) != len(self.mean):
            raise ValueError("mean and std need one value or 3, both the same number")
        if min(self.std) <= 0:
            raise ValueError("std must be positive")
        if self.decode == "radiograph" and self.polarity != "header":
            raise ValueError("decode 'radiograph' follows the header: polarity must be 'header'")
        return self

    def _require_scale(self) -> None:
        """Raise ValueError for a mean or std that cannot be on the scale 0..1."""
        if max(self.mean) > 1 or max(self.std) > _WIDEST:
            told = " and ".join(", ".join(f"{value:g}" for value in values) for values in (self.mean, self.std))
            raise ValueError(f"mean and std are on the scale 0..1: divide {told} by 255")
        if min(self.mean) < 0:
            raise ValueError(f"mean {min(self.mean):g}: mean and std are on the scale 0..1, where black is 0")

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all fields: two recipes with one digest give the same pixels."""
        return digest.of_json(self.model_dump(mode="json"))


class Canvas(Reading):
    """The paper's way: from file bytes to float32 (channels, size, size), resized in floating point.

    With decode `official` JPEG is decoded at a reduced scale, as the released reader does.
    `geometry` `canvas`: long side to `size`, aspect kept, zeros to the right and at the bottom.
    `antialias`: torchvision's argument for the bilinear resize of tensors; off up to 0.16, on since 0.17.
    `floor`: `released` computes the long side as int(side / (side / size)) in floating point, which gives one pixel
    less for some sizes; `exact` always gives `size`.
    `mean`, `std`: subtracted and divided after the padding, on the 0..1 scale.
    """

    kind: Literal["canvas"] = "canvas"
    geometry: Literal["canvas"] = "canvas"
    size: Side = 224
    antialias: bool = False
    floor: Literal["released", "exact"] = "released"
    channels: Literal[3] = 3

    @model_validator(mode="after")
    def _scaled(self) -> "Canvas":
        self._require_scale()
        return self


class MinMax(Spec):
    """Least value to 0, greatest to 255, in float64 from the file's full depth, then cut (not rounded) to 8 bits."""

    op: Literal["min-max"]


class Stretch(Spec):
    """Of what is no DICOM: least value to 0, greatest to 255, rounded half to even, as OpenCV's normalize does it.

    Factor and summand are rounded to float32; product and sum are rounded to it once, as by a fused multiply-add.
    """

    op: Literal["stretch"]


class PadSquare(Spec):
    """Black to a square of side max(height, width, least); the picture in the middle, an odd rest right and below."""

    op: Literal["pad-square"]
    least: Side = 1


class Resize(Spec):
    """8 bits to 8 bits, enlarging too. `filter`: Pillow's (antialiased), or `area`, OpenCV's INTER_AREA.

    `to`: `exact`, both sides to `size`, aspect not kept; `shorter`, the shorter side to `size`, the longer to
    int(size * longer / shorter); `longer`, the longer side to `size`, the other to int(side * (size / longer)): the
    height counts as a square's longer side, so that its width is one pixel short for some sizes; `longer-cut`, both
    sides to int(side * (size / longer)), so that the longer is one pixel short for some sizes.
    """

    op: Literal["resize"]
    to: Literal["exact", "shorter", "longer", "longer-cut"]
    size: Side
    filter: Literal["bilinear", "bicubic", "lanczos", "area"]


class Pad(Spec):
    """Black to size x size; the picture in the middle, an odd rest right and below."""

    op: Literal["pad"]
    size: Side


class Crop(Spec):
    """The middle size x size; offsets are half of the `rest`: rounded half to `even`, as torchvision's centre crop has
    them, or `down`, as the image processors of transformers have.
    """

    op: Literal["crop"]
    size: Side
    rest: Literal["even", "down"] = "even"


class CropSquare(Spec):
    """The middle square of the shorter side; it begins at half of a side less half of the square, both rounded down."""

    op: Literal["crop-square"]


Step = Annotated[MinMax | Stretch | PadSquare | Resize | Pad | Crop | CropSquare, Field(discriminator="op")]


class Resample(Spec):
    """Resize after normalisation, in floating point.

    `filter`: `bicubic` as torch has it, a = -0.75, without antialiasing; `smoothed-linear` as scikit-image's `resize`
    has it: where it reduces, first a Gaussian of sigma (factor - 1) / 2, then linear, 0 outside the picture for both,
    and cut to the range that the values had before.
    """

    size: Side
    filter: Literal["bicubic", "smoothed-linear"]


class Steps(Reading):
    """The authors' way: steps on an 8-bit grey picture, in order, then (value / divisor - mean) / std in float32.

    A `divisor` `own-range` takes each channel to 0..1 by its least and greatest value after the steps, and has nothing
    to say of a picture of one value.

    The 8-bit picture is the reader's, at the file's full size: `radiograph` takes its range low..high to 0..255,
    rounded half to even, values outside clipped; `official` takes stored values, or the stretched ones, as they are,
    those above 255 clipped. A `min-max` or `stretch`, first if at all, starts from the full depth (clipped to the
    reader's range).
    `resample`: a last resize of the normalised array.

    Under `official`, `files` says how the authors open what is no DICOM: `first`, as the released reader does; `luma`,
    Pillow's convert("L"); `colour`, its convert("RGB"), the three channels kept through all steps; `opencv`, imread in
    grey, which takes the upper byte of 16 bits; `opencv-luma`, imread in colour, then Pillow's convert("L"). Under all
    but the first a `min-max` or `stretch` is over all channels and the file's full depth. `dicom`: `over-maximum`
    multiplies stored values by 255 / maximum, rounds to 8 bits, and then negates them where the header says so.
    """

    kind: Literal["steps"]
    files: Opening = "first"
    dicom: Literal["released", "over-maximum"] = "released"
    steps: tuple[Step, ...] = Field(min_length=1)
    divisor: Literal[1, 255, "own-range"] = 255
    resample: Resample | None = None

    @model_validator(mode="after")
    def _scaled(self) -> "Steps":
        if self.divisor != 1:
            self._require_scale()
        elif 0 < max(self.mean) <= 1 and max(self.std) < 1:
            raise ValueError("under divisor 1 pixels are 0..255: multiply mean and std by 255, or leave it out")
        return self

    @model_validator(mode="after")
    def _square(self) -> "Steps":
        if late := [step.op for step in self.steps[1:] if isinstance(step, MinMax | Stretch)]:
            raise ValueError(f"{late[0]} must be the first step: it starts from the full depth")
        if self.files == "colour" and len(self.mean) != 3:
            raise ValueError("files = 'colour' needs mean and std of three channels")
        if self.dicom == "over-maximum" and self.polarity != "header":
            raise ValueError("dicom = 'over-maximum' negates by the header: polarity must be 'header'")
        least, most = self._sides()
        square = isinstance(self.steps[-1], PadSquare | CropSquare) and self.resample is not None
        if least != most and not square:
            raise ValueError(
                "the steps must end in a square of one size: end with pad, crop or an exact resize, or resample "
                "a square"
            )
        return self

    def _sides(self) -> tuple[int, int]:
        least, most = 1, UNBOUNDED
        for step in self.steps:
            least, most = sides_after(step, least, most)
        return least, most

    @property
    def size(self) -> int:
        """Side of the square array that comes out."""
        return self._sides()[0] if self.resample is None else self.resample.size


def sides_after(step: Step, least: int, most: int) -> tuple[int, int]:
    """Bounds of both sides after a step from those before it; raises ValueError where the step could not be done."""
    match step:
        case PadSquare():
            return max(least, step.least), max(most, step.least)
        case Resize(to="exact"):
            return step.size, step.size
        case Resize(to="shorter"):
            return step.size, UNBOUNDED
        case Resize():
            return 1, step.size
        case Pad() if most > step.size:
            raise ValueError(f"pad to {step.size} needs a resize that leaves no side above it")
        case Crop() if least < step.size:
            raise ValueError(f"crop to {step.size} needs a resize that leaves no side below it")
        case Pad() | Crop():
            return step.size, step.size
    return least, most


def _kind(value: Any) -> str:
    found = value.get("kind", "canvas") if isinstance(value, Mapping) else getattr(value, "kind", "canvas")
    return found if isinstance(found, str) else repr(found)


class Given(Spec):
    """Nothing is prepared: the vectors are in a file that was computed elsewhere, from pixels that nobody here saw."""

    kind: Literal["given"]

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all fields; the file itself enters keys as the model's weights."""
        return digest.of_json(self.model_dump(mode="json"))


Recipe = Annotated[
    Annotated[Canvas, Tag("canvas")] | Annotated[Steps, Tag("steps")] | Annotated[Given, Tag("given")],
    Discriminator(_kind),
]
