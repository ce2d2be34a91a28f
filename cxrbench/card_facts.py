"""What of a model's card decides one cell, and nothing else: not its notes, its licence or its source."""

from typing import Any

from cxrbench import digest
from cxrbench.card import ModelCard, RecipeName
from cxrbench.settings import Settings


def card_digest(
    card: ModelCard, settings: Settings, group: str, protocol: str, shots: int | None, recipe: RecipeName
) -> str:
    """Hex SHA-256 over the card's facts for one cell: two cards with one digest give the same number.

    Tensors and files that the card names enter keys by their own content. Raises NotApplicableError for a zero-shot
    cell of a model that has no such side.
    """
    facts: dict[str, Any] = {
        "name": card.name,
        "adapter": card.adapter,
        "options": dict(card.options),
        "weights": [card.weights.made is None, card.weights.container, card.weights.sections],
        "taps": dict(card.taps),
        "recipe": card.recipe(recipe).model_dump(mode="json"),
        "told of it": [card.pretraining, card.synthetic, card.control],
    }
    side = _zero_shot(card, settings, group) if protocol == "zero-shot" else _probe(card, settings, group, shots or 0)
    return digest.of_json({**facts, protocol: side})


def _zero_shot(card: ModelCard, settings: Settings, group: str) -> dict[str, Any]:
    name = card.view_name(group, settings.dlilp_head)
    how = card.zero_shot
    assert how is not None  # it has a view
    view = card.views[name]
    found: dict[str, Any] = {"name": name, "view": view.model_dump(mode="json"), "parts": dict(how.released_parts)}
    if view.classes == "prompts":
        found |= {"pooling": how.pooling, "standardised": how.standardised}
        found["max_tokens"] = None if card.text_encoder is None else card.text_encoder.max_tokens
    return found


def _probe(card: ModelCard, settings: Settings, group: str, shots: int) -> dict[str, Any]:
    return {"tap": card.probe_tap(settings.features, shots, group), "labels": card.probe.labels}
