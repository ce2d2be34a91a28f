"""Reading one radiograph: what comes out of sound files, odd files and files that are no pictures."""

import csv
import io
import os
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import BASELINE, DEFLATED, dicom, saved
from PIL import Image, ImageFile, ImageOps
from pydicom.encaps import encapsulate

from cxrbench.errors import ImageError
from cxrbench.images.radiograph import Grey, read_bytes, read_radiograph

RAMP = np.arange(0, 4096, dtype=np.uint16).reshape(64, 64)
RAMP8 = (RAMP >> 4).astype(np.uint8)


def small(grey: Grey) -> np.ndarray:
    return np.asarray(Image.fromarray(grey.unit.astype(np.float32)).resize((64, 64), Image.Resampling.BOX)).ravel()


def correlation(first: Grey, second: Grey) -> float:
    return float(np.corrcoef(small(first), small(second))[0, 1])


def read(path: Path) -> Grey:
    return read_radiograph(read_bytes(path), str(path))


def rows(table: Path) -> Iterator[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


# The shared collections


def test_every_real_image(shared: Path) -> None:
    folder, seen, faults = shared / "real_images", 0, []
    for row in rows(folder / "labels.csv"):
        seen += 1
        grey = read(folder / row["file"])
        if grey.values.shape != (int(row["height"]), int(row["width"])):
            faults.append((row["file"], grey.values.shape))
        if row["reference"] and correlation(grey, read(folder / row["reference"])) < float(row["min_corr"]):
            faults.append((row["file"], "is another picture than its reference"))
        if grey.notes and "frame" not in row["note"]:
            faults.append((row["file"], grey.notes))
    assert faults == []
    assert seen == 82


def verdict(path: Path, reference: str, min_corr: str) -> str:
    try:
        grey = read(path)
    except ImageError as error:
        assert str(error).startswith(f"{path}: "), error
        return "reject"
    if reference and correlation(grey, read(path.parents[1] / reference)) < float(min_corr):
        return "wrong picture"
    return "warn" if grey.notes else "ok"


def test_every_bad_image(shared: Path) -> None:
    allowed = {
        "ok": {"ok"},
        "reject": {"reject"},
        "warn": {"warn", "reject"},
        "reject_or_ok": {"reject", "ok", "warn"},
    }
    folder = shared / "bad_images"
    pictures = [row for row in rows(folder / "expect.csv") if not row["file"].startswith("csv/")]
    found = {row["file"]: verdict(folder / row["file"], row["reference"], row["min_corr"]) for row in pictures}
    assert {
        f: v for f, v in found.items() if v not in allowed[next(r["expect"] for r in pictures if r["file"] == f)]
    } == {}
    assert len(found) == 66


def test_decoder_threads_agree_with_one_thread(shared: Path) -> None:
    files = sorted(path for path in (shared / "real_images").glob("derived_*/*") if path.is_file())
    alone = [read(path).unit for path in files]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda path: read(path).unit, files * 3))
    assert all(np.array_equal(alone[n % len(files)], picture) for n, picture in enumerate(together))


# Paths


def test_folder_pipe_and_empty_file_are_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe.png")
    for name, reason in (("folder.png", "is a folder"), ("empty.png", "is empty"), ("pipe.png", "is a pipe")):
        with pytest.raises(ImageError, match=reason):
            read_bytes(tmp_path / name)


def test_symbolic_links(tmp_path: Path) -> None:
    (tmp_path / "sound.png").write_bytes(saved(RAMP8))
    for name, target in (("good", "sound.png"), ("gone", "nothing.png"), ("loop", "loop"), ("up", ".")):
        (tmp_path / name).symlink_to(target)
    assert read(tmp_path / "good").values.shape == (64, 64)
    for name in ("gone", "loop", "up"):
        with pytest.raises(ImageError, match=name):
            read_bytes(tmp_path / name)


@pytest.mark.parametrize("name", ["View1_Frontal.JPG", "radiografi\u0301a.png"])
def test_missing_file_offers_the_near_name(tmp_path: Path, name: str) -> None:
    near = "view1_frontal.jpg" if name.startswith("V") else "radiograf\u00eda.png"
    (tmp_path / near).touch()
    with pytest.raises(ImageError, match=f"no such file. There is '{near}'"):
        read_bytes(tmp_path / name)


