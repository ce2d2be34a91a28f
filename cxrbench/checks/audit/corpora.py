"""Which patients of the evaluation sets a model was pre-trained on, by what `cxrbench pretrain` wrote beside it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from cxrbench.analysis.finding import Finding
from cxrbench.errors import DataError, IntegrityError
from cxrbench.pretrain.corpus.overlap import Verdict
from cxrbench.records.record import Record
from cxrbench.specs.card import ModelCard
from cxrbench.specs.task import TaskSpec
from cxrbench.store.schema import Facts, complaints

FILE = "corpus.json"  # `pretrain.job` calls it so too, and loads torch


class Told(Facts):
    """`corpus.json` of a run: how its corpus came about, and who of the evaluation sets was looked for in it."""

    digest: str
    images: int
    synthetic: bool
    counts: Mapping[str, Mapping[str, int]]
    overlap: tuple[Verdict, ...]
    notes: tuple[str, ...]
    unreadable: Mapping[str, str] = {}


def read_corpus(path: Path) -> Told:
    """The file of a run; raises DataError where it cannot be read, IntegrityError where it is another file."""
    try:
        return Told.model_validate_json(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise IntegrityError(f"{path}: is not what `cxrbench pretrain` writes: {complaints(error)}") from error


def in_corpora(cards: Iterable[ModelCard], splits: Mapping[str, Sequence[str]]) -> Iterator[Finding]:
    """What the runs of these cards wrote of the tasks that are looked at, `splits` by task.

    Raises IntegrityError for a file that is of another corpus than the card's.
    """
    for card in cards:
        path = card.home / FILE
        if not path.is_file():
            text = f"which patients {card.name} was pre-trained on: there is no {FILE} beside its card"
            yield Finding("not known", card.name, text)
            continue
        told = read_corpus(path)
        if not any(told.digest in note for note in card.notes):
            raise IntegrityError(
                f"{path}: tells of corpus {told.digest[:12]}, which the card of {card.name} does not name. "
                "Were files of two runs put together?"
            )
        for verdict in told.overlap:
            if verdict.task in splits:
                yield from _found(card, verdict, splits[verdict.task])


def _found(card: ModelCard, verdict: Verdict, splits: Sequence[str]) -> Iterator[Finding]:
    side, basis = f"{verdict.task} in {card.name}'s {verdict.source}", verdict.confirmed
    people = f"{verdict.patients} patients"
    match verdict.finding:
        case "remains":
            text = f"{side}: {verdict.images} images of {people} of the task were pre-trained on"
            yield Finding("pre-training", verdict.task, text, verdict.images, source=basis)
        case "removed":
            text = f"{side}: {verdict.images} images of {people} of the task were taken out before"
            yield Finding("pre-training", verdict.task, text, 0, source=basis)
        case "none":
            yield Finding("pre-training", verdict.task, f"{side}: no patient of the task", 0, source=basis)
        case "apart":
            yield Finding("pre-training", verdict.task, f"{side}: other hospitals, {verdict.why}", 0, source=basis)
        case "untold" | "unchecked":
            yield Finding("not known", verdict.task, f"whether patients of {side} were pre-trained on: {verdict.why}")
    compared = verdict.finding in ("none", "removed", "remains")
    if compared and (others := [split for split in splits if split not in verdict.splits]):
        text = f"{side}: the run looked for {', '.join(verdict.splits)}, not for {', '.join(others)}"
        yield Finding("not known", verdict.task, text)


def of_no_card(records: Iterable[Record], cards: Iterable[ModelCard], tasks: Sequence[TaskSpec]) -> Iterator[Finding]:
    """Measured models of which nothing is known here: neither the zoo nor a card that was named has them."""
    known, audited = {card.name for card in cards}, {task.name for task in tasks}
    strange = {r.model.name for r in records if r.model.name not in known and r.data.task in audited}
    for name in sorted(strange):
        text = f"what {name} was pre-trained on: no card here has that name; give it by --model CARD"
        yield Finding("not known", name, text)
