"""CheXzero against its authors' own outputs on checkpoints with synthetic weights."""

import numpy as np
import pytest
import torch
from made_towers import Golden, Towers, assert_close, assert_well_behaved, from_files, stored, unit
from made_weights import certificate
from torch import Tensor

from cxrbench.errors import SpecError
from cxrbench.models.chexzero import CheXzero
from cxrbench.models.features import ImageFeatures

PROMPTS = Towers("chexzero").prompts
DEPTHS = {"four blocks": ("layout", ""), "all blocks": (None, "_full_depth")}


@pytest.fixture(
    scope="module", params=[DEPTHS["four blocks"], pytest.param(DEPTHS["all blocks"], marks=pytest.mark.slow)]
)
def depth(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[CheXzero, str]:
    """The model of one depth, and the ending of its figures' file."""
    layout, ending = request.param
    towers = Towers("chexzero", layout)
    model = towers.load(towers.file(tmp_path_factory.mktemp("chexzero")))
    assert isinstance(model, CheXzero)
    return model, ending


@pytest.fixture(scope="module", params=["few rows", pytest.param("all rows", marks=pytest.mark.slow)])
def golden(request: pytest.FixtureRequest, depth: tuple[CheXzero, str]) -> Golden:
    """The figures; inputs are those of the four blocks."""
    ending = depth[1]
    if request.param == "few rows":
        towers = Towers("chexzero")
        whole = certificate("chexzero").golden() | stored(towers.folder / "golden_full_depth.npz") if ending else {}
        return towers.golden | whole
    folder = request.getfixturevalue("shared") / "parity" / "chexzero"
    return stored(folder / "golden.npz") | (stored(folder / "full_depth" / "golden.npz") if ending else {})


def projected(model: CheXzero, images: ImageFeatures) -> Tensor:
    """The image vector as the authors return it, before unit length."""
    return images.pooled @ model.parts[""].get_submodule("visual").get_parameter("proj")


def test_vectors_and_scores(depth: tuple[CheXzero, str], golden: Golden) -> None:
    model = depth[0]
    images = model.encode_image(torch.from_numpy(golden["pixel_values_gray"])[:, None])
    assert images.joint is not None
    assert_close(images.pooled, golden["image_trunk"])
    assert_close(projected(model, images), golden["image_global"])
    assert_close(images.joint, unit(golden["image_global"]))
    texts = model.encode_text(PROMPTS["prompts"])
    assert texts.projected is not None
    assert_close(texts.projected, golden["text_global"])
    assert_close(texts.joint, unit(golden["text_global"]))
    scores = model.score(images, texts)
    assert_close(scores, golden["similarity"])
    assert_close(scores * model.training_scale, golden["logits_per_image"])
    assert model.logit_scale("text") == 1.0


def test_zero_shot_by_pairs(depth: tuple[CheXzero, str], golden: Golden) -> None:
    """Pooling `unit-embedding`: the mean of the templates' unit vectors, at unit length; softmax of plain cosines."""
    model = depth[0]
    assert model.card.zero_shot.pooling == "unit-embedding"
    images = model.encode_image(torch.from_numpy(golden["pixel_values_gray"])[:, None]).joint
    assert images is not None
    yes, no = (
        unit(np.stack([model.encode_text([t.format(label)]).joint.mean(dim=0).numpy() for label in PROMPTS["labels"]]))
        for t in PROMPTS["templates"]
    )
    odds = np.exp(images.numpy() @ (yes - no).T)
    assert_close(odds / (odds + 1), golden["zero_shot"])


def test_token_ids(depth: tuple[CheXzero, str], golden: Golden) -> None:
    assert np.array_equal(depth[0].token_ids(PROMPTS["prompts"]).numpy(), golden["input_ids"])


def test_vectors_from_files(depth: tuple[CheXzero, str], golden: Golden) -> None:
    model = depth[0]
    recipe = model.card.recipe("authors")
    found = model.encode_image(from_files(golden["images"], recipe))
    assert_close(found.pooled, golden["image_trunk"], 1e-3)
    assert_close(projected(model, found), golden["image_global"], 1e-3)
    if not depth[1] and "images_large" in golden:
        assert_close(
            projected(model, model.encode_image(from_files(golden["images_large"], recipe))),
            golden["image_global_large"],
            1e-3,
        )


def test_a_vector_depends_on_its_own_input_alone(depth: tuple[CheXzero, str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert_well_behaved(depth[0], monkeypatch)


def test_what_the_network_cannot_take_is_refused(depth: tuple[CheXzero, str]) -> None:
    with pytest.raises(SpecError, match="takes 224 x 224 alone"):
        depth[0].encode_image(torch.zeros(1, 1, 320, 320))
    with pytest.raises(SpecError, match="reads 77 tokens, and this text has 162"):
        depth[0].encode_text(["edema " * 80])
