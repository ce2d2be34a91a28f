"""What a card says for a cell under a variant: its recipe with the choices applied, and all that decides a number."""

from typing import Any

from cxrbench.specs.card import ModelCard, RecipeName
from cxrbench.specs.recipe import Canvas, Given, Recipe, Steps
from cxrbench.specs.settings import Settings
from cxrbench.store import digest
from cxrbench.types import Shots


def recipe_name(card: ModelCard, settings: Settings) -> RecipeName:
    """Which of the card's recipes a variant uses."""
    return "reality-check" if settings.preprocessing == "released" or "authors" not in card.recipes else "authors"


def recipe_for(card: ModelCard, settings: Settings, polarity: str) -> tuple[str, Recipe]:
    """The card's recipe with the variant's choices applied, and its name.

    `polarity` is how the released reader treats this data set's grey values (`stored` or `negated`).
    """
    name = recipe_name(card, settings)
    return name, applied(card.recipe(name), settings, polarity)


def applied(recipe: Recipe, settings: Settings, polarity: str) -> Recipe:
    """A recipe with the variant's choices; see `recipe_for`."""
    if isinstance(recipe, Given):
        return recipe
    changes: dict[str, object] = {}
    if isinstance(recipe, Canvas):
        changes |= {"antialias": settings.antialias == "on", "floor": settings.canvas_floor}
    if settings.decode == "radiograph":
        changes |= {"decode": "radiograph", "polarity": "header"}
        changes |= {"files": "first", "dicom": "released"} if isinstance(recipe, Steps) else {}
    elif recipe.polarity == "stored" and polarity == "negated":  # a recipe that goes by the header keeps to it
        changes |= {"polarity": "negated" if settings.vindr_polarity == "released" else "header"}
    return type(recipe).model_validate({**recipe.model_dump(), **changes})


def card_digest(
    card: ModelCard, settings: Settings, group: str, shots: Shots | None, recipe: Recipe, *, worded: bool
) -> str:
    """Hex SHA-256 over the card's facts for one cell: two cards with one digest give the same number.

    `shots` is None for a cell that is fitted to no image, `worded` says that it is scored by texts or prototypes.
    `recipe`: with the variant's choices applied. Tensors and files that the card names enter keys by their own content;
    notes, licence, source and where the weights are had do not enter. Raises NotApplicableError for a worded cell of a
    model that has no such side.
    """
    facts: dict[str, Any] = {
        "name": card.name,
        "adapter": card.adapter,
        "options": dict(card.options),
        "weights": [card.weights.made is None, card.weights.container, card.weights.sections],
        "taps": dict(card.taps),
        "recipe": recipe.digest,
        "said of it": [card.pretraining, card.synthetic, card.control],
    }
    words = _zero_shot(card, settings, group) if worded else None
    probe = None if shots is None and worded else _probe(card, settings, group, shots or 0)
    return digest.of_json({**facts, "words": words, "probe": probe})


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


def _probe(card: ModelCard, settings: Settings, group: str, shots: Shots) -> dict[str, Any]:
    return {"tap": card.probe_tap(settings.features, shots, group), "labels": card.probe.labels}
