"""Answers that others printed from the published weights, held against the model that is at hand."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from cxrbench.errors import CxrBenchError, DataError, IntegrityError, SpecError
from cxrbench.images.pixels import pixels_by
from cxrbench.models.base import Adapter
from cxrbench.models.checkpoint import Checkpoint
from cxrbench.models.precision import exact_float32
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.specs.known_answers import ExamplePicture, Head, KnownAnswer
from cxrbench.store import digest


@dataclass(frozen=True, slots=True)
class CheckedAnswer:
    """What became of one answer: it `agrees`, `differs`, or is `not checked`; `text` says by how much, or why not."""

    name: str
    outcome: Literal["agrees", "differs", "not checked"]
    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Example:
    """A picture that the user has: its path, bytes and SHA-256."""

    path: Path
    data: bytes
    sha256: str


@dataclass(frozen=True, slots=True)
class AtHand:
    """What answers can be checked with.

    `model`: None where it could not be built; `synthetic`: nobody trained it; `read` gives the file with all its
    tensors, those too that the model ignores; `files`: SHA-256 of the weights by the card's names for them, and of the
    text encoder's files as text/NAME.
    """

    model: Adapter | None = None
    recipe: RecipeName = "authors"
    synthetic: bool = False
    read: Callable[[], Checkpoint] | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    examples: Sequence[Example] = ()


class _NotAtHandError(CxrBenchError):
    """Something that this answer needs is not there."""


def examples_in(places: Sequence[Path]) -> tuple[Example, ...]:
    """The pictures that files and folders (without their subfolders) hold; raises DataError for a path without one."""
    found = []
    for place in places:
        files = sorted(path for path in place.iterdir() if path.is_file()) if place.is_dir() else [place]
        if not files or not files[0].is_file():
            raise DataError(f"{place}: there is no picture. --example takes a file, or a folder that holds them.")
        for path in files:
            data = path.read_bytes()
            found.append(Example(path, data, digest.of_bytes(data)))
    return tuple(found)


def strangers(card: ModelCard, examples: Sequence[Example], asked: Sequence[Path]) -> list[DataError]:
    """An error for each example file given by its path that is the picture of no answer of the card."""
    wanted = [answer.picture for answer in card.answers if answer.picture is not None]
    named = {path for path in asked if not path.is_dir()}
    lost = [one for one in examples if one.path in named and not any(_is(one, picture) for picture in wanted)]
    told = "; ".join(dict.fromkeys(f"{p.name}, sha256 {p.sha256 or 'not known'}" for p in wanted)) or "no picture"
    return [
        DataError(
            f"{one.path}: wrong picture: its sha256 is {one.sha256}, and the answers of {card.name} are for {told}. "
            "Take the file as its source has it: a picture that was saved again gives other numbers."
        )
        for one in lost
    ]


def check_answers(card: ModelCard, hand: AtHand) -> tuple[CheckedAnswer, ...]:
    """Every answer of the card; the model computes in single precision by its normal path."""
    return tuple(_checked(answer, hand) for answer in card.answers)


def _checked(answer: KnownAnswer, hand: AtHand) -> CheckedAnswer:
    source = "; ".join(answer.source)
    outcome: Literal["agrees", "differs", "not checked"]
    try:
        if answer.kind == "file":
            outcome, text = _file(answer, hand)
        else:
            outcome, text = _computed(answer, hand)
    except _NotAtHandError as error:
        outcome, text = "not checked", str(error)
    except (DataError, SpecError, IntegrityError) as error:
        outcome, text = "not checked", f"could not be computed: {error}"
    return CheckedAnswer(answer.name, outcome, text, source)


def _file(answer: KnownAnswer, hand: AtHand) -> tuple[Literal["agrees", "differs"], str]:
    if hand.synthetic:
        raise _NotAtHandError("the file holds synthetic weights, and the answer is of the published ones")
    here, held = hand.files.get(answer.file or ""), answer.sha256 in hand.files.values()
    if answer.standing == "superseded" and held:
        return "differs", f"this is the old upload of {answer.file}, which its authors replaced: get the new one"
    if answer.standing == "superseded":
        raise _NotAtHandError(f"sha256 of the upload that was replaced: {answer.sha256}")
    if held:
        return "agrees", f"sha256 {answer.sha256}"
    if here is None:
        raise _NotAtHandError(f"needs {answer.file}, whose sha256 is {answer.sha256}")
    told = f"{answer.file}: sha256 is {here}, the source states {answer.sha256}"
    if answer.standing == "stated":
        raise _NotAtHandError(f"{told}; one source alone states it, so another file is no fault")
    return "differs", f"wrong file: {told}"


def _computed(answer: KnownAnswer, hand: AtHand) -> tuple[Literal["agrees", "differs"], str]:
    if answer.unchecked is not None:
        printed = ", ".join(f"{name} {value:g}" for name, value in list(answer.values.items())[:4])
        raise _NotAtHandError(answer.unchecked + (f" (printed: {printed})" if printed else ""))
    if hand.model is None:
        raise _NotAtHandError("needs the published weights, as a file that loads")
    if hand.synthetic:
        raise _NotAtHandError("the file holds synthetic weights, and the answer is of the published ones")
    with torch.no_grad(), exact_float32():
        if answer.kind == "order":
            return _ordered(answer, hand.model)
        found = _KINDS[answer.kind](answer, hand, hand.model)
    differences = {name: abs(found[name] - value) for name, value in answer.values.items()}
    worst = max(differences, key=lambda name: differences[name])
    text = (
        f"{len(differences)} values, the farthest {worst}: {found[worst]:.7g}, printed {answer.values[worst]:.7g}, "
        f"apart {differences[worst]:.1e} where {answer.tolerance:.0e} is allowed"
    )
    if all(difference <= answer.tolerance for difference in differences.values()):
        return "agrees", text
    return "differs", f"wrong value: {text}"


def _ordered(answer: KnownAnswer, model: Adapter) -> tuple[Literal["agrees", "differs"], str]:
    vectors = torch.nn.functional.normalize(model.encode_text(list(answer.texts)).joint.float(), dim=-1)
    cosines = vectors @ vectors.T
    wrong = [places for places in answer.order if not cosines[places[0], places[1]] > cosines[places[2], places[3]]]
    if wrong:
        a, b, c, d = wrong[0]
        told = f"{answer.texts[a]!r} and {answer.texts[b]!r} are at {float(cosines[a, b]):.3f}, not above "
        return "differs", f"wrong order: {told}{float(cosines[c, d]):.3f}, {answer.texts[c]!r} and {answer.texts[d]!r}"
    return "agrees", f"{len(answer.order)} of {len(answer.order)} orderings of cosines between texts hold"


def _is(example: Example, picture: ExamplePicture) -> bool:
    if picture.sha256 is None:
        return example.path.name == picture.name
    return example.sha256 == picture.sha256


def _pixels(answer: KnownAnswer, hand: AtHand, model: Adapter) -> Tensor:
    """The answer's picture through its recipe, (1, C, S, S); raises _NotAtHandError that tells a wrong picture."""
    picture = answer.picture
    assert picture is not None
    found = next((one for one in hand.examples if _is(one, picture)), None)
    if found is None:
        namesake = next((one for one in hand.examples if one.path.name == picture.name), None)
        known = f"sha256 {picture.sha256}" if picture.sha256 else "whose digest nobody states"
        if namesake is not None:
            raise _NotAtHandError(f"{namesake.path}: wrong picture: sha256 is {namesake.sha256}, wanted {known}")
        raise _NotAtHandError(
            f"needs the picture {picture.name}, {known}: {picture.where} (terms: {picture.terms}). "
            "Give it as --example."
        )
    recipe = answer.recipe or model.card.recipe(hand.recipe)
    return torch.from_numpy(pixels_by(found.data, str(found.path), recipe).array)[None]


