"""Stepped recipes against what the authors' own code made of the same pictures, level for level."""

import io
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from cxrbench.errors import ImageError
from cxrbench.images import raster, steps
from cxrbench.images.grey import Grey
from cxrbench.images.pixels import pixels, pixels_by
from cxrbench.images.steps import after, area
from cxrbench.specs import paths
from cxrbench.specs.card import card_files, read_card
from cxrbench.specs.recipe import Canvas, Crop, Recipe, Steps

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
RECIPE: TypeAdapter[Recipe] = TypeAdapter(Recipe)
SPELLED = tomllib.loads((FIXTURES / "recipes.toml").read_text())
AUTHORS = {name: RECIPE.validate_python(spelled) for name, spelled in SPELLED["authors"].items()}
REALITY = {name: RECIPE.validate_python(spelled) for name, spelled in SPELLED["reality-check"].items()}

# All others agree to the last bit. The processor divides otherwise, torch sums the last resize in float32.
OFF = {"medclip_processor": 3e-7, "chexzero": 2e-6}

# What a golden file calls the pixels, and the recipe that makes them; `None`: the recipe of the file's own model.
NAMES = {
    "pixel_values": None,
    "pixel_values_gray": None,
    "pixel_uint8": None,
    "pixel_values_eval": None,
    "pixel_values_probe": "convirt_probe",
    "benchx_pixels_0": "mgca_benchx",
    "benchx_probe_pixels_0": "mgca_benchx_probe",
}
LONGER = {"op": "resize", "to": "longer", "size": 9, "filter": "area"}
STEPPED = {
    "kind": "steps",
    "steps": [{"op": "min-max"}, {"op": "resize", "to": "exact", "size": 24, "filter": "bicubic"}],
}
PLAIN = {"kind": "steps", "steps": STEPPED["steps"][1:]}


