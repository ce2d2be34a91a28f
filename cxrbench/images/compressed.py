"""The first frame of compressed DICOM pixel data: found, told by its own content, checked, and decoded."""

import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cxrbench.errors import ImageError
from cxrbench.images import raster
from cxrbench.images.grey import ValueArray
from cxrbench.images.header import ITEM

Kind = Literal["JPEG", "JPEG Lossless", "JPEG-LS", "JPEG 2000"]
JPEG_START, J2K_START, END = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd9"
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF0..SOF15, and JPEG-LS
ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length
OF_MARKER: dict[int, Kind] = {0xC3: "JPEG Lossless", 0xF7: "JPEG-LS"}
FOREIGN = {
    b"\x89PNG": "a PNG file",
    b"BM": "a BMP file",
    b"RIFF": "a WebP file",
    b"\x00\x00\x00\x0c": "a JPEG 2000 file instead of its codestream",
}


@dataclass(frozen=True, slots=True)
class FrameFacts:
    """`bits` a sample has; `signed` is True only where a JPEG 2000 codestream says so, others cannot."""

    kind: Kind
    width: int
    height: int
    bits: int
    signed: bool = False


def codestream_facts(stream: bytes) -> FrameFacts:
    """What a JPEG, JPEG-LS or JPEG 2000 codestream says; raises ImageError if it is none of these or cut.

    Source: ITU-T T.81 annex B, T.87 annex C, T.800 annex A.
    """
    if not stream.startswith((JPEG_START, J2K_START)):
        found = next((words for head, words in FOREIGN.items() if stream.startswith(head)), None)
        start = stream[:4].hex(" ")
        raise ImageError(f"the compressed picture is of another kind than declared ({found or f'begins with {start}'})")
    if not is_whole(stream):
        raise ImageError("the compressed picture is cut off: it lacks its end. Get a fresh copy.")
    if stream.startswith(JPEG_START):
        return _jpeg(stream)
    if len(stream) < 43:
        raise ImageError("the compressed picture has no frame header")
    right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
    return FrameFacts("JPEG 2000", right - left, bottom - top, (stream[42] & 0x7F) + 1, stream[42] > 0x7F)


def is_whole(stream: bytes) -> bool:
    """Whether the end marker is there; fill bytes behind it count for nothing."""
    return stream.rstrip(b"\0\xff").endswith(END)


def _jpeg(stream: bytes) -> FrameFacts:
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            break
        marker = stream[at + 1]
        if marker in FRAME_HEADERS:
            bits, height, width = struct.unpack_from(">B2H", stream, at + 4)
            return FrameFacts(OF_MARKER.get(marker, "JPEG"), width, height, bits)
        if marker == 0xFF:
            at += 1
        elif marker in ALONE:
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", stream, at + 2)[0])
    raise ImageError("the compressed picture has no frame header")


ITEMS = 100_000
EXPLICIT = "1.2.840.10008.1.2.1"
BASELINE, EXTENDED, RLE = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.5"
KINDS: dict[str, Kind] = {
    **dict.fromkeys((BASELINE, EXTENDED), "JPEG"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"), "JPEG Lossless"),
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "JPEG-LS"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)), "JPEG 2000"),
}
OF_KIND: dict[Kind, str] = {
    "JPEG": BASELINE,
    "JPEG Lossless": "1.2.840.10008.1.2.4.57",
    "JPEG-LS": "1.2.840.10008.1.2.4.80",
    "JPEG 2000": "1.2.840.10008.1.2.4.90",
}


def is_compressed(syntax: str) -> bool:
    """Whether a transfer syntax UID means frames in items, whatever kind they are."""
    return syntax.startswith("1.2.840.10008.1.2.4.") or syntax == RLE


def name_of(syntax: str) -> str:
    """What the standard calls a transfer syntax."""
    from pydicom.uid import UID

    return str(UID(syntax).name)


def syntax_of(header: Any, native: int, notes: list[str]) -> str:
    """The transfer syntax that the pixel data have: what the file says, unless the data are plainly of another kind.

    `native` is how many bytes they have uncompressed. Raises ImageError if they are neither frames nor enough bytes.
    """
    named = header.file_meta.get("TransferSyntaxUID")
    said = str(named or ("1.2.840.10008.1.2" if header.original_encoding[0] else EXPLICIT))
    found, in_items = len(header.PixelData), header.PixelData[:4] == ITEM
    claim = f"the transfer syntax says {name_of(said)}" if named else "there is no transfer syntax"
    if is_compressed(said) and not in_items:
        if found not in (native, native + 1):
            raise ImageError(f"{claim}, but the pixel data hold no compressed frame: cut off or damaged")
        notes.append(f"{claim}, but the pixels are not compressed: read as they are")
        return _renamed(header, EXPLICIT)
    if is_compressed(said) or not in_items or found in (native, native + 1):
        return said
    kind = _kind(first_frame(header))
    notes.append(f"{claim}, but the pixel data are {kind} frames: read as those")
    return _renamed(header, RLE if kind == "RLE" else OF_KIND[kind])


def _renamed(header: Any, syntax: str) -> str:
    """The syntax, after the header has been made to agree, without which pydicom does not decode."""
    from pydicom.uid import UID

    header.file_meta.TransferSyntaxUID = UID(syntax)
    return syntax


def _kind(frame: bytes) -> Kind | Literal["RLE"]:
    if frame[4:8] == b"\x40\x00\x00\x00" and 0 < int.from_bytes(frame[:4], "little") < 16:  # PS3.5 annex G.5
        return "RLE"
    return codestream_facts(frame).kind


