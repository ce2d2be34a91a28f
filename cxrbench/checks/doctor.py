"""The whole examination of a model, its answer in one line, and its findings as text and JSON."""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from cxrbench.checks.known_answers import AtHand, CheckedAnswer, check_answers, examples_in, strangers
from cxrbench.checks.proof import Proof, prove
from cxrbench.errors import CxrBenchError, DataError, IntegrityError
from cxrbench.models.base import Adapter, Precision, load_adapter
from cxrbench.models.certificate import certificate_for
from cxrbench.models.checkpoint import read_published
from cxrbench.models.shards import file_bytes
from cxrbench.models.text import text_files
from cxrbench.models.weights.fetch import locate
from cxrbench.models.weights.identity import are_synthetic
from cxrbench.phantom.draw import draw
from cxrbench.phantom.scene import patient
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
    answers: tuple[CheckedAnswer, ...] = ()
    problems: tuple[CxrBenchError, ...] = ()
    seconds: float = 0.0


def own_model(
    card: ModelCard, weights: Path | None, text_encoder: Path | None, device: str, examples: Sequence[Path] = ()
) -> OwnModel:
    """Look at a file of weights (None for a card whose tensors are made), and at the model that it makes.

    What is missing or wrong is kept in `problems`; without a tokenizer the image side is looked at all the same.
    `examples`: pictures, or folders of them, for the answers that others printed.
    """
    started, problems, exact = time.perf_counter(), list[CxrBenchError](), None
    found = OwnModel()
    recipe: RecipeName = "authors" if "authors" in card.recipes else "reality-check"
    try:
        found = replace(found, text=_text(card, text_encoder))
    except CxrBenchError as error:
        problems.append(error)
    try:
        if weights is not None:
            found = replace(found, file=_file(card, weights))
        if card.given:
            given = check_adapter(load_adapter(card, weights, text_encoder, device))
            return replace(found, report=given, seconds=time.perf_counter() - started)
        exact, rough = (load_adapter(card, weights, text_encoder, device, how, recipe=recipe) for how in _PRECISIONS)
        coverage = exact.coverage
        if coverage is not None:
            ignored, absent = dict(coverage.ignored), dict(coverage.absent)
            found = replace(found, used=len(coverage.used), ignored=ignored, absent=absent)
        tried_on = samples(card, recipe)
        if problems:
            tried_on = replace(tried_on, texts=())
        found = replace(found, report=check_adapter(exact, tried_on, reduced=rough))
        found = replace(found, trial=_trial(exact, recipe, tried_on))
    except CxrBenchError as error:
        problems.append(error)
    answers, more = _printed(card, weights, found, AtHand(exact, recipe), examples)
    problems += more
    found = replace(found, answers=answers)
    return replace(found, problems=tuple(problems), seconds=time.perf_counter() - started)


def _printed(
    card: ModelCard, weights: Path | None, found: OwnModel, hand: AtHand, places: Sequence[Path]
) -> tuple[tuple[CheckedAnswer, ...], list[CxrBenchError]]:
    """The card's printed answers checked, and what is wrong with the example pictures."""
    wrong: list[CxrBenchError] = []
    try:
        examples = examples_in(places)
        wrong += strangers(card, examples, places)
        hand = replace(hand, examples=examples)
    except DataError as error:
        wrong.append(error)
    files: dict[str, str] = {}
    if found.text is not None and any(answer.kind == "file" for answer in card.answers):
        files |= {
            f"text/{path.name}": digest.of_file(path) for path in Path(found.text.folder).iterdir() if path.is_file()
        }
    if found.file is not None and weights is not None:
        files |= dict.fromkeys(card.weights.files, found.file.sha256)
        hand = replace(hand, synthetic=found.file.made, read=partial(read_published, weights, card))
    return check_answers(card, replace(hand, files=files)), wrong


def _file(card: ModelCard, path: Path) -> FileFacts:
    read = read_published(path, card)
    kinds = Counter(str(tensor.dtype).removeprefix("torch.") for tensor in read.tensors.values())
    values = sum(tensor.numel() for tensor in read.tensors.values())
    size = file_bytes(path)
    made = not card.given and are_synthetic(read.tensors)
    told = (len(read.tensors), values, dict(kinds), dict(read.other), made)
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


