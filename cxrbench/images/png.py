"""PNG before and after Pillow: what it does not check, or checks only if nobody has told it not to."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from cxrbench.errors import ImageError
from cxrbench.images.grey import ValueArray, check_size

START = b"\x89PNG\r\n\x1a\n"
TEXT_LIMIT = 1 << 20  # bytes of unpacked texts and colour profile; Pillow allows as much to each of them
CHUNKS = 50_000
PACKED = (b"zTXt", b"iTXt", b"iCCP")
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
UNTOUCHED = 173  # a grey that no decoder leaves in a whole row by chance; if one does, the data are counted


def check(data: bytes) -> None:
    """Raise ImageError unless all chunks up to IEND are whole, and texts and profiles of a size that is usual."""
    unpacked = 0
    for kind, at, body in _chunks(data):
        if kind == b"IHDR" and len(body) >= 8:
            check_size(*struct.unpack_from(">II", body))
        if kind in PACKED:
            unpacked += _unpacked(kind, bytes(body))
            if unpacked > TEXT_LIMIT:
                name = kind.decode()
                raise ImageError(f"PNG texts and profiles unpack to over {TEXT_LIMIT:,} bytes ({name} at byte {at})")


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, memoryview]]:
    """Kind, place and content of each chunk up to IEND; raises ImageError where one is cut or has a wrong CRC."""
    view, at, left = memoryview(data), len(START), CHUNKS
    while at + 12 <= len(data):
        left -= 1
        if not left:
            raise ImageError(f"PNG has over {CHUNKS:,} chunks: hostile or damaged")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or not kind.isalpha():
            break
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ImageError(f"PNG chunk {kind.decode()} at byte {at} is damaged (wrong CRC). Get a fresh copy.")
        yield kind, at, view[at + 8 : end - 4]
        if kind == b"IEND":
            return
        at = end
    raise ImageError(f"PNG is cut off or damaged at byte {at} of {len(data)}. Get a fresh copy.")


def _unpacked(kind: bytes, body: bytes) -> int:
    """Bytes that a compressed text or profile unpacks to, counted no further than one above the limit."""
    packed = body.partition(b"\0")[2][1:]
    if kind == b"iTXt":  # flag, method, language, translated keyword, text
        packed = packed[1:].partition(b"\0")[2].partition(b"\0")[2]
    try:
        return len(zlib.decompressobj().decompress(packed, TEXT_LIMIT + 1))
    except zlib.error:
        return 0  # not compressed, or damaged, which Pillow tells


def prepare(image: Image.Image) -> None:
    """Fill the picture with a grey, so that `check_filled` sees which rows Pillow has left untouched."""
    if not _in_odd_order(image):
        bands = len(image.getbands())
        image.im = Image.core.fill(image.mode, image.size, UNTOUCHED if bands == 1 else (UNTOUCHED,) * bands)


def check_filled(image: Image.Image, data: bytes) -> None:
    """Raise ImageError if the file holds fewer samples than its header says, of which Pillow makes black rows."""
    last = image.crop((0, image.height - 1, *image.size))
    if _in_odd_order(image) or _untouched(np.asarray(last)):
        _check_count(data)


def _in_odd_order(image: Image.Image) -> bool:
    return bool(image.info.get("interlace")) or getattr(image, "n_frames", 1) > 1


def _untouched(row: ValueArray) -> bool:
    return bool((row == (True if row.dtype == np.bool_ else UNTOUCHED)).all())


def _check_count(data: bytes) -> None:
    """Inflate all picture data and count."""
    wanted, found, inflater = 0, 0, zlib.decompressobj()
    for kind, _, body in _chunks(data):
        if kind == b"IHDR":
            wanted = _size(*struct.unpack(">IIBBBBB", body[:13]))
        if kind != b"IDAT":
            continue
        rest: Any = body
        while len(rest) and found < wanted:
            found += len(inflater.decompress(rest, 1 << 20))
            rest = inflater.unconsumed_tail
    if found < wanted:
        raise ImageError(
            f"PNG holds {found:,} bytes of picture, its header promises {wanted:,}: the rest is missing. "
            "Get a fresh copy."
        )


def _size(width: int, height: int, depth: int, colour: int, _pack: int, _filter: int, interlaced: int) -> int:
    """Bytes of all rows with their filter bytes."""
    bits = depth * SAMPLES.get(colour, 1)
    passes = ADAM7 if interlaced else ((0, 0, 1, 1),)
    sides = ((-(-(width - left) // across), -(-(height - top) // down)) for left, top, across, down in passes)
    return sum(rows * (1 + (columns * bits + 7) // 8) for columns, rows in sides if columns > 0 and rows > 0)
