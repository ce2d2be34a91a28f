"""Files of every kind as the authors' libraries open them, and squares as GLoRIA's and MGCA's loaders resize them.

The figures are what OpenCV 5.0 (imread in grey and in colour), Pillow 13.0 (convert) and scikit-image 0.26 (imread,
then the stretch of BioViL's loader) made of the bytes beside them.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from cxrbench.images import pixels, raster
from cxrbench.images.pixels import pixels_by
from cxrbench.models import made
from cxrbench.specs import paths
from cxrbench.specs.card import card_files, read_card
from cxrbench.specs.recipe import Crop, MinMax, Opening, Recipe, Step, Steps

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
RECIPE: TypeAdapter[Recipe] = TypeAdapter(Recipe)
FIGURES = dict(np.load(FIXTURES / "opened.npz"))
FILES = sorted(key.removeprefix("file/") for key in FIGURES if key.startswith("file/"))
PLAIN = Crop(op="crop", size=1)  # a step that starts from the 8-bit picture
WAYS: tuple[Opening, ...] = ("luma", "colour", "opencv", "opencv-luma")


def opened(name: str, how: Opening, first: Step = PLAIN) -> np.ndarray:
    """The picture (H, W), or (H, W, 3) where colour is asked for."""
    image = raster.open_picture(FIGURES[f"file/{name}"].tobytes())
    planes = pixels.planes(image, how, first)
    return np.stack(planes * (3 // len(planes)), axis=-1) if how == "colour" else planes[0]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_is_opened_as_by_the_authors_library(name: str, how: Opening) -> None:
    np.testing.assert_array_equal(opened(name, how), FIGURES[f"{how}/{name}"])


@pytest.mark.parametrize("name", FILES)
def test_a_stretch_is_over_all_channels_at_full_depth(name: str) -> None:
    np.testing.assert_array_equal(opened(name, "luma", MinMax(op="min-max")), FIGURES[f"stretched/{name}"])


@pytest.mark.parametrize("name", FILES)
def test_what_needs_no_library_is_the_same_in_all(name: str) -> None:
    if pixels.read_alike(raster.open_picture(FIGURES[f"file/{name}"].tobytes())):
        assert name in ("grey.png", "grey.jpg")
        for how in WAYS:
            np.testing.assert_array_equal(
                FIGURES[f"{how}/{name}"].reshape(*FIGURES[f"luma/{name}"].shape, -1)[..., 0], FIGURES[f"luma/{name}"]
            )
    else:
        assert name not in ("grey.png", "grey.jpg")


def made_by(card: str, name: str) -> np.ndarray:
    recipe = read_card(paths.folder("model_zoo") / f"{card}.toml").recipe("authors")
    return pixels_by(FIGURES[f"file/{name}"].tobytes(), name, recipe).array


@pytest.mark.parametrize(
    ("card", "way"),
    [("medclip", "luma"), ("biovil", "stretched"), ("gloria", "opencv"), ("mgca", "opencv"), ("convirt", "opencv"),
     ("chexzero", "opencv-luma"), ("cxr_clip", "colour"), ("cxr_clip_swin_mcc", "colour"), ("kad", "colour"),
     ("medklip", "colour")],
)  # fmt: skip
@pytest.mark.parametrize("name", FILES)
def test_a_cards_recipe_starts_from_what_its_authors_open(card: str, way: str, name: str) -> None:
    recipe = read_card(paths.folder("model_zoo") / f"{card}.toml").recipe("authors")
    assert isinstance(recipe, Steps)
    picture = FIGURES[f"{way}/{name}"]
    planes = [picture] if picture.ndim == 2 else [picture[..., c] for c in range(3)]
    steps = recipe.steps[1:] if way == "stretched" else recipe.steps
    plain = recipe.model_copy(update={"files": "first", "steps": steps})  # golden figures hold it to 8-bit grey
    wanted = np.stack([pixels_by(saved(plane), name, plain).array[-1 if len(planes) == 1 else c]
                       for c, plane in enumerate(planes)])  # fmt: skip
    np.testing.assert_array_equal(made_by(card, name)[-len(planes) :], wanted)


def saved(plane: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(plane).save(out, "PNG")
    return out.getvalue()


def test_every_published_models_own_recipe_names_a_library() -> None:
    ways: dict[str, Opening] = {}
    for path in card_files(paths.folder("model_zoo")):
        card = read_card(path)
        recipe = card.recipes.get("authors")
        if isinstance(recipe, Steps):
            ways[card.name] = recipe.files
    first = {name for name, how in ways.items() if how == "first"}  # torchxrayvision takes the first channel
    assert first and all(name.startswith("xrv_") for name in first)
    assert {name for name, how in ways.items() if how == "colour"} >= {
        *(f"cxr_clip{swin}{edition}" for swin in ("", "_swin") for edition in ("", "_m", "_mcc")),
        *("kad", "kad_224", "medklip", "mavl", "radzero", "medimageinsight"),
        *("eva_x_ti", "eva_x_s", "eva_x_b", "ark_plus", "ark6_swin_b", "chexfound", "xray_dino"),
        *("biomedclip", "clip_laion", "medsiglip", "rad_dino", "imagenet_resnet50", "imagenet_resnet50_v2"),
    }


@pytest.mark.parametrize("card", ["gloria", "mgca"])
@pytest.mark.parametrize("side", [98, 322, 1002])
def test_the_height_is_a_squares_longer_side(card: str, side: int) -> None:
    """int(98 * (256 / 98)) is 255: the authors' square becomes 256 x 255, with one black column at the right."""
    recipe = read_card(paths.folder("model_zoo") / f"{card}.toml").recipe("authors")
    bare = recipe.model_copy(update={"mean": (0.0,), "std": (1.0,)})
    found = pixels_by(saved(made.images(1, side, side)[0]), "square", bare).array[0, ::4, ::4] * 255
    np.testing.assert_array_equal(np.rint(found), FIGURES[f"square/{side}"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"files": "colour"}, "needs mean and std of three channels"),
        ({"dicom": "over-maximum"}, "polarity must be 'header'"),
        ({"files": "guess"}, "files"),
    ],
)
def test_readings_that_contradict_themselves_are_refused(change: dict[str, str], reason: str) -> None:
    plain = {"kind": "steps", "steps": [{"op": "resize", "to": "exact", "size": 24, "filter": "bilinear"}]}
    with pytest.raises(ValidationError, match=reason):
        RECIPE.validate_python({**plain, **change})
