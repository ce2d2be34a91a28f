"""Printed answers: a stand-in's own, worked out with torchvision and Pillow alone; and those on the shipped cards."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image
from pydantic import ValidationError

from cxrbench.checks.doctor import Diagnosis, ExaminedModel, as_json, examine, lines
from cxrbench.checks.known_answers import AtHand, CheckedAnswer, check_answers, head_probabilities
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard
from cxrbench.specs.known_answers import Head, KnownAnswer
from cxrbench.specs.recipe import Steps

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class StandIn:
    """A ResNet-18 with drawn weights; `scores` (1000,) by its whole network, `pooled` (512,) before its `fc`."""

    card: ModelCard
    weights: Path
    picture: Path
    scores: np.ndarray
    pooled: np.ndarray

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.picture.read_bytes()).hexdigest()

    def answer(self, **changes: Any) -> KnownAnswer:
        """The one that is right, with changes."""
        picture = {"name": "own.png", "sha256": self.digest, "where": "drawn here", "terms": "free"}
        told: dict[str, Any] = {
            "name": "own",
            "kind": "head",
            "source": ["this test"],
            "picture": picture,
        }
        values = {str(place): float(self.scores[place]) for place in (0, 258, 999)}
        return KnownAnswer.model_validate({**told, "values": values, "tolerance": 1e-5, **changes})

    def seen(self, *answers: KnownAnswer, examples: tuple[Path, ...] = (), **weights: Any) -> Diagnosis:
        """What doctor says with these answers on the card."""
        facts = self.card.weights.model_copy(update=weights)
        card = self.card.model_copy(update={"answers": answers, "weights": facts})
        return examine(ExaminedModel(card, self.weights, None, "cpu", self.weights.parent, examples))


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> StandIn:
    folder = tmp_path_factory.mktemp("answers")
    torch.manual_seed(3)
    net = torchvision.models.resnet18(weights=None).eval()
    torch.save(net.state_dict(), folder / "resnet18.pth")
    grey = np.random.default_rng(3).integers(0, 256, (300, 280, 3), dtype=np.uint8)
    Image.fromarray(grey).save(folder / "own.png")
    small = Image.fromarray(grey).resize((72, round(72 * 300 / 280)), Image.Resampling.BILINEAR)
    top = (small.height - 64) // 2
    array = np.asarray(small.crop((4, top, 68, top + 64)), np.float32) / 255
    pixels = torch.from_numpy(((array - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1))[None]
    with torch.no_grad():
        scores = net(pixels).softmax(1)[0].numpy()
        net.fc = torch.nn.Identity()
        pooled = net(pixels)[0].numpy()
    card = catalog.load_card("imagenet_resnet50")
    facts = card.weights.model_copy(update={"files": ("resnet18.pth",), "sha256": None})
    told = card.recipe("authors").model_dump()
    for step, size in zip(told["steps"], (72, 64), strict=True):
        step["size"] = size
    recipes = {**card.recipes, "authors": Steps.model_validate(told)}
    options = {"library": "torchvision", "architecture": "resnet18"}
    card = card.model_copy(update={"options": options, "taps": {"pooled": 512}, "weights": facts, "recipes": recipes})
    return StandIn(card, folder / "resnet18.pth", folder / "own.png", scores, pooled)


def outcomes(found: Diagnosis) -> Mapping[str, CheckedAnswer]:
    return {answer.name: answer for answer in found.answers}


def test_right_answers_agree_and_wrong_ones_are_told_apart(stand_in: StandIn) -> None:
    at = {str(place): float(stand_in.pooled[place]) for place in (0, 5, 511)}
    last = {"-1": float(stand_in.pooled[-1]), "3": float(stand_in.pooled[3]) + 0.01}
    file = {"kind": "file", "picture": None, "values": {}, "file": "resnet18.pth"}
    own, other = hashlib.sha256(stand_in.weights.read_bytes()).hexdigest(), "0" * 64
    found = stand_in.seen(
        stand_in.answer(),
        stand_in.answer(name="vector", kind="vector", values=at),
        stand_in.answer(name="off", kind="vector", values=last),
        stand_in.answer(name="file", **file, sha256=own, standing="required"),
        stand_in.answer(name="other", **file, sha256=other, standing="required"),
        stand_in.answer(name="one source", **file, sha256=other),
        stand_in.answer(name="old", **file, sha256=own, standing="superseded"),
        stand_in.answer(name="listed", kind="listed", unchecked="needs a list"),
        examples=(stand_in.picture,),
    )
    told = outcomes(found)
    assert {name: one.outcome for name, one in told.items()} == {
        **dict.fromkeys(("own", "vector", "file"), "agrees"),
        **dict.fromkeys(("off", "other", "old"), "differs"),
        **dict.fromkeys(("one source", "listed"), "not checked"),
    }
    assert told["off"].text.startswith("wrong value: 2 values, the farthest 3:") and "1.0e-02" in told["off"].text
    assert told["other"].text.startswith("wrong file: ") and "old upload" in told["old"].text
    assert found.answer.verdict == "no" and found.answer.exit_code == 4
    shown = list(lines(found))
    assert "printed answers: 3 agrees, 3 differs, 2 not checked" in shown
    assert any(line.startswith("  DIFFERS     off: wrong value") and "[this test]" in line for line in shown)
    assert '"outcome": "differs"' in as_json(found)


def test_a_wrong_picture_is_told_by_its_digest_and_is_no_wrong_value(stand_in: StandIn, tmp_path: Path) -> None:
    other = tmp_path / "own.png"
    Image.open(stand_in.picture).save(other, compress_level=0)  # the same pixels in another file
    found = stand_in.seen(stand_in.answer(), examples=(other,))
    answer = outcomes(found)["own"]
    assert answer.outcome == "not checked" and "wrong picture: sha256 is" in answer.text
    assert (
        found.answer.verdict == "cannot tell" and found.answer.exit_code == 3 and stand_in.digest in found.answer.text
    )
    among = stand_in.seen(stand_in.answer(), examples=(stand_in.picture.parent,))  # beside the weights' file
    assert outcomes(among)["own"].outcome == "agrees" and among.answer.exit_code == 0
    lost = stand_in.seen(stand_in.answer())
    assert "needs the picture own.png" in outcomes(lost)["own"].text and lost.answer.exit_code == 0


def test_a_wrong_file_is_told_as_such_and_its_numbers_are_not_judged(stand_in: StandIn) -> None:
    found = stand_in.seen(stand_in.answer(), examples=(stand_in.picture,), sha256="0" * 64)
    assert outcomes(found)["own"].outcome == "not checked" and "published weights" in outcomes(found)["own"].text
    assert found.answer.exit_code == 4 and "sha256 is" in found.answer.text


@pytest.mark.parametrize(
    "changes",
    [{"values": {}}, {"tolerance": 0}, {"picture": None}, {"kind": "file"}, {"texts": 3}],
)
def test_an_answer_that_says_too_little_is_refused(stand_in: StandIn, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stand_in.answer(**changes)


class Words:
    """Texts at given angles."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card

    def encode_text(self, texts: list[str]) -> Any:
        angles = torch.tensor([float(text) for text in texts])
        return type("Features", (), {"joint": torch.stack([angles.cos(), angles.sin()], 1)})


