"""The header of a DICOM file: read within bounds, its facts one by one, required ones by name or not at all."""

import io
import math
import zlib
from functools import cache
from types import TracebackType
from typing import Any

from cxrbench.errors import ImageError
from cxrbench.images.grey import PIXEL_LIMIT, ignoring

READS = 60_000  # about a second of parsing; a radiograph takes some hundreds


class BoundedBytes(io.BytesIO):
    """A file in memory that raises ImageError after READS reads; as a context, also if a library hid that error."""

    _left = READS

    def read(self, size: int | None = -1, /) -> bytes:
        """As io.BytesIO."""
        self._left -= 1
        self._check()
        return super().read(size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._check()

    def _check(self) -> None:
        if self._left < 0:
            raise ImageError("its header has more parts than any radiograph's. Leave it out.")


PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
TAGS = (
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", *PIXELS),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "PresentationLUTShape", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue", *OFFSETS),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)
OVERLAY_GROUPS = range(0x6000, 0x6020, 2)
OVERLAYS = tuple((group << 16) + 0x0102 for group in OVERLAY_GROUPS)  # OverlayBitPosition
FIRST_ELEMENTS = frozenset(bytes((n, 0)) for n in (0x00, 0x01, 0x05, 0x08, 0x12, 0x16, 0x18))
DEFLATED = "1.2.840.10008.1.2.1.99"
ITEMS = 1000  # of a sequence; one is used
LONGEST = 10_240  # bytes; several hundred windows
ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"
BIG_ENDIAN_ITEM = b"\xff\xfe\xe0\x00"
ENDLESS = tuple(b"\xe0\x7f\x10\x00" + kind + b"\xff\xff\xff\xff" + ITEM for kind in (b"OB\0\0", b"OW\0\0", b""))


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
    _check_offsets(header, notes)
    return header


def _check_offsets(header: Any, notes: list[str]) -> None:
    """Take the tables of the frames' places away unless both can be ones: the frames are found without them."""
    held = [header.get_item(_tag(tag)) for tag in OFFSETS]
    first, second = (b"" if element is None else element.value for element in held)
    sound = isinstance(first, bytes) and isinstance(second, bytes) and len(first) == len(second)
    if sound and first and len(first) % 8 == 0 and all(element.VR in ("OV", "OB", "UN", None) for element in held):
        return
    for tag, element in zip(OFFSETS, held, strict=True):
        if element is not None:
            notes += [f"{tag} is malformed: ignored"] if element.value else []
            del header[_tag(tag)]


def _parsed(data: bytes) -> Any:
    import pydicom

    with BoundedBytes(data) as file:
        return pydicom.dcmread(file, specific_tags=[*TAGS, *OVERLAYS], force=data[128:132] != b"DICM")


def _check_deflated(data: bytes) -> None:
    """Raise ImageError if a deflated data set would swell beyond any picture: pydicom inflates without a limit."""
    if DEFLATED.encode() not in data[132:1024] or data[132:136] != b"\x02\x00\x00\x00":
        return
    start = 144 + int.from_bytes(data[140:144], "little")  # group length, PS3.10 section 7.1
    inflater, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), data[start:], 0
    while rest:
        size += len(inflater.decompress(rest, 1 << 20))
        rest = inflater.unconsumed_tail
        if size > 2 * PIXEL_LIMIT:
            raise ImageError(f"the deflated data set swells beyond {2 * PIXEL_LIMIT:,} bytes")


def sequence(header: Any, tag: str) -> Any:
    """The items of a sequence, None where there are none; raises ValueError if they are absurdly many.

    pydicom takes its time over each, and those of a sequence of known length are parsed only now.
    """
    element = header.get_item(_tag(tag))
    raw = b"" if element is None else element.value
    if isinstance(raw, bytes) and raw.count(ITEM) + raw.count(BIG_ENDIAN_ITEM) > ITEMS:
        raise ValueError(f"it has over {ITEMS} items")
    return header.get(tag)


@cache
def _tag(tag: str | int) -> Any:
    from pydicom.tag import Tag

    return Tag(tag)


def name_of(tag: str | int) -> str:
    """The keyword by which notes and errors name a tag; one that many groups have, with its group."""
    from pydicom.datadict import keyword_for_tag

    return tag if isinstance(tag, str) else f"{keyword_for_tag(tag)} of group {tag >> 16:04X}"


def put(header: Any, tag: str, value: int) -> None:
    """Let a tag hold this number, whatever kind of element it was."""
    element = _tag(tag)
    if element in header:
        del header[element]
    setattr(header, tag, value)


def _value(header: Any, tag: str | int) -> Any:
    """What a tag holds, None where it is missing or empty; raises ValueError if it is far longer than it may be.

    pydicom would turn a hundred megabytes of text into numbers one by one.
    """
    element = header.get_item(_tag(tag))
    if element is None or element.value is None:
        return None
    if isinstance(element.value, bytes) and len(element.value) > LONGEST:
        raise ValueError(f"it has {len(element.value):,} bytes")
    value = header[_tag(tag)].value
    return None if value is None or value == "" else value


def require_number(header: Any, tag: str) -> int:
    """A whole number without which the pixels cannot be told; raises ImageError with the tag's name."""
    with ignoring(tag, []):
        value = _value(header, tag)
        if value is None:
            raise ImageError(f"DICOM without {tag}: its pixels cannot be told")
        return int(value)
    raise ImageError(f"DICOM with a malformed {tag}: its pixels cannot be told. Get a fresh copy, or leave it out.")


def number_or_default(header: Any, tag: str, value: int, notes: list[str]) -> int:
    """A whole number that has one sane value where it is missing, which is then noted and put into the header."""
    element = header.get_item(_tag(tag))
    if element is not None and element.value not in (None, b"", ""):
        return require_number(header, tag)
    notes.append(f"{tag} is missing: {value} was assumed")
    put(header, tag, value)
    return value


def _first(header: Any, tag: str | int) -> Any:
    """The first value of a tag; None where there is none."""
    value = _value(header, tag)
    if value is not None and not isinstance(value, int | float | str):
        return value[0] if len(value) else None
    return value


def number(header: Any, tag: str | int, notes: list[str]) -> float | None:
    """The first value of an optional number; None where it is missing, or malformed, which is noted."""
    with ignoring(name_of(tag), notes):
        value = _first(header, tag)
        if value is None:
            return None
        found = float(value)
        if not math.isfinite(found):
            raise ValueError(f"it is {found}")
        return found
    return None


def text(header: Any, tag: str, notes: list[str]) -> str:
    """The first value of an optional code, in capitals; "" where it is missing or malformed, which is noted."""
    with ignoring(tag, notes):
        value = _first(header, tag)
        if value is not None and not isinstance(value, str):
            raise ValueError(f"it is no text but {type(value).__name__}")
        return (value or "").strip(" \0").upper()
    return ""
