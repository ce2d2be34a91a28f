"""What of a baseline this installation no longer has: names that are gone, and facts that have changed under a name."""

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache

from cxrbench.checks.baseline.baseline import BaselineCell
from cxrbench.errors import SpecError
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard
from cxrbench.specs.card_facts import recipe_for
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec

PROTOTYPES = "prototypes"


@dataclass(frozen=True, slots=True)
class Staleness:
    """`changed`: facts of a name that are others now. `unknown`: names that no installed fact file has.

    `hints`: the nearest names there are, of records or of the installation. A user's own card, task or prompt set is
    unknown too, so an unknown name alone says nothing as long as a record bears it.
    """

    changed: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    hints: tuple[str, ...] = field(default=())


def staleness(cell: BaselineCell, recorded: Iterable[tuple[str, str]]) -> Staleness:
    """How a cell of the baseline stands to this installation; `recorded` are the (model, task) names of records."""
    pairs = list(recorded)
    names = {
        "model": (cell.model, [*catalog.card_files(), *(model for model, _ in pairs)]),
        "task": (cell.task, [*catalog.task_files(), *(task for _, task in pairs)]),
    }
    known = {"model": catalog.card_files(), "task": catalog.task_files()}
    gone = [what for what, (name, _) in names.items() if name not in known[what]]
    hints = [near for what in gone for near in _near(*names[what])]
    return Staleness(
        tuple(_changed(cell)),
        tuple(f"there is no {what} {names[what][0]!r} here" for what in gone),
        tuple(hints),
    )


def _near(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, sorted(set(known) - {name}), n=2, cutoff=0.6)


def _changed(cell: BaselineCell) -> Iterator[str]:
    digests = cell.digests
    task, card, variant = _task(cell.task), _card(cell.model), _variant(cell.variant)
    prompts = _prompts(cell.prompts) if cell.prompts and cell.prompts != PROTOTYPES else None
    if task is not None and cell.split not in task.splits:
        yield f"task {cell.task} has no split {cell.split!r} any more"
    if variant is not None and variant.digest != digests.variant:
        yield f"the variant {cell.variant} is another now"
    if prompts is not None and prompts.digest != digests.prompts:
        yield f"the prompt set {cell.prompts} is another now"
    if card is not None and card.weights.sha256 not in (None, cell.published):
        yield f"the card {cell.model} names other weights now"
    if card is not None and task is not None and variant is not None:
        recipe = recipe_for(card, variant.settings, task.released_polarity)[1]
        if recipe.digest != digests.preprocessing:
            yield f"the card {cell.model} and the variant {cell.variant} preprocess otherwise now"


@cache
def _card(name: str) -> ModelCard | None:
    return catalog.load_card(name) if name in catalog.card_files() else None


@cache
def _task(name: str) -> TaskSpec | None:
    return catalog.load_task(name) if name in catalog.task_files() else None


@cache
def _prompts(name: str) -> PromptSet | None:
    return catalog.load_prompts(name) if name in catalog.prompt_files() else None


@cache
def _variant(name: str) -> Variant | None:
    """The bundle of that name with the choices that stand behind its plus sign; None where this installation has none.

    A choice that no longer exists gives None too: then there is no such variant.
    """
    bundle, _, changes = name.partition("+")
    if bundle not in catalog.variant_files():
        return None
    try:
        pairs = dict(change.split("=", 1) for change in changes.split(",") if change)
        return catalog.load_variant(bundle).with_choices(pairs, catalog.task_files())
    except SpecError:
        return None
