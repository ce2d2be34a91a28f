"""Stored DICOM values to a grey picture as a viewer shows it: modality, values of interest, presentation, polarity.

Source: DICOM PS3.3 C.7.6.3, C.7.5.1.1.2 (padding), C.11.1 (modality LUT), C.11.2 (VOI LUT), C.11.6 (presentation LUT).
Affine steps are not applied to the pixels: the window's edges are carried back to the stored values instead.
"""

from typing import Any

import numpy as np

from cxrbench.data.dicom import Stored
from cxrbench.data.grey import FloatArray, Grey, ValueArray, luma, oddities, value_range
from cxrbench.errors import ImageError


def grey(stored: Stored) -> Grey:
    """The frame in MONOCHROME2 polarity with the range that its header asks for; raises ImageError."""
    header, notes = stored.header, list(stored.notes)
    if stored.values.ndim == 3 or header.PhotometricInterpretation == "PALETTE COLOR":
        shown, low, high = _coloured(stored, notes)
        return Grey(shown, low, high, (*notes, *oddities(shown)))
    if not str(header.PhotometricInterpretation).startswith("MONOCHROME"):
        raise ImageError(f"photometric interpretation {header.PhotometricInterpretation!r} with one sample per pixel")
    notes += oddities(stored.values)
    values = _without_padding(stored.values, header, notes)
    values, slope, intercept = _modality(values, header, notes)
    shown, low, high = _of_interest(values, slope, intercept, header, notes)
    if stored.inverted != (slope < 0 and shown is values):
        shown, low, high = _negative(shown, low, high)
    return Grey(shown, low, high, tuple(notes))


def _coloured(stored: Stored, notes: list[str]) -> tuple[ValueArray, float, float]:
    from pydicom.pixels import apply_color_lut

    colours = stored.values if stored.values.ndim == 3 else apply_color_lut(stored.values, stored.header)
    shown, remarks = luma(np.asarray(colours))
    notes += remarks
    return shown, 0.0, float(np.iinfo(colours.dtype).max)


def _without_padding(values: ValueArray, header: Any, notes: list[str]) -> ValueArray:
    """Values whose PixelPaddingValue is replaced by the darkest value of the picture itself."""
    if header.get("PixelPaddingValue") is None:
        return values
    first = int(header.PixelPaddingValue)
    last = int(header.get("PixelPaddingRangeLimit") or first)
    padded = (values >= min(first, last)) & (values <= max(first, last))
    if not padded.any() or padded.all():
        return values
    notes.append(f"{padded.mean():.1%} of the pixels are padding and were made dark")
    rest = values[~padded]
    bright_is_small = header.PhotometricInterpretation == "MONOCHROME1"
    return np.where(padded, rest.max() if bright_is_small else rest.min(), values)


def _modality(values: ValueArray, header: Any, notes: list[str]) -> tuple[ValueArray, float, float]:
    """Values with the slope and intercept still to be applied; a modality LUT is applied at once."""
    if header.get("ModalityLUTSequence"):
        return _looked_up(values, header.ModalityLUTSequence[0]), 1.0, 0.0
    slope = header.get("RescaleSlope")
    intercept = header.get("RescaleIntercept")
    slope, intercept = float(1 if slope in (None, "") else slope), float(intercept or 0)
    if slope == 0 or not np.isfinite([slope, intercept]).all():
        notes.append(f"RescaleSlope {slope:g} would wipe out the picture: ignored")
        return values, 1.0, 0.0
    return values, slope, intercept


def _looked_up(values: ValueArray, table: Any) -> ValueArray:
    """Values through one item of a LUT sequence; those outside take the first or last entry (PS3.3 C.11.1.1)."""
    entries, first, bits = (int(n) for n in table.LUTDescriptor)
    data = table.LUTData
    if isinstance(data, bytes):
        data = np.frombuffer(data, "<u2" if len(data) >= 2 * (entries or 65536) else "u1")
    lut = np.asarray(data, dtype=np.uint16)
    if lut.size == 0 or bits < 1:
        raise ImageError("a lookup table without entries")
    if first > 32767 and values.dtype.kind == "i":
        first -= 65536  # the descriptor's second value is signed where the pixels are
    return lut[np.clip(np.rint(values.astype(np.float64)).astype(np.int64) - first, 0, lut.size - 1)]


def _of_interest(
    values: ValueArray, slope: float, intercept: float, header: Any, notes: list[str]
) -> tuple[ValueArray, float, float]:
    """Values and their range: VOI LUT, else the first window, else 0..255 for 8 bits, else least to greatest."""
    if header.get("VOILUTSequence"):
        rescaled = values * slope + intercept if (slope, intercept) != (1.0, 0.0) else values
        shown = _looked_up(rescaled, header.VOILUTSequence[0])
        return shown, *value_range(shown)
    centre, width = _first(header.get("WindowCenter")), _first(header.get("WindowWidth"))
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
    least, greatest = value_range(values)
    if centre is not None and width is not None and (width > 0 if function != "LINEAR" else width >= 1):
        if function == "SIGMOID":
            return _sigmoid(values * slope + intercept, centre, width), 0.0, 1.0
        low, high = sorted((edge - intercept) / slope for edge in _edges(centre, width, function))
        if low < greatest and high > least:
            return values, low, high if high > low else low + 1e-6
        notes.append(f"the window {centre:g}/{width:g} shows nothing of the picture: ignored")
    if values.dtype == np.uint8:
        return values, 0.0, 255.0
    return values, least, greatest


def _first(value: Any) -> float | None:
    """The first of a header's numbers; None where there is none or it is not finite."""
    if value is None or value == "":
        return None
    number = float(value if isinstance(value, (int, float, str)) else value[0] if len(value) else "nan")
    return number if np.isfinite(number) else None


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