@pytest.mark.parametrize(
    "name", ["x" * 300 + ".png", "trailing .png ", "line\nbreak.png", "no/such/folder.png", "nul\0"]
)
def test_impossible_paths(tmp_path: Path, name: str) -> None:
    with pytest.raises(ImageError):
        read_bytes(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(saved(RAMP8))
    (tmp_path / "secret.png").chmod(0)
    with pytest.raises(ImageError, match=r"secret\.png: cannot be opened: Permission denied"):
        read_bytes(tmp_path / "secret.png")


# PNG, JPEG and the like


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_followed(orientation: int, kind: str) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = orientation
    data = saved(image, kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    np.testing.assert_array_equal(read_radiograph(data, "turned").values, upright)


def test_white_is_zero_tiff_is_no_negative() -> None:
    plain = read_radiograph(saved(RAMP, "TIFF"), "plain")
    data = bytearray(saved(RAMP, "TIFF"))
    tag = data.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01\x00")  # PhotometricInterpretation = BlackIsZero
    data[tag + 8] = 0
    np.testing.assert_allclose(read_radiograph(bytes(data), "negative").unit, 1 - plain.unit)


def test_palette_colours_not_indices() -> None:
    image = Image.fromarray(255 - RAMP8).convert("P")
    image.putpalette(np.repeat(np.arange(256)[::-1], 3).astype(np.uint8).tobytes())
    image.info["transparency"] = 3
    grey = read_radiograph(saved(image), "palette")
    np.testing.assert_array_equal(grey.values, 255 - np.asarray(image))
    assert grey.notes == ()


def test_varying_alpha_is_dropped_and_told() -> None:
    alpha = np.where(np.arange(64)[:, None] < 20, 0, 255).astype(np.uint8).repeat(64, axis=1)
    grey = read_radiograph(saved(np.stack([RAMP8, RAMP8, RAMP8, alpha], axis=-1)), "alpha")
    np.testing.assert_array_equal(grey.values, RAMP8)
    assert "alpha" in grey.notes[0]


def test_deep_pictures_span_their_own_range() -> None:
    grey = read_radiograph(saved(RAMP + 100), "12 in 16")
    assert (grey.low, grey.high) == (100.0, 4195.0)
    assert grey.unit.max() == 1.0


def test_at_least_allows_a_smaller_jpeg_and_no_smaller_than_asked() -> None:
    data = saved(Image.fromarray(RAMP8).resize((800, 1000)), "JPEG")
    shapes = {need: read_radiograph(data, "x", (need, need)).values.shape for need in (90, 100, 101, 300, 900)}
    assert shapes == {90: (125, 100), 100: (125, 100), 101: (250, 200), 300: (500, 400), 900: (1000, 800)}
    assert read_radiograph(data, "x").values.shape == (1000, 800)


def test_header_bombs_are_refused_before_anything_is_allocated() -> None:
    ihdr = b"IHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x00\x00\x00\x00"
    png = b"\x89PNG\r\n\x1a\n" + b"\x00\x00\x00\r" + ihdr + zlib.crc32(ihdr).to_bytes(4, "big")
    big = Image.new("1", (12000, 8000))
    for data in (png, saved(big), dicom(RAMP, Rows=60000, Columns=60000)):
        with pytest.raises(ImageError, match=r"bomb: .*limit"):
            read_radiograph(data, "bomb")


def test_lenient_switches_of_pillow_stay_as_they_are() -> None:
    guard = Image.MAX_IMAGE_PIXELS
    read_radiograph(saved(RAMP8), "x")
    assert guard == Image.MAX_IMAGE_PIXELS
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


# DICOM


def test_window_edges_follow_the_standard() -> None:
    grey = read_radiograph(dicom(RAMP, WindowCenter=2048, WindowWidth=4096), "x")
    np.testing.assert_allclose(grey.unit, RAMP / 4095)
    exact = read_radiograph(dicom(RAMP, WindowCenter=1000, WindowWidth=500, VOILUTFunction="LINEAR_EXACT"), "x")
    assert (exact.low, exact.high) == (750.0, 1250.0)


def test_window_is_meant_for_rescaled_values() -> None:
    data = dicom(RAMP, WindowCenter=1000.5, WindowWidth=1001, RescaleSlope=0.5, RescaleIntercept=200)
    grey = read_radiograph(data, "x")
    np.testing.assert_allclose(grey.unit, np.clip((RAMP * 0.5 + 200 - 500) / 1000, 0, 1), atol=1e-12)


def test_sigmoid() -> None:
    grey = read_radiograph(dicom(RAMP, WindowCenter=2000, WindowWidth=900, VOILUTFunction="SIGMOID"), "x")
    np.testing.assert_allclose(grey.unit, 1 / (1 + np.exp(-4 * (RAMP - 2000.0) / 900)))


@pytest.mark.parametrize(
    "header",
    [
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PresentationLUTShape": "INVERSE"},
        {"RescaleSlope": -1, "RescaleIntercept": 4095},
        {"RescaleSlope": -1, "RescaleIntercept": 4095, "WindowCenter": 2048, "WindowWidth": 4096},
    ],
)
def test_inverted_once_and_only_once(header: dict[str, Any]) -> None:
    np.testing.assert_allclose(read_radiograph(dicom(RAMP, **header), "x").unit, 1 - RAMP / 4095, atol=1e-12)


def test_window_that_shows_nothing_is_ignored_with_a_note() -> None:
    grey = read_radiograph(dicom(RAMP, WindowCenter=60000, WindowWidth=10), "x")
    np.testing.assert_allclose(grey.unit, RAMP / 4095)
    assert "window" in grey.notes[0]


def test_twelve_bits_signed_without_sign_extension() -> None:
    signed = RAMP.astype(np.int16) - 2048
    data = dicom((signed & 0x0FFF).astype(np.int16), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(read_radiograph(data, "x").values, signed)


@pytest.mark.parametrize("inverted", [False, True])
def test_padding_is_dark_and_out_of_the_range(inverted: bool) -> None:
    values = RAMP.copy()
    values[:8] = 60000
    photometric = "MONOCHROME1" if inverted else "MONOCHROME2"
    grey = read_radiograph(dicom(values, PixelPaddingValue=60000, PhotometricInterpretation=photometric), "x")
    assert grey.unit[:8].max() == 0.0
    assert grey.unit[8:].max() == 1.0
    assert "12.5%" in grey.notes[0]


def test_first_of_many_frames() -> None:
    data = dicom(RAMP, pixel_data=RAMP.tobytes() + (RAMP // 2).tobytes(), NumberOfFrames=2)
    for reference in (False, True):
        grey = read_radiograph(data, "x", reference=reference)
        np.testing.assert_array_equal(grey.values, RAMP)
        assert grey.notes == ("2 frames: the first was taken",)


def test_size_inside_the_jpeg_must_be_that_of_the_header() -> None:
    data = dicom(RAMP8[:32], BASELINE, encapsulate([saved(RAMP8, "JPEG")]))
    with pytest.raises(ImageError, match="64 x 64 pixels, the header 64 x 32"):
        read_radiograph(data, "x")


def test_deflated_bomb(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cxrbench.images.header.PIXEL_LIMIT", 1 << 20)
    sound = dicom(RAMP, DEFLATED)
    assert read_radiograph(sound, "sound").values.shape == (64, 64)
    start = 144 + int.from_bytes(sound[140:144], "little")
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    swollen = b"".join(deflater.compress(bytes(1 << 22)) for _ in range(4)) + deflater.flush()
    with pytest.raises(ImageError, match="swells"):
        read_radiograph(sound[:start] + swollen, "bomb")


@settings(deadline=None, derandomize=True, max_examples=200)
@given(st.sampled_from(["png", "jpeg", "raw", "baseline"]), st.data())
def test_damaged_bytes_give_a_picture_or_an_image_error(kind: str, data: st.DataObject) -> None:
    sound = {
        "png": saved(RAMP8),
        "jpeg": saved(RAMP8, "JPEG"),
        "raw": dicom(RAMP, WindowCenter=2048, WindowWidth=4096),
        "baseline": dicom(RAMP8, BASELINE, encapsulate([saved(RAMP8, "JPEG")])),
    }[kind]
    damaged = bytearray(sound[: data.draw(st.integers(len(sound) // 3, len(sound)))])
    for _ in range(data.draw(st.integers(0, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        grey = read_radiograph(bytes(damaged), "damaged")
    except ImageError as error:
        assert str(error).startswith("damaged: ")
    else:
        assert grey.low < grey.high
        assert np.isfinite(grey.unit).all()
