"""DICOM files: the stored values of the first frame, and the header facts that decide how they are shown."""

import io
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from cxrbench.data import codestream
from cxrbench.data.grey import PIXEL_LIMIT, ValueArray, check_size
from cxrbench.errors import ImageError

TAGS = (
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "NumberOfFrames"),
    *("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData"),
    *("RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "VOILUTSequence", "VOILUTFunction"),
    *("WindowCenter", "WindowWidth", "PresentationLUTShape", "PixelPaddingValue", "PixelPaddingRangeLimit"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *(f"{colour}PaletteColorLookupTableDescriptor" for colour in ("Red", "Green", "Blue")),
    *(f"{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
    *(f"Segmented{colour}PaletteColorLookupTableData" for colour in ("Red", "Green", "Blue")),
)
REQUIRED = ("Rows", "Columns", "BitsAllocated", "PhotometricInterpretation")
DEFLATED = "1.2.840.10008.1.2.1.99"
BASELINE = "1.2.840.10008.1.2.4.50"
RLE = "1.2.840.10008.1.2.5"
BY_OPENJPEG = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203))
BY_GDCM = frozenset(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81))

FIRST_ELEMENTS = frozenset(bytes((n, 0)) for n in (0x00, 0x01, 0x05, 0x08, 0x12, 0x16, 0x18))


@dataclass(frozen=True, slots=True)
class Stored:
    """The first frame as stored: `values` (H, W), or (H, W, 3) red, green, blue; `header` a pydicom Dataset of TAGS."""

    values: ValueArray
    header: Any
    notes: tuple[str, ...]

    @property
    def inverted(self) -> bool:
        """Whether small values are bright: MONOCHROME1, or PresentationLUTShape INVERSE (which DX writes beside it)."""
        shape = str(self.header.get("PresentationLUTShape", "")).strip().upper()
        return self.header.PhotometricInterpretation == "MONOCHROME1" or shape == "INVERSE"


def is_dicom(data: bytes) -> bool:
    """Whether the bytes are DICOM: the mark after the preamble, or a first element such as old files begin with."""
    if data[128:132] == b"DICM":
        return True
    group, element = data[:2], data[2:4]
    return group in (b"\x02\x00", b"\x08\x00") and element in FIRST_ELEMENTS


def stored(data: bytes, reference: bool = False) -> Stored:
    """Decode the first frame; `reference` takes pydicom's own route for every syntax (same values, slower).

    Raises ImageError or whatever pydicom and its decoders raise on malformed bytes: call within `refusing`.
    """
    header = _header(data)
    _check(header)
    frames = int(header.get("NumberOfFrames") or 1)
    notes = [f"{frames} frames: the first was taken"] if frames > 1 else []
    if header.get("NumberOfFrames") is not None and int(header.NumberOfFrames) < 1:
        notes.append("NumberOfFrames is 0: one frame was taken")
        header.NumberOfFrames = 1
    notes += _check_length(header, frames)
    values = _decoded(header, reference)
    if values.ndim == 2:
        values, remarks = _bit_field(values, header)
        notes += remarks
    return Stored(values, header, tuple(notes))


def _header(data: bytes) -> Any:
    import pydicom

    _check_deflated(data)
    return pydicom.dcmread(io.BytesIO(data), specific_tags=list(TAGS), force=data[128:132] != b"DICM")


def _check_deflated(data: bytes) -> None:
    """Raise ImageError if a deflated data set would swell beyond any picture: pydicom inflates without a limit."""
    if DEFLATED.encode() not in data[132:1024] or data[132:136] != b"\x02\x00\x00\x00":
        return
    start = 144 + int.from_bytes(data[140:144], "little")  # group length, PS3.10 section 7.1
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    inflater.decompress(data[start:], 4 * PIXEL_LIMIT)
    if inflater.unconsumed_tail:
        raise ImageError(f"the deflated data set swells beyond {4 * PIXEL_LIMIT:,} bytes")


def _check(header: Any) -> None:
    if "PixelData" not in header:
        kind = getattr(header.get("SOPClassUID", ""), "name", "") or "no SOP class"
        raise ImageError(f"DICOM without pixel data ({kind}): a report, or cut in the header")
    absent = [tag for tag in REQUIRED if header.get(tag) in (None, "")]
    if absent:
        raise ImageError(f"DICOM without {', '.join(absent)}: its pixels cannot be told")
    check_size(int(header.Columns), int(header.Rows))
    if (header.get("SamplesPerPixel") or 1) not in (1, 3):
        raise ImageError(f"DICOM with {header.SamplesPerPixel} samples per pixel: 1 and 3 are read")
    if header.BitsAllocated not in (8, 16, 32):
        raise ImageError(f"DICOM with BitsAllocated {header.BitsAllocated}: 8, 16 and 32 are read")


def _syntax(header: Any) -> str:
    """Transfer syntax UID; implicit little endian where the file has no meta information."""
    uid = header.file_meta.get("TransferSyntaxUID") if hasattr(header, "file_meta") else None
    return str(uid or ("1.2.840.10008.1.2" if header.original_encoding[0] else "1.2.840.10008.1.2.1"))


def _encapsulated(syntax: str) -> bool:
    return syntax.startswith("1.2.840.10008.1.2.4.") or syntax == RLE


