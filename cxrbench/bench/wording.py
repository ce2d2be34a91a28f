"""The prompts of each fold: a prompt set applied to a group's classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from cxrbench.errors import NotApplicableError
from cxrbench.evaluate.prompts import PromptTerms, all_prompts, released_prompts
from cxrbench.prompts import PromptSet
from cxrbench.settings import Settings

Wording = Mapping[str, tuple[str, ...]]


def wording(prompts: PromptSet, classes: Sequence[str], settings: Settings, random_state: Any) -> Wording:
    """Each class's prompts, in class order; sets with a sample go on from the fold's generator.

    Raises NotApplicableError for a class that the set does not know.
    """
    sampled = _sampled(prompts, settings, random_state)
    return {name: sampled[name] if name in sampled else _fixed(prompts, name, settings) for name in classes}


def _sampled(prompts: PromptSet, settings: Settings, random_state: Any) -> Wording:
    slots = {name: terms.slots for name, terms in prompts.terms.items()}
    if prompts.sample is None or settings.ensemble == "all":
        return all_prompts(PromptTerms(slots))
    if random_state is None:
        raise NotApplicableError(
            f"prompt set {prompts.name!r} is drawn from the generator that fewshot.draw = released leaves; "
            "choose zs.ensemble = all, or fewshot.draw = released"
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
        return (name.lower(),)
    if prompts.unlisted == "template" and prompts.template is not None:
        return (prompts.template.replace("{class}", name).lower(),)
    hint = f" It knows it as {alias!r}: choose --set zs.description=alias." if alias else ""
    raise NotApplicableError(f"prompt set {prompts.name!r} has no prompts for class {name!r}.{hint}")
