"""PNG, JPEG, TIFF, BMP, WebP and JPEG 2000 through Pillow: opened under guard, decoded whole or not at all."""

from threading import Lock

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from cxrbench.errors import ImageError
from cxrbench.images import png, tiff
from cxrbench.images.bounded import BoundedBytes
from cxrbench.images.grey import Grey, ValueArray, check_size, luma, oddities, value_range

FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "WEBP", "JPEG2000")
SCAN_START, SCANS = b"\xff\xda", 200  # progressive JPEG: a scan of few bytes costs a walk over all pixels
EXIF_ORIENTATION = 0x0112
COLOUR_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA", "CMYK", "YCbCr", "LAB")


def opened(data: bytes, formats: tuple[str, ...] = FORMATS) -> ImageFile.ImageFile:
    """The picture with its header read and its size checked, nothing decoded; raises ImageError.

    Pillow's own guard against decompression bombs stays as it is; `check_size` is narrower and comes on top.
    """
    if data.startswith(png.START):
        png.check(data)
    if data.startswith(tiff.STARTS):
        tiff.check(data)
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
        tiff.check_strips(image)
    if is_png:
        png.prepare(image)
    with _STRICT:
        image.load()
    if is_png and isinstance(file, BoundedBytes):
        png.check_filled(image, file.getvalue())


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


def turned(image: Image.Image) -> bool:
    """Whether EXIF orientation exchanges the sides."""
    return image.getexif().get(EXIF_ORIENTATION, 1) in (5, 6, 7, 8)


def draft(image: Image.Image, height: int, width: int) -> None:
    """Let a JPEG be decoded at 1/2, 1/4 or 1/8 so long as its stored sides keep `height` and `width`."""
    image.draft(image.mode, (width, height))


def loaded(image: Image.Image) -> ValueArray:
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
    return image.mode.startswith(("I", "F")) and tags.get(tiff.PHOTOMETRIC) == tiff.WHITE_IS_ZERO


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
