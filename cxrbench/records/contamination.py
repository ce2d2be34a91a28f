"""Which models saw a task's images, or those of its institution, in pre-training: the mark † of every table."""

from collections.abc import Iterable
from functools import cache

from cxrbench.records.record import Record
from cxrbench.specs import catalog
from cxrbench.specs.task import Origin, TaskSpec


def sources_seen(card_letters: Iterable[str], task: TaskSpec) -> tuple[Origin, ...]:
    """The origins of a task's images that are among a card's pre-training data, those of the same institution too."""
    letters = set(card_letters)
    return tuple(origin for origin in task.origins if letters & set(origin.letters))


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
