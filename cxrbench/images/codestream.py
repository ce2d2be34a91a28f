"""What a compressed frame states about itself, so that a lie or a cut is found before anything is decoded."""

import struct
from dataclasses import dataclass
from typing import Literal

from cxrbench.errors import ImageError

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
class Facts:
    """`bits` a sample has; `signed` is True only where a JPEG 2000 codestream says so, others cannot."""

    kind: Kind
    width: int
    height: int
    bits: int
    signed: bool = False


def facts(stream: bytes) -> Facts:
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
    return Facts("JPEG 2000", right - left, bottom - top, (stream[42] & 0x7F) + 1, stream[42] > 0x7F)


def is_whole(stream: bytes) -> bool:
    """Whether the end marker is there; fill bytes behind it count for nothing."""
    return stream.rstrip(b"\0\xff").endswith(END)


def _jpeg(stream: bytes) -> Facts:
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            break
        marker = stream[at + 1]
        if marker in FRAME_HEADERS:
            bits, height, width = struct.unpack_from(">B2H", stream, at + 4)
            return Facts(OF_MARKER.get(marker, "JPEG"), width, height, bits)
        if marker == 0xFF:
            at += 1
        elif marker in ALONE:
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", stream, at + 2)[0])
    raise ImageError("the compressed picture has no frame header")