def saved(values: np.ndarray, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


def made(recipe: Recipe, picture: np.ndarray) -> np.ndarray:
    return pixels_by(saved(picture), "made", recipe).array


def drawn(height: int, width: int, seed: int = 0, top: int = 256) -> np.ndarray:
    kind = np.uint8 if top <= 256 else np.uint16
    return np.random.default_rng(seed).integers(0, top, (height, width)).astype(kind)


def dicom(values: np.ndarray, bits: int, photometric: str = "MONOCHROME2") -> bytes:
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID, made.SOPInstanceUID = SecondaryCaptureImageStorage, "2.25.1"
    made.Rows, made.Columns = values.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, photometric
    made.BitsAllocated, made.BitsStored, made.HighBit = values.dtype.itemsize * 8, bits, bits - 1
    made.PixelRepresentation = 0
    made.PixelData = values.tobytes()
    made["PixelData"].VR = "OB" if values.dtype.itemsize == 1 else "OW"
    out = io.BytesIO()
    made.save_as(out, enforce_file_format=True)
    return out.getvalue()


def worst(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference; one stored channel stands for equal ones, or for the first of three."""
    found = found[:1] if len(expected) == 1 else np.broadcast_to(found, (len(expected), *found.shape[1:]))
    assert found.shape == expected.shape
    return float(np.abs(found.astype(np.float64) - expected).max())


def test_fixture_is_reproduced() -> None:
    archive, compared = np.load(FIXTURES / "recipe_pixels.npz"), set()
    for key in archive.files:
        if not key.startswith("pixels/"):
            continue
        _, name, image, step = key.split("/")
        found = made(AUTHORS[name], archive[f"image/{image}"])[:, :: int(step), :: int(step)]
        assert worst(found, archive[key]) <= OFF.get(name, 0), key
        compared.add(name)
    assert compared == set(AUTHORS)


def test_fixture_of_the_papers_own_input_is_reproduced() -> None:
    archive, compared = np.load(FIXTURES / "recipe_pixels.npz"), set()
    for key in archive.files:
        kind, name, *rest = key.split("/")
        if not kind.startswith("reality-check"):
            continue
        recipe = REALITY[name].model_copy(update={"antialias": kind.endswith("antialias")})
        found = made(recipe, archive[f"image/{rest[0]}"])[0, :: int(rest[1]), :: int(rest[1])]
        np.testing.assert_array_equal(found, archive[key], key)
        compared.add(name)
    assert compared == {"medclip", "gloria", "biovil", "cxr_clip", "medklip", "kad", "kad_224"}


def test_chexzero_canvas_before_its_last_resize() -> None:
    archive = np.load(FIXTURES / "recipe_pixels.npz")
    bare = AUTHORS["chexzero"].model_copy(update={"resample": None, "mean": (0.0,), "std": (1.0,)})
    for image in ("middle", "large"):
        np.testing.assert_array_equal(made(bare, archive[f"image/{image}"])[0, ::4, ::4], archive[f"canvas/{image}"])


def golden(folder: Path, name: str) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each array of pixels in a model's golden file: its key, what our recipe makes, what theirs made."""
    archive = np.load(folder / name / "golden.npz")
    for suffix in ("", "_small", "_large"):
        if f"images{suffix}" not in archive.files:
            continue
        for key, other in NAMES.items():
            if key + suffix not in archive.files:
                continue
            by = "medclip_processor" if name.startswith("medclip") and key == "pixel_values" else other or name
            theirs = archive[key + suffix]
            ours = np.stack([made(AUTHORS[by], image) for image in archive[f"images{suffix}"][: len(theirs)]])
            theirs = theirs if theirs.ndim == 4 else theirs[:, None]
            yield f"{by}/{key}{suffix}", ours * (255 if key == "pixel_uint8" else 1), theirs
        if f"pixel_values{suffix}_every4" in archive.files:
            ours = made(AUTHORS[name], archive[f"images{suffix}"][0])[None, :, ::4, ::4]
            yield f"{name}/pixel_values{suffix}_every4", ours, archive[f"pixel_values{suffix}_every4"]


def test_every_golden_file_is_reproduced(shared: Path) -> None:
    folder, compared, off = shared / "parity", 0, {}
    for name in sorted(name for name in AUTHORS if (folder / name).is_dir()):
        for key, ours, theirs in golden(folder, name):
            compared += 1
            difference = max(worst(*pair) for pair in zip(ours, theirs, strict=True))
            if difference > max(OFF.get(key.split("/")[0], 0), 1e-5 if "uint8" in key else 0):
                off[key] = difference
    assert (compared, off) == (45, {})


def test_area_is_opencv() -> None:
    """Outputs of OpenCV 5.0.0 for pictures drawn from one generator, in the file's order of sizes."""
    archive, rng = np.load(FIXTURES / "area.npz"), np.random.default_rng(7)
    for key in archive.files:
        height, width, _ = (int(n) for n in key.split("x"))
        picture = rng.integers(0, 256, (height, width)).astype(np.uint8)
        np.testing.assert_array_equal(area(picture, *archive[key].shape), archive[key], key)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(0, 255))
def test_area_keeps_a_flat_picture(height: int, width: int, size: int, level: int) -> None:
    factor = size / max(height, width)
    small = area(np.full((height, width), level, np.uint8), max(int(height * factor), 1), max(int(width * factor), 1))
    assert np.abs(small.astype(int) - level).max() <= (1 if factor > 1 else 0)


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.integers(2, 400), st.integers(1, 300))
def test_resample_is_torch(before: int, size: int) -> None:
    plane = drawn(before, before).astype(np.float32) / np.float32(60)
    recipe = Steps.model_validate(
        {
            "kind": "steps",
            "steps": [{"op": "resize", "to": "exact", "size": before, "filter": "bilinear"}],
            "divisor": 1,
            "std": [60],
            "resample": {"size": size, "filter": "bicubic"},
        }
    )
    assert recipe.size == size
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(plane)[None, None], (size, size), mode="bicubic", align_corners=False
    )
    assert worst(made(recipe, drawn(before, before)), expected[0].numpy()) < 1e-4


def smoothed(size: int) -> Steps:
    """scikit-image's resize of the middle square, of values as they are stored."""
    resample = {"size": size, "filter": "smoothed-linear"}
    return Steps.model_validate({"kind": "steps", "steps": [{"op": "crop-square"}], "divisor": 1, "resample": resample})


def test_a_smoothed_resize_is_linear_on_the_grid_with_zeros_around() -> None:
    found = made(smoothed(4), np.array([[100, 100], [20, 20]], np.uint8))[0]
    rows = np.array([0.75 * 100, 0.75 * 100 + 0.25 * 20, 0.25 * 100 + 0.75 * 20, 20])  # the last would be 15: cut
    columns = np.array([0.75, 1, 1, 0.75])
    assert np.abs(found - np.maximum(rows[:, None] * columns, 20)).max() < 1e-4


