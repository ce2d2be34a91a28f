"""Words to values: which bits of each word are the picture, and whether the highest of them is a sign.

Source: DICOM PS3.5 section 8.1.1. Headers are wrong about both often enough that the pixels are asked too: neighbours
differ little in a radiograph, so a reading in which they jump over the range is not the picture.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from cxrbench.errors import ImageError
from cxrbench.images.grey import TINY, ValueArray

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
class Read:
    """`values` are the picture; `labelled` what the released reader makes of the same words, mostly the same array."""

    values: ValueArray
    labelled: ValueArray
    notes: tuple[str, ...] = ()

    def told(self, note: str) -> "Read":
        """The same with one more note, first."""
        return Read(self.values, self.labelled, (note, *self.notes))


def read(words: ValueArray, field: Field) -> Read:
    """Values of unsigned or signed `words` (H, W); raises ImageError where no reading of them is a picture."""
    words = words.view(np.dtype(f"u{words.dtype.itemsize}"))
    allocated = words.dtype.itemsize * 8
    if not 0 < field.bits <= allocated:
        whole = Field(allocated, allocated - 1, field.signed, field.stream_signed, field.overlays)
        return read(words, whole).told(f"BitsStored {field.bits} of {allocated} bits: all were taken")
    if field.high == field.bits - 1:
        return _lowest(words, field)
    spare = field.high + 1 - field.bits
    if spare < 0 or field.high >= allocated:
        return _lowest(words, field).told(f"HighBit {field.high} for {field.bits} bits stored: ignored")
    if not int(words.max()) >> field.bits and bool((words & ((1 << spare) - 1)).any()):
        note = f"HighBit {field.high} for {field.bits} bits stored, but the values lie in the lowest: read there"
        return _lowest(words, field).told(note)
    return _lowest(words >> spare, field).told(f"HighBit {field.high} for {field.bits} bits stored: shifted by {spare}")


def _lowest(words: ValueArray, field: Field) -> Read:
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
            return Read(wide, wide)
        return Read(wide, words, ("marked unsigned, but a sign fills the spare bits: read as signed",))
    return _crowded(words, wide, field)


def _crowded(words: ValueArray, wide: ValueArray, field: Field) -> Read:
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


def _wide(words: ValueArray, wide: ValueArray, field: Field) -> Read:
    """All bits, since BitsStored is too small."""
    allocated = words.dtype.itemsize * 8
    found = _alone(words, Field(allocated, allocated - 1, field.signed))
    low, high = (int(wide.min()), int(wide.max())) if field.signed else (0, int(words.max()))
    extent = f"values from {low} to {high}" if low < 0 else f"values up to {high}"
    return found.told(f"{extent} although BitsStored is {field.bits}: the header was ignored")


def _alone(words: ValueArray, field: Field) -> Read:
    """Values in the lowest bits, nothing above: the sign is all that is open."""
    bits = field.bits
    if not field.signed:
        return _unsigned(words, field)
    if int(words.max()) < 1 << (bits - 1):
        plain = words.view(np.dtype(f"i{words.dtype.itemsize}"))
        return Read(plain, plain)
    wraps, share = _wraps(words, bits, signed=True)
    signed = _with_sign(words, bits)
    if wraps and _is_many(words, bits)[0]:
        note = f"marked signed, but then {share:.1%} of neighbours jump over most of the range: read as unsigned"
        return Read(words, words if bits < words.dtype.itemsize * 8 else signed, (note,))
    if share > 0.002:
        return Read(signed, signed, (f"{share:.1%} of neighbours jump over most of the range: signed by mistake?",))
    return Read(signed, signed)


def _with_sign(words: ValueArray, bits: int) -> ValueArray:
    """The lowest bits as signed values."""
    free, kind = words.dtype.itemsize * 8 - bits, np.dtype(f"i{words.dtype.itemsize}")
    return words.view(kind) if not free else np.asarray((words << free).view(kind) >> free)


def _unsigned(words: ValueArray, field: Field) -> Read:
    wraps, share = _wraps(words, field.bits, signed=False)
    if not wraps:
        return Read(words, words)
    if field.stream_signed:
        note = "marked unsigned, but the compressed frame says signed: read as signed"
        return Read(_with_sign(words, field.bits), words, (note,))
    varied, extent = _is_many(words, field.bits)
    if not varied or extent < 0.05:
        return Read(words, words)
    return Read(words, words, (f"{share:.1%} of neighbours jump over most of the range: unsigned by mistake?",))


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
