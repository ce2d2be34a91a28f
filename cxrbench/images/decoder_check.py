"""Proof on this machine that the fast reader gives what the plain one gives: small files drawn, read both ways."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image

from cxrbench.errors import ImageError
from cxrbench.images.grey import ValueArray
from cxrbench.images.pixels import pixels
from cxrbench.specs.recipe import Canvas, MinMax, Recipe, Resize, Steps

JPEG_BASELINE, EXPLICIT = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
SMALL = Resize(op="resize", to="exact", size=64, filter="bilinear")
RECIPES: tuple[Recipe, ...] = (
    *(Canvas(size=64, antialias=smooth, polarity=way) for smooth in (False, True) for way in ("stored", "negated")),
    *(Canvas(size=64, antialias=smooth, polarity="header", decode="radiograph") for smooth in (False, True)),
    Canvas(size=224, polarity="header", mean=(0.5,), std=(0.5,)),
    Steps(kind="steps", polarity="negated", steps=(MinMax(op="min-max"), SMALL)),
    Steps(kind="steps", polarity="header", decode="radiograph", steps=(SMALL,)),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One format: `equal` if all recipes gave the same float32 values both ways, else `detail` says what differed."""

    format: str
    equal: bool
    detail: str = ""


@dataclass(frozen=True, slots=True)
class SelfTest:
    """All formats; where one is not equal, `pixels` has to be called with path "reference" on this machine."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether the fast path may be used."""
        return all(check.equal for check in self.checks)


@cache
def self_test() -> SelfTest:
    """Draw a file of each format and read it by both paths; about half a second, once a process."""
    return SelfTest(tuple(_check(kind, data) for kind, data in _files()))


def _check(kind: str, data: bytes) -> Check:
    try:
        fast, plain = (pixels(data, kind, RECIPES, path) for path in ("fast", "reference"))
    except ImageError as error:
        return Check(kind, False, str(error))
    for recipe, mine, oracle in zip(RECIPES, fast, plain, strict=True):
        if isinstance(mine, ImageError) or isinstance(oracle, ImageError):
            return Check(kind, False, str(mine if isinstance(mine, ImageError) else oracle))
        if not np.array_equal(mine.array, oracle.array):
            worst = float(np.abs(mine.array - oracle.array).max())
            return Check(kind, False, f"differs by up to {worst:g} at {recipe.model_dump(exclude_defaults=True)}")
    return Check(kind, True)


def _files() -> Iterator[tuple[str, bytes]]:
    grey, deep = _picture(211, 260, 8), _picture(230, 190, 12)
    yield "PNG 8-bit", _saved(grey, "PNG")
    yield "PNG 16-bit", _saved(deep, "PNG")
    yield "PNG RGB", _saved(np.stack([grey, grey[::-1], grey], axis=-1), "PNG")
    yield "JPEG grey", _saved(_picture(900, 700, 8), "JPEG")
    yield "JPEG colour", _saved(np.stack([grey, grey // 2, grey], axis=-1), "JPEG")
    yield "TIFF 16-bit", _saved(deep, "TIFF")
    yield "DICOM 8-bit", _dicom(grey, 8)
    yield "DICOM 12-bit", _dicom(deep, 12)
    yield "DICOM 12-bit MONOCHROME1", _dicom(deep + 7, 13, photometric="MONOCHROME1")
    yield "DICOM signed", _dicom(deep.astype(np.int16) - 900, 16)
    yield "DICOM JPEG Baseline", _dicom(grey, 8, JPEG_BASELINE)


def _picture(height: int, width: int, bits: int) -> ValueArray:
    """Waves and noise over the whole range of `bits`."""
    down, across = np.mgrid[0:height, 0:width]
    waves = 0.5 + 0.4 * np.sin(down / 17.0) * np.cos(across / 23.0)
    noisy = waves + np.random.default_rng(bits).normal(0, 0.06, waves.shape)
    return np.rint(np.clip(noisy, 0, 1) * (2**bits - 1)).astype(np.uint8 if bits <= 8 else np.uint16)


def _saved(values: ValueArray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


def _dicom(values: ValueArray, bits: int, syntax: str = EXPLICIT, photometric: str = "MONOCHROME2") -> bytes:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.SOPClassUID, made.SOPInstanceUID = SECONDARY_CAPTURE, "2.25.1"
    made.Rows, made.Columns = values.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, photometric
    made.BitsAllocated, made.BitsStored, made.HighBit = values.dtype.itemsize * 8, bits, bits - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    made.PixelData = encapsulate([_saved(values, "JPEG")]) if syntax == JPEG_BASELINE else values.tobytes()
    made["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()