def test_a_smoothed_resize_takes_a_gaussian_before_it_reduces() -> None:
    picture = np.zeros((60, 60), np.uint8)
    picture[30, 30] = 255
    found = made(smoothed(20), picture)[0].astype(np.float64)
    sigma = 1.0  # (60 / 20 - 1) / 2
    at = np.arange(60) - 30
    bell = np.exp(-(at**2) / (2 * sigma**2)) * (np.abs(at) <= 4 * sigma)
    bell /= bell.sum()
    expected = 255 * np.outer(bell[1::3], bell[1::3])  # pixel i of the small picture lies on pixel 3 i + 1
    assert np.abs(found - expected).max() < 1e-3


@pytest.mark.parametrize(("height", "width", "top", "left"), [(9, 6, 1, 0), (6, 9, 0, 1), (7, 4, 1, 0), (5, 5, 0, 0)])
def test_the_middle_square_begins_where_torchxrayvision_begins_it(height: int, width: int, top: int, left: int) -> None:
    side, picture = min(height, width), drawn(height, width)
    assert np.array_equal(made(smoothed(side), picture)[0], picture[top : top + side, left : left + side])


def test_the_own_range_of_what_is_left_becomes_0_to_1() -> None:
    told = {"kind": "steps", "divisor": "own-range", "mean": [0.5, 0.5, 0.25], "std": [0.5, 0.5, 2], "files": "colour"}
    recipe = Steps.model_validate({**told, "steps": [*same(4), {"op": "crop", "size": 2}]})
    picture = np.full((4, 4, 3), 7, np.uint8)
    picture[1:3, 1:3] = [[[0, 10, 1], [255, 30, 5]], [[51, 20, 3], [102, 14, 9]]]
    found = made(recipe, picture)
    assert np.allclose(found[0], [[-1, 1], [-0.6, -0.2]], atol=1e-6)
    assert np.allclose(found[1], [[-1, 1], [0, -0.6]], atol=1e-6)
    assert np.allclose(found[2], (np.array([[0, 0.5], [0.25, 1]]) - 0.25) / 2, atol=1e-6)
    with pytest.raises(ImageError, match=r"one value alone.*Leave it out"):
        made(recipe, np.pad(np.full((2, 2), 9, np.uint8), 1))


@pytest.mark.parametrize("side", [40, 300])  # by arithmetic, by table
def test_min_max_starts_from_full_depth(side: int) -> None:
    deep = drawn(side, side, top=3000) + 700
    data = dicom(deep.astype(np.uint16), 12)
    wide = deep.astype(np.float64)
    expected = ((wide - wide.min()) / (wide.max() - wide.min()) * 255).astype(np.uint8)
    recipe = Steps.model_validate({"kind": "steps", "steps": [{"op": "min-max"}, *same(side)]})
    for reading in ({}, {"decode": "radiograph", "polarity": "header"}):
        found = pixels_by(data, "deep", recipe.model_copy(update=reading)).array
        np.testing.assert_array_equal(np.rint(found[0] * 255), expected)


def test_a_stretch_is_that_of_opencv_for_every_pair_of_greys() -> None:
    """Double arithmetic rounds ties otherwise for 6417 of the 32,640 pairs, as was counted against OpenCV 4.11."""
    otherwise = []
    for least in range(256):
        for greatest in range(least + 1, 256):
            greys = np.arange(least, greatest + 1).astype(np.uint8)
            found = steps.stretched_by_opencv(greys, least, greatest)
            assert (found[0], found[-1]) == (0, 255)
            slope = 255 / (greatest - least)
            if (found != np.rint(greys * slope - least * slope)).any():
                otherwise.append((least, greatest))
    assert (len(otherwise), otherwise[0]) == (6417, (0, 14))


@given(st.integers(0, 65535), st.integers(1, 65535), st.floats(0, 1))
def test_a_stretch_rounds_the_exact_sum_once(least: int, span: int, share: float) -> None:
    value = least + round(share * span)
    slope = 255 / span
    factor, summand = (Fraction(float(np.float32(number))) for number in (slope, -least * slope))
    exact = np.float32(float(value * factor + summand))
    found = steps.stretched_by_opencv(np.array([value], np.int32), least, least + span)
    assert found[0] == np.clip(np.rint(exact), 0, 255)


