"""The user's own model: its file, its tokenizer, the promises of its adapter, and one image with one prompt."""

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cxrbench.errors import CxrBenchError
from cxrbench.models.base import Adapter, Precision, load_adapter
from cxrbench.models.checkpoint import read_checkpoint
from cxrbench.models.coverage import Coverage
from cxrbench.models.text import text_files
from cxrbench.models.weights.content import are_synthetic
from cxrbench.phantom.anatomy import patient
from cxrbench.phantom.draw import draw
from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.store import digest
from cxrbench.testing import AdapterReport, Samples, check_adapter, samples
from cxrbench.testing.samples import through

_PRECISIONS: tuple[Precision, Precision] = ("float32", "bfloat16")
_PHANTOM = (512, 432)  # height and width of the drawn radiograph


@dataclass(frozen=True, slots=True)
class FileFacts:
    """A file of weights. `dtypes`: how many tensors of each; `values`: numbers in all of them; `other` beside them.

    `made`: nobody trained these weights; they follow from the rule of certificates and tests.
    """

    path: str
    sha256: str
    bytes: int
    tensors: int
    values: int
    dtypes: Mapping[str, int]
    other: Mapping[str, str]
    made: bool


@dataclass(frozen=True, slots=True)
class TextFacts:
    """Where tokenizer and text configuration came from; `digest` of the files in use."""

    folder: str
    origin: str
    digest: str


@dataclass(frozen=True, slots=True)
class Trial:
    """A drawn radiograph through the model. `asked`: the prompt or class scored, None for a model that only sees.

    `score`: by the card's first view; without one, the length of the pooled vector.
    """

    image: str
    asked: str | None
    score: float
    seconds: float


@dataclass(frozen=True, slots=True)
class OwnModel:
    """What there was to see of the user's model; `problems` in the order in which they came.

    `used` tensors of the file; those `ignored`, and those `absent` where the card allows it, each with the reason.
    """

    file: FileFacts | None = None
    used: int | None = None
    ignored: Mapping[str, str] | None = None
    absent: Mapping[str, str] | None = None
    text: TextFacts | None = None
    report: AdapterReport | None = None
    trial: Trial | None = None
    problems: tuple[CxrBenchError, ...] = ()
    seconds: float = 0.0


def own_model(card: ModelCard, weights: Path | None, text_encoder: Path | None, device: str) -> OwnModel:
    """Look at a file of weights (None for a card whose tensors are made), and at the model that it makes.

    What is missing or wrong is kept in `problems`; without a tokenizer the image side is looked at all the same.
    """
    started, problems = time.perf_counter(), []
    found = OwnModel()
    recipe: RecipeName = "authors" if "authors" in card.recipes else "reality-check"
    try:
        found = replace(found, text=_text(card, text_encoder))
    except CxrBenchError as error:
        problems.append(error)
    try:
        if weights is not None:
            found = replace(found, file=_file(card, weights))
        exact, rough = (load_adapter(card, weights, text_encoder, device, how, recipe=recipe) for how in _PRECISIONS)
        coverage = getattr(exact, "coverage", None)
        if isinstance(coverage, Coverage):
            ignored, absent = dict(coverage.ignored), dict(coverage.absent)
            found = replace(found, used=len(coverage.used), ignored=ignored, absent=absent)
        tried_on = samples(card, recipe)
        if problems:
            tried_on = replace(tried_on, texts=())
        found = replace(found, report=check_adapter(exact, tried_on, reduced=rough))
        found = replace(found, trial=_trial(exact, recipe, tried_on))
    except CxrBenchError as error:
        problems.append(error)
    return replace(found, problems=tuple(problems), seconds=time.perf_counter() - started)


def _file(card: ModelCard, path: Path) -> FileFacts:
    facts = card.weights
    read = read_checkpoint(path, facts.container, sections=facts.sections, foreign=facts.foreign)
    kinds = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in read.tensors.values())
    values = sum(tensor.numel() for tensor in read.tensors.values())
    size = path.stat().st_size
    told = (len(read.tensors), values, dict(kinds), dict(read.other), are_synthetic(read.tensors))
    return FileFacts(str(path), read.sha256, size, *told)


def _text(card: ModelCard, folder: Path | None) -> TextFacts | None:
    if card.text_encoder is None:
        return None
    files = text_files(card.text_encoder, folder)
    at = card.text_encoder.revision or "its main branch"
    beside = "beside the card" if card.text_encoder.beside else f"the hub's cache: {card.text_encoder.hub} at {at}"
    origin = beside if folder is None else "the folder given"
    return TextFacts(str(files.folder), origin, files.digest)


def _trial(model: Adapter, recipe: RecipeName, tried_on: Samples) -> Trial:
    """The first class drawn, and asked for by its prompt, or by its name where the model knows labels alone."""
    finding, rng = tried_on.classes[0], np.random.default_rng(0)
    drawn = draw([finding], patient(rng), _PHANTOM, rng)
    picture = np.rint(drawn * 255).astype(np.uint8)
    image = f"a drawn chest with {finding}, {digest.of_bytes(picture.tobytes())[:12]}"
    pixels = through(model.card.recipe(recipe), [picture])
    started = time.perf_counter()
    seen = model.encode_image(pixels)
    asked, score = None, float(seen.pooled.norm())
    labels = next(((name, view) for name, view in model.card.views.items() if view.classes == "prototypes"), None)
    if tried_on.texts and any(view.classes == "prompts" for view in model.card.views.values()):
        asked = tried_on.texts[0]
        score = float(model.score(seen, model.encode_text([asked]))[0, 0])
    elif labels is not None:
        asked, (name, view) = finding, labels
        score = float((seen.taps[view.tap] @ model.prototypes([asked]).T)[0, 0]) * model.logit_scale(name)
    return Trial(image, asked, score, time.perf_counter() - started)
