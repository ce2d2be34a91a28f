"""The journal of a shard: one entry a batch, which says where its rows stand, when they were finished, and what of.

An entry is a head with its own checksum, then the batch's notes as JSON. The head's other checksum is over the batch:
the ids, every tap, and the notes.
"""

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrbench.store.sealed import DamagedError, json_value, read_regular

Notes = Mapping[str, tuple[str, ...]]  # what the reader remarked, by image

_HEAD = struct.Struct("<QQQII")  # first row, rows, time, bytes of notes, CRC-32 of the batch; then CRC-32 of these
_OWN = struct.Struct("<I")
HEAD_BYTES = _HEAD.size + _OWN.size
MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Entry:
    """One batch: `rows` from row `first` on, finished at `time` (ns since 1970), and the CRC-32 of all its bytes."""

    first: int
    rows: int
    time: int
    notes: bytes
    checksum: int

    @property
    def end(self) -> int:
        """The row behind its last."""
        return self.first + self.rows

    def packed(self) -> bytes:
        """The entry as it stands in the file."""
        head = _HEAD.pack(self.first, self.rows, self.time, len(self.notes), self.checksum)
        return head + _OWN.pack(zlib.crc32(head)) + self.notes


def packed_notes(images: Sequence[str], notes: Sequence[tuple[str, ...]]) -> bytes:
    """What the reader remarked on a batch's images, of which most have nothing."""
    told = [[image, *own] for image, own in zip(images, notes, strict=True) if own]
    return json.dumps(told).encode() if told else b""


def unpacked_notes(path: Path, entry: Entry) -> Notes:
    """The notes of an entry, whose bytes have their checksum; raises DamagedError where they are none all the same."""
    told = json_value(path, entry.notes) if entry.notes else []
    try:
        return {str(image): tuple(map(str, own)) for image, *own in told}
    except (TypeError, ValueError) as error:
        raise DamagedError(path, "holds notes of no image") from error


def read_journal(path: Path, capacity: int) -> tuple[list[Entry], str]:
    """The entries, and in what the rest cannot be believed; an entry that a kill cut off is no fault.

    Entries follow one another from row 0 on; the first that does not, or has not its checksum, ends what is read.
    """
    try:
        data = read_regular(path, MOST_BYTES)
    except FileNotFoundError:
        return [], ""
    except DamagedError as error:
        return [], f"{path.name} {error.reason}"
    found, place, end = list[Entry](), 0, 0
    while len(data) - place >= HEAD_BYTES:
        first, rows, time, size, checksum = _HEAD.unpack_from(data, place)
        own = _OWN.unpack_from(data, place + _HEAD.size)[0]
        if zlib.crc32(data[place : place + _HEAD.size]) != own or first != end or not 0 < rows <= capacity - first:
            return found, f"{path.name} is damaged behind its first {len(found)} batches"
        notes = data[place + HEAD_BYTES : place + HEAD_BYTES + size]
        if len(notes) < size:
            break
        found.append(Entry(first, rows, time, notes, checksum))
        place, end = place + HEAD_BYTES + size, first + rows
    return found, ""
