"""PNG, JPEG, TIFF, BMP, WebP and JPEG 2000 through Pillow: opened under guard, decoded whole or not at all."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from cxrbench.data.grey import Grey, ValueArray, check_size, luma, oddities, value_range
from cxrbench.errors import ImageError

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
PNG_START = b"\x89PNG\r\n\x1a\n"
EXIF_ORIENTATION = 0x0112
TIFF_PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
COLOUR_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB")


def opened(data: bytes) -> Image.Image:
    """The picture with its header read and its size checked, nothing decoded; raises ImageError.

    Pillow's own guard against decompression bombs stays as it is; `check_size` is narrower and comes on top.
    """
    if data.startswith(PNG_START):
        _check_png(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ImageError(f"{guess(data)}. Replace it by the picture, or leave it out.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"claims more pixels than any radiograph has: {error}") from error
    check_size(*image.size)
    return image


def turned(image: Image.Image) -> bool:
    """Whether EXIF orientation exchanges the sides."""
    return image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)


def draft(image: Image.Image, height: int, width: int) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 so long as its stored sides keep `height` and `width`."""
    image.draft(image.mode, (width, height))


def loaded(image: Image.Image) -> ValueArray:
    """Decoded samples (H, W) or (H, W, bands), as stored: palette indices, alpha and file orientation untouched."""
    image.load()
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
    pages = getattr(image, "n_frames", 1)
    inverted = _white_is_zero(image)
    values, notes = _monochrome(image)
    if pages > 1:
        notes += (f"{pages} pages or frames: the first was taken",)
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
        image.load()
        return luma(np.asarray(image.convert("RGB")))
    if image.mode == "1":
        image.load()
        return np.asarray(image.convert("L")), ()
    values = loaded(image)
    if values.ndim == 2:
        return values, ()
    alpha = values[..., -1] if image.mode in ("LA", "La", "RGBA", "RGBa") else None
    notes = ("part of the picture lies under an alpha channel, which was ignored",) if _varies(alpha) else ()
    if values.shape[2] == 2:
        return np.ascontiguousarray(values[..., 0]), notes
    shade, coloured = luma(values[..., :3])
    return shade, notes + coloured


def _palette_colours(image: Image.Image) -> tuple[ValueArray, tuple[str, ...]]:
    indices = loaded(image)
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
    return image.mode.startswith(("I", "F")) and tags.get(TIFF_PHOTOMETRIC) == WHITE_IS_ZERO


def upright(values: ValueArray, orientation: int) -> ValueArray:
    """Apply EXIF orientation 1..8 (Exif 2.32, tag 0x0112) to (H, W, ...); any other value leaves it as it is."""
    if orientation in (5, 6, 7, 8):
        values = values.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    return np.ascontiguousarray(values)


def _check_png(data: bytes) -> None:
    """Raise ImageError unless all chunks up to IEND are whole: Pillow checks no CRC of picture data."""
    view, at = memoryview(data), len(PNG_START)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data) or not kind.isalpha():
            break
        if zlib.crc32(view[at + 4 : end - 4]) != int.from_bytes(view[end - 4 : end], "big"):
            raise ImageError(f"PNG chunk {kind.decode()} at byte {at} is damaged (wrong CRC). Get a fresh copy.")
        if kind == b"IHDR" and length >= 8:
            check_size(*struct.unpack_from(">II", data, at + 8))
        if kind == b"IEND":
            return
        at = end
    raise ImageError(f"PNG is cut off or damaged at byte {at} of {len(data)}. Get a fresh copy.")


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
