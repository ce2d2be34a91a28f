"""`cxrbench.load_model` on files and arrays: the vectors are those of a run."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab, copied
from made_images import saved, waves
from made_weights import TEXT_ENCODER
from PIL import Image

import cxrbench
from cxrbench.errors import DataError, ImageError, SpecError
from cxrbench.images.pixels import pixels_by
from cxrbench.notebook.model import Model
from cxrbench.store import digest
from cxrbench.store.embeddings import Embeddings, Store

Load = Callable[..., Model]


@pytest.fixture(scope="module")
def load(lab: Lab) -> Load:
    def loaded(name: str = "small_unimodal", **changes: object) -> Model:
        told: dict[str, object] = {"device": "cpu", "batch_size": 8, "variant": str(lab.variant), **changes}
        return cxrbench.load_model(lab.model(name), None, TEXT_ENCODER, **told)  # type: ignore[arg-type]

    return loaded


def stored(place: Path) -> Embeddings:
    (entry,) = (key for key, _ in Store(place / "cache").entries())
    return Store(place / "cache").read(entry)


@pytest.mark.parametrize(("name", "task", "settings"), [
    ("small_unimodal", "covid", {}),
    ("small_clip", "vindr", {"vindr.polarity": "released"}),
    ("small_clip", "vindr", {"decode": "radiograph"}),
])  # fmt: skip
def test_vectors_of_files_are_those_of_a_runs_store(
    name: str, task: str, settings: dict[str, str], load: Load, lab: Lab, tmp_path: Path
) -> None:
    lab.run(tmp_path, [name], [task], settings=settings, protocols=["linear-probe"], shots=(1,))
    known, model = stored(tmp_path), load(name, task=lab.task(task), settings=settings)
    paths = [path for path in lab.files(task).values() if digest.of_file(path) in known]
    assert len(paths) == len(known) > 8 and len(paths) % 8 != 0
    contents = [digest.of_file(path) for path in paths]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", cxrbench.CxrBenchWarning)
        taps = model.encode_image(paths).taps
    assert {"pooled", "joint"} <= set(taps)
    for tap, vectors in taps.items():
        if tap in model.card.taps:
            assert np.array_equal(vectors.numpy(), known.rows(tap, contents))


def test_one_file_is_a_list_of_one_by_any_kind_of_path(load: Load, lab: Lab) -> None:
    model, path = load(), next(iter(lab.files("covid").values()))
    alone = model.encode_image(path).pooled
    assert alone.shape == (1, model.card.taps["pooled"])
    for same in (str(path), [path], (str(path),)):
        assert torch.equal(model.encode_image(same).pooled, alone)


@pytest.mark.parametrize("shape", ["grey", "colour"])
def test_an_array_is_prepared_like_its_picture(shape: str, load: Load, tmp_path: Path) -> None:
    model, values = load(), waves(90, 70, 255).astype(np.uint8)
    if shape == "colour":
        values = np.stack([values, values[::-1], values], axis=2)
    path = tmp_path / "picture.png"
    path.write_bytes(saved(values))
    want = model.encode_image([path, path]).pooled
    assert torch.equal(model.encode_image([values, path]).pooled, want)
    assert torch.equal(model.encode_image(values[:, :]).pooled, want[:1])
    turned = np.asfortranarray(values)
    assert torch.equal(model.encode_image(turned).pooled, want[:1])


def test_prepared_pixels_go_in_as_they_did(load: Load, lab: Lab) -> None:
    model, path = load(batch_size=1), next(iter(lab.files("covid").values()))
    pixels = torch.from_numpy(pixels_by(path.read_bytes(), path.name, model.recipe).array)[None]
    assert torch.equal(model.encode_image(pixels).pooled, model.encode_image(path).pooled)
    assert torch.equal(model.encode_image(pixels).pooled, model.adapter.encode_image(pixels).pooled)


def test_texts_and_scores_are_the_adapters(load: Load, lab: Lab) -> None:
    model = load("small_clip")
    images, texts = model.encode_image(list(lab.files("covid").values())[:3]), model.encode_text(["a", "chest"])
    scores = model.score(images, texts)
    assert scores.shape == (3, 2) and torch.equal(scores, model.adapter.score(images, texts))
    assert model.card.name == "small_clip" and "small_clip" in repr(model) and model.engine.device == "cpu"
    assert model.logit_scale(next(iter(model.card.views))) > 0
    with pytest.raises(TypeError, match="list of texts"):
        model.encode_text("chest")


@pytest.mark.parametrize(
    ("images", "told"),
    [
        ([], "at least one"),
        (np.zeros((8, 8), np.float32), "array of float32.*nothing says what is black and white"),
        (np.zeros((8, 8), np.uint16), "array of uint16"),
        (np.zeros((8, 8), np.int64), "array of int64"),
        (np.zeros((8, 8), bool), "array of bool"),
        (np.zeros((3, 8, 8), np.uint8), r"\(H, W, 3\)"),
        (np.zeros((8, 8, 4), np.uint8), r"shape \(8, 8, 4\)"),
        (np.zeros((2, 8, 8, 3), np.uint8), "a list of such arrays"),
        (np.zeros((0, 8), np.uint8), "no pixel"),
        ([Image.new("L", (8, 8))], "is a Image"),
        ([torch.zeros(1, 1, 8, 8)], "one tensor of all pixels"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_ambiguous_is_refused(images: object, told: str, load: Load) -> None:
    with pytest.raises(SpecError, match=told):
        load().encode_image(images)  # type: ignore[arg-type]


def test_a_file_that_is_no_radiograph_is_refused_by_name(load: Load, lab: Lab, tmp_path: Path) -> None:
    _, folder = copied(lab, tmp_path)
    path = folder / "COVID" / "images" / "COVID-1.png"
    path.write_bytes(b"<html>")
    with pytest.raises(ImageError, match=r"COVID-1\.png: is a web page"):
        load().encode_image([path])
    with pytest.raises(DataError, match="no such file"):
        load().encode_image(tmp_path / "nowhere.png")


def test_what_is_odd_about_a_picture_is_warned_of(load: Load) -> None:
    with pytest.warns(cxrbench.CxrBenchWarning, match="1 remarks? on the images.*\n- image 0: every pixel"):
        load().encode_image(np.zeros((64, 64), np.uint8))


def test_names_that_do_not_exist_are_refused(lab: Lab) -> None:
    for changes, told in (
        ({"task": "rsnaa"}, "did you mean rsna"),
        ({"variant": "paper-cod"}, "did you mean paper-code"),
        ({"batch_size": 0}, "at least 1"),
    ):
        with pytest.raises(SpecError, match=told):
            cxrbench.load_model(lab.model("small_unimodal"), device="cpu", **changes)  # type: ignore[arg-type]


def test_prepared_pixels_are_those_that_encode_image_makes(load: Load, lab: Lab) -> None:
    model, paths = load(batch_size=2), list(lab.files("covid").values())[:3]
    pixels = model.prepare(paths)
    size = model.card.size("reality-check")
    assert pixels.shape == (3, len(model.recipe.mean), size, size) and pixels.dtype == torch.float32
    assert torch.equal(pixels[2], torch.from_numpy(pixels_by(paths[2].read_bytes(), "", model.recipe).array))
    assert torch.equal(model.prepare(paths[0]), pixels[:1])
    assert torch.equal(model.encode_image(pixels[:2]).pooled, model.encode_image(paths).pooled[:2])
    with pytest.raises(SpecError, match="prepare: there is no image in the list"):
        model.prepare([])
    with pytest.warns(cxrbench.CxrBenchWarning, match="1 remarks? on the images"):
        model.prepare(np.zeros((64, 64), np.uint8))


def test_a_model_in_memory_and_the_path_of_a_card_are_models(lab: Lab) -> None:
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 4))
    words = torch.nn.EmbeddingBag(8, 4)
    held = cxrbench.in_memory(
        "mine", network, width=4, size=32, mean=0.5, std=0.25,
        encode_text=lambda texts: words(torch.tensor([[len(text) % 8] for text in texts])),
    )  # fmt: skip
    model, paths = cxrbench.load_model(held, variant=str(lab.variant)), list(lab.files("covid").values())[:3]
    with torch.no_grad():
        assert torch.equal(model.encode_image(paths).pooled, network(model.prepare(paths).expand(-1, 3, -1, -1)))
    assert model.score(model.encode_image(paths), model.encode_text(["edema", "no edema"])).shape == (3, 2)
    assert model.card.name == "mine" and network.training
    for told, changes in (("leave out weights", {"weights": "/models"}), ("leave out device", {"device": "meta"})):
        with pytest.raises(SpecError, match=f"mine is in memory.*{told}"):
            cxrbench.load_model(held, **changes)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"not a Sequential; a network becomes one by cxrbench\.in_memory"):
        cxrbench.load_model(network)  # type: ignore[arg-type]
    assert cxrbench.load_model(Path(lab.model("small_unimodal")), device="cpu").card.name == "small_unimodal"
