"""The size that a compressed frame itself states, so that a lie is found before anything is decoded."""

import struct

from cxrbench.errors import ImageError

JPEG_START, J2K_START, END = b"\xff\xd8", b"\xff\x4f\xff\x51", b"\xff\xd9"
FRAME_HEADERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}  # SOF0..SOF15, and JPEG-LS
ALONE = frozenset(range(0xD0, 0xD9)) | {0x01}  # markers without a length


def size(stream: bytes) -> tuple[int, int]:
    """Width and height in a JPEG, JPEG-LS or JPEG 2000 codestream; raises ImageError if it is none of these or cut.

    Source: ITU-T T.81 annex B, T.87 annex C, T.800 annex A.
    """
    if not stream.rstrip(b"\0").endswith(END):
        start = stream[:4].hex(" ")
        raise ImageError(f"the compressed picture is cut off or of another kind (begins with {start}, lacks its end)")
    if stream.startswith(J2K_START) and len(stream) >= 24:
        right, bottom, left, top = struct.unpack_from(">4I", stream, 8)
        return right - left, bottom - top
    if stream.startswith(JPEG_START):
        return _jpeg_size(stream)
    raise ImageError(f"the compressed picture is of another kind than declared (begins with {stream[:4].hex(' ')})")


def _jpeg_size(stream: bytes) -> tuple[int, int]:
    at = 2
    while at + 9 <= len(stream):
        if stream[at] != 0xFF:
            break
        marker = stream[at + 1]
        if marker in FRAME_HEADERS:
            height, width = struct.unpack_from(">2H", stream, at + 5)
            return width, height
        if marker == 0xFF:
            at += 1
        elif marker in ALONE:
            at += 2
        else:
            at += 2 + int(struct.unpack_from(">H", stream, at + 2)[0])
    raise ImageError("the compressed picture has no frame header")
