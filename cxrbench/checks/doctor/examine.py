"""The whole examination, and its answer in one line."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxrbench.checks.doctor.own import OwnModel, own_model
from cxrbench.checks.doctor.proof import Proof, prove
from cxrbench.errors import CxrBenchError, DataError, IntegrityError
from cxrbench.models.certificate import certificate_for
from cxrbench.models.weights.fetch import locate
from cxrbench.specs.card import ModelCard


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


@dataclass(frozen=True, slots=True)
class Patient:
    """What to examine. `weights`: a file, or a folder that holds it; `cache`: where fetched weights are kept."""

    card: ModelCard
    weights: Path | None
    text_encoder: Path | None
    device: str
    cache: Path


def examine(patient: Patient, certificates: Path | None = None) -> Diagnosis:
    """Run the certificate, and look at the user's own file if there is one; `certificates`: another folder of them.

    Raises IntegrityError for a certificate whose files are damaged, SpecError for a device that is not there. What is
    wrong with the model or its files is in the answer.
    """
    card = patient.card
    certificate = certificate_for(card, certificates)
    proof = None if certificate is None else prove(card, certificate, patient.device)
    own, reason = _own(patient)
    return Diagnosis(card.name, card.title, patient.device, proof, own, reason, _answer(card, proof, own, reason))


def _own(patient: Patient) -> tuple[OwnModel | None, str | None]:
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
    return own_model(card, path, patient.text_encoder, patient.device), None


def _answer(card: ModelCard, proof: Proof | None, own: OwnModel | None, not_looked_at: str | None) -> Answer:
    problems = () if own is None else own.problems
    missing = [str(problem) for problem in problems if isinstance(problem, DataError)]
    wrong = [str(problem) for problem in problems if not isinstance(problem, DataError)]
    broken = [] if own is None or own.report is None else [f"{f.name}: {f.text}" for f in own.report.failed]
    differs = [*(() if proof is None else proof.faults), *wrong, *broken]
    if differs:
        return Answer("no", _few(differs), IntegrityError.exit_code)
    if missing:
        return Answer("cannot tell", _few(missing), DataError.exit_code)
    if card.control and own is not None and own.report is not None:
        kept = sum(finding.passed is True for finding in own.report.findings)
        told = f"no authors' code to agree with: a negative control. Its adapter keeps all {kept} promises here; what"
        return Answer("control", f"{told} its numbers mean: {card.notes[-1] if card.notes else card.title}", 0)
    if proof is None or proof.worst is None:
        why = f"no certificate holds for {card.name}: nobody ran its authors' code for this architecture and recipe"
        return Answer("cannot tell", why, 0)
    worst = proof.worst
    most = f"{worst.difference:.1e}, {worst.output} ({worst.recipe}), where {worst.limit:.0e} is allowed"
    file = "no file of weights was looked at" if own is None else "the model's own weights fit"
    if own is not None and own.file is not None and own.file.made:
        file = "the file fits, but holds made weights: its numbers say nothing of the published model"
    return Answer("yes", f"this installation computes what the authors' code does (largest error {most}); {file}", 0)


def _few(told: Sequence[str]) -> str:
    return "; ".join(told[:4]) + (f"; and {len(told) - 4} more" if len(told) > 4 else "")
