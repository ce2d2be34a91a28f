"""Which bits of a word are the picture: whatever a header says of them, no wrapped picture without a word."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from made_images import dicom, jpeg_2000, saved, stored_in, waves

from cxrbench.errors import ImageError
from cxrbench.images.pixels import pixels_by
from cxrbench.images.radiograph import Grey, read_radiograph
from cxrbench.specs.recipe import Canvas

TRUE = waves()
BESIDE_ZERO = TRUE - 2048
JUNK = np.random.default_rng(1).integers(0, 16, TRUE.shape) << 12
RECTANGLE = np.zeros_like(TRUE)
RECTANGLE[10:20, 10:60] = 1 << 12


def read(data: bytes) -> Grey:
    return read_radiograph(data, "x")


def shows(grey: Grey, values: np.ndarray) -> bool:
    span = values.max() - values.min()
    return bool(np.abs(grey.unit - (values - values.min()) / span).max() < 1e-9)


# Right headers: every value, no note


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.data(), st.integers(2, 16), st.booleans(), st.booleans(), st.booleans())
def test_whatever_is_written_as_the_standard_says_comes_back(
    data: st.DataObject, bits: int, signed: bool, extended: bool, aligned: bool
) -> None:
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
    shape = data.draw(st.tuples(st.integers(1, 15), st.integers(1, 40)))  # too small to be judged by neighbours
    values = data.draw(arrays(np.int64, shape, elements=st.integers(low, high)))
    at = data.draw(st.integers(bits - 1, 15)) if aligned and not signed else None
    if at is not None and at > bits - 1:
        values[0, 0] = high  # else nothing tells where the field lies
    grey = read(stored_in(values, bits, signed=signed, extended=extended, high=at))
    np.testing.assert_array_equal(grey.values, values)
    notes = [note for note in grey.notes if "pixels" not in note and "every pixel" not in note]
    assert notes == [] if at in (None, bits - 1) else [n for n in notes if "shifted" in n] == notes != []


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(6, 16), st.booleans(), st.booleans(), st.integers(0, 50), st.floats(0.1, 1.0))
def test_pictures_come_back_whole_without_a_note(
    bits: int, signed: bool, extended: bool, seed: int, share: float
) -> None:
    top = int(share * ((1 << bits) - 1))
    values = waves(top=top, seed=seed) - (1 << (bits - 1) if signed else 0)
    grey = read(stored_in(values, bits, signed=signed, extended=extended))
    np.testing.assert_array_equal(grey.values, values)
    assert grey.notes == ()


@pytest.mark.parametrize("bits", [12, 16])
def test_frames_letters_and_padding_are_no_sign(bits: int) -> None:
    top = (1 << bits) - 1
    for bright in (top, top - 3):
        values = waves(top=top // 3)
        values[:8], values[:, -6:], values[40:60, 30:50:4] = bright, bright, bright
        assert read(stored_in(values, bits, signed=False)).notes == ()


# Wrong headers: the right picture, and a note that says what is wrong

UNSIGNED_12 = TRUE.astype(np.uint16)
WRONG = {
    "signed, 11 of 12 bits": (stored_in(BESIDE_ZERO, 11, signed=True), BESIDE_ZERO, "BitsStored is 11"),
    "signed, 10 of 12 bits": (stored_in(BESIDE_ZERO, 10, signed=True), BESIDE_ZERO, "BitsStored is 10"),
    "signed, 8 of 12 bits": (stored_in(BESIDE_ZERO, 8, signed=True), BESIDE_ZERO, "BitsStored is 8"),
    "unsigned, 10 of 12 bits": (stored_in(TRUE, 10, signed=False), TRUE, "BitsStored is 10"),
    "unsigned, marked signed": (stored_in(TRUE, 12, signed=True), TRUE, "read as unsigned"),
    "unsigned 16, marked signed": (stored_in(TRUE * 16, 16, signed=True), TRUE * 16, "read as unsigned"),
    "signed, marked unsigned": (stored_in(BESIDE_ZERO, 12, signed=False), BESIDE_ZERO, "read as signed"),
    "junk above": (stored_in(TRUE | JUNK, 12, signed=False), TRUE, "12 stored are no part"),
    "junk above signed": (stored_in(BESIDE_ZERO & 0xFFF | JUNK, 12, signed=True), BESIDE_ZERO, "no part"),
    "nameless overlay": (stored_in(TRUE | RECTANGLE, 12, signed=False), TRUE, "no part"),
    "high bit, values low": (dicom(UNSIGNED_12, BitsStored=12, HighBit=15), TRUE, "values lie in the lowest"),
    "high bit, values high": (dicom(UNSIGNED_12 << 4, BitsStored=12, HighBit=15), TRUE, "shifted by 4"),
    "high bit below": (dicom(UNSIGNED_12, BitsStored=12, HighBit=7), TRUE, "HighBit 7"),
    "more bits than there are": (dicom(UNSIGNED_12, BitsStored=20, HighBit=19), TRUE, "BitsStored 20"),
    "no bits stored": (dicom(UNSIGNED_12, BitsStored=None, HighBit=11), TRUE, "BitsStored is missing: 12"),
    "no sign told": (dicom(UNSIGNED_12, PixelRepresentation=None), TRUE, "PixelRepresentation is missing: 0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_header_gives_the_right_picture_and_a_note(what: str) -> None:
    data, values, note = WRONG[what]
    grey = read(data)
    assert shows(grey, values), what
    assert len(grey.notes) == 1
    assert note in grey.notes[0]
    assert any(note in told for told in pixels_by(data, "x", Canvas(size=64)).notes)


def test_an_overlay_that_the_header_names_is_taken_away() -> None:
    data = dicom((TRUE | RECTANGLE).astype(np.uint16), BitsStored=12, HighBit=11, WindowCenter=2048, WindowWidth=4096)
    named = dicom((TRUE | RECTANGLE).astype(np.uint16), BitsStored=12, HighBit=11)
    at = named.index(b"\xe0\x7f\x10\x00O")
    named = named[:at] + b"\x00\x60\x02\x01US\x02\x00\x0c\x00" + named[at:]
    assert shows(read(named), TRUE)
    assert read(named).notes == ("an overlay in bit 12 of the pixels was taken away",)
    np.testing.assert_allclose(read(data).unit, TRUE / 4095)


def test_what_no_reading_makes_a_picture_is_refused() -> None:
    """Half of the picture has junk above the stored bits, the other half values that need those bits."""
    deep = waves(96, 160, top=65535)
    deep[:, 80:] = TRUE | JUNK
    with pytest.raises(ImageError, match="x: values need more than the 12 bits that BitsStored gives"):
        read(stored_in(deep, 12, signed=False))


def test_unsigned_words_that_wrap_as_signed_ones_do_are_told() -> None:
    grey = read(stored_in(waves(top=60000) - 30000, 16, signed=False))
    assert "unsigned by mistake?" in grey.notes[0]


def test_the_released_reader_keeps_a_sign_that_its_library_cannot_see_through() -> None:
    """16 of 16 bits: every version of its library wraps, so the paper's pixels do, and say so."""
    data = stored_in(TRUE * 16, 16, signed=True)
    found = pixels_by(data, "x", Canvas(size=64, polarity="header"))
    wrapped = (TRUE * 16).astype(np.uint16).view(np.int16).astype(np.int64) + 32768
    expected = pixels_by(stored_in(wrapped, 16, signed=False), "y", Canvas(size=64, polarity="header"))
    np.testing.assert_array_equal(found.array, expected.array)
    assert any("its picture wraps" in note for note in found.notes)


