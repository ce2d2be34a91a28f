"""The certificates that the package ships: whole, small, and found for the cards they hold for."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from made_weights import zoo_card
from made_zoo import CERTIFIED

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.certificate import certificate_for, certificates, made_tensors, read_certificate
from cxrbench.specs import paths
from cxrbench.specs.card import card_files, read_card

ZOO = [read_card(path) for path in card_files(paths.folder("model_zoo"))]
PLAIN = {"imagenet_resnet50", "imagenet_resnet50_v2"}  # torchvision's own, held against it by `test_trunk`
PLAIN |= {"mrm"}  # without figures of their authors' code; `test_training_files` holds them against libraries
ADAPTERS = {zoo_card(found.models[0]).adapter for found in CERTIFIED.values()}
MOST = 150_000  # bytes a model adds to the wheel
FOLDER = paths.folder("model_zoo") / "certificates"


@pytest.mark.parametrize(
    "card", [card for card in ZOO if card.adapter in ADAPTERS and card.name not in PLAIN], ids=lambda card: card.name
)
def test_every_published_architecture_has_one(card: object) -> None:
    found = certificate_for(card)  # type: ignore[arg-type]
    assert found is not None
    assert card.name in found.models  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", sorted(CERTIFIED))
def test_a_certificate_is_whole_and_small(name: str) -> None:
    told = CERTIFIED[name]
    golden = told.golden()
    assert all(np.isfinite(golden[figure.stored]).all() for run in told.runs for figure in run.figures)
    assert sum(path.stat().st_size for path in (FOLDER / name).rglob("*") if path.is_file()) <= MOST
    card = zoo_card(told.models[0])
    compared = {figure.output for run in told.runs for figure in run.figures}
    assert "pixels" in compared
    assert compared & {"pooled", "joint"}
    assert told.prompts or not any(view.classes == "prompts" for view in card.views.values())
    assert ("text-joint" in compared) == bool(told.prompts)
    assert told.text is None or told.place(told.text).is_dir()


def test_no_file_is_there_that_no_certificate_names() -> None:
    named = {FOLDER / name / "certificate.toml" for name in CERTIFIED}
    for told in CERTIFIED.values():
        named |= {told.place(told.layout), told.place(told.figures)}
        named |= {told.place(told.text_layout)} if told.text_layout else set()
        named |= set(told.place(told.text).iterdir()) if told.text else set()
    assert {path for path in FOLDER.rglob("*") if path.is_file()} == {path.resolve() for path in named}


def test_a_card_of_another_architecture_or_recipe_has_none() -> None:
    card = zoo_card("gloria")
    assert certificate_for(card.model_copy(update={"name": "mine"})) is not None
    assert certificate_for(card.model_copy(update={"options": {"enlarged": 512}})) is None
    other = card.recipe("authors").model_copy(update={"mean": (0.1,)})
    assert certificate_for(card.model_copy(update={"recipes": {**card.recipes, "authors": other}})) is None


def test_aliases_share_an_array_and_constants_are_as_given() -> None:
    layout = {
        "tensors": [["a.w", [2, 2], "float32"], ["b.w", [2, 2], "float32"], ["c.index", [2], "int64"]],
        "aliases": {"b.w": "a.w"},
        "not_from_fill": {"index": [4, 5]},
    }
    found = made_tensors(layout)
    assert list(found) == ["a.w", "b.w", "c.index"]
    assert found["a.w"] is found["b.w"]
    assert found["c.index"].tolist() == [4, 5]


def test_a_damaged_certificate_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "gloria"
    shutil.copytree(FOLDER / "gloria", folder)
    figures = folder / "figures.npz"
    whole = figures.read_bytes()
    figures.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="Install cxrbench again"):
        read_certificate(folder).golden()
    np.savez(figures, image_trunk=np.zeros(2))
    with pytest.raises(IntegrityError, match="lacks dlilp_trunk, image_global"):
        read_certificate(folder).golden()
    (folder / "layout.json.gz").write_bytes(b"no gzip")
    with pytest.raises(IntegrityError, match="cannot be read"):
        read_certificate(folder).weights()
    text = (folder / "certificate.toml").read_text()
    (folder / "certificate.toml").write_text(text.replace('output = "pooled"', 'output = "poled"'))
    with pytest.raises(SpecError, match=r"certificate\.toml: runs\.0\.figures"):
        list(certificates(tmp_path))
