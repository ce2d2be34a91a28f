"""From bytes to pixels: resize against torch, canvas geometry, and independence of what else is asked for."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxrbench.errors import ImageError
from cxrbench.images import steps
from cxrbench.images.pixels import fitted, pixels, pixels_by
from cxrbench.specs.recipe import Canvas

SIDES = st.integers(1, 90)
WIDTHS = st.integers(2, 90)  # with antialiasing torch 2.14 repeats one row in results that are one pixel wide
RADIOGRAPH = Canvas(decode="radiograph", polarity="header")


def picture(height: int, width: int, seed: int = 0, top: int = 256) -> np.ndarray:
    kind = np.uint8 if top <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, top, (height, width)).astype(kind)


def saved(values: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


def by_torch(values: np.ndarray, height: int, width: int, antialias: bool) -> np.ndarray:
    tensor = torch.from_numpy(values.astype(np.float64))[None, None]
    return torch.nn.functional.interpolate(
        tensor, (height, width), mode="bilinear", align_corners=False, antialias=antialias
    )[0, 0].numpy()


@settings(deadline=None, derandomize=True, max_examples=150)
@given(SIDES, SIDES, SIDES, WIDTHS, st.booleans(), st.sampled_from([steps.quick, steps.literal]))
def test_resize_is_torch_in_float64(rows: int, columns: int, height: int, width: int, antialias: bool, way) -> None:
    values = picture(rows, columns, rows * 91 + columns)
    found = way(values, height, width, antialias, steps.over_255())
    assert np.abs(found - by_torch(values / 255.0, height, width, antialias)).max() < 1e-12


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("rows", "columns"), [(1024, 1024), (390, 320), (1280, 1600)])
def test_resize_at_true_sizes(rows: int, columns: int, antialias: bool) -> None:
    values = picture(rows, columns)
    expected = by_torch(values / 255.0, 224, 200, antialias)
    found = steps.quick(values, 224, 200, antialias, steps.over_255())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert np.array_equal(found.astype(np.float32), expected.astype(np.float32))


@settings(deadline=None, derandomize=True, max_examples=60)
@given(SIDES, SIDES, st.sampled_from([256, 4096, 65536]), st.booleans(), st.sampled_from(["official", "radiograph"]))
def test_fast_equals_reference(height: int, width: int, top: int, antialias: bool, decode: str) -> None:
    recipe = Canvas(decode=decode, polarity="header", size=96, antialias=antialias)
    data = saved(picture(height, width, top, top))
    fast, plain = (pixels_by(data, "drawn", recipe, way) for way in ("fast", "reference"))
    np.testing.assert_allclose(fast.array, plain.array, rtol=3e-7, atol=1e-12)
    assert fast.notes == plain.notes


@pytest.mark.parametrize(
    "tones", [steps.stretched_negated(17, 60000), steps.stretched(17, 60000), steps.window(300, 9000)]
)
@pytest.mark.parametrize("antialias", [False, True])
def test_each_tone_commutes_with_the_resize(tones: steps.Tone, antialias: bool) -> None:
    values = np.clip(picture(300, 211, 3, 65536), 17, 60000)
    values[:40] = 17  # regions at both ends: exact zeros must stay exact
    values[-40:] = 60000
    fast, plain = (way(values, 64, 45, antialias, tones) for way in (steps.quick, steps.literal))
    np.testing.assert_array_equal(fast.astype(np.float32), plain.astype(np.float32))


def test_released_floor_leaves_the_long_side_short_where_the_facts_say() -> None:
    recipe = Canvas(size=224)
    short = [n for n in range(112, 5000) if max(fitted(n, n - 1, recipe)) == 223]
    assert len(short) == 450
    assert short[:10] == [116, 123, 130, 137, 144, 151, 158, 165, 225, 232]
    for size in (64, 512):
        assert all(max(fitted(n, n - 1, Canvas(size=size))) == size for n in range(112, 5000))


@settings(derandomize=True)
@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 600))
def test_exact_floor_always_fills_the_long_side(height: int, width: int, size: int) -> None:
    assert max(fitted(height, width, Canvas(size=size, floor="exact"))) == size


@pytest.mark.parametrize(("height", "width"), [(30, 50), (50, 30)])
def test_border_is_zero_before_normalisation(height: int, width: int) -> None:
    data = saved(np.full((height, width), 255, dtype=np.uint8))
    plain, normed = pixels(data, "white", [Canvas(size=50), Canvas(size=50, mean=(0.5,), std=(0.5,))])
    assert plain.array[0, :height, :width].min() == 1.0
    assert plain.array.sum() == height * width
    np.testing.assert_array_equal(normed.array, plain.array * 2 - 1)


def test_channels_follow_the_recipe() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    grey, colour = pixels(saved(picture(40, 40)), "x", [Canvas(size=32), Canvas(size=32, mean=mean, std=std)])
    assert grey.array.shape == (1, 32, 32)
    assert colour.array.shape == (3, 32, 32)
    assert grey.array.dtype == colour.array.dtype == np.float32
    for channel in range(3):
        np.testing.assert_allclose(colour.array[channel], (grey.array[0] - mean[channel]) / std[channel], atol=1e-6)


def test_result_does_not_depend_on_the_other_recipes() -> None:
    data = saved(picture(700, 900), "JPEG")
    recipes = [Canvas(size=s, antialias=a) for s in (64, 224, 512) for a in (False, True)] + [
        RADIOGRAPH,
        RADIOGRAPH.model_copy(update={"size": 64}),
    ]
    together = pixels(data, "x", recipes)
    for recipe, found in zip(recipes, together, strict=True):
        np.testing.assert_array_equal(found.array, pixels_by(data, "x", recipe).array)


def test_radiograph_is_scaled_by_its_own_range_and_kept_in_it() -> None:
    deep = np.linspace(500, 3500, 64 * 64).reshape(64, 64).astype(np.uint16)
    array = pixels_by(saved(deep), "deep", RADIOGRAPH).array
    assert array.min() == 0.0
    assert array.max() == pytest.approx(1.0, abs=1e-6)


def test_errors_name_the_file_once() -> None:
    with pytest.raises(ImageError) as caught:
        pixels_by(b"<html>please log in</html>", "a/b.png", Canvas())
    assert str(caught.value).startswith("a/b.png: is a web page")
    assert str(caught.value).count("a/b.png") == 1
