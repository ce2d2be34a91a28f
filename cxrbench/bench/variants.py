"""A variant's choices applied to a card's recipe."""

from cxrbench.card import ModelCard, RecipeName
from cxrbench.recipe import Canvas, Recipe, Steps
from cxrbench.settings import Settings


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
    changes: dict[str, object] = {}
    if isinstance(recipe, Canvas):
        changes |= {"antialias": settings.antialias == "on", "floor": settings.canvas_floor}
    if settings.decode == "radiograph":
        changes |= {"decode": "radiograph", "polarity": "header"}
        changes |= {"files": "first", "dicom": "released"} if isinstance(recipe, Steps) else {}
    elif recipe.polarity == "stored" and polarity == "negated":  # a recipe that goes by the header keeps to it
        changes |= {"polarity": "negated" if settings.vindr_polarity == "released" else "header"}
    return type(recipe).model_validate({**recipe.model_dump(), **changes})