def test_a_stretch_leaves_dicom_files_and_pictures_of_one_grey_alone() -> None:
    recipe = Steps.model_validate({"kind": "steps", "steps": [{"op": "stretch"}, *same(24)]})
    plain = Steps.model_validate({"kind": "steps", "steps": same(24)})
    dull = drawn(24, 24, top=100)
    stretched = steps.stretched_by_opencv(dull, int(dull.min()), int(dull.max()))
    np.testing.assert_array_equal(np.rint(made(recipe, dull)[0] * 255), stretched)
    as_dicom = [pixels_by(dicom(dull, 8), "dull", one).array for one in (recipe, plain)]
    np.testing.assert_array_equal(*as_dicom)
    assert not made(recipe, np.full((24, 24), 9, np.uint8)).any()


@pytest.mark.parametrize("files", ["colour", "luma"])
def test_a_stretch_is_over_all_channels(files: str) -> None:
    scale = {"mean": [0, 0, 0], "std": [1, 1, 1]} if files == "colour" else {}
    recipe = Steps.model_validate({"kind": "steps", "files": files, "steps": [{"op": "stretch"}, *same(24)], **scale})
    colours = np.stack([drawn(24, 24, seed, top=90 + 20 * seed) for seed in range(3)], axis=-1)
    wide = steps.stretched_by_opencv(colours, int(colours.min()), int(colours.max()))
    found = pixels_by(saved(colours), "colours", recipe).array
    if files == "colour":
        np.testing.assert_array_equal(np.rint(found * 255), wide.transpose(2, 0, 1))
    else:
        np.testing.assert_array_equal(np.rint(found[0] * 255), np.asarray(Image.fromarray(wide).convert("L")))


def same(side: int) -> list[dict[str, object]]:
    """A resize that changes nothing of a picture with this side."""
    return [{"op": "resize", "to": "exact", "size": side, "filter": "bilinear"}]


@pytest.mark.parametrize("side", [40, 300])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint16, np.float64])
def test_eight_bits_are_the_range_rounded(side: int, kind: type) -> None:
    values = (
        np.random.default_rng(1).integers(-900, 3000, (side, side)) % 251
        if kind is np.uint8
        else np.random.default_rng(1).integers(0 if kind is np.uint16 else -900, 3000, (side, side))
    ).astype(kind)
    found = steps.eight_bit(Grey(values, 17.0, 240.0))
    expected = np.rint((np.clip(values.astype(np.float64), 17, 240) - 17) / 223 * 255)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 12])
def test_polarity_acts_before_the_steps(bits: int, photometric: str) -> None:
    values = drawn(24, 24, bits, 2**bits)
    data = dicom(values, bits, photometric=photometric)
    stored, negated, header = (
        pixels_by(data, "x", Steps.model_validate({**PLAIN, "polarity": way})).array
        for way in ("stored", "negated", "header")
    )
    np.testing.assert_allclose(negated, 1 - stored, atol=1.01 / 255)
    np.testing.assert_array_equal(header, negated if photometric == "MONOCHROME1" else stored)
    assert np.abs(negated - stored).max() > 0.9


def test_dicom_as_mgca_reads_it(shared: Path) -> None:
    """Stored values over their maximum, rounded, then negated by the header: MONOCHROME2, MONOCHROME1."""
    stored = np.load(shared / "parity" / "mgca" / "golden.npz")
    for row, photometric in enumerate(("MONOCHROME2", "MONOCHROME1")):
        for bits in (12, 16):  # what the header says of bits is left alone
            data = dicom(stored["dicom_pixels"], bits, photometric)
            found = pixels_by(data, "x", AUTHORS["mgca"]).array
            np.testing.assert_array_equal(found[0], stored["pixel_values_dicom"][row])


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_over_maximum_rounds_half_to_even_and_then_negates(photometric: str) -> None:
    values = np.tile(np.arange(24, dtype=np.uint16), (24, 1))
    values[0, 0] = 510  # so that 1 becomes 0.5, and 3 becomes 1.5
    plain = {**PLAIN, "polarity": "header", "dicom": "over-maximum"}
    found = np.rint(pixels_by(dicom(values, 12, photometric), "x", Steps.model_validate(plain)).array[0] * 255)
    wanted = np.array([0, 0, 1, 2, 2, 2, 3, 4])
    np.testing.assert_array_equal(found[1, :8], wanted if photometric == "MONOCHROME2" else 255 - wanted)
    with pytest.raises(ImageError, match="no stored value is above 0"):
        pixels_by(dicom(values * 0, 12, photometric), "x", Steps.model_validate(plain))


