"""PNG, JPEG, TIFF, BMP, WebP and JPEG 2000 through Pillow: opened under guard, decoded whole or not at all."""

import struct
import zlib
from collections.abc import Iterator
from threading import Lock
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from cxrbench.errors import ImageError
from cxrbench.images.grey import Grey, ValueArray, check_size, luma, oddities, value_range
from cxrbench.images.header import BoundedBytes

STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
_BITS, _COMPRESSION, _STRIPS, _STRIP_BYTES, _PLANES, _TILES, _TILE_BYTES = 258, 259, 273, 279, 284, 324, 325
_PARTS = 100_000  # strips or tiles; Pillow keeps a record of each
_RAW = 1


def check_tiff(data: bytes) -> None:
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


START = b"\x89PNG\r\n\x1a\n"
TEXT_LIMIT = 1 << 20  # bytes of unpacked texts and colour profile; Pillow allows as much to each of them
CHUNKS = 50_000
PACKED = (b"zTXt", b"iTXt", b"iCCP")
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of each colour type
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
UNTOUCHED = 173  # a grey that no decoder leaves in a whole row by chance; if one does, the data are counted


def check_png(data: bytes) -> None:
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


FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
SCAN_START, SCANS = b"\xff\xda", 200  # progressive JPEG: a scan of few bytes costs a walk over all pixels
EXIF_ORIENTATION = 0x0112
COLOUR_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB")


def open_picture(data: bytes, formats: tuple[str, ...] = FORMATS) -> ImageFile.ImageFile:
    """The picture with its header read and its size checked, nothing decoded; raises ImageError.

    Pillow's own guard against decompression bombs stays as it is; `check_size` is narrower and comes on top.
    """
    if data.startswith(START):
        check_png(data)
    if data.startswith(STARTS):
        check_tiff(data)
    try:
        image = Image.open(BoundedBytes(data), formats=formats)
    except UnidentifiedImageError:
        raise ImageError(f"{guess(data)}. Replace it by the picture, or leave it out.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"claims more pixels than any radiograph has: {error}") from error
    check_size(*image.size)
    if image.info.get("progressive") and data.count(SCAN_START) > SCANS:
        raise ImageError(f"a progressive JPEG with over {SCANS} scans: hostile or damaged")
    return image


def decode(image: Image.Image) -> None:
    """Decode an opened picture whole, or raise ImageError or what Pillow raises; a decoded one is left as it is."""
    if not isinstance(image, ImageFile.ImageFile) or image.fp is None:
        return
    file, is_png = image.fp, image.format == "PNG"
    if image.format == "TIFF":
        check_strips(image)
    if is_png:
        prepare(image)
    with _STRICT:
        image.load()
    if is_png and isinstance(file, BoundedBytes):
        check_filled(image, file.getvalue())


class _Strict:
    """While any thread is in it, Pillow refuses cut files, also where somebody has switched that off."""

    def __init__(self) -> None:
        self._lock, self._inside, self._lenient = Lock(), 0, False

    def __enter__(self) -> None:
        with self._lock:
            self._lenient |= ImageFile.LOAD_TRUNCATED_IMAGES
            self._inside += 1
            if self._lenient:
                ImageFile.LOAD_TRUNCATED_IMAGES = False

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._lenient and not self._inside:
                ImageFile.LOAD_TRUNCATED_IMAGES, self._lenient = True, False


_STRICT = _Strict()


def swaps_sides(image: Image.Image) -> bool:
    """Whether EXIF orientation exchanges the sides."""
    return image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)


