"""A model's own closed set of queries as the words of a cell."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, cast

from cxrbench.errors import NotApplicableError
from cxrbench.models.base import adapter_class
from cxrbench.models.entities import EntityQueries
from cxrbench.runner.wording import Wording
from cxrbench.specs.card import ModelCard


class ClosedVocabulary(Protocol):
    """An adapter whose authors always ask one set of queries, and read off the columns of the classes."""

    @classmethod
    def entity_queries(cls, card: ModelCard, classes: Sequence[str], text_encoder: Path | None) -> EntityQueries:
        """The set, and where the classes stand in it."""
        ...


class LabelSide(Protocol):
    """An adapter that scores by class prototypes, and knows without its weights which classes have one."""

    @classmethod
    def require_prototypes(cls, card: ModelCard, classes: Sequence[str]) -> None:
        """Raises NotApplicableError for a class that has none."""
        ...


def require_prototypes(card: ModelCard, classes: Sequence[str]) -> None:
    """Raise NotApplicableError for a class without a prototype; an adapter that cannot tell says so when it scores."""
    kind = adapter_class(card)
    if hasattr(kind, "require_prototypes"):
        cast(type[LabelSide], kind).require_prototypes(card, classes)


def own_queries(card: ModelCard, classes: Sequence[str], text_encoder: Path | None) -> Wording:
    """The model's own queries, all of them asked in their order, with the one that stands for each class.

    Raises NotApplicableError for a model without such a set, or a class outside it; DataError where the authors' texts
    are not at hand.
    """
    kind = adapter_class(card)
    if not hasattr(kind, "entity_queries"):
        raise NotApplicableError(f"{card.name} has no closed set of queries of its own; score it by a set of prompts")
    found = cast(ClosedVocabulary, kind).entity_queries(card, classes, text_encoder)
    texts = found.descriptions.texts
    prompts = {name: (texts[column],) for name, column in zip(classes, found.columns, strict=True)}
    return Wording(prompts, asked=texts, edition=found.descriptions.edition)
