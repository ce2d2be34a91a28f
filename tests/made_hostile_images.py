"""Image files that cost a careless reader minutes or gigabytes, each of a few megabytes at most.

`python made_hostile_images.py` reads them all and prints, for each, seconds, peak memory so far and what came out.
"""

import json
import struct
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from made_images import DEFLATED, IMPLICIT, ITEM, JPEG_2000, SEQUENCE_END, chunk, dicom, png, saved, tiff, waves

SMALL = waves(64, 64, 255).astype(np.uint8)
ENDLESS, ITEM_END = b"\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\x00\x00\x00\x00"
VOI = b"\x28\x00\x10\x30"


def _png_with(*chunks: bytes) -> bytes:
    return png(SMALL, before=b"".join(chunks))


def _before_pixels(elements: bytes, syntax: str = "1.2.840.10008.1.2.1") -> bytes:
    data = dicom(SMALL, syntax)
    at = data.index(b"\xe0\x7f\x10\x00")
    return data[:at] + elements + data[at:]


def _nested(depth: int, tag: bytes = VOI) -> bytes:
    return (tag + b"SQ\0\0" + ENDLESS + ITEM + ENDLESS) * depth + (ITEM_END + SEQUENCE_END) * depth


def _jpeg_with(segments: bytes) -> bytes:
    data = saved(SMALL, "JPEG")
    return data[:2] + segments + data[2:]


def _many_scans() -> bytes:
    data = saved(np.zeros((2000, 2000), np.uint8), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 2000 + data[-2:]


def _swollen() -> bytes:
    data = dicom(SMALL, DEFLATED)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = b"".join(deflater.compress(bytes(1 << 22)) for _ in range(45)) + deflater.flush()
    return data[: 144 + int.from_bytes(data[140:144], "little")] + body


def _pages(count: int) -> bytes:
    data = tiff(SMALL, [8], [SMALL.size], 64, SMALL.tobytes())
    first = struct.unpack_from("<I", data, 4)[0]
    page = data[first:-4]
    links = (struct.pack("<I", first + (n + 1) * (len(page) + 4) if n < count - 1 else 0) for n in range(count))
    return data[:first] + b"".join(page + link for link in links)


def _directory(entries: int, size: int) -> bytes:
    """An EXIF directory whose entries all claim the same bytes."""
    start = 8 + 2 + 12 * entries + 4
    rows = b"".join(struct.pack("<HHII", n + 1, 7, size, start) for n in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + rows + bytes(4) + bytes(size)


BOMB = zlib.compress(bytes(20_000_000), 9)
LOOP = b"II*\0" + struct.pack("<IHHHIII", 8, 1, 0x8769, 4, 1, 8, 8)

# What each is, and the words that must come out: of the refusal, or of a note; "" for a picture without a word.
FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "compressed text": (lambda: _png_with(chunk(b"zTXt", b"a\0\0" + BOMB)), "unpack to over"),
    "international text": (lambda: _png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + BOMB)), "unpack to over"),
    "colour profile": (lambda: _png_with(chunk(b"iCCP", b"a\0\0" + BOMB)), "unpack to over"),
    "many texts": (lambda: _png_with(*[chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(10**6)))] * 99), "unpack to over"),
    "many chunks": (lambda: _png_with(chunk(b"prVt", b"") * 300_000), "chunks: hostile"),
    "frames claimed": (lambda: _png_with(chunk(b"acTL", struct.pack(">II", 4 * 10**9, 0))), ""),
    "picture data": (lambda: png(SMALL, rows=0, extra=bytes(20_000_000)), "every pixel has the value 0"),
    "EXIF of one place": (lambda: _png_with(chunk(b"eXIf", _directory(3000, 3_000_000))), ""),
    "EXIF in a circle": (lambda: _png_with(chunk(b"eXIf", LOOP)), ""),
    "JPEG fill": (lambda: _jpeg_with(b"\xff" * 3_000_000), "more parts"),
    "JPEG segments": (lambda: _jpeg_with(b"\xff\xe5\0\2" * 500_000), "more parts"),
    "JPEG scans": (_many_scans, "scans: hostile"),
    "TIFF in a circle": (lambda: _pages(1)[:-4] + _pages(1)[4:8], ""),
    "TIFF pages": (lambda: _pages(30_000), "several pages"),
    "TIFF strips": (lambda: tiff(SMALL, [8] * 400_000, [1] * 400_000, 1, b""), "400,000 strips"),
    "sequences": (lambda: _before_pixels(_nested(10_000)), "nested deeper"),
    "private sequences": (lambda: _before_pixels(_nested(10_000, b"\x29\x00\x10\x10")), "nested deeper"),
    "elements": (lambda: _before_pixels(b"\x28\x00\x05\x00CS\0\0" * 400_000), "more parts"),
    "items": (lambda: _before_pixels(VOI + b"SQ\0\0" + ENDLESS + (ITEM + bytes(4)) * 400_000 + SEQUENCE_END), "more p"),
    "items of known length": (
        lambda: _before_pixels(VOI + b"SQ\0\0" + struct.pack("<I", 3_200_000) + (ITEM + bytes(4)) * 400_000),
        "VOILUTSequence is malformed",
    ),
    "windows": (
        lambda: _before_pixels(b"\x28\x00\x50\x10" + struct.pack("<I", 4_000_000) + b"1\\" * 2_000_000, IMPLICIT),
        "WindowCenter is malformed",
    ),
    "a length beyond the end": (lambda: _before_pixels(VOI + b"OB\0\0\xf0\xff\xff\xff"), "without pixel data"),
    "fragments": (lambda: dicom(SMALL, JPEG_2000, (ITEM + bytes(4)) * 500_000), "pieces|more parts"),
    "deflated": (_swollen, "swells beyond"),
}


def main() -> None:
    """Read all files, one JSON line each."""
    import warnings

    from cxrbench.errors import ImageError
    from cxrbench.images.radiograph import read_radiograph

    warnings.simplefilter("ignore")
    for name, (make, _) in FILES.items():
        data, start = make(), time.process_time()
        try:
            found = "; ".join(read_radiograph(data, name).notes)
        except ImageError as error:
            found = f"refused: {error}"
        seconds = time.process_time() - start
        sys.stdout.write(json.dumps({"name": name, "seconds": seconds, "peak": _peak(), "found": found}) + "\n")


def _peak() -> int:
    """Most bytes of memory so far; 0 where the system does not say. getrusage would tell the parent's on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


if __name__ == "__main__":
    main()
