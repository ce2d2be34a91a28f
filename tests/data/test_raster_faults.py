"""PNG, TIFF and the like whose samples run short, and files made to cost time or memory."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import made_hostile_images
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_images import png, saved, tiff, waves
from PIL import Image, ImageFile

from cxrbench.errors import ImageError
from cxrbench.images.grey import refusing
from cxrbench.images.pixels import pixels_by
from cxrbench.images.radiograph import read_radiograph
from cxrbench.specs.recipe import Canvas, Resize, Steps

SHALLOW = waves(100, 80, 255).astype(np.uint8)
DEEP = waves(100, 80).astype(np.uint16)
COLOUR = np.stack([SHALLOW, SHALLOW[::-1], SHALLOW], axis=-1)
KINDS = {"grey": (SHALLOW, 0), "deep": (DEEP, 0), "colour": (COLOUR, 2), "alpha": (COLOUR[..., :2], 4)}
RECIPES = (
    Canvas(size=64),
    Canvas(size=64, decode="radiograph", polarity="header"),
    Steps(kind="steps", polarity="stored", steps=(Resize(op="resize", to="exact", size=64, filter="bilinear"),)),
)


@pytest.fixture(params=[False, True], ids=["strict", "lenient"])
def leniency(request: pytest.FixtureRequest) -> Iterator[bool]:
    """Pillow's switch, which other code in the process may have set."""
    before, ImageFile.LOAD_TRUNCATED_IMAGES = ImageFile.LOAD_TRUNCATED_IMAGES, request.param
    yield request.param
    assert request.param == ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = before


@pytest.mark.usefixtures("leniency")
@pytest.mark.parametrize("kind", KINDS)
def test_png_with_fewer_rows_than_it_says_is_refused(kind: str) -> None:
    values, colour = KINDS[kind]
    whole = read_radiograph(png(values, colour=colour), "x")
    np.testing.assert_array_equal(whole.values.shape, values.shape[:2])
    for rows in (99, 50, 1):
        short = png(values, rows, colour)
        for recipe in RECIPES:
            with pytest.raises(ImageError, match=r"x: PNG holds [\d,]+ bytes of picture, its header promises"):
                pixels_by(short, "x", recipe)
        with pytest.raises(ImageError, match="the rest is missing"):
            read_radiograph(short, "x")


@pytest.mark.parametrize("last", [0, 173, 255])
def test_png_whose_last_rows_are_of_one_grey_is_whole(last: int) -> None:
    values = SHALLOW.copy()
    values[-30:] = last
    assert read_radiograph(png(values), "x").notes == ()
    np.testing.assert_array_equal(read_radiograph(png(values), "x").values, values)
    bilevel = Image.fromarray(values > 100)
    np.testing.assert_array_equal(read_radiograph(saved(bilevel), "x").values > 0, values > 100)


def test_samples_behind_the_last_row_change_nothing() -> None:
    np.testing.assert_array_equal(read_radiograph(png(SHALLOW, extra=b"more" * 99), "x").values, SHALLOW)


def interlaced(values: np.ndarray, share: float) -> bytes:
    """An Adam7 PNG that holds the first `share` of its samples."""
    import zlib

    from made_images import chunk

    steps = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    lines = [b"\0" + row.tobytes() for top, left, down, across in steps for row in values[top::down, left::across]]
    body = b"".join(lines)
    head = bytearray(png(values)[16:29])
    head[12] = 1
    data = chunk(b"IDAT", zlib.compress(body[: round(len(body) * share)]))
    return png(values)[:8] + chunk(b"IHDR", bytes(head)) + data + chunk(b"IEND", b"")


@pytest.mark.usefixtures("leniency")
def test_interlaced_png() -> None:
    np.testing.assert_array_equal(read_radiograph(interlaced(SHALLOW, 1), "x").values, SHALLOW)
    for share in (0.99, 0.6, 0.1):
        with pytest.raises(ImageError):
            read_radiograph(interlaced(SHALLOW, share), "x")