def test_a_deep_raster_is_white_for_the_released_reader_and_whole_for_the_other() -> None:
    deep = np.linspace(300, 60000, 24 * 24).reshape(24, 24).astype(np.uint16)
    released = pixels_by(saved(deep), "deep", Steps.model_validate(PLAIN))
    assert released.array.min() == 1
    assert any("above 255 count as white" in note for note in released.notes)
    whole = made(Steps.model_validate({**PLAIN, "decode": "radiograph", "polarity": "header"}), deep)
    assert (whole.min(), whole.max()) == (0, 1)


def test_a_picture_of_one_value_is_black_and_noted() -> None:
    found = pixels_by(saved(np.full((40, 40), 9, np.uint8)), "flat", Steps.model_validate(STEPPED))
    assert found.array.max() == 0
    assert any("every pixel has the value 9" in note for note in found.notes)


@pytest.mark.parametrize(
    ("recipe", "shape"),
    [("gloria", (4, 3000)), ("cxr_clip", (9000, 2)), ("medclip", (2, 9000)), ("chexzero", (2, 900))],
)
def test_oblong_pictures_are_refused(recipe: str, shape: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match=r"strip: \d+ x \d+ pixels .*Leave it out"):
        pixels_by(saved(drawn(*shape)), "strip", AUTHORS[recipe])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.integers(16, 700), st.integers(16, 700), st.sampled_from(sorted(AUTHORS)))
def test_every_size_ends_in_the_recipes_square(height: int, width: int, name: str) -> None:
    recipe = AUTHORS[name]
    array = made(recipe, drawn(height, width))
    assert array.shape == (len(recipe.mean), recipe.size, recipe.size)
    assert array.dtype == np.float32


def test_longer_cut_may_leave_the_long_side_short() -> None:
    bare = AUTHORS["chexzero"].model_copy(update={"resample": None, "mean": (0.0,), "std": (1.0,)})
    short = [n for n in range(321, 4500) if int(n * (320 / n)) == 319]
    assert (short[:5], len(short)) == ([581, 606, 616, 623, 638], 60)
    for height, rows in ((580, 320), (581, 319)):
        assert int(made(bare, np.full((height, 400), 255, np.uint8)).max(axis=(0, 2)).astype(bool).sum()) == rows


def test_result_does_not_depend_on_the_other_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(drawn(900, 700), "JPEG")
    header = {"decode": "radiograph", "polarity": "header"}
    recipes = [*AUTHORS.values(), *(r.model_copy(update=header) for r in AUTHORS.values()), Canvas(size=64)]
    alone = [pixels_by(data, "x", recipe).array for recipe in recipes]
    sizes, loaded = [], raster.decode_picture
    monkeypatch.setattr(raster, "decode_picture", lambda image: (sizes.append(image.size), loaded(image))[1])
    together = pixels(data, "x", recipes)
    for expected, found in zip(alone, together, strict=True):
        np.testing.assert_array_equal(found.array, expected)
    assert sorted(sizes) == [(88, 113), (700, 900), (700, 900)]  # the canvas' draft, and each reader once


def test_fast_equals_reference() -> None:
    recipes = [Steps.model_validate(STEPPED), *AUTHORS.values()]
    for data in (dicom(drawn(211, 190, 1, 4096), 12, photometric="MONOCHROME1"), saved(drawn(300, 200), "JPEG")):
        for fast, plain in zip(pixels(data, "x", recipes), pixels(data, "x", recipes, "reference"), strict=True):
            np.testing.assert_array_equal(fast.array, plain.array)


