"""The words of each fold: a prompt set applied to a group's classes, and the model's own closed set of queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.zero_shot import PromptTerms, all_prompts, plain_combinations, released_prompts
from cxrbench.models.base import adapter_class
from cxrbench.specs.card import ModelCard
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Settings
from cxrbench.types import TaskKind

IntArray = NDArray[np.int64]
Phrases = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ClassPrompts:
    """What stands for the classes, in their order.

    `against`: prompts for the absence of each class, where a set puts them in pairs. `asked`: the whole set of queries
    where more is asked than the classes' own prompts; every prompt is one of them. `edition`: which file they are from.
    """

    prompts: Phrases
    against: Phrases = field(default_factory=dict)
    asked: tuple[str, ...] = ()
    edition: str | None = None

    @property
    def texts(self) -> tuple[str, ...]:
        """All texts in the order in which a model that scores them together is asked."""
        return self.asked or tuple(text for texts in self.groups for text in texts)

    @property
    def groups(self) -> tuple[tuple[str, ...], ...]:
        """The same texts in the same order, those of one class and side together."""
        return tuple(texts for side in (self.prompts, self.against) for texts in side.values())

    def places(self, phrases: Phrases) -> tuple[IntArray, IntArray]:
        """Where the texts of one side stand in `texts`, and the class (0 to C - 1) that owns each."""
        owner = np.repeat(np.arange(len(phrases)), [len(texts) for texts in phrases.values()])
        if self.asked:
            flat = [self.asked.index(text) for texts in phrases.values() for text in texts]
            return np.array(flat, dtype=np.int64), owner
        first = 0 if phrases is self.prompts else sum(map(len, self.prompts.values()))
        return np.arange(first, first + len(owner), dtype=np.int64), owner


def wording(prompts: PromptSet, classes: Sequence[str], settings: Settings, random_state: Any) -> ClassPrompts:
    """Each class's prompts, in class order; sets with a sample go on from the fold's generator.

    Raises NotApplicableError for a class that the set does not know.
    """
    sampled = _sampled(prompts, settings, random_state)
    own = {name: sampled[name] if name in sampled else _fixed(prompts, name, settings) for name in classes}
    return ClassPrompts(own, {name: _negated(prompts, name) for name in classes} if prompts.paired else {})


def require_task(prompts: PromptSet, task: str, kind: TaskKind) -> None:
    """Raise NotApplicableError for a task that the set's authors did not ask with it, or of another kind."""
    if prompts.kind not in (None, kind):
        raise NotApplicableError(f"prompt set {prompts.name!r} is for {prompts.kind} tasks, and {task} is a {kind} one")
    if prompts.tasks and task not in prompts.tasks:
        raise NotApplicableError(
            f"prompt set {prompts.name!r} is for {', '.join(prompts.tasks)}, which its authors asked with it, and not "
            f"for {task}. Take a shared set, or give a copy of its file without `tasks` as --prompts FILE."
        )


def _sampled(prompts: PromptSet, settings: Settings, random_state: Any) -> Phrases:
    slots = {name: terms.slots for name, terms in prompts.terms.items()}
    if prompts.spelling == "kept":
        return {name: plain_combinations(lists) for name, lists in slots.items()}
    if prompts.sample is None or settings.ensemble == "all":
        return all_prompts(PromptTerms(slots))
    if random_state is None:
        raise NotApplicableError(
            f"prompt set {prompts.name!r} is drawn from the generator that fewshot.draw = released leaves, which "
            "multi-label tasks have not; choose zs.ensemble = all, or for others fewshot.draw = released"
        )
    sample = prompts.sample
    return released_prompts(PromptTerms(slots, sample.order, sample.above, sample.size), random_state)


def _fixed(prompts: PromptSet, name: str, settings: Settings) -> tuple[str, ...]:
    if name in prompts.classes:
        return prompts.classes[name]
    alias = prompts.aliases.get(name)
    if alias is not None and settings.description == "alias":
        return prompts.classes[alias]
    if prompts.unlisted == "name":
        return (name if prompts.spelling == "kept" else name.lower(),)
    if prompts.unlisted == "template" and prompts.template is not None:
        return (_filled(prompts, prompts.template, name),)
    hint = f" It knows it as {alias!r}: choose --set zs.description=alias." if alias else ""
    raise NotApplicableError(f"prompt set {prompts.name!r} has no prompts for class {name!r}.{hint}")


def _filled(prompts: PromptSet, template: str, name: str) -> str:
    text = template.replace("{class}", name)
    return text if prompts.spelling == "kept" else text.lower()


def _negated(prompts: PromptSet, name: str) -> tuple[str, ...]:
    if name in prompts.negatives:
        return prompts.negatives[name]
    if prompts.negative_template is not None:
        return (_filled(prompts, prompts.negative_template, name),)
    raise NotApplicableError(f"prompt set {prompts.name!r} has no prompts for the absence of class {name!r}")


def own_queries(card: ModelCard, classes: Sequence[str], text_encoder: Path | None) -> ClassPrompts:
    """The model's own queries, all of them asked in their order, with the one that stands for each class.

    Raises NotApplicableError for a model without such a set, or a class outside it; DataError where the authors' texts
    are not at hand.
    """
    found = adapter_class(card).entity_queries(card, classes, text_encoder)
    texts = found.descriptions.texts
    prompts = {name: (texts[column],) for name, column in zip(classes, found.columns, strict=True)}
    return ClassPrompts(prompts, asked=texts, edition=found.descriptions.edition)