@pytest.mark.usefixtures("leniency")
@pytest.mark.parametrize("rest", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *(("PNG", {}), ("BMP", {}), ("TIFF", {}), ("JPEG2000", {}), ("JPEG", {}), ("JPEG", {"progressive": True})),
        *(("TIFF", {"compression": how}) for how in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")),
        *(("WEBP", {}), ("WEBP", {"lossless": True})),
    ],
)
def test_a_cut_file_is_refused_whatever_others_have_told_pillow(kind: str, options: dict, rest: float) -> None:
    data = saved(SHALLOW, kind, **options)
    assert read_radiograph(data, "x").values.shape == SHALLOW.shape
    with pytest.raises(ImageError, match=r"^x: "):
        read_radiograph(data[: int(len(data) * rest)], "x")


@pytest.mark.usefixtures("leniency")
def test_tiff_without_some_of_its_strips_is_refused() -> None:
    body, strip = SHALLOW.tobytes(), 10 * 80
    places = [8 + n * strip for n in range(10)]
    whole = tiff(SHALLOW, places, [strip] * 10, 10, body)
    np.testing.assert_array_equal(read_radiograph(whole, "x").values, SHALLOW)
    for offsets, counts in (
        (places[:6], [strip] * 6),
        ([*places[:9], 0], [strip] * 10),
        (places, [*[strip] * 9, 5]),
    ):
        with pytest.raises(ImageError, match="TIFF lacks strips"):
            read_radiograph(tiff(SHALLOW, offsets, counts, 10, body), "x")
    with pytest.raises(ImageError):
        read_radiograph(tiff(SHALLOW, [*places[:9], 10**6], [strip] * 10, 10, body), "x")


@settings(deadline=None, derandomize=True, max_examples=150)
@given(st.sampled_from(["PNG", "TIFF", "BMP", "WEBP", "JPEG2000", "JPEG"]), st.data())
def test_damaged_rasters_give_a_picture_or_an_image_error(kind: str, data: st.DataObject) -> None:
    sound = saved(DEEP if kind in ("PNG", "TIFF") else SHALLOW, kind)
    damaged = bytearray(sound[: data.draw(st.integers(1, len(sound)) | st.just(len(sound)))])
    for _ in range(data.draw(st.integers(0, 3))):
        places = st.integers(0, min(200, len(damaged)) - 1) | st.integers(0, len(damaged) - 1)
        damaged[data.draw(places)] ^= 1 << data.draw(st.integers(0, 7))
    try:
        grey = read_radiograph(bytes(damaged), "x")
    except ImageError as error:
        assert str(error).startswith("x: ")
    else:
        assert np.isfinite(grey.unit).all()


def test_hostile_files_cost_seconds_and_megabytes_at_most() -> None:
    """In a process of its own, whose memory can be asked for; two seconds each, and room for a busy machine."""
    here = Path(made_hostile_images.__file__)
    program = subprocess.run(
        [sys.executable, str(here)], capture_output=True, text=True, check=True, timeout=300, env=dict(os.environ)
    )
    found = {line["name"]: line for line in map(json.loads, program.stdout.splitlines())}
    assert found.keys() == made_hostile_images.FILES.keys()
    for name, (_, words) in made_hostile_images.FILES.items():
        assert re.search(words, found[name]["found"]) if words else found[name]["found"] == "", found[name]
        assert found[name]["seconds"] < 4, name
        assert found[name]["peak"] < 1e9, name


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RecursionError("maximum recursion depth exceeded"), "nested deeper"),
        (SystemError("codec"), "SystemError: codec"),
        (OverflowError("big"), "OverflowError: big"),
        (AttributeError("no such thing"), "AttributeError"),
    ],
)
def test_whatever_a_decoder_throws_becomes_an_image_error(error: Exception, words: str) -> None:
    with pytest.raises(ImageError, match=f"^a.png: .*{words}") as caught, refusing("a.png"):
        raise error
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_what_stops_a_program_passes_through(stop: type[BaseException]) -> None:
    with pytest.raises(stop), refusing("a.png"):
        raise stop
