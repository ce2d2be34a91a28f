"""DICOM files that real archives hold and the standard forbids: read right with a note, or refused by their cause."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import (
    BASELINE,
    EXPLICIT,
    EXTENDED,
    JPEG_2000,
    LOSSLESS,
    RLE,
    SEQUENCE_END,
    dicom,
    jpeg_2000,
    saved,
    waves,
    with_element,
    with_syntax,
)
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, encapsulate_extended
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.uid import UID

from cxrbench.errors import ImageError
from cxrbench.images.header import OVERLAYS, PIXELS, TAGS
from cxrbench.images.pixels import pixels_by
from cxrbench.images.radiograph import Grey, read_radiograph
from cxrbench.specs.recipe import Canvas

DEEP = waves().astype(np.uint16)
SHALLOW = (DEEP >> 4).astype(np.uint8)
TWELVE: dict[str, Any] = {"BitsStored": 12, "HighBit": 11}
PLAIN = dicom(DEEP, **TWELVE)
STREAM = jpeg_2000(DEEP)
FRAMED = dicom(DEEP, JPEG_2000, encapsulate([STREAM]), **TWELVE)
WINDOW_CENTER, WINDOW_WIDTH, SLOPE, INTERCEPT = 0x00281050, 0x00281051, 0x00281053, 0x00281052
JPEG = saved(SHALLOW, "JPEG", quality=100)


def read(data: bytes, **options: Any) -> Grey:
    return read_radiograph(data, "x", **options)


def text(*elements: tuple[int, str, str]) -> bytes:
    """PLAIN with more elements, in the order of their tags."""
    data = PLAIN
    for tag, kind, value in sorted(elements):
        data = with_element(data, tag, kind, value.encode())
    return data


# One malformed optional tag is named and ignored


@pytest.mark.parametrize(
    ("tag", "data"),
    {
        "WindowCenter": text((WINDOW_CENTER, "DS", "2047,5"), (WINDOW_WIDTH, "DS", "3000")),
        "WindowWidth": text((WINDOW_CENTER, "DS", "2047"), (WINDOW_WIDTH, "DS", "wide")),
        "WindowCenter ": text((WINDOW_CENTER, "DS", "NaN"), (WINDOW_WIDTH, "DS", "3000")),
        "WindowCenter  ": text((WINDOW_CENTER, "DS", "\\2000"), (WINDOW_WIDTH, "DS", "3000\\3000")),
        "RescaleSlope": text((SLOPE, "DS", "US"), (INTERCEPT, "DS", "7")),
        "RescaleIntercept": text((INTERCEPT, "DS", "0,0"), (SLOPE, "DS", "1")),
        "NumberOfFrames": text((0x00280008, "IS", "one ")),
        "PixelPaddingValue": with_element(PLAIN, 0x00280120, "US", b"\1\2\3\4\5\6")[:-1] + PLAIN[-1:],
        "VOILUTSequence": dicom(DEEP, **TWELVE, VOILUTSequence=Sequence([Dataset()])),
        "ModalityLUTSequence": dicom(DEEP, **TWELVE, ModalityLUTSequence=Sequence([Dataset()])),
    }.items(),
)
def test_a_malformed_optional_tag_is_noted_by_name_and_ignored(tag: str, data: bytes) -> None:
    grey = read(data)
    if tag != "PixelPaddingValue":  # three values where one belongs: the first is taken
        assert [note.split()[0] for note in grey.notes] == [tag.strip()]
        assert "is malformed" in grey.notes[0]
    np.testing.assert_array_equal(grey.values, DEEP)
    assert (grey.low, grey.high) == (DEEP.min(), DEEP.max())


US_7, ITEM_OF_7 = b"\7\0", b"\xfe\xff\x00\xe0\x0a\0\0\0\x28\0\x20\x01US\2\0\7\0"
OPTIONAL: dict[str | int, tuple[str, bytes, bytes]] = {  # kind, a value, two values
    **dict.fromkeys(OVERLAYS, ("US", b"\x0c\0", b"\x0c\0\x0d\0")),
    "NumberOfFrames": ("IS", b"1", b"1\\2"),
    "HighBit": ("US", b"\x0b\0", b"\x0b\0\x0e\0"),
    "RescaleSlope": ("DS", b"2", b"2\\3"),
    "RescaleIntercept": ("DS", b"-9", b"-9\\3"),
    "WindowCenter": ("DS", b"900", b"900\\1000"),
    "WindowWidth": ("DS", b"900", b"900\\1000"),
    "VOILUTFunction": ("CS", b"SIGMOID", b"SIGMOID\\LINEAR"),
    "PresentationLUTShape": ("CS", b"INVERSE", b"INVERSE\\IDENTITY"),
    "PixelPaddingValue": ("US", b"\x00\x09", b"\x00\x09\x01\x09"),
    "PixelPaddingRangeLimit": ("US", b"\x00\x09", b"\x00\x09\x01\x09"),
    "FloatPixelPaddingValue": ("FL", struct.pack("<f", 2304), struct.pack("<2f", 2304, 2305)),
    "DoubleFloatPixelPaddingValue": ("FD", struct.pack("<d", 2304), struct.pack("<2d", 2304, 2305)),
    "ModalityLUTSequence": ("SQ", b"", b""),
    "VOILUTSequence": ("SQ", b"", b""),
    "ExtendedOffsetTable": ("OV", b"", b""),
    "ExtendedOffsetTableLengths": ("OV", b"", b""),
}
WITH: dict[str | int, dict[str, Any]] = {
    "HighBit": {"HighBit": None},
    "WindowCenter": {"WindowWidth": 3000},
    "WindowWidth": {"WindowCenter": 2000},
    "VOILUTFunction": {"WindowWidth": 3000, "WindowCenter": 2000},
    "PixelPaddingRangeLimit": {"PixelPaddingValue": 5000},
}
TOLD = {
    *("SOPClassUID", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration", "Rows", "Columns"),
    *("BitsAllocated", "BitsStored", "PixelRepresentation", *PIXELS),
}


def test_every_optional_tag_that_is_read_is_tried() -> None:
    """A tag that is read from now on joins OPTIONAL, unless the pixels cannot be told without it."""
    read_ones = {tag for tag in TAGS if "PaletteColor" not in tag} | set(OVERLAYS)
    assert read_ones == set(OPTIONAL) | TOLD


@pytest.mark.parametrize("tag", OPTIONAL, ids=lambda tag: tag if isinstance(tag, str) else f"{tag:08X}")
def test_no_value_of_an_optional_tag_refuses_a_file(tag: str | int) -> None:
    kind, one, two = OPTIONAL[tag]
    name = tag if isinstance(tag, str) else f"OverlayBitPosition of group {tag >> 16:04X}"
    whole = {**TWELVE, **WITH.get(tag, {})}
    for plain in (dicom(DEEP, **whole), dicom(DEEP, JPEG_2000, encapsulate([STREAM]), **whole)):

        def having(kind: str, value: bytes, plain: bytes = plain) -> Grey:
            return read(with_element(plain, Tag(tag), kind, value))

        without = read(plain)
        assert without.notes == ()
        assert_alike(having(kind, b""), without)
        assert_alike(having(kind, two), having(kind, one))
        for kind_of_it, wrong in (("US", US_7) if kind == "CS" else ("LO", b"no number"), ("SQ", ITEM_OF_7)):
            found = having(kind_of_it, wrong)
            (note,) = found.notes
            assert note.startswith(f"{name} is malformed")
            assert note.endswith(": ignored")
            assert_alike(found, without)


def assert_alike(found: Grey, wanted: Grey) -> None:
    np.testing.assert_array_equal(found.values, wanted.values)
    assert (found.low, found.high) == (wanted.low, wanted.high)


@pytest.mark.parametrize("damage", [b"", b"\0"])
def test_tables_of_the_frames_places_are_followed_where_they_can_be_ones(damage: bytes) -> None:
    frames, offsets, lengths = encapsulate_extended([STREAM, jpeg_2000(DEEP[::-1].copy())])
    tables = {"ExtendedOffsetTable": offsets + 8 * damage, "ExtendedOffsetTableLengths": lengths}
    grey = read(dicom(DEEP, JPEG_2000, frames, **TWELVE, NumberOfFrames=2, **tables))
    assert [note.split(":")[0] for note in grey.notes] == [
        *(f"{tag} is malformed" for tag in tables if damage),
        "2 frames",
    ]
    np.testing.assert_array_equal(grey.values, DEEP)


@pytest.mark.parametrize("bit", [16, 0xFFFF])
def test_an_overlay_in_no_bit_of_the_pixels_is_noted_and_ignored(bit: int) -> None:
    grey = read(with_element(PLAIN, OVERLAYS[1], "US", struct.pack("<H", bit)))
    assert grey.notes == (f"OverlayBitPosition of group 6002 is {bit}, no bit of 16: ignored",)
    np.testing.assert_array_equal(grey.values, DEEP)


@pytest.mark.parametrize(("first", "last"), [(-1024, 0), (0, -1024), (0, 0), (-1024, -1024), (0, 100)])
def test_padding_reaches_to_its_limit_whichever_is_nought(first: int, last: int) -> None:
    values = DEEP.astype(np.int16) + 200
    values[:40] = np.linspace(-1024, 100, 40 * values.shape[1]).reshape(40, -1).astype(np.int16)
    shown = read(dicom(values, PixelPaddingValue=first, PixelPaddingRangeLimit=last)).values
    padded = (values >= min(first, last)) & (values <= max(first, last))
    assert padded.any()
    np.testing.assert_array_equal(shown, np.where(padded, values[~padded].min(), values))


def test_window_below_one_is_noted() -> None:
    grey = read(dicom(DEEP, **TWELVE, WindowCenter="0.5", WindowWidth="0.8", RescaleSlope="0.0002", RescaleIntercept=0))
    assert grey.notes == ("WindowWidth 0.8 is below 1, which a linear window must not be: ignored",)


def test_unknown_function_is_noted() -> None:
    grey = read(dicom(DEEP, **TWELVE, WindowCenter=2048, WindowWidth=4096, VOILUTFunction="CUBIC"))
    assert grey.notes == ("VOILUTFunction 'CUBIC' is unknown: LINEAR was taken",)
    np.testing.assert_allclose(grey.unit, DEEP / 4095)


@pytest.mark.parametrize("tag", ["Rows", "Columns", "BitsAllocated", "PhotometricInterpretation"])
def test_a_required_tag_is_refused_by_name(tag: str) -> None:
    with pytest.raises(ImageError, match=f"x: DICOM without {tag}"):
        read(dicom(DEEP, **TWELVE, **{tag: None}))


@pytest.mark.parametrize("tag", ["Rows", "BitsAllocated", "PixelRepresentation"])
def test_a_malformed_required_tag_is_refused_by_name(tag: str) -> None:
    number = {"Rows": 0x00280010, "BitsAllocated": 0x00280100, "PixelRepresentation": 0x00280103}[tag]
    head = struct.pack("<HH2sH", number >> 16, number & 0xFFFF, b"US", 2)
    at = PLAIN.index(head)
    data = PLAIN[:at] + head[:4] + b"LO" + struct.pack("<H", 4) + b"abcd" + PLAIN[at + 10 :]
    with pytest.raises(ImageError, match=f"x: DICOM with a malformed {tag}"):
        read(data)


def test_other_letters_of_the_photometric_interpretation() -> None:
    data = dicom(DEEP, **TWELVE, PhotometricInterpretation="MONOCHROME1").replace(b"MONOCHROME1", b"Monochrome1")
    grey = read(data)
    assert "Monochrome1" in grey.notes[0]
    np.testing.assert_allclose(grey.unit, 1 - read(PLAIN).unit)


# Frames that are not what the transfer syntax says, or not all there


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (with_syntax(FRAMED, None), "there is no transfer syntax, but the pixel data are JPEG 2000 frames"),
        (with_syntax(FRAMED, EXPLICIT), "says Explicit VR Little Endian, but the pixel data are JPEG 2000"),
        (with_syntax(FRAMED, LOSSLESS), "but the frame is JPEG 2000: read as that"),
        (with_syntax(FRAMED, BASELINE), "but the frame is JPEG 2000: read as that"),
        (with_syntax(PLAIN, JPEG_2000), "but the pixels are not compressed: read as they are"),
        (FRAMED.removesuffix(SEQUENCE_END), "the compressed frames lack their end mark"),
    ],
)
def test_a_mislabelled_picture_is_read_by_its_content_with_a_note(data: bytes, note: str) -> None:
    for reference in (False, True):
        grey = read(data, reference=reference)
        np.testing.assert_array_equal(grey.values, DEEP)
        assert len(grey.notes) == 1
        assert note in grey.notes[0]


def test_run_lengths_without_a_transfer_syntax() -> None:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = UID(EXPLICIT)
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "2.25.1"
    made.Rows, made.Columns, made.SamplesPerPixel, made.PhotometricInterpretation = *DEEP.shape, 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 12, 11, 0
    made.PixelData = DEEP.tobytes()
    made["PixelData"].VR = "OW"
    made.compress(UID(RLE), encoding_plugin="pydicom")
    data = dicom(DEEP, RLE, made.PixelData, **TWELVE)
    np.testing.assert_array_equal(read(data).values, DEEP)
    found = read(with_syntax(data, None))
    np.testing.assert_array_equal(found.values, DEEP)
    assert "RLE frames" in found.notes[0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (FRAMED[: len(FRAMED) - len(STREAM) // 2], "the compressed picture is cut off: "),
        (dicom(DEEP, JPEG_2000, encapsulate([STREAM[:-200]]), **TWELVE), "cut off: it lacks its end"),
        (dicom(SHALLOW, BASELINE, encapsulate([JPEG[:-40]])), "cut off: it lacks its end"),
        (dicom(SHALLOW, BASELINE, encapsulate([saved(SHALLOW)])), "of another kind than declared .a PNG file"),
        (with_syntax(PLAIN[: len(PLAIN) // 2], JPEG_2000), "hold no compressed frame: cut off or damaged"),
        (PLAIN[: len(PLAIN) // 2], "cut off"),
    ],
)
def test_a_cut_file_is_refused_as_cut(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError, match=f"x: .*{reason}"):
        read(data)


def test_fill_bytes_behind_the_end_of_a_frame_are_no_cut() -> None:
    for fill in (b"", b"\0\0\0\0", b"\xff\xff"):
        grey = read(dicom(SHALLOW, BASELINE, encapsulate([JPEG + fill])))
        assert np.abs(grey.values.astype(int) - SHALLOW).max() <= 2


# Kinds of pixels


def test_twelve_bits_of_jpeg_extended_are_read() -> None:
    """The frame is DEEP, by libjpeg-turbo at quality 95; its own decoder is up to 8 levels of 4096 off."""
    frame = (Path(__file__).resolve().parent.parent / "fixtures" / "extended_12bit.jpg").read_bytes()
    for syntax, notes in ((EXTENDED, 0), (LOSSLESS, 1)):
        for reference in (False, True):
            grey = read(dicom(DEEP, syntax, encapsulate([frame]), **TWELVE), reference=reference)
            assert np.abs(grey.values.astype(int) - DEEP).max() == 8
            assert len(grey.notes) == notes
    with pytest.raises(ImageError, match="cut off"):
        read(dicom(DEEP, EXTENDED, encapsulate([frame[:-900]]), **TWELVE))


def test_eight_bits_of_jpeg_under_a_deeper_header() -> None:
    grey = read(dicom(DEEP, EXTENDED, encapsulate([JPEG]), **TWELVE))
    assert np.abs(grey.values.astype(int) - SHALLOW).max() <= 2
    assert "8 bits a pixel" in grey.notes[0]


@pytest.mark.parametrize(("tag", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")])
def test_floating_point_pixels_are_read_by_every_recipe(tag: str, kind: str) -> None:
    values = (DEEP / 4096 * 300 - 10).astype(kind)
    number, name = {"FloatPixelData": (8, "OF"), "DoubleFloatPixelData": (9, "OD")}[tag]
    bits = values.dtype.itemsize * 8

    def made(samples: np.ndarray) -> bytes:
        whole = dicom(DEEP, BitsAllocated=bits, BitsStored=None, HighBit=None, PixelRepresentation=None)
        body = samples.tobytes()
        at = whole.index(b"\xe0\x7f\x10\x00O")
        return whole[:at] + struct.pack("<HH2s2xI", 0x7FE0, number, name.encode(), len(body)) + body

    grey = read(made(values))
    np.testing.assert_array_equal(grey.values, values)
    assert grey.notes == ()
    for recipe in (Canvas(size=64, polarity="header"), Canvas(size=64, polarity="negated")):
        found = pixels_by(made(values), "x", recipe).array
        assert 0 <= found.min() < 0.02
        assert found.max() > 0.9
    values[3, 3] = np.nan
    with pytest.raises(ImageError, match="NaN"):
        read(made(values))
    with pytest.raises(ImageError, match="cut off"):
        read(made(values[:-1]))


# Whatever happens to the bytes


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.sampled_from(["plain", "signed", "framed", "lossy", "deflated", "windowed"]), st.data())
def test_damaged_dicom_gives_a_picture_or_an_image_error(kind: str, data: st.DataObject) -> None:
    sound = {
        "plain": PLAIN,
        "signed": dicom(DEEP.astype(np.int16) - 2048, **TWELVE),
        "framed": FRAMED,
        "lossy": dicom(SHALLOW, BASELINE, encapsulate([JPEG])),
        "deflated": dicom(DEEP, "1.2.840.10008.1.2.1.99", **TWELVE),
        "windowed": dicom(DEEP, **TWELVE, WindowCenter=["2000", "1"], WindowWidth=["900", "2"], RescaleSlope="2"),
    }[kind]
    header = min(len(sound), 700)
    damaged = bytearray(sound[: data.draw(st.integers(200, len(sound)) | st.just(len(sound)))])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(128, min(header, len(damaged)) - 1) | st.integers(0, len(damaged) - 1))
        damaged[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        grey = read(bytes(damaged))
    except ImageError as error:
        assert str(error).startswith("x: ")
        return
    assert np.isfinite(grey.unit).all()


def test_no_flipped_bit_of_a_header_shows_another_picture_without_a_word() -> None:
    seen = 0
    for bit in range(128 * 8, PLAIN.index(b"\xe0\x7f\x10\x00O") * 8 + 96, 5):  # all of them pass; a fifth is quick
        damaged = bytearray(PLAIN)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            grey = read(bytes(damaged))
        except ImageError:
            continue
        seen += 1
        if not grey.notes:
            assert grey.values.shape == DEEP.shape, bit
            assert np.corrcoef(grey.unit.ravel(), DEEP.ravel())[0, 1] > 0.999, bit
    assert seen > 200
