"""The journal of a shelf: which rows of its pixels hold which files' images, batch by batch, each with checksums."""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_HEAD = struct.Struct("<QI")  # first row, rows
_ROW = np.dtype([("content", "V32"), ("checksum", "<u4")])  # SHA-256 of the file, CRC-32 of its pixels
_CRC_BYTES = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """A batch: rows `start` up to `end` hold `contents` (32 bytes each), with the CRC-32 of each row's pixels.

    The next entry begins `behind` it in the journal.
    """

    start: int
    contents: NDArray[np.void]
    checksums: NDArray[np.uint32]
    behind: int

    @property
    def end(self) -> int:
        """The first row that is not its own."""
        return self.start + len(self.contents)


def entries(data: bytes) -> Iterator[Entry]:
    """The entries of a journal up to the first that is not what was written."""
    at = 0
    while at + _HEAD.size <= len(data):
        start, count = _HEAD.unpack_from(data, at)
        body = at + _HEAD.size
        end = body + count * _ROW.itemsize
        behind = end + _CRC_BYTES
        if behind > len(data) or zlib.crc32(data[at:end]) != int.from_bytes(data[end:behind], "little"):
            return
        rows = np.frombuffer(data, _ROW, count, body)
        yield Entry(start, rows["content"], rows["checksum"], behind)
        at = behind


def packed(start: int, contents: Sequence[str], images: NDArray[np.uint8]) -> bytes:
    """The entry of a batch: `contents` (n) in hex, `images` (n, S, S) contiguous, of rows from `start` on."""
    rows = np.zeros(len(contents), _ROW)
    rows["content"] = np.frombuffer(bytes.fromhex("".join(contents)), "V32")
    rows["checksum"] = [zlib.crc32(image.data) for image in images]
    entry = _HEAD.pack(start, len(contents)) + rows.tobytes()
    return entry + zlib.crc32(entry).to_bytes(_CRC_BYTES, "little")
