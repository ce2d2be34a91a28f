"""Models that are in memory, as a run sees them: tried first, then named by what they are."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from cxrbench.errors import IntegrityError, SpecError
from cxrbench.models.base import Adapter
from cxrbench.models.in_memory import InMemory
from cxrbench.models.visible import Visible
from cxrbench.runner.model import BenchModel
from cxrbench.runner.request import Engine, Places
from cxrbench.specs import catalog
from cxrbench.specs.card import IN_MEMORY
from cxrbench.store import digest
from cxrbench.testing.adapter import check_held
from cxrbench.testing.samples import samples


@dataclass
class HeldModel(BenchModel):
    """A model in memory with what was seen of it; it stays where it lies."""

    held: InMemory = field(kw_only=True)
    seen: Visible = field(kw_only=True)

    @cached_property
    def adapter(self) -> Adapter:
        """The network that was given."""
        found = self.held.adapter(self.seen, self.engine.precision)
        self._report = found.engine
        return found

    def leave(self) -> None:
        """Nothing: whoever holds the network says where it lies."""

    @cached_property
    def code(self) -> str:
        """Digest of the code that was seen, and of what runs it here."""
        return digest.of_json([self.seen.code, super().code])

    @property
    def _file(self) -> str:
        return IN_MEMORY

    @cached_property
    def _tensors(self) -> str:
        """Digest of the state that was seen."""
        return self.seen.state


def held_model(held: InMemory, places: Places, engine: Engine) -> HeldModel:
    """A model in memory that keeps an adapter's promises on made pictures and texts.

    Raises SpecError for what cannot be looked into and for vectors of another shape, IntegrityError for a broken
    promise, or where encoding changes it.
    """
    card = held.card
    first = held.adapter(held.seen(), "float32")
    tried_on = samples(card)
    first.encode_image(tried_on.pixels)  # networks may keep what they compute once
    if first.has_text_side():
        first.encode_text(tried_on.texts)
    before = held.seen()
    adapter = held.adapter(before, "float32")
    check_held(adapter, tried_on).require()
    if held.seen().state != before.state:
        raise IntegrityError(
            f"{card.name}: encoding changes what it holds (a counter, or features that a hook keeps), so no digest can "
            "name it. Let it keep nothing: take what a hook kept out as you return it, by features.pop(name)"
        )
    seen_on = adapter.engine.device
    return HeldModel(card, None, seen_on, engine, None, places.cache, "reality-check", held=held, seen=before)


def refuse_names(held: Iterable[InMemory], others: Iterable[str]) -> None:
    """Raise SpecError for a model in memory that bears the name of a card, or of another that was asked for."""
    known = {*catalog.card_files(), *catalog.unavailable_models(), *others}
    for name in _names(held):
        if name in known:
            raise SpecError(
                f"the model in memory {name!r} has the name of another model; records know models by it alone: choose "
                "another"
            )
        known.add(name)


def _names(held: Iterable[InMemory]) -> Iterator[str]:
    return (one.card.name for one in held)