def _check_length(header: Any, frames: int) -> list[str]:
    """Notes on pixel data longer than the header says; raises ImageError if they are shorter."""
    if _encapsulated(_syntax(header)):
        return []
    samples = int(header.get("SamplesPerPixel") or 1)
    wanted = int(header.Rows) * int(header.Columns) * samples * (int(header.BitsAllocated) // 8) * max(frames, 1)
    found = len(header.PixelData)
    if found < wanted and header.PhotometricInterpretation != "YBR_FULL_422":
        raise ImageError(f"pixel data are {found:,} bytes, the header promises {wanted:,}: cut off. Get a fresh copy.")
    return [f"{found - wanted:,} bytes behind the pixels"] if found > wanted + 1 else []


def _decoded(header: Any, reference: bool) -> ValueArray:
    syntax = _syntax(header)
    single = int(header.get("SamplesPerPixel") or 1) == 1
    if _encapsulated(syntax) and syntax != RLE:
        frame = _frame(header, syntax)
        if syntax == BASELINE and single and header.BitsAllocated == 8 and not reference:
            return _by_pillow(frame)
    elif single and header.original_encoding[1] and not reference and syntax != RLE:
        return _by_numpy(header)
    return _by_pydicom(header, syntax, single)


def _frame(header: Any, syntax: str) -> bytes:
    """The first compressed frame, once its own size has been found to be that of the header."""
    from pydicom.encaps import get_frame
    from pydicom.uid import UID

    if syntax not in BY_GDCM | BY_OPENJPEG:
        raise ImageError(f"transfer syntax {UID(syntax).name} ({syntax}) is not a still picture that can be decoded")
    offsets = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    frame = get_frame(
        header.PixelData,
        0,
        extended_offsets=offsets if all(offsets) else None,
        number_of_frames=int(header.get("NumberOfFrames") or 1),
    )
    found, wanted = codestream.size(frame), (int(header.Columns), int(header.Rows))
    if found != wanted:
        raise ImageError("the compressed picture has {} x {} pixels, the header {} x {}".format(*found, *wanted))
    return frame


def _by_pillow(frame: bytes) -> ValueArray:
    # JPEG baseline: libjpeg-turbo gives what gdcm gives, four times as fast; pylibjpeg is off by a grey level.
    image = Image.open(io.BytesIO(frame), formats=("JPEG",))
    values = np.asarray(image)
    if values.ndim != 2:
        raise ImageError(f"the compressed picture has mode {image.mode}, the header says one sample per pixel")
    return values


def _by_numpy(header: Any) -> ValueArray:
    kind = "i" if int(header.get("PixelRepresentation") or 0) else "u"
    rows, columns = int(header.Rows), int(header.Columns)
    dtype = np.dtype(f"<{kind}{int(header.BitsAllocated) // 8}")
    return np.frombuffer(header.PixelData, dtype, count=rows * columns).reshape(rows, columns)


def _by_pydicom(header: Any, syntax: str, single: bool) -> ValueArray:
    """First frame by pydicom's decoder; several samples come as RGB."""
    from pydicom.pixels import get_decoder

    for tag, value in (("PixelRepresentation", 0), ("SamplesPerPixel", 1), ("BitsStored", header.BitsAllocated)):
        if header.get(tag) is None:
            setattr(header, tag, value)
    # Named plugins: which one pydicom would pick depends on what is installed, and some differ by a grey level.
    decoder = get_decoder(syntax)
    plugin = "pylibjpeg" if syntax in BY_OPENJPEG else "gdcm" if syntax in BY_GDCM else ""
    if plugin and plugin not in decoder.available_plugins:
        package = "pylibjpeg and pylibjpeg-openjpeg" if plugin == "pylibjpeg" else "python-gdcm"
        raise ImageError(f"{decoder.UID.name} needs a decoder: pip install {package}")
    values, _ = decoder.as_array(header, index=0, raw=single, decoding_plugin=plugin, correct_unused_bits=bool(plugin))
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))


def _bit_field(values: ValueArray, header: Any) -> tuple[ValueArray, list[str]]:
    """Values freed from unused bits, with notes: a shift where HighBit says so, sign extension where it is missing."""
    allocated = values.dtype.itemsize * 8
    stored_bits = int(header.get("BitsStored") or allocated)
    if not 0 < stored_bits < allocated:
        return values, _wrapped(values)
    spare = int(header.get("HighBit", stored_bits - 1)) + 1 - stored_bits
    if spare > 0:
        return values >> spare, [f"HighBit {header.HighBit} for {stored_bits} bits stored: shifted by {spare}"]
    if values.dtype.kind == "i":
        free = allocated - stored_bits
        return (values << free) >> free, []
    if int(values.max()) >> stored_bits:
        return values, [f"values up to {values.max()} although BitsStored is {stored_bits}: the header was ignored"]
    return values, []


def _wrapped(values: ValueArray) -> list[str]:
    """A note if neighbours of signed values jump by over half of the range, as unsigned ones taken for signed do."""
    if values.dtype.kind != "i" or values.min() >= 0:
        return []
    half = 2 ** (values.dtype.itemsize * 8 - 1)
    jumps = np.abs(np.diff(values.astype(np.int64), axis=1)) > half
    share = float(jumps.mean()) if jumps.size else 0.0
    return [f"{share:.1%} of neighbours jump over half of the range: signed by mistake?"] if share > 0.002 else []
