"""TIFF before Pillow decodes it: a first directory of sane size, and strips or tiles for all of the picture."""

import struct
from typing import Any

from PIL import ImageFile

from cxrbench.errors import ImageError

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
_BITS, _COMPRESSION, _STRIPS, _STRIP_BYTES, _PLANES, _TILES, _TILE_BYTES = 258, 259, 273, 279, 284, 324, 325
_PARTS = 100_000  # strips or tiles; Pillow keeps a record of each
_RAW = 1


def check(data: bytes) -> None:
    """Raise ImageError if the first directory claims more strips or tiles than a picture can have."""
    order, big = "<" if data[:1] == b"I" else ">", data[2:4] in (b"+\0", b"\0+")
    at = _number(data, 8 if big else 4, order + ("Q" if big else "I"))
    entries = _number(data, at, order + ("Q" if big else "H"))
    at, size = at + (8 if big else 2), 20 if big else 12
    for entry in range(at, min(at + size * min(entries, 65536), len(data)), size):
        tag = _number(data, entry, order + "H")
        count = _number(data, entry + 4, order + ("Q" if big else "I"))
        if tag in (_STRIPS, _TILES) and count > _PARTS:
            raise ImageError(f"TIFF claims {count:,} strips or tiles: hostile or damaged")


def _number(data: bytes, at: int, form: str) -> int:
    """0 where the file ends before it."""
    return int(struct.unpack_from(form, data, at)[0]) if at + struct.calcsize(form) <= len(data) else 0


def check_strips(image: ImageFile.ImageFile) -> None:
    """Raise ImageError if strips are missing, which Pillow leaves black or fills with other bytes of the file."""
    tags: Any = getattr(image, "tag_v2", {})
    pixels = image.width * image.height
    parts = {tile[1] or (0, 0, *image.size): tile[2] for tile in image.tile}
    missing = sum((right - left) * (lower - upper) for left, upper, right, lower in parts) < pixels
    if tags.get(_COMPRESSION, _RAW) == _RAW:
        bits = tags.get(_BITS, (1,))
        wanted = pixels * (sum(bits) if tags.get(_PLANES, 1) == 1 else max(bits)) // 8
        held = tags.get(_STRIP_BYTES) or tags.get(_TILE_BYTES)
        missing |= 0 in parts.values() or (held is not None and sum(held) < wanted)
    if missing:
        raise ImageError("TIFF lacks strips or tiles of its picture: cut off or damaged. Get a fresh copy.")
