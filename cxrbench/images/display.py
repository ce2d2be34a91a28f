"""Stored DICOM values to a grey picture as a viewer shows it: modality, values of interest, presentation, polarity.

Source: DICOM PS3.3 C.7.6.3, C.7.5.1.1.2 (padding), C.11.1 (modality LUT), C.11.2 (VOI LUT), C.11.6 (presentation LUT).
Affine steps are not applied to the pixels: the window's edges are carried back to the stored values instead.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrbench.errors import ImageError
from cxrbench.images.dicom import StoredValues
from cxrbench.images.grey import FloatArray, Grey, ValueArray, ignoring, luma, oddities, value_range
from cxrbench.images.header import number, sequence, text

FUNCTIONS = ("LINEAR", "LINEAR_EXACT", "SIGMOID")
LARGEST = 2 << 16  # bytes of a lookup table
PADDING = ("PixelPaddingValue", "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue")


def grey(stored: StoredValues) -> Grey:
    """The frame in MONOCHROME2 polarity with the range that its header asks for; raises ImageError."""
    header, notes = stored.header, list(stored.notes)
    if stored.values.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR":
        shown, low, high = _coloured(stored, notes)
        return Grey(shown, low, high, (*notes, *oddities(shown)))
    if header.PhotometricInterpretation not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(f"photometric interpretation {header.PhotometricInterpretation!r} with one sample per pixel")
    notes += oddities(stored.values)
    values = _without_padding(stored.values, header, notes)
    values, slope, intercept = _modality(values, header, notes)
    shown, low, high = _of_interest(values, slope, intercept, header, notes)
    if stored.inverted != (slope < 0 and shown is values):
        shown, low, high = _negative(shown, low, high)
    return Grey(shown, low, high, tuple(notes))


def _coloured(stored: StoredValues, notes: list[str]) -> tuple[ValueArray, float, float]:
    from pydicom.pixels import apply_color_lut

    colours = stored.values if stored.values.ndim == 3 else apply_color_lut(stored.values, stored.header)
    shown, remarks = luma(np.asarray(colours))
    notes += remarks
    return shown, 0.0, float(np.iinfo(colours.dtype).max)


def _without_padding(values: ValueArray, header: Any, notes: list[str]) -> ValueArray:
    """Values whose PixelPaddingValue is replaced by the darkest value of the picture itself."""
    found = [n for tag in PADDING if (n := number(header, tag, notes)) is not None]
    if not found:
        return values
    first = found[0]
    limit = number(header, "PixelPaddingRangeLimit", notes)
    last = first if limit is None else limit
    padded = (values >= min(first, last)) & (values <= max(first, last))
    if not padded.any() or padded.all():
        return values
    notes.append(f"{padded.mean():.1%} of the pixels are padding and were made dark")
    rest = values[~padded]
    bright_is_small = header.PhotometricInterpretation == "MONOCHROME1"
    return np.where(padded, rest.max() if bright_is_small else rest.min(), values)


def _modality(values: ValueArray, header: Any, notes: list[str]) -> tuple[ValueArray, float, float]:
    """Values with the slope and intercept still to be applied; a modality LUT is applied at once."""
    table = _table(header, "ModalityLUTSequence", notes)
    if table is not None:
        return _looked_up(values, table), 1.0, 0.0
    noted = len(notes)
    slope = number(header, "RescaleSlope", notes)
    intercept = number(header, "RescaleIntercept", notes)
    slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
    if len(notes) > noted:
        return values, 1.0, 0.0
    if slope == 0:
        notes.append(f"RescaleSlope {slope:g} would wipe out the picture: ignored")
        return values, 1.0, 0.0
    return values, slope, intercept


@dataclass(frozen=True, slots=True)
class _Table:
    """A lookup table: `entries`, the first of which stands for the value `first`."""

    entries: ValueArray
    first: int


def _table(header: Any, tag: str, notes: list[str]) -> _Table | None:
    """The first table of a LUT sequence (PS3.3 C.11.1.1); None where there is none, or a malformed one, noted."""
    with ignoring(tag, notes):
        items = sequence(header, tag)
        if not items:
            return None
        item = items[0]
        count, first, bits = (int(n) for n in item.LUTDescriptor)
        if len(item.get_item("LUTData").value) > LARGEST:
            raise ValueError("a lookup table of more than 65,536 entries")
        data = item.LUTData
        if isinstance(data, bytes):
            data = np.frombuffer(data, "<u2" if len(data) >= 2 * (count or 65536) else "u1")
        entries = np.asarray(data, dtype=np.uint16)
        if entries.size == 0 or bits < 1:
            raise ValueError("a lookup table without entries")
        return _Table(entries, first)
    return None


def _looked_up(values: ValueArray, table: _Table) -> ValueArray:
    """Values through a table; those outside take the first or last entry."""
    # The descriptor's second value is signed where the pixels are.
    first = table.first - 65536 if table.first > 32767 and values.dtype.kind == "i" else table.first
    places = np.rint(values.astype(np.float64)).astype(np.int64) - first
    return np.asarray(table.entries[np.clip(places, 0, table.entries.size - 1)])


def _of_interest(
    values: ValueArray, slope: float, intercept: float, header: Any, notes: list[str]
) -> tuple[ValueArray, float, float]:
    """Values and their range: VOI LUT, else the first window, else 0..255 for 8 bits, else least to greatest."""
    table = _table(header, "VOILUTSequence", notes)
    if table is not None:
        rescaled = values * slope + intercept if (slope, intercept) != (1.0, 0.0) else values
        shown = _looked_up(rescaled, table)
        return shown, *value_range(shown)
    least, greatest = value_range(values)
    window = _window(header, notes)
    if window is not None:
        centre, width, function = window
        if function == "SIGMOID":
            return _sigmoid(values * slope + intercept, centre, width), 0.0, 1.0
        low, high = sorted((edge - intercept) / slope for edge in _edges(centre, width, function))
        if low < greatest and high > least:
            return values, low, high if high > low else low + 1e-6
        notes.append(f"the window {centre:g}/{width:g} shows nothing of the picture: ignored")
    if values.dtype == np.uint8:
        return values, 0.0, 255.0
    return values, least, greatest


def _window(header: Any, notes: list[str]) -> tuple[float, float, str] | None:
    """Centre, width and function of the first window; None where there is none that can be applied."""
    centre, width = number(header, "WindowCenter", notes), number(header, "WindowWidth", notes)
    if centre is None or width is None:
        return None
    function = text(header, "VOILUTFunction", notes) or "LINEAR"
    if function not in FUNCTIONS:
        notes.append(f"VOILUTFunction {function!r} is unknown: LINEAR was taken")
        function = "LINEAR"
    if width >= 1 or (width > 0 and function != "LINEAR"):
        return centre, width, function
    if width > 0:
        notes.append(f"WindowWidth {width:g} is below 1, which a linear window must not be: ignored")
    return None


def _edges(centre: float, width: float, function: str) -> tuple[float, float]:
    """Lower and upper edge of a linear window (PS3.3 C.11.2.1.2.1, and C.11.2.1.3.2 for LINEAR_EXACT)."""
    if function == "LINEAR_EXACT":
        return centre - width / 2, centre + width / 2
    return centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2


def _sigmoid(values: FloatArray, centre: float, width: float) -> FloatArray:
    """PS3.3 C.11.2.1.3.1; on 0..1."""
    return 1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0)))


def _negative(values: ValueArray, low: float, high: float) -> tuple[ValueArray, float, float]:
    """The picture with bright and dark exchanged, integers staying integers."""
    if values.dtype.kind == "f":
        return -values, -high, -low
    wide = values if values.dtype.kind == "u" else values.astype(np.int64)
    top = wide.max()
    return top - wide, float(top) - high, float(top) - low