def test_a_signed_stream_under_an_unsigned_header() -> None:
    """JPEG 2000 says itself whether it is signed, so it is believed where the picture agrees."""
    stream = bytearray(jpeg_2000((TRUE * 16).astype(np.uint16)))
    unsigned = dicom(TRUE.astype(np.uint16), "1.2.840.10008.1.2.4.90", framed(bytes(stream)))
    assert shows(read(unsigned), TRUE * 16)
    assert read(unsigned).notes == ()
    stream[42] |= 0x80  # the decoder gives the same samples less half of the range
    grey = read(dicom(TRUE.astype(np.uint16), "1.2.840.10008.1.2.4.90", framed(bytes(stream))))
    assert shows(grey, TRUE * 16)
    assert "the compressed frame says signed" in grey.notes[0]


def framed(stream: bytes) -> bytes:
    from pydicom.encaps import encapsulate

    return encapsulate([stream])


def test_eight_bits_in_a_jpeg_are_unsigned_whatever_the_header_says() -> None:
    frame = saved((TRUE >> 4).astype(np.uint8), "JPEG", quality=100)
    data = dicom((TRUE >> 4).astype(np.uint8), "1.2.840.10008.1.2.4.50", framed(frame), PixelRepresentation=1)
    for reference in (False, True):
        grey = read_radiograph(data, "x", reference=reference)
        assert np.abs(grey.values.astype(int) - (TRUE >> 4)).max() <= 2
