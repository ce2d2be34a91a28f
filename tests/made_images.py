"""Image files for tests of the readers: drawn pictures as DICOM, PNG or TIFF, under any header, right or wrong."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

EXPLICIT, IMPLICIT, DEFLATED = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99"
BASELINE, EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, JPEG_2000, RLE = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5"
ITEM, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\x00\x00\x00\x00"


def waves(height: int = 96, width: int = 80, top: int = 4095, seed: int = 0) -> np.ndarray:
    """(H, W) int64: smooth, with a little noise, from near 0 to near `top`, as a radiograph's values are."""
    down, across = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(seed).normal(0, 0.004, (height, width))
    shade = 0.48 + 0.4 * np.sin(across / 9.0) * np.cos(down / 13.0) + 0.1 * down / height + noise
    return np.rint(np.clip(shade, 0, 1) * top).astype(np.int64)


def saved(image: Image.Image | np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """The file that Pillow writes."""
    out = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(out, kind, **options)
    return out.getvalue()


def dicom(values: np.ndarray, syntax: str = EXPLICIT, pixel_data: bytes | None = None, **header: Any) -> bytes:
    """A DICOM file; tags of the header may be overridden, or left out by None."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(syntax)
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.1"
    made.Rows, made.Columns = values.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = values.dtype.itemsize * 8
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(values.dtype.kind == "i")
    for tag, value in header.items():
        if value is None:
            delattr(made, tag)
        else:
            setattr(made, tag, value)
    made.PixelData = values.tobytes() if pixel_data is None else pixel_data
    made["PixelData"].VR = (
        "OB" if bits == 8 or (pixel_data is not None and syntax not in (EXPLICIT, IMPLICIT)) else "OW"
    )
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def stored_in(values: np.ndarray, bits: int, *, signed: bool, extended: bool = True, high: int | None = None) -> bytes:
    """A DICOM file of integers in 16-bit words, written as the standard says, unless `signed` is a lie."""
    words = values.astype(np.int64) & (0xFFFF if extended else (1 << bits) - 1)
    shift = 0 if high is None else high + 1 - bits
    words = ((words << shift) & 0xFFFF).astype(np.uint16)
    return dicom(words, BitsStored=bits, HighBit=bits - 1 if high is None else high, PixelRepresentation=int(signed))


def with_element(data: bytes, tag: int, kind: str, value: bytes) -> bytes:
    """The file with one more explicit element before the pixels, as raw bytes: what no writer would let through."""
    value += b" " * (len(value) % 2)
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, kind.encode())
    long = kind in ("SQ", "OB", "OW", "OV", "UN", "UT")
    head += struct.pack("<2xI" if long else "<H", len(value))
    at = data.index(b"\xe0\x7f\x10\x00O")
    return data[:at] + head + value + data[at:]


def with_syntax(data: bytes, syntax: str | None) -> bytes:
    """The file with another transfer syntax in its meta information, or none."""
    start, length = 144, int.from_bytes(data[140:144], "little")
    meta, at = data[start : start + length], 0
    at = meta.index(b"\x02\x00\x10\x00UI")
    end = at + 8 + int.from_bytes(meta[at + 6 : at + 8], "little")
    uid = b"" if syntax is None else syntax.encode() + b"\0" * (len(syntax) % 2)
    element = b"" if syntax is None else meta[at : at + 6] + struct.pack("<H", len(uid)) + uid
    meta = meta[:at] + element + meta[end:]
    return data[:140] + struct.pack("<I", len(meta)) + meta + data[start + length :]


def jpeg_2000(values: np.ndarray) -> bytes:
    """A codestream as DICOM holds it, lossless."""
    return saved(values, "JPEG2000", no_jp2=True, irreversible=False)


def chunk(kind: bytes, body: bytes) -> bytes:
    """One chunk of a PNG file."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(values: np.ndarray, rows: int | None = None, colour: int = 0, extra: bytes = b"", before: bytes = b"") -> bytes:
    """A PNG file that holds the first `rows` rows only, sound in everything else; `extra` samples behind them."""
    height, width = values.shape[:2]
    wide = values.astype(values.dtype.newbyteorder(">"))
    lines = b"".join(b"\0" + line.tobytes() for line in wide[: height if rows is None else rows])
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, values.dtype.itemsize * 8, colour, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(lines + extra))
    return b"\x89PNG\r\n\x1a\n" + head + before + body + chunk(b"IEND", b"")


def tiff(values: np.ndarray, offsets: list[int], counts: list[int], rows_per_strip: int, data: bytes) -> bytes:
    """An uncompressed 8-bit TIFF with the strips that one says; `data` begins at byte 8."""
    height, width = values.shape
    first = 8 + len(data)
    table = struct.pack(f"<{len(offsets)}I", *offsets) + struct.pack(f"<{len(counts)}I", *counts)
    places = (offsets[0], counts[0]) if len(offsets) == 1 else (first, first + 4 * len(offsets))
    entries = [
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)),
        *((273, 4, len(offsets), places[0]), (277, 3, 1, 1), (278, 4, 1, rows_per_strip)),
        (279, 4, len(counts), places[1]),
    ]
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *e) for e in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", first + len(table)) + data + table + directory
