"""The header of a DICOM file: read within bounds, its facts one by one, required ones by name or not at all."""

import io
import math
import zlib
from typing import Any

from cxrbench.data.grey import PIXEL_LIMIT, ignoring
from cxrbench.errors import ImageError

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
TAGS = (
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", *PIXELS),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "PresentationLUTShape", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue", "ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)
OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
OVERLAYS = tuple((group << 16) + 0x0102 for group in OVERLAY_GROUPS)  # OverlayBitPosition
FIRST_ELEMENTS = frozenset(bytes((n, 0)) for n in (0x00, 0x01, 0x05, 0x08, 0x12, 0x16, 0x18))
DEFLATED = "1.2.840.10008.1.2.1.99"
READS = 400_000  # some two seconds of parsing; a radiograph's header takes a few hundred
ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
ENDLESS = tuple(b"\xe0\x7f\x10\x00" + kind + b"\xff\xff\xff\xff" + ITEM for kind in (b"OB\0\0", b"OW\0\0", b""))


class _Bounded(io.BytesIO):
    """Bytes that refuse to be read in endlessly many pieces, as a header of a million elements is."""

    _left = READS

    def read(self, size: int | None = -1, /) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise ImageError("its header has more elements than any radiograph's. Leave it out.")
        return super().read(size)


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are DICOM: the mark after the preamble, or a first element such as old files begin with."""
    if data[128:132] == b"DICM":
        return True
    group, element = data[:2], data[2:4]
    return group in (b"\x02\x00", b"\x08\x00") and element in FIRST_ELEMENTS


def read(data: bytes, notes: list[str]) -> Any:
    """A pydicom Dataset of TAGS and OVERLAYS; raises ImageError if there are no pixels, or whatever pydicom raises."""
    _check_deflated(data)
    header = _parsed(data)
    if not any(tag in header for tag in PIXELS) and any(start in data for start in ENDLESS):
        header = _parsed(data + SEQUENCE_END)
        notes.append("the compressed frames lack their end mark")
    if not any(tag in header for tag in PIXELS):
        kind = getattr(header.get("SOPClassUID", ""), "name", "") or "no SOP class"
        raise ImageError(f"DICOM without pixel data ({kind}): a report, or cut in the header")
    return header


def _parsed(data: bytes) -> Any:
    import pydicom

    return pydicom.dcmread(_Bounded(data), specific_tags=[*TAGS, *OVERLAYS], force=data[128:132] != b"DICM")


def _check_deflated(data: bytes) -> None:
    """Raise ImageError if a deflated data set would swell beyond any picture: pydicom inflates without a limit."""
    if DEFLATED.encode() not in data[132:1024] or data[132:136] != b"\x02\x00\x00\x00":
        return
    start = 144 + int.from_bytes(data[140:144], "little")  # group length, PS3.10 section 7.1
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(data[start:], 4 * PIXEL_LIMIT)
    if inflater.unconsumed_tail:
        raise ImageError(f"the deflated data set swells beyond {4 * PIXEL_LIMIT:,} bytes")


def required(header: Any, tag: str) -> int:
    """A whole number without which the pixels cannot be told; raises ImageError with the tag's name."""
    problems: list[str] = []
    with ignoring(tag, problems):
        value = header.get(tag)
        if value is None or value == "":
            raise ImageError(f"DICOM without {tag}: its pixels cannot be told")
        return int(value)
    raise ImageError(f"DICOM with a malformed {tag}: its pixels cannot be told. Get a fresh copy, or leave it out.")


def assumed(header: Any, tag: str, value: int, notes: list[str]) -> int:
    """A whole number that has one sane value where it is missing, which is then noted and put into the header."""
    if header.get(tag) is None:
        notes.append(f"{tag} is missing: {value} was assumed")
        setattr(header, tag, value)
    return required(header, tag)


def number(header: Any, tag: str, notes: list[str]) -> float | None:
    """The first value of an optional number; None where it is missing, or malformed, which is noted."""
    with ignoring(tag, notes):
        value = header.get(tag)
        if value is None or value == "":
            return None
        if not isinstance(value, int | float | str):
            if not len(value):
                return None
            value = value[0]
        found = float(value)
        if not math.isfinite(found):
            raise ValueError(f"it is {found}")
        return found
    return None


def text(header: Any, tag: str, notes: list[str]) -> str:
    """An optional code in capitals; "" where it is missing or malformed, which is noted."""
    with ignoring(tag, notes):
        return str(header.get(tag) or "").strip(" \0").upper()
    return ""
