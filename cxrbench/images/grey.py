"""What every reader of this folder hands over: one grey picture, air dark, and the range that its values span."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import ImageError, UnreadableError
from cxrbench.system.contained import of_machine, shortage

FloatArray = NDArray[np.float64]
ValueArray = NDArray[Any]  # whatever integer or float type the file stores

PIXEL_LIMIT = 80_000_000  # the largest radiographs of the seven data sets have about 15 million pixels
TINY = 16  # pixels; a side below it shows no chest
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in JPEG


@dataclass(frozen=True, slots=True)
class Grey:
    """A grey picture in MONOCHROME2 polarity (air dark, bone bright).

    `values` (H, W) float64 or any integer type; `low` is shown black and `high` white, `low < high`; values outside
    are clipped. `notes` tell what was odd about the file: the picture may be looked at, but not without a word.
    """

    values: ValueArray
    low: float
    high: float
    notes: tuple[str, ...] = ()

    @property
    def unit(self) -> FloatArray:
        """(H, W) float64 on 0..1."""
        return (np.clip(self.values.astype(np.float64), self.low, self.high) - self.low) / (self.high - self.low)


@contextmanager
def refusing(name: str) -> Iterator[None]:
    """Turn whatever a decoder throws at malformed bytes into an ImageError that names the file and the reason.

    What the machine lacks, such as memory, is no fault of the bytes: an UnreadableError.

    Decoders of hostile input raise nearly any type (struct.error, KeyError, MemoryError, RecursionError, ...), so this
    and `ignoring` are the two places that catch them all; the original stays attached as the cause.
    """
    try:
        yield
    except ImageError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise ImageError(f"{name}: {error}") from error.__cause__
    except UnreadableError:
        raise
    except RecursionError as error:
        raise ImageError(f"{name}: its header is nested deeper than any radiograph's. Leave it out.") from error
    except Exception as error:
        if of_machine(error):
            raise UnreadableError(Path(name), shortage(error)) from error
        reason = _reason(error)
        raise ImageError(f"{name}: cannot be decoded: {reason}. Get a fresh copy, or leave it out.") from error


@contextmanager
def ignoring(tag: str, notes: list[str]) -> Iterator[None]:
    """Turn a failure over one part of a header that a picture can do without into a note that names it."""
    try:
        yield
    except (ImageError, RecursionError):
        raise
    except Exception as error:
        if of_machine(error):
            raise
        notes.append(f"{tag} is malformed ({_reason(error)[:120]}): ignored")


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def check_size(width: int, height: int) -> None:
    """Raise ImageError for sizes that no radiograph has, before anything of that size is allocated."""
    if width < 1 or height < 1:
        raise ImageError(f"the header gives {width} x {height} pixels: no picture")
    if width * height > PIXEL_LIMIT:
        raise ImageError(f"the header claims {width} x {height} pixels, more than the limit of {PIXEL_LIMIT:,}")


def value_range(values: ValueArray) -> tuple[float, float]:
    """Least and greatest value, the second raised by 1 where they are equal so that nothing divides by zero."""
    low, high = float(values.min()), float(values.max())
    return low, high if high > low else low + 1.0


def luma(colours: ValueArray) -> tuple[ValueArray, tuple[str, ...]]:
    """Grey values of (H, W, 3) red, green, blue, and a note if the picture is truly coloured.

    Equal channels are returned untouched, in their own type; others as float64 luma on the same scale.
    """
    red, green, blue = colours[..., 0], colours[..., 1], colours[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return np.ascontiguousarray(red), ()
    wide = colours.astype(np.float64)
    scale = np.iinfo(colours.dtype).max if colours.dtype.kind in "iu" else 1.0
    chroma = float((wide.max(axis=-1) - wide.min(axis=-1)).mean()) / scale
    notes = ("the picture is coloured: is it a radiograph?",) if chroma > 0.03 else ()  # JPEG and CMYK rounding: < 0.01
    return wide @ np.asarray(LUMA), notes


def oddities(values: ValueArray) -> tuple[str, ...]:
    """Notes on a decoded picture that shows nothing: constant, or a few pixels."""
    height, width = values.shape
    notes = [f"only {width} x {height} pixels"] if min(height, width) < TINY else []
    if values.min() == values.max():
        notes.append(f"every pixel has the value {values.flat[0]}")
    return tuple(notes)