REFUSED = {
    "end with pad, crop or an exact resize": [LONGER],
    "min-max must be the first step": [*same(9), {"op": "min-max"}],
    "stretch must be the first step": [*same(9), {"op": "stretch"}],
    "pad to 9 needs a resize": [{"op": "pad", "size": 9}],
    "pad to 8 needs a resize": [
        {"op": "resize", "to": "longer", "size": 9, "filter": "area"},
        {"op": "pad", "size": 8},
    ],
    "crop to 9 needs a resize": [
        {"op": "resize", "to": "longer", "size": 9, "filter": "area"},
        {"op": "crop", "size": 9},
    ],
    "does not match any of the expected tags": [{"op": "sharpen"}],
    "at least 1 item": [],
    "Extra inputs": [{"op": "crop", "size": 4, "offset": 1}],
}


@pytest.mark.parametrize("reason", REFUSED)
def test_steps_that_cannot_be_done_are_refused(reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        RECIPE.validate_python({"kind": "steps", "steps": REFUSED[reason]})


def test_a_recipe_without_a_kind_is_a_canvas_and_an_unknown_kind_is_refused() -> None:
    assert RECIPE.validate_python({"size": 64}) == Canvas(size=64)
    for kind in ("magic", 3):
        with pytest.raises(ValidationError, match="'canvas', 'steps'"):
            RECIPE.validate_python({"kind": kind})


def test_digests_tell_recipes_apart_and_survive_writing() -> None:
    distinct = {recipe.model_dump_json(): recipe.digest for recipe in (*AUTHORS.values(), *REALITY.values())}
    assert len(set(distinct.values())) == len(distinct) == 15 + 2
    for recipe in (*AUTHORS.values(), *REALITY.values()):
        again = RECIPE.validate_json(RECIPE.dump_json(recipe))
        assert (again, again.digest) == (recipe, recipe.digest)


def test_cards_spell_these_recipes() -> None:
    for path in card_files(paths.folder("model_zoo")):
        card = read_card(path)
        for name, authors in AUTHORS.items():
            if card.name not in {f"{name}{edition}" for edition in ("", "_m", "_mc", "_mcc")}:
                continue
            assert card.recipe("authors") == authors, card.name
            if name in REALITY:
                assert card.recipe("reality-check") == REALITY[name], card.name


def test_decoding_loads_no_torch() -> None:
    program = (
        "import io, sys\nfrom PIL import Image\nfrom cxrbench.images.pixels import pixels, pixels_by\n"
        "from cxrbench.specs.recipe import Steps\n"
        f"recipe = Steps.model_validate({AUTHORS['chexzero'].model_dump(mode='json')!r})\n"
        "out = io.BytesIO()\nImage.new('L', (50, 40)).save(out, 'PNG')\n"
        "pixels_by(out.getvalue(), 'x', recipe)\nassert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize(("side", "even", "down"), [(11, 4, 3), (9, 2, 2), (10, 3, 3), (7, 2, 1), (5, 0, 0)])
def test_the_rest_of_a_crop_is_halved_as_its_library_does(side: int, even: int, down: int) -> None:
    """torchvision rounds half to even, the processors of transformers round down: a pixel apart at 3 modulo 4."""
    picture = np.arange(side, dtype=np.uint8)[None].repeat(side, axis=0)
    for rest, first in (("even", even), ("down", down)):
        assert after(Crop.model_validate({"op": "crop", "size": 4, "rest": rest}), picture)[0, 0] == first


def test_models_that_a_processor_of_transformers_feeds_crop_as_it_does() -> None:
    """64 x 71 pixels, whose rest of 7 beside 64 leaves 3 modulo 4, by the library's own processor."""
    from transformers import BitImageProcessor

    grey = np.random.default_rng(0).integers(0, 256, (64, 71), dtype=np.uint8)
    processor = BitImageProcessor(do_resize=False, crop_size={"height": 64, "width": 64}, do_normalize=False)
    theirs = np.asarray(processor(np.stack([grey] * 3, -1), do_rescale=False, return_tensors="np")["pixel_values"])[
        0, 0
    ]
    assert (theirs == after(Crop(op="crop", size=64, rest="down"), grey)).all()
    for name in ("rad_dino", "rad_dino_maira2", "dinov2_b14", "pubmedclip"):
        recipe = read_card(paths.folder("model_zoo") / f"{name}.toml").recipe("authors")
        assert isinstance(recipe, Steps)
        assert [step.rest for step in recipe.steps if isinstance(step, Crop)] == ["down"]
