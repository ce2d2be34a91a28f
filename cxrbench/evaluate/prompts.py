"""Prompts made of term lists: every combination, and the released draw of a hundred of them."""

import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cxrbench.errors import SpecError

Slots = Sequence[Sequence[str]]
Prompts = dict[str, tuple[str, ...]]

RELEASED_SLOTS = 3  # further lists of a class (location, of COVID and Normal) are never used by the released code


@dataclass(frozen=True, slots=True)
class PromptTerms:
    """Term lists of classes. Those of `order` with more than `above` combinations enter with `size` drawn ones."""

    slots: Mapping[str, Slots]
    order: tuple[str, ...] = ()
    above: int = 100
    size: int = 100


def combinations(slots: Slots) -> tuple[str, ...]:
    """All combinations of the first three lists, the first changing slowest; lower case, runs of blanks reduced.

    Equal prompts stay: a list may name a term twice.
    """
    joined = (" ".join(terms) for terms in itertools.product(*slots[:RELEASED_SLOTS]))
    return tuple(" ".join(text.lower().split()) for text in joined)


def plain_combinations(slots: Slots) -> tuple[str, ...]:
    """All combinations of all lists, the first changing slowest, joined by one blank each and otherwise untouched.

    Empty terms leave their blanks, and equal prompts stay: some models count characters, and some count prompts.
    """
    return tuple(" ".join(terms) for terms in itertools.product(*slots))


def released_prompts(terms: PromptTerms, random_state: object) -> Prompts:
    """The prompts of every class with terms in one fold of the released code.

    `random_state` is the state of a `random.Random` that the fold's draw left on the training table
    (`Fold.random_state`). The classes of `order` are drawn in that order whatever the task's classes are, so a task's
    prompts do not depend on which classes it has. Raises SpecError where `order` names a class without terms, or one
    outside of `order` has too many combinations. Source: protocol facts, section 4.
    """
    rng = random.Random()
    rng.setstate(random_state)  # type: ignore[arg-type]
    prompts = {name: combinations(slots) for name, slots in terms.slots.items()}
    large = {name for name, texts in prompts.items() if len(texts) > terms.above}
    if stray := sorted((set(terms.order) - prompts.keys()) | (large - set(terms.order))):
        raise SpecError(
            f"prompt sampling: {', '.join(stray)} must stand both in the order and in the terms; "
            f"classes with more than {terms.above} combinations need a place in the order"
        )
    for name in terms.order:
        if name in large:
            prompts[name] = tuple(rng.sample(prompts[name], terms.size))
    return prompts


def all_prompts(terms: PromptTerms) -> Prompts:
    """All distinct combinations of every class with terms, in their order; nothing is drawn."""
    return {name: tuple(dict.fromkeys(combinations(slots))) for name, slots in terms.slots.items()}