def draft(image: Image.Image, height: int, width: int) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 so long as its stored sides keep `height` and `width`."""
    image.draft(image.mode, (width, height))


def decode_picture(image: Image.Image) -> ValueArray:
    """Decoded samples (H, W) or (H, W, bands), as stored: palette indices, alpha and file orientation untouched."""
    decode(image)
    values = np.asarray(image)
    if not values.dtype.isnative:
        values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ImageError("holds pixels that are NaN or infinite")
    return values


def grey(image: Image.Image) -> Grey:
    """The opened picture decoded to what a viewer shows: palette as colours, alpha dropped, EXIF orientation applied.

    8-bit pictures keep 0..255 as their range, all others take their own least and greatest value, since files of 12 or
    14 bits in 16 do not say so.
    """
    several = getattr(image, "is_animated", False)  # not n_frames, for which Pillow walks through all of a TIFF
    inverted = _white_is_zero(image)
    values, notes = _monochrome(image)
    if several:
        notes += ("several pages or frames: the first was taken",)
    # Asked after decoding: Pillow turns TIFF itself and then forgets the orientation.
    values = upright(values, image.getexif().get(EXIF_ORIENTATION, 1))
    low, high = (0.0, 255.0) if values.dtype == np.uint8 or image.mode in COLOUR_MODES else value_range(values)
    if inverted:
        values, low, high = -values.astype(np.float64), -high, -low
    return Grey(values, low, high, notes + oddities(values))


def _monochrome(image: Image.Image) -> tuple[ValueArray, tuple[str, ...]]:
    if image.mode in ("P", "PA"):
        return _palette_colours(image)
    if image.mode in ("CMYK", "YCbCr", "LAB"):
        decode(image)
        return luma(np.asarray(image.convert("RGB")))
    if image.mode == "1":
        decode(image)
        return np.asarray(image.convert("L")), ()
    values = decode_picture(image)
    if values.ndim == 2:
        return values, ()
    alpha = values[..., -1] if image.mode in ("LA", "La", "RGBA", "RGBa") else None
    notes = ("part of the picture lies under an alpha channel, which was ignored",) if _varies(alpha) else ()
    if values.shape[2] == 2:
        return np.ascontiguousarray(values[..., 0]), notes
    shade, coloured = luma(values[..., :3])
    return shade, notes + coloured


def _palette_colours(image: Image.Image) -> tuple[ValueArray, tuple[str, ...]]:
    indices = decode_picture(image)
    indices = indices[..., 0] if indices.ndim == 3 else indices
    flat = image.getpalette("RGB")
    if flat is None:
        raise ImageError("a palette picture without a palette")
    table = np.zeros((256, 3), dtype=np.uint8)
    colours = np.asarray(flat, dtype=np.uint8).reshape(-1, 3)[:256]
    table[: len(colours)] = colours
    return luma(table[indices])


def _varies(alpha: ValueArray | None) -> bool:
    return alpha is not None and bool(alpha.min() != alpha.max())


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF is a negative that Pillow leaves as one; it turns pictures of up to 8 bits itself."""
    tags = getattr(image, "tag_v2", {})
    return image.mode.startswith(("I", "F")) and tags.get(PHOTOMETRIC) == WHITE_IS_ZERO


def upright(values: ValueArray, orientation: int) -> ValueArray:
    """Apply EXIF orientation 1..8 (Exif 2.32, tag 0x0112) to (H, W, ...); any other value leaves it as it is."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def guess(data: bytes) -> str:
    """What bytes that are neither a picture nor DICOM seem to be, as the first half of a complaint."""
    start = data[:512].lstrip().lower()
    known = {
        b"version https://git-lfs": "is a Git LFS pointer, not the picture: run `git lfs pull`",
        b"<!doctype html": "is a web page (a login or error page?), not a picture",
        b"<html": "is a web page (a login or error page?), not a picture",
        b"<?xml": "is an XML document, not a picture",
        b"{": "is JSON text (an error answer?), not a picture",
        b"\x1f\x8b": "is gzip data: unpack it first",
        b"pk\x03\x04": "is a ZIP archive: unpack it first",
        b"\x00\x05\x16\x07": "is a macOS resource file (names beginning with ._), not a picture",
        b"\xd0\xcf\x11\xe0": "is an OLE file such as the Windows Thumbs.db, not a picture",
        b"%pdf": "is a PDF, not a picture",
    }
    for head, words in known.items():
        if start.startswith(head):
            return words
    return "is neither DICOM nor any of " + ", ".join(FORMATS)
