"""DICOM files: the stored values of the first frame, and the header facts that decide how they are shown."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrbench.errors import ImageError
from cxrbench.images import bits, compressed
from cxrbench.images.grey import ValueArray, check_size
from cxrbench.images.header import OVERLAYS, assumed, is_dicom, name_of, number, put, read, required, text

__all__ = ["Stored", "is_dicom", "stored"]

FLOATS = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


@dataclass(frozen=True, slots=True)
class Stored:
    """The first frame as stored: `values` (H, W), or (H, W, 3) red, green, blue; `header` a pydicom Dataset.

    `labelled` is what the released reader makes of it: the same, but where it follows a header that is wrong about the
    sign. `inverted`: small values are bright (MONOCHROME1, or PresentationLUTShape INVERSE, which DX writes beside it).
    """

    values: ValueArray
    header: Any
    notes: tuple[str, ...]
    labelled: ValueArray
    inverted: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the header says of the pixels; `allocated` in bits."""

    rows: int
    columns: int
    samples: int
    allocated: int
    frames: int

    @property
    def size(self) -> int:
        """Bytes of one frame without compression."""
        return self.rows * self.columns * self.samples * (self.allocated // 8)


def stored(data: bytes, reference: bool = False) -> Stored:
    """Decode the first frame; `reference` takes pydicom's own route for every syntax (same values, slower).

    Raises ImageError or whatever pydicom and its decoders raise on malformed bytes: call within `refusing`.
    """
    notes: list[str] = []
    header = read(data, notes)
    layout = _layout(header, notes)
    found = _floats(header, layout, notes) if "PixelData" not in header else _whole(header, layout, reference, notes)
    inverted = header.PhotometricInterpretation == "MONOCHROME1"
    inverted |= text(header, "PresentationLUTShape", notes) == "INVERSE"
    return Stored(found.values, header, tuple(notes), found.labelled, inverted)


def _layout(header: Any, notes: list[str]) -> _Layout:
    rows, columns, allocated = (required(header, tag) for tag in ("Rows", "Columns", "BitsAllocated"))
    check_size(columns, rows)
    _check_photometric(header, notes)
    samples = assumed(header, "SamplesPerPixel", 1, notes)
    if samples not in (1, 3):
        raise ImageError(f"DICOM with {samples} samples per pixel: 1 and 3 are read")
    if samples == 3:
        assumed(header, "PlanarConfiguration", 0, notes)
    return _Layout(rows, columns, samples, allocated, _frames(header, notes))


def _check_photometric(header: Any, notes: list[str]) -> None:
    tag = "PhotometricInterpretation"
    meant = text(header, tag, notes)
    if not meant:
        raise ImageError(f"DICOM without {tag}, or with a malformed one: its pixels cannot be told")
    if header.PhotometricInterpretation != meant:
        notes.append(f"{tag} is written {header.PhotometricInterpretation!r}: read as {meant}")
        header.PhotometricInterpretation = meant


def _frames(header: Any, notes: list[str]) -> int:
    told = number(header, "NumberOfFrames", notes)
    frames = 1 if told is None else int(told)
    if frames > 1:
        notes.append(f"{frames} frames: the first was taken")
    if told is not None and frames < 1:
        notes.append(f"NumberOfFrames is {frames}: one frame was taken")
    if "NumberOfFrames" in header:
        put(header, "NumberOfFrames", max(frames, 1))
    return max(frames, 1)


def _whole(header: Any, layout: _Layout, reference: bool, notes: list[str]) -> bits.Read:
    """PixelData, compressed or not."""
    if layout.allocated not in (8, 16, 32):
        raise ImageError(f"DICOM with BitsAllocated {layout.allocated}: 8, 16 and 32 are read")
    field = _field(header, layout, notes)
    syntax = compressed.syntax_of(header, layout.size * layout.frames, notes)
    single, signed_stream = layout.samples == 1, False
    if compressed.is_compressed(syntax) and syntax != compressed.RLE:
        values, facts = compressed.decoded(header, syntax, single, reference, notes)
        if facts.kind == "JPEG" and facts.bits == 8:
            values = values.view(np.uint8)  # unsigned by its own standard, whatever the header says
            return bits.Read(values, values)
        signed_stream = facts.signed
        stored_bits = min(field.bits, facts.bits) if field.bits > 0 else facts.bits
        field = bits.Field(stored_bits, stored_bits - 1, field.signed, signed_stream, field.overlays)
    else:
        values = _plain(header, layout, syntax, reference, notes)
    if values.ndim != 2:
        return bits.Read(values, values)
    found = bits.read(values, field)
    notes += found.notes
    return found


def _field(header: Any, layout: _Layout, notes: list[str]) -> bits.Field:
    signed = assumed(header, "PixelRepresentation", 0, notes)
    high = number(header, "HighBit", notes)
    likely = layout.allocated if high is None or not 0 <= high < layout.allocated else int(high) + 1
    stored_bits = assumed(header, "BitsStored", likely, notes)
    overlays = _overlays(header, layout.allocated, notes)
    return bits.Field(stored_bits, stored_bits - 1 if high is None else int(high), bool(signed), overlays=overlays)


def _overlays(header: Any, allocated: int, notes: list[str]) -> tuple[int, ...]:
    """The bits of each word that the header gives to overlays."""
    found = {tag: number(header, tag, notes) for tag in OVERLAYS}
    told = {tag: bit for tag, bit in found.items() if bit is not None}
    wrong = {tag: bit for tag, bit in told.items() if not (bit.is_integer() and 0 <= bit < allocated)}
    notes += [f"{name_of(tag)} is {bit:g}, no bit of {allocated}: ignored" for tag, bit in wrong.items()]
    return tuple(int(bit) for tag, bit in told.items() if tag not in wrong)


def _plain(header: Any, layout: _Layout, syntax: str, reference: bool, notes: list[str]) -> ValueArray:
    """Uncompressed or run-length encoded samples."""
    if syntax != compressed.RLE:
        notes += _check_length(len(header.PixelData), header, layout)
        if layout.samples == 1 and header.original_encoding[1] and not reference:
            dtype = np.dtype(f"<u{layout.allocated // 8}")
            values = np.frombuffer(header.PixelData, dtype, count=layout.rows * layout.columns)
            return values.reshape(layout.rows, layout.columns)
    return compressed.by_pydicom(header, syntax, layout.samples == 1)


def _check_length(found: int, header: Any, layout: _Layout) -> list[str]:
    """Notes on pixel data longer than the header says; raises ImageError if they are shorter."""
    wanted = layout.size * layout.frames
    if found < wanted and header.PhotometricInterpretation != "YBR_FULL_422":
        raise ImageError(f"pixel data are {found:,} bytes, the header promises {wanted:,}: cut off. Get a fresh copy.")
    return [f"{found - wanted:,} bytes behind the pixels"] if found > wanted + 1 else []


def _floats(header: Any, layout: _Layout, notes: list[str]) -> bits.Read:
    """FloatPixelData or DoubleFloatPixelData, one sample per pixel (PS3.3 C.7.6.24)."""
    tag, kind = next((tag, kind) for tag, kind in FLOATS.items() if tag in header)
    width = int(kind[1:])
    if layout.samples != 1 or layout.allocated != 8 * width:
        raise ImageError(f"{tag} with BitsAllocated {layout.allocated} and {layout.samples} samples: cannot be told")
    notes += _check_length(len(header[tag].value), header, layout)
    order = "<" if header.original_encoding[1] else ">"
    values = np.frombuffer(header[tag].value, f"{order}{kind}", count=layout.rows * layout.columns)
    if not np.isfinite(values).all():
        raise ImageError("holds pixels that are NaN or infinite")
    values = values.reshape(layout.rows, layout.columns).astype(kind)
    return bits.Read(values, values)