@dataclass(frozen=True, slots=True)
class Answer:
    """Whether this installation computes what the authors' code does, in one line, and the exit code that says so.

    `control`: a negative control has no authors' code to agree with; nothing is wrong with it here.
    """

    verdict: Literal["yes", "no", "cannot tell", "control"]
    text: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """`proof` is None where no certificate holds for the card; `own` where the user's file was not looked at."""

    model: str
    title: str
    device: str
    proof: Proof | None
    own: OwnModel | None
    not_looked_at: str | None
    answer: Answer
    answers: tuple[CheckedAnswer, ...] = ()


@dataclass(frozen=True, slots=True)
class ExaminedModel:
    """What to examine. `weights`: a file, or a folder that holds it; `cache`: where fetched weights are kept.

    `examples`: pictures, or folders of them, of the answers that others printed.
    """

    card: ModelCard
    weights: Path | None
    text_encoder: Path | None
    device: str
    cache: Path
    examples: tuple[Path, ...] = ()


def examine(patient: ExaminedModel, certificates: Path | None = None) -> Diagnosis:
    """Run the certificate, and look at the user's own file if there is one; `certificates`: another folder of them.

    Raises IntegrityError for a certificate whose files are damaged, SpecError for a device that is not there. What is
    wrong with the model or its files is in the answer.
    """
    card = patient.card
    certificate = certificate_for(card, certificates)
    proof = None if certificate is None else prove(card, certificate, patient.device)
    own, reason = _own(patient)
    if own is None and patient.examples:
        strange = strangers(card, examples_in(patient.examples), patient.examples)
        own, reason = (OwnModel(problems=tuple(strange)), reason) if strange else (None, reason)
    answer = _answer(card, proof, own, reason)
    answers = own.answers if own is not None and own.answers else check_answers(card, AtHand())
    return Diagnosis(card.name, card.title, patient.device, proof, own, reason, answer, answers)


def _own(patient: ExaminedModel) -> tuple[OwnModel | None, str | None]:
    """The user's model, or why it was not looked at: without --weights, a file that is not there is no fault."""
    card = patient.card
    path: Path | None = None
    if card.weights.made is None:
        try:
            path = locate(card, patient.weights, patient.cache)
        except CxrBenchError as error:
            if isinstance(error, DataError) and patient.weights is None:
                return None, str(error)
            return OwnModel(problems=(error,)), None
    return own_model(card, path, patient.text_encoder, patient.device, patient.examples), None


def _answer(card: ModelCard, proof: Proof | None, own: OwnModel | None, not_looked_at: str | None) -> Answer:
    problems = () if own is None else own.problems
    missing = [str(problem) for problem in problems if isinstance(problem, DataError)]
    wrong = [str(problem) for problem in problems if not isinstance(problem, DataError)]
    broken = [] if own is None or own.report is None else [f"{f.name}: {f.text}" for f in own.report.failed]
    other = () if own is None else [f"{a.name}: {a.text}" for a in own.answers if a.outcome == "differs"]
    differs = [*(() if proof is None else proof.faults), *wrong, *broken, *other]
    if differs:
        return Answer("no", _few(differs), IntegrityError.exit_code)
    if missing:
        return Answer("cannot tell", _few(missing), DataError.exit_code)
    if card.control and own is not None and own.report is not None:
        kept = sum(finding.passed is True for finding in own.report.findings)
        told = f"no authors' code to agree with: a negative control. Its adapter keeps all {kept} promises here; what"
        return Answer("control", f"{told} its numbers mean: {card.notes[-1] if card.notes else card.title}", 0)
    if card.given:
        return Answer(
            "cannot tell", "vectors from a file: nothing here can tell what computed them, or from what pixels", 0
        )
    if proof is None or proof.worst is None:
        why = f"no certificate holds for {card.name}: nobody ran its authors' code for this architecture and recipe"
        return Answer("cannot tell", why, 0)
    worst = proof.worst
    most = f"{worst.difference:.1e}, {worst.output} ({worst.recipe}), where {worst.limit:.0e} is allowed"
    file = "no file of weights was looked at" if own is None else "the model's own weights fit"
    if own is not None and own.file is not None and own.file.made:
        file = "the file fits, but holds synthetic weights: its numbers say nothing of the published model"
    return Answer("yes", f"this installation computes what the authors' code does (largest error {most}); {file}", 0)