def test_orders_of_cosines_between_texts() -> None:
    card = catalog.load_card("biovil")
    order = KnownAnswer.model_validate(
        {"name": "near", "kind": "order", "source": ["here"], "texts": ["0", "0.1", "1.5"], "order": [[0, 1, 0, 2]]}
    )
    turned = order.model_copy(update={"name": "far", "order": ((0, 2, 0, 1),)})
    card = card.model_copy(update={"answers": (order, turned)})
    hand = AtHand(Words(card))  # type: ignore[arg-type]
    near, far = check_answers(card, hand)
    assert near.outcome == "agrees" and far.outcome == "differs" and "not above 0.995" in far.text
    assert {one.outcome for one in check_answers(card, replace(hand, synthetic=True))} == {"not checked"}


def test_every_answer_on_a_shipped_card_has_its_source_and_says_what_it_needs() -> None:
    cards = [catalog.load_card(name) for name in catalog.card_files()]
    answered = [card for card in cards if card.answers]
    assert {"xrv_densenet121", "medimageinsight", "biomedclip", "imagenet_resnet50"} <= {card.name for card in answered}
    for card in answered:
        told = check_answers(card, AtHand())
        assert len({one.name for one in told}) == len(told), card.name
        assert all(one.outcome == "not checked" and one.text and one.source for one in told)
        assert all(answer.tap in card.taps for answer in card.answers if answer.unchecked is None)


def test_operating_points_map_probabilities_as_their_package_does() -> None:
    """By hand: below the point, above it, at it, and for an output that was not trained."""
    head = Head(layer="fc", outputs=("a", "b", "c", "d"), operating_points={"a": 0.2, "b": 0.2, "c": 0.5})
    logits = torch.tensor([math.log(0.1 / 0.9), math.log(0.6 / 0.4), 0.0, 3.0])
    assert head_probabilities(logits, head).tolist() == pytest.approx([0.25, 0.75, 0.5, 0.5])


@pytest.mark.parametrize("name", ["xrv_densenet121", "xrv_resnet50_512"])
def test_heads_of_torchxrayvision_give_its_predictions(name: str, shared: Path) -> None:
    golden = np.load(shared / "parity" / name / "golden.npz")
    head = catalog.load_card(name).head
    assert head is not None
    found = head_probabilities(torch.from_numpy(golden["logits"]), head)
    np.testing.assert_allclose(found.numpy(), golden["predictions"], atol=1e-6)


def test_answers_of_a_head_name_its_outputs(stand_in: StandIn) -> None:
    told = catalog.load_card("xrv_densenet121").model_dump(exclude_defaults=True)
    told["answers"][0]["values"] = {"Flu": 0.5}
    with pytest.raises(ValidationError, match="outputs that the card's `head` has not"):
        ModelCard.model_validate(told)
    with pytest.raises(ValidationError, match="none of `outputs`: b"):
        Head(layer="fc", outputs=("a",), operating_points={"b": 0.2})