def _vector(answer: KnownAnswer, hand: AtHand, model: Adapter) -> dict[str, float]:
    if answer.picture is None:
        vector = model.encode_text(list(answer.texts)).joint[0]
    else:
        vector = model.encode_image(_pixels(answer, hand, model)).taps[answer.tap][0]
    return {name: float(vector[int(name)]) for name in answer.values}


def _scores(answer: KnownAnswer, hand: AtHand, model: Adapter) -> dict[str, float]:
    images, texts = model.encode_image(_pixels(answer, hand, model)), model.encode_text(list(answer.texts))
    if answer.form == "cosine":
        if images.joint is None:
            raise SpecError(f"{model.card.name} has no joint vectors")
        unit = torch.nn.functional.normalize
        row = (unit(images.joint.float(), dim=-1) @ unit(texts.joint.float(), dim=-1).T)[0]
    else:
        row = model.score(images, texts)[0]
        row = row.softmax(0) if answer.form == "probability" else row
    return dict(zip(answer.texts, row.tolist(), strict=True))


def _head(answer: KnownAnswer, hand: AtHand, model: Adapter) -> dict[str, float]:
    """Probabilities by the linear layer that the file holds and the model ignores, on the pooled vector."""
    head = model.card.head
    assert head is not None
    if hand.read is None:
        raise _NotAtHandError(f"needs the file with its layer {head.layer}")
    pooled = model.encode_image(_pixels(answer, hand, model)).pooled[0].float().cpu()
    tensors = hand.read().tensors
    lost = [name for name in (f"{head.layer}.weight", f"{head.layer}.bias") if name not in tensors]
    if lost:
        raise _NotAtHandError(f"the file lacks {' and '.join(lost)}, of which the answer is made")
    weight, bias = tensors[f"{head.layer}.weight"].float(), tensors[f"{head.layer}.bias"].float()
    found = head_probabilities(weight @ pooled + bias, head)
    return {name: float(found[head.place(name) or 0]) for name in answer.values}


def head_probabilities(logits: Tensor, head: Head) -> Tensor:
    """Logits (..., C) of a classifier to the probabilities that its authors' code prints, see `Head`."""
    if not head.operating_points:
        return logits.softmax(-1)
    points = torch.tensor([head.operating_points.get(output, math.nan) for output in head.outputs])
    p = logits.sigmoid()
    found = torch.where(p < points, p / (2 * points), 1 - (1 - p) / (2 * (1 - points)))
    return torch.where(points.isnan(), torch.tensor(0.5), found)


_KINDS = {"vector": _vector, "scores": _scores, "head": _head}
