"""DICOM files: the stored values of the first frame, and the header facts that decide how they are shown."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from cxrbench.errors import ImageError
from cxrbench.images import compressed
from cxrbench.images.grey import TINY, ValueArray, check_size
from cxrbench.images.header import OVERLAYS, name_of, number, number_or_default, put, read, require_number, text

SAMPLED = 64  # rows that are looked at
RARE = 0.0005  # share of neighbours below which jumps prove nothing
VARIED = 16  # different values that padding and burnt-in letters do not have
CLEAR = 10  # times as many neighbours must speak for the other reading


@dataclass(frozen=True, slots=True)
class Field:
    """What the header says of each word: `bits` of it are stored, up to bit `high`, with a sign or without.

    `stream_signed` is what a compressed frame says itself; `overlays` are bits that the header gives to overlays.
    """

    bits: int
    high: int
    signed: bool
    stream_signed: bool = False
    overlays: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ReadWords:
    """`values` are the picture; `labelled` what the released reader makes of the same words, mostly the same array."""

    values: ValueArray
    labelled: ValueArray
    notes: tuple[str, ...] = ()

    def told(self, note: str) -> "ReadWords":
        """The same with one more note, first."""
        return ReadWords(self.values, self.labelled, (note, *self.notes))


def read_words(words: ValueArray, field: Field) -> ReadWords:
    """Values of unsigned or signed `words` (H, W); raises ImageError where no reading of them is a picture."""
    words = words.view(np.dtype(f"u{words.dtype.itemsize}"))
    allocated = words.dtype.itemsize * 8
    if not 0 < field.bits <= allocated:
        whole = Field(allocated, allocated - 1, field.signed, field.stream_signed, field.overlays)
        return read_words(words, whole).told(f"BitsStored {field.bits} of {allocated} bits: all were taken")
    if field.high == field.bits - 1:
        return _lowest(words, field)
    spare = field.high + 1 - field.bits
    if spare < 0 or field.high >= allocated:
        return _lowest(words, field).told(f"HighBit {field.high} for {field.bits} bits stored: ignored")
    if not int(words.max()) >> field.bits and bool((words & ((1 << spare) - 1)).any()):
        note = f"HighBit {field.high} for {field.bits} bits stored, but the values lie in the lowest: read there"
        return _lowest(words, field).told(note)
    return _lowest(words >> spare, field).told(f"HighBit {field.high} for {field.bits} bits stored: shifted by {spare}")


def _lowest(words: ValueArray, field: Field) -> ReadWords:
    """Values in the lowest bits, whatever lies above."""
    bits = field.bits
    if field.stream_signed and not field.signed:
        words = words & _mask(words, bits)
    if bits == words.dtype.itemsize * 8 or not int(words.max()) >> bits:
        return _alone(words, field)
    wide = words.view(np.dtype(f"i{words.dtype.itemsize}"))
    half = 1 << (bits - 1)
    if -half <= int(wide.min()) and int(wide.max()) < half:  # a sign, repeated above as it should be
        if field.signed:
            return ReadWords(wide, wide)
        return ReadWords(wide, words, ("marked unsigned, but a sign fills the spare bits: read as signed",))
    return _crowded(words, wide, field)


def _crowded(words: ValueArray, wide: ValueArray, field: Field) -> ReadWords:
    """Values under something that is no sign: an overlay, junk, or the rest of values that need more bits."""
    bits, named = field.bits, sum(1 << plane for plane in field.overlays if plane >= field.bits)
    if named and not (words & ~words.dtype.type(named + (1 << bits) - 1)).any():
        planes = ", ".join(str(plane) for plane in field.overlays if plane >= bits)
        return _alone(words & _mask(words, bits), field).told(
            f"an overlay in bit {planes} of the pixels was taken away"
        )
    voters, share = _calm(words, field)
    if share <= 0.5 and (voters or not field.signed):
        return _wide(words, wide, field)
    if share >= 0.8 or not voters:
        note = f"the bits above the {bits} stored are no part of the picture (overlay or junk?): taken away"
        return _alone(words & _mask(words, bits), field).told(note)
    raise ImageError(
        f"values need more than the {bits} bits that BitsStored gives, and neither all bits nor those alone are a "
        "picture. Export it anew, or leave it out."
    )


def _wide(words: ValueArray, wide: ValueArray, field: Field) -> ReadWords:
    """All bits, since BitsStored is too small."""
    allocated = words.dtype.itemsize * 8
    found = _alone(words, Field(allocated, allocated - 1, field.signed))
    low, high = (int(wide.min()), int(wide.max())) if field.signed else (0, int(words.max()))
    extent = f"values from {low} to {high}" if low < 0 else f"values up to {high}"
    return found.told(f"{extent} although BitsStored is {field.bits}: the header was ignored")


def _alone(words: ValueArray, field: Field) -> ReadWords:
    """Values in the lowest bits, nothing above: the sign is all that is open."""
    bits = field.bits
    if not field.signed:
        return _unsigned(words, field)
    if int(words.max()) < 1 << (bits - 1):
        plain = words.view(np.dtype(f"i{words.dtype.itemsize}"))
        return ReadWords(plain, plain)
    wraps, share = _wraps(words, bits, signed=True)
    signed = _with_sign(words, bits)
    if wraps and _is_many(words, bits)[0]:
        note = f"marked signed, but then {share:.1%} of neighbours jump over most of the range: read as unsigned"
        return ReadWords(words, words if bits < words.dtype.itemsize * 8 else signed, (note,))
    if share > 0.002:
        return ReadWords(
            signed, signed, (f"{share:.1%} of neighbours jump over most of the range: signed by mistake?",)
        )
    return ReadWords(signed, signed)


def _with_sign(words: ValueArray, bits: int) -> ValueArray:
    """The lowest bits as signed values."""
    free, kind = words.dtype.itemsize * 8 - bits, np.dtype(f"i{words.dtype.itemsize}")
    return words.view(kind) if not free else np.asarray((words << free).view(kind) >> free)


def _unsigned(words: ValueArray, field: Field) -> ReadWords:
    wraps, share = _wraps(words, field.bits, signed=False)
    if not wraps:
        return ReadWords(words, words)
    if field.stream_signed:
        note = "marked unsigned, but the compressed frame says signed: read as signed"
        return ReadWords(_with_sign(words, field.bits), words, (note,))
    varied, extent = _is_many(words, field.bits)
    if not varied or extent < 0.05:
        return ReadWords(words, words)
    return ReadWords(words, words, (f"{share:.1%} of neighbours jump over most of the range: unsigned by mistake?",))


def _is_many(words: ValueArray, bits: int) -> tuple[bool, float]:
    """Whether values beyond half of the range are of many kinds, unlike padding, letters and frames; their share."""
    rows = words[:: _step(words)]
    beyond = rows[rows >= 1 << (bits - 1)]
    return np.unique(beyond).size >= VARIED, beyond.size / rows.size


def _mask(words: ValueArray, bits: int) -> ValueArray:
    return np.asarray((1 << bits) - 1, words.dtype)


def _step(words: ValueArray) -> int:
    return max(1, words.shape[0] // SAMPLED)


def _neighbours(words: ValueArray) -> Iterator[tuple[ValueArray, ValueArray]]:
    """Pairs of neighbours, down and across, in some of the rows; none in pictures too small to judge."""
    if min(words.shape) < TINY:
        return
    step = _step(words)
    yield words[:-1:step], words[1::step]
    rows = words[::step]
    yield rows[:, :-1], rows[:, 1:]


def _wraps(words: ValueArray, bits: int, signed: bool) -> tuple[bool, float]:
    """Whether neighbours show that values are wrapped in this reading and smooth in the other, and how many do.

    Neighbours on both sides of the sign that are near as unsigned values are far as signed ones, and the reverse.
    """
    tests = (_near, _far) if signed else (_far, _near)
    against, pairs = _counted(words, bits, tests[0])
    if against <= RARE * pairs:
        return False, 0.0
    return _counted(words, bits, tests[1])[0] * CLEAR <= against, against / pairs


def _counted(words: ValueArray, bits: int, test: Callable[[ValueArray, ValueArray, int], int]) -> tuple[int, int]:
    """How many neighbours pass the test, and how many there are."""
    passed = pairs = 0
    for first, second in _neighbours(words):
        passed += test(first, second, bits)
        pairs += first.size
    return passed, pairs


def _far(first: ValueArray, second: ValueArray, bits: int) -> int:
    """Over three quarters of the range apart, hence on both sides of the sign."""
    apart = np.maximum(first, second) - np.minimum(first, second)
    return int(np.count_nonzero(apart > first.dtype.type(3 << (bits - 2) if bits > 1 else 1)))


def _near(first: ValueArray, second: ValueArray, bits: int) -> int:
    """Less than a quarter of the range apart, on both sides of the sign."""
    across = (first ^ second) >= first.dtype.type(1 << (bits - 1))
    first, second = first[across], second[across]
    return int(np.count_nonzero(np.maximum(first, second) - np.minimum(first, second) < (1 << bits) // 4))


def _calm(words: ValueArray, field: Field) -> tuple[int, float]:
    """How many neighbours differ above the stored bits, and the share of them that hardly differ in the stored ones.

    That share is high where the bits above are something else, and low where they belong to the values: there the
    stored bits run over whenever those above change.
    """
    half, mask, voters, calm = 1 << (field.bits - 1), _mask(words, field.bits), 0, 0
    for first, second in _neighbours(words):
        # With half of the range added, signed values keep their order, and so what lies above them their sign.
        below, beside = ((part + half if field.signed else part) & mask for part in (first, second))
        differ = (first - below) != (second - beside)
        apart = np.maximum(below, beside)[differ] - np.minimum(below, beside)[differ]
        calm += int(np.count_nonzero(apart < max((1 << field.bits) // 8, 1)))
        voters += apart.size
    return voters, calm / voters if voters else 0.0


FLOATS = {"FloatPixelData": "f4", "DoubleFloatPixelData": "f8"}


@dataclass(frozen=True, slots=True)
class StoredValues:
    """The first frame as stored: `values` (H, W), or (H, W, 3) red, green, blue; `header` a pydicom Dataset.

    `labelled` is what the released reader makes of it: the same, but where it follows a header that is wrong about the
    sign. `inverted`: small values are bright (MONOCHROME1, or PresentationLUTShape INVERSE, which DX writes beside it).
    """

    values: ValueArray
    header: Any
    notes: tuple[str, ...]
    labelled: ValueArray
    inverted: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the header says of the pixels; `allocated` in bits."""

    rows: int
    columns: int
    samples: int
    allocated: int
    frames: int

    @property
    def size(self) -> int:
        """Bytes of one frame without compression."""
        return self.rows * self.columns * self.samples * (self.allocated // 8)


def decode_stored(data: bytes, reference: bool = False) -> StoredValues:
    """Decode the first frame; `reference` takes pydicom's own route for every syntax (same values, slower).

    Raises ImageError or whatever pydicom and its decoders raise on malformed bytes: call within `refusing`.
    """
    notes: list[str] = []
    header = read(data, notes)
    layout = _layout(header, notes)
    found = _floats(header, layout, notes) if "PixelData" not in header else _whole(header, layout, reference, notes)
    inverted = header.PhotometricInterpretation == "MONOCHROME1"
    inverted |= text(header, "PresentationLUTShape", notes) == "INVERSE"
    return StoredValues(found.values, header, tuple(notes), found.labelled, inverted)


def _layout(header: Any, notes: list[str]) -> _Layout:
    rows, columns, allocated = (require_number(header, tag) for tag in ("Rows", "Columns", "BitsAllocated"))
    check_size(columns, rows)
    _check_photometric(header, notes)
    samples = number_or_default(header, "SamplesPerPixel", 1, notes)
    if samples not in (1, 3):
        raise ImageError(f"DICOM with {samples} samples per pixel: 1 and 3 are read")
    if samples == 3:
        number_or_default(header, "PlanarConfiguration", 0, notes)
    return _Layout(rows, columns, samples, allocated, _frames(header, notes))


def _check_photometric(header: Any, notes: list[str]) -> None:
    tag = "PhotometricInterpretation"
    meant = text(header, tag, notes)
    if not meant:
        raise ImageError(f"DICOM without {tag}, or with a malformed one: its pixels cannot be told")
    if header.PhotometricInterpretation != meant:
        notes.append(f"{tag} is written {header.PhotometricInterpretation!r}: read as {meant}")
        header.PhotometricInterpretation = meant


def _frames(header: Any, notes: list[str]) -> int:
    told = number(header, "NumberOfFrames", notes)
    frames = 1 if told is None else int(told)
    if frames > 1:
        notes.append(f"{frames} frames: the first was taken")
    if told is not None and frames < 1:
        notes.append(f"NumberOfFrames is {frames}: one frame was taken")
    if "NumberOfFrames" in header:
        put(header, "NumberOfFrames", max(frames, 1))
    return max(frames, 1)


def _whole(header: Any, layout: _Layout, reference: bool, notes: list[str]) -> ReadWords:
    """PixelData, compressed or not."""
    if layout.allocated not in (8, 16, 32):
        raise ImageError(f"DICOM with BitsAllocated {layout.allocated}: 8, 16 and 32 are read")
    field = _field(header, layout, notes)
    syntax = compressed.syntax_of(header, layout.size * layout.frames, notes)
    single, signed_stream = layout.samples == 1, False
    if compressed.is_compressed(syntax) and syntax != compressed.RLE:
        values, facts = compressed.decode_frame(header, syntax, single, reference, notes)
        if facts.kind == "JPEG" and facts.bits == 8:
            values = values.view(np.uint8)  # unsigned by its own standard, whatever the header says
            return ReadWords(values, values)
        signed_stream = facts.signed
        stored_bits = min(field.bits, facts.bits) if field.bits > 0 else facts.bits
        field = Field(stored_bits, stored_bits - 1, field.signed, signed_stream, field.overlays)
    else:
        values = _plain(header, layout, syntax, reference, notes)
    if values.ndim != 2:
        return ReadWords(values, values)
    found = read_words(values, field)
    notes += found.notes
    return found


def _field(header: Any, layout: _Layout, notes: list[str]) -> Field:
    signed = number_or_default(header, "PixelRepresentation", 0, notes)
    high = number(header, "HighBit", notes)
    likely = layout.allocated if high is None or not 0 <= high < layout.allocated else int(high) + 1
    stored_bits = number_or_default(header, "BitsStored", likely, notes)
    overlays = _overlays(header, layout.allocated, notes)
    return Field(stored_bits, stored_bits - 1 if high is None else int(high), bool(signed), overlays=overlays)


def _overlays(header: Any, allocated: int, notes: list[str]) -> tuple[int, ...]:
    """The bits of each word that the header gives to overlays."""
    found = {tag: number(header, tag, notes) for tag in OVERLAYS}
    told = {tag: bit for tag, bit in found.items() if bit is not None}
    wrong = {tag: bit for tag, bit in told.items() if not (bit.is_integer() and 0 <= bit < allocated)}
    notes += [f"{name_of(tag)} is {bit:g}, no bit of {allocated}: ignored" for tag, bit in wrong.items()]
    return tuple(int(bit) for tag, bit in told.items() if tag not in wrong)


def _plain(header: Any, layout: _Layout, syntax: str, reference: bool, notes: list[str]) -> ValueArray:
    """Uncompressed or run-length encoded samples."""
    if syntax != compressed.RLE:
        notes += _check_length(len(header.PixelData), header, layout)
        if layout.samples == 1 and header.original_encoding[1] and not reference:
            dtype = np.dtype(f"<u{layout.allocated // 8}")
            values = np.frombuffer(header.PixelData, dtype, count=layout.rows * layout.columns)
            return values.reshape(layout.rows, layout.columns)
    return compressed.by_pydicom(header, syntax, layout.samples == 1)


def _check_length(found: int, header: Any, layout: _Layout) -> list[str]:
    """Notes on pixel data longer than the header says; raises ImageError if they are shorter."""
    wanted = layout.size * layout.frames
    if found < wanted and header.PhotometricInterpretation != "YBR_FULL_422":
        raise ImageError(f"pixel data are {found:,} bytes, the header promises {wanted:,}: cut off. Get a fresh copy.")
    return [f"{found - wanted:,} bytes behind the pixels"] if found > wanted + 1 else []


def _floats(header: Any, layout: _Layout, notes: list[str]) -> ReadWords:
    """FloatPixelData or DoubleFloatPixelData, one sample per pixel (PS3.3 C.7.6.24)."""
    tag, kind = next((tag, kind) for tag, kind in FLOATS.items() if tag in header)
    width = int(kind[1:])
    if layout.samples != 1 or layout.allocated != 8 * width:
        raise ImageError(f"{tag} with BitsAllocated {layout.allocated} and {layout.samples} samples: cannot be told")
    notes += _check_length(len(header[tag].value), header, layout)
    order = "<" if header.original_encoding[1] else ">"
    values = np.frombuffer(header[tag].value, f"{order}{kind}", count=layout.rows * layout.columns)
    if not np.isfinite(values).all():
        raise ImageError("holds pixels that are NaN or infinite")
    values = values.reshape(layout.rows, layout.columns).astype(kind)
    return ReadWords(values, values)