def first_frame(header: Any) -> bytes:
    """The bytes of the first frame; raises ImageError if they are cut, or whatever pydicom raises."""
    from pydicom.encaps import get_frame

    _check_items(header.PixelData)
    offsets = header.get("ExtendedOffsetTable"), header.get("ExtendedOffsetTableLengths")
    return bytes(
        get_frame(
            header.PixelData,
            0,
            extended_offsets=offsets if all(offsets) else None,
            number_of_frames=int(header.get("NumberOfFrames") or 1),
        )
    )


def _check_items(data: bytes) -> None:
    """Raise ImageError if an item is longer than what is left, or if there are more of them than frames could be."""
    at = count = 0
    while data[at : at + 4] == ITEM:
        count += 1
        if count > ITEMS:
            raise ImageError(f"its pixel data come in over {ITEMS:,} pieces: hostile or damaged")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if at + 8 + length > len(data):
            raise ImageError(
                f"the compressed picture is cut off: {len(data) - at - 8:,} of {length:,} bytes. Get a fresh copy."
            )
        at += 8 + length


def decode_frame(
    header: Any, syntax: str, single: bool, reference: bool, notes: list[str]
) -> tuple[ValueArray, FrameFacts]:
    """Samples of the first frame as stored, and what the frame says of them; several samples come as RGB.

    Raises ImageError if the frame is cut, or of another size than the header says, or if nothing here decodes it.
    """
    if syntax not in KINDS:
        raise ImageError(f"transfer syntax {name_of(syntax)} ({syntax}) is not a still picture that can be decoded")
    frame = first_frame(header)
    facts = codestream_facts(frame)
    if (facts.width, facts.height) != (int(header.Columns), int(header.Rows)):
        raise ImageError(
            f"the compressed picture has {facts.width} x {facts.height} pixels, "
            f"the header {header.Columns} x {header.Rows}"
        )
    if facts.kind != KINDS[syntax]:
        notes.append(f"the transfer syntax says {name_of(syntax)}, but the frame is {facts.kind}: read as that")
        syntax = _renamed(header, OF_KIND[facts.kind])
    if facts.kind != "JPEG":
        return by_pydicom(header, syntax, single), facts
    if single and facts.bits > 8:
        return _deep_jpeg(frame, facts), facts
    eight = header.BitsAllocated == 8
    if single and facts.bits == 8 and (not eight or (syntax == BASELINE and not reference)):
        if not eight:
            notes.append(f"the frame has 8 bits a pixel, the header says BitsAllocated {header.BitsAllocated}")
        return _by_pillow(frame), facts
    return by_pydicom(header, syntax, single), facts


def _by_pillow(frame: bytes) -> ValueArray:
    # JPEG baseline: libjpeg-turbo gives what gdcm gives, four times as fast; pylibjpeg is off by a grey level.
    image = raster.open_picture(frame, ("JPEG",))
    values = raster.decode_picture(image)
    if values.ndim != 2:
        raise ImageError(f"the compressed picture has mode {image.mode}, the header says one sample per pixel")
    return values


def _deep_jpeg(frame: bytes, facts: FrameFacts) -> ValueArray:
    """JPEG Extended of 12 bits by gdcm itself, which gives what libjpeg-turbo gives; pydicom refuses to ask it."""
    import gdcm

    fragment = gdcm.Fragment()
    fragment.SetByteStringValue(frame)
    fragments = gdcm.SequenceOfFragments.New()
    fragments.AddFragment(fragment)
    element = gdcm.DataElement(gdcm.Tag(0x7FE0, 0x0010))
    element.SetValue(fragments.__ref__())
    image = gdcm.Image()
    image.SetNumberOfDimensions(2)
    image.SetDimensions((facts.width, facts.height, 1))
    image.SetDataElement(element)
    image.SetPhotometricInterpretation(gdcm.PhotometricInterpretation(gdcm.PhotometricInterpretation.MONOCHROME2))
    image.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.GetTSType(EXTENDED)))
    image.SetPixelFormat(gdcm.PixelFormat(1, 16, 12, 11, 0))
    data = (image.GetBuffer() or "").encode("utf-8", "surrogateescape")
    if len(data) != 2 * facts.width * facts.height:
        raise ImageError(
            f"gdcm cannot decode this JPEG frame of {facts.bits} bits. Convert it (gdcmconv --raw), or leave it out."
        )
    return np.frombuffer(data, "<u2").reshape(facts.height, facts.width)


def by_pydicom(header: Any, syntax: str, single: bool) -> ValueArray:
    """First frame by pydicom's decoder, its bits left as they are; several samples come as RGB."""
    from pydicom.pixels import get_decoder

    # Named plugins: which one pydicom would pick depends on what is installed, and some differ by a grey level.
    decoder = get_decoder(syntax)
    kind = KINDS.get(syntax)
    plugin = "" if kind is None else "pylibjpeg" if kind == "JPEG 2000" else "gdcm"
    if plugin and plugin not in decoder.available_plugins:
        package = "pylibjpeg and pylibjpeg-openjpeg" if plugin == "pylibjpeg" else "python-gdcm"
        raise ImageError(f"{decoder.UID.name} needs a decoder: pip install {package}")
    values, _ = decoder.as_array(
        header,
        index=0,
        raw=single,
        decoding_plugin=plugin,
        correct_unused_bits=not single and bool(plugin),
        apply_j2k_sign_correction=not single,
        apply_jls_sign_correction=not single,
    )
    return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