def _few(told: Sequence[str]) -> str:
    return "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")


def as_json(found: Diagnosis) -> str:
    """Everything, with keys as the dataclasses name them; what is not finite is null."""
    told = asdict(found)
    if found.own is not None:
        told["own"]["problems"] = [{"kind": type(p).__name__, "text": str(p)} for p in found.own.problems]
    return json.dumps(_plain(told), indent=1, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def lines(found: Diagnosis) -> Iterator[str]:
    """The report from the file to the answer."""
    yield f"{found.model}: {found.title}, on {found.device}"
    if found.own is not None:
        yield from _own_lines(found.own)
    else:
        yield f"file: not looked at: {found.not_looked_at}"
    if found.proof is not None:
        yield from _proof(found.proof)
    elif found.answer.verdict != "control":
        yield "certificate: none holds for this card"
    yield from _answer_lines(found.answers)
    yield f"{found.answer.verdict}: {found.answer.text}"


def _answer_lines(answers: Sequence[CheckedAnswer]) -> Iterator[str]:
    if not answers:
        return
    counts = Counter(one.outcome for one in answers)
    yield "printed answers: " + ", ".join(f"{counts[outcome]} {outcome}" for outcome in counts)
    word = {"agrees": "agrees", "differs": "DIFFERS", "not checked": "not checked"}
    yield from (f"  {word[one.outcome]:11} {one.name}: {one.text} [{one.source}]" for one in answers)


def _own_lines(own: OwnModel) -> Iterator[str]:
    if own.file is not None:
        kinds = ", ".join(f"{count} {dtype}" for dtype, count in own.file.dtypes.items())
        yield f"file: {own.file.path}, {own.file.bytes / 1e6:.1f} MB, sha256 {own.file.sha256}"
        if not own.file.tensors:
            yield "  vectors that were computed elsewhere, and no tensors"
        else:
            yield f"  {own.file.tensors} tensors ({kinds}), {own.file.values / 1e6:.2f} million values"
        if own.file.made:
            yield "  synthetic weights, which nobody trained: numbers from this file say nothing of the published model"
        if own.file.other:
            yield f"  beside them: {', '.join(f'{name} ({kind})' for name, kind in own.file.other.items())}"
    if own.used is not None and own.ignored is not None:
        absent = own.absent or {}
        lacking = f"{len(absent)} missing that may be" if absent else "none missing"
        yield f"  {own.used} used, {lacking}, none left over, {len(own.ignored)} ignored"
        yield from (f"    {count} missing: {reason}" for reason, count in Counter(absent.values()).items())
        yield from (f"    {count} ignored: {reason}" for reason, count in Counter(own.ignored.values()).items())
    if own.text is not None:
        yield f"text encoder: {own.text.folder} ({own.text.origin}), digest {own.text.digest}"
    if own.report is not None:
        yield from _report(own.report)
    if own.trial is not None:
        asked = "length of its pooled vector" if own.trial.asked is None else f"asked for {own.trial.asked!r}: score"
        yield f"trial: {own.trial.image}, {asked} {own.trial.score:.6g} ({own.trial.seconds:.2f} s)"
    yield from (f"problem: {problem}" for problem in own.problems)


def _report(report: AdapterReport) -> Iterator[str]:
    judged = [finding for finding in report.findings if finding.passed is not None]
    yield f"adapter: {len(judged) - len(report.failed)} of {len(judged)} promises kept"
    word = {True: "kept", False: "BROKEN", None: "stated"}
    yield from (f"  {word[finding.passed]:6} {finding.name}: {finding.text}" for finding in report.findings)


def _proof(proof: Proof) -> Iterator[str]:
    yield f"certificate: {proof.title} ({proof.source}), {proof.seconds:.1f} s"
    if proof.reduced:
        told = ", ".join(f"{name} {here} of {there}" for name, (here, there) in proof.reduced.items())
        yield f"  smaller than the published model: {told}"
    for one in proof.compared:
        word = "equal" if one.equal else "DIFFERS"
        yield f"  {word:7} {one.output} ({one.recipe}): {one.difference:.1e}, at most {one.limit:.0e}"
    if proof.problem:
        yield f"  {proof.problem}"
