"""Negative controls: what they compute, and that a harness in which they do well would be noticed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from lab import Lab
from made_weights import zoo_card

from cxrbench.errors import NotApplicableError, SpecError
from cxrbench.images.pixels import pixels_by
from cxrbench.models.base import Adapter, load_adapter
from cxrbench.models.controls import tensor
from cxrbench.models.nets import relative_difference
from cxrbench.records.record import Record
from cxrbench.specs import catalog
from cxrbench.testing import check_card

CONTROLS = ("class_prior", "image_statistics", "random_resnet50", "shuffled_labels")


def test_controls_are_marked_and_need_no_file() -> None:
    marked = {name for name in catalog.card_files() if catalog.load_card(name).control}
    assert marked == set(CONTROLS)
    for name in CONTROLS:
        card = zoo_card(name)
        assert card.weights.made
        assert not card.weights.files
        with pytest.raises(NotApplicableError, match="neither a text nor a label side"):
            card.view("all")
        with pytest.raises(SpecError, match="has no text side"):
            load_adapter(card).encode_text(["edema"])
    assert zoo_card("shuffled_labels").probe.labels == "shuffled"


@pytest.mark.slow
@pytest.mark.parametrize("name", CONTROLS)
def test_controls_keep_the_promises_of_an_adapter(name: str) -> None:
    check_card(zoo_card(name)).require()


@pytest.fixture(scope="module")
def radiographs(lab: Lab) -> Mapping[str, bytes]:
    """Twelve synthetic radiographs by name."""
    files = sorted(lab.files("covid").values())[::3]
    return {path.name: path.read_bytes() for path in files}


def features(model: Adapter, radiographs: Mapping[str, bytes]) -> torch.Tensor:
    recipe = model.card.recipe("reality-check")
    batch = [torch.from_numpy(pixels_by(content, name, recipe).array) for name, content in radiographs.items()]
    return model.encode_image(torch.stack(batch)).pooled


def test_image_statistics_are_those_of_a_picture_worked_by_hand() -> None:
    model = load_adapter(zoo_card("image_statistics"))
    half = torch.zeros(1, 1, 8, 8)
    half[..., 4:] = 1.0
    found = model.encode_image(half).pooled[0].numpy()
    assert found.shape == (36,)
    assert np.allclose(found[:4], [0.5, 0.5, 0.0, 1.0])
    assert np.allclose(found[4:20], [0.5, *[0.0] * 14, 0.5])
    assert np.allclose(found[20:].reshape(4, 4), [[0, 0, 1, 1]] * 4)
    flat = model.encode_image(torch.full((1, 3, 8, 8), 2.0)).pooled[0].numpy()
    assert np.allclose(flat[:4], [2.0, 0.0, 0.0, 0.0])
    assert flat[19] == 1.0
    row = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(model.encode_image(row[2:3]).pooled[0], model.encode_image(row).pooled[2])


def test_the_random_network_is_the_same_everywhere_and_draws_on_no_global_state() -> None:
    wanted = torch.empty(64, 3, 7, 7, device="meta")
    drawn = tensor("conv1.weight", wanted, 0)
    known = "3e82b900"  # first digits of the SHA-256
    torch.manual_seed(5)
    assert torch.equal(drawn, tensor("conv1.weight", wanted, 0))
    assert not torch.equal(drawn, tensor("conv1.weight", wanted, 1))
    assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest()[:8] == known
    assert float(drawn.double().mean(dim=(1, 2, 3)).abs().max()) < 1e-7
    assert float(drawn.double().square().mean()) == pytest.approx(2 / (64 * 49), rel=0.03)


@pytest.mark.slow
def test_the_random_network_tells_images_apart(radiographs: Mapping[str, bytes]) -> None:
    """Neither one vector for all, nor one direction alone."""
    model = load_adapter(zoo_card("random_resnet50"))
    found = features(model, radiographs)
    assert found.shape == (12, 2048)
    assert found.isfinite().all()
    apart = torch.cdist(found, found) / found.norm(dim=1)
    assert float((apart + torch.eye(12)).min()) > 1e-3
    shares = torch.linalg.svdvals(found - found.mean(dim=0)).square()
    assert float(shares.max() / shares.sum()) < 0.95
    assert float((found.std(dim=0) == 0).float().mean()) < 0.1
    again = features(load_adapter(zoo_card("random_resnet50"), memory_format="contiguous"), radiographs)
    assert relative_difference(again, found) < 1e-5


def of(records: list[Record], name: str) -> list[Record]:
    return [record for record in records if record.model.name == name]


@pytest.mark.slow
def test_controls_do_as_badly_as_they_must(lab: Lab, tmp_path: Path) -> None:
    report = lab.run(tmp_path, [], ["covid"], models=list(CONTROLS), shots=(1, 2, 4))
    assert not report.problems
    records = list(report.records)
    assert {record.protocol.protocol for record in records} == {"linear-probe"}
    assert all(record.model.weights_file.startswith("made: ") for record in records)
    assert all(record.model.control and record.control for record in records)
    for record in of(records, "class_prior"):
        classes = catalog.load_task(lab.task("covid")).groups[record.data.group]
        for fold in record.folds:
            assert fold.metrics["balanced_accuracy"] == pytest.approx(1 / len(classes), abs=1e-12)
            assert fold.metrics["macro_auroc"] == 0.5
    shuffled, true = of(records, "shuffled_labels"), of(records, "image_statistics")
    assert {record.protocol.labels for record in shuffled} == {"shuffled"}
    assert {record.protocol.labels for record in true} == {"true"}
    assert mean_gain(shuffled, lab) < 0.15 < mean_gain(true, lab)


def mean_gain(records: list[Record], lab: Lab) -> float:
    """Mean over records and folds of (balanced accuracy - chance) / (1 - chance): 0 is chance, 1 is perfect."""
    groups = catalog.load_task(lab.task("covid")).groups
    gains = []
    for record in records:
        chance = 1 / len(groups[record.data.group])
        gains += [(fold.metrics["balanced_accuracy"] - chance) / (1 - chance) for fold in record.folds]
    return float(np.mean(gains))
