"""What keeps a measured number from being set beside a printed one."""

from collections.abc import Iterable, Iterator
from functools import cache

from cxrbench.errors import SpecError
from cxrbench.records.record import PromptIdentity, Record
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard
from cxrbench.specs.card_facts import applied, card_digest
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.task import Origin, TaskSpec
from cxrbench.store import digest


def flaws(record: Record) -> tuple[str, ...]:
    """What keeps a number from being the one of its variant, split, model and prompts; none for a sound record."""
    return (*_incomplete(record), *strangers(record))


def why_not(record: Record) -> tuple[str, ...]:
    """Reasons against comparing a record with a published number, none if there is none."""
    checks = (
        (record.model.synthetic, "the weights are synthetic"),
        (record.data.synthetic, "the images are synthetic"),
        (record.given, "the vectors were computed elsewhere and came from a file"),
        (record.protocol.labels == "shuffled", "the probe was fitted to shuffled labels"),
        (record.variant_digest != _official_digest(), f"the variant is {record.variant}"),
    )
    return (*(reason for holds, reason in checks if holds), *printed_flaws(record))


def printed_flaws(record: Record) -> tuple[str, ...]:
    """What keeps a number from being the one that a table of the paper prints; see `flaws`."""
    return (*flaws(record), *_other_words(record))


def _incomplete(record: Record) -> Iterator[str]:
    data = record.data
    if data.reference == "differs":
        yield f"the split is not the known {data.split}: its digest differs"
    if data.trained_on is not None and data.trained_on.reference == "differs":
        other = data.trained_on
        yield f"the split of {other.task} is not the known {other.split}: its digest differs"
    if data.missing:
        yield f"{data.missing} images have no file"
    if data.left_out:
        yield f"{len(data.left_out)} images could not be read"
    if record.runtime.precision != "float32":
        yield f"the precision is {record.runtime.precision}"


def strangers(record: Record) -> Iterator[str]:
    """A card or prompt set that bears a built-in name and is another one, and pinned weights that are only claimed."""
    name, told = record.model.name, record.prompts
    if _card(name) is not None and not has_known_card(record):
        yield f"the card {name} is not the built-in one"
    if record.model.weights_claimed is not None and _is_pinned(name):
        yield "that the weights are the published ones is only claimed by their file"
    if told is not None and told.source == "prompts" and not _has_known_words(told):
        yield f"the prompt set {told.set} is not the built-in one"


@cache
def _official_digest() -> str:
    return catalog.load_variant("paper-code").digest


def has_known_card(record: Record) -> bool:
    """Whether the known card of the model's name says the same of the record's cell; false where there is none."""
    card, cell, name = _card(record.model.name), record.protocol, record.preprocessing.name
    if card is None or name not in card.recipes:
        return False
    told = (record.settings, record.data.group, cell.shots)
    worded = record.prompts is not None or record.data.kind == "retrieval"
    recipes = (applied(card.recipe(name), record.settings, polarity) for polarity in ("stored", "negated"))
    try:
        return record.model.card_digest in [card_digest(card, *told, recipe, worded=worded) for recipe in recipes]
    except SpecError:  # it has no such side
        return False


def _is_pinned(name: str) -> bool:
    card = _card(name)
    return card is not None and card.weights.sha256 is not None


@cache
def _card(name: str) -> ModelCard | None:
    """The known card of that name, read once for all cells of a table; None where there is none."""
    return catalog.load_card(name) if name in catalog.card_files() else None


def _has_known_words(told: PromptIdentity) -> bool:
    """Whether a set that bears a known name is that one, or has the words that the paper's code has under it."""
    known = _prompts(told.set)
    return known is None or known.digest == told.digest or (bool(known.released) and not _unreleased(told, known))


def _other_words(record: Record) -> Iterator[str]:
    told = record.prompts
    known = None if told is None else _prompts(told.set)
    if told is not None and known is not None and known.released and (other := _unreleased(told, known)):
        yield f"the words for {', '.join(other)} are not those of the paper's code"


def _unreleased(told: PromptIdentity, known: PromptSet) -> list[str]:
    """Classes whose prompts are not the released ones in some fold."""
    return [name for name in (told.drawn[0] if told.drawn else ()) if not _is_released(name, told, known)]


def _is_released(name: str, told: PromptIdentity, known: PromptSet) -> bool:
    wanted = known.released.get(known.aliases.get(name, name))
    return all(digest.of_lines(fold[name]) == wanted for fold in told.drawn)


@cache
def _prompts(name: str) -> PromptSet | None:
    """The known prompt set of that name; None where there is none."""
    return catalog.load_prompts(name) if name in catalog.prompt_files() else None


def sources_seen(card_letters: Iterable[str], task: TaskSpec) -> tuple[Origin, ...]:
    """The origins of a task's images that are among a card's pre-training data, those of the same institution too."""
    letters = set(card_letters)
    return tuple(origin for origin in task.origins if letters & set(origin.letters))


def overlap_doubt(record: Record) -> str:
    """Why images or patients may be on both sides of a cell that another task trains (§); empty where they are not."""
    other = record.data.trained_on
    return "" if other is None or other.apart != "unknown" else f"trained on {other.task}: {other.doubt}"


def given_note(record: Record) -> str:
    """That nobody here computed the vectors of a record, and the file that they are from; empty where they are ours."""
    if not record.given:
        return ""
    told = record.model
    return (
        f"{told.name}: its vectors were computed elsewhere and came from a file, {told.weights_file} (sha256 "
        f"{(told.weights_sha256 or 'unknown')[:16]}): which pixels and which model they are of is not known here"
    )


def contaminated(card_letters: Iterable[str], task: TaskSpec) -> bool:
    """Whether images of the task's own collection were pre-trained on: the mark † of a table.

    `card_letters` is `ModelCard.pretraining`. Whether a model's authors took the test images out is not asked: where
    they say so, few can be checked. The same institution alone does not count.
    """
    return any(origin.shares == "images" for origin in sources_seen(card_letters, task))


def pretrained_on(model: str, record: Record | None, task: str) -> bool:
    """Whether the model was pre-trained on the task's collection, by its record, or by its card without one.

    False for a task that this installation does not have: what its images are from is not known.
    """
    known = _task(task)
    letters = _letters(model) if record is None else filter(None, record.model.pretraining.split("+"))
    return known is not None and contaminated(letters, known)


@cache
def _task(name: str) -> TaskSpec | None:
    return catalog.known_task(name)


@cache
def _letters(model: str) -> tuple[str, ...]:
    return catalog.load_card(model).pretraining if model in catalog.card_files() else ()
