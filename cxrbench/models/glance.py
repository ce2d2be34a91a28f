"""Every model in a row of facts, each derived from its card and from the certificates that ship. No torch here."""

from collections.abc import Iterable
from dataclasses import dataclass

from cxrbench.models.certificate import certificates
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard, UnavailableModel
from cxrbench.specs.recipe import Given

# In this order: the first words that stand in the terms decide. What states no terms for the weights is unclear.
_LICENCE_WORDS = (
    ("research", ("non-commercial", "noncommercial", "by-nc")),
    (
        "unclear",
        ("unclear", "nothing is said", "none", "not stated", "no licence", "no term", "no separate", "not known"),
    ),
    ("sign", ("to be accepted",)),
)
_OPEN = ("mit", "apache-2.0", "bsd", "cc-by")


@dataclass(frozen=True, slots=True)
class ModelLine:
    """A model: `trained_on` are letters (C CheXpert, M MIMIC-CXR, P PadChest, C14 NIH ChestX-ray14).

    `image_size`: pixels a side by the authors' recipe; `vectors`: widths by tap; `sides` beside the image side: `text`,
    `label`, `both`, or none; `licence`: `open`, `research` (no commercial use), `sign` (to be accepted first),
    `unclear` (no terms for the weights), `own` (read them); `weights`: from the `hub`, `direct` from an address,
    `by-hand`, or `made` here; `checked`: the certificate that ran the authors' code for this card; `answers`: how many
    printed ones the card carries. A `control` is a negative control, which must do badly; one that is not `available`
    is known and cannot be run. `family` and `year` may be missing on cards of others.
    """

    name: str
    family: str
    year: str
    image_size: str
    vectors: str
    sides: str
    licence: str
    weights: str
    checked: str
    answers: int
    trained_on: str
    title: str
    control: bool
    available: bool


def model_lines() -> tuple[ModelLine, ...]:
    """Every model by family, year and name; controls, and those that cannot be run, come last."""
    checked = {name: found.name for found in certificates() for name in found.models}
    cards = (catalog.load_card(name) for name in catalog.card_files())
    known = sorted((_line(card, checked) for card in cards), key=_order)
    return (*known, *map(_unavailable, catalog.unavailable_models().values()))


def licence_class(terms: str) -> str:
    """The class of a licence by the words of a card; see `ModelLine`."""
    told = terms.lower().replace(" ", "-")
    for name, words in _LICENCE_WORDS:
        if any(word.replace(" ", "-") in told for word in words):
            return name
    return "open" if told.startswith(_OPEN) else "own"


def _line(card: ModelCard, checked: dict[str, str]) -> ModelLine:
    recipe = card.recipes.get("authors", card.recipes["reality-check"])
    return ModelLine(
        name=card.name,
        family=card.family or "",
        year="" if card.year is None else str(card.year),
        image_size="" if isinstance(recipe, Given) else str(recipe.size),
        vectors=", ".join(f"{tap} {width}" for tap, width in card.taps.items()),
        sides=_sides(view.classes for view in card.views.values()),
        licence=licence_class(card.licence),
        weights="made" if card.weights.made is not None else card.weights.fetch,
        checked=checked.get(card.name, ""),
        answers=len(card.answers),
        trained_on="+".join(card.pretraining),
        title=card.title,
        control=card.control,
        available=True,
    )


def _sides(classes: Iterable[str]) -> str:
    found = set(classes)
    if len(found) > 1:
        return "both"
    return {"prompts": "text", "prototypes": "label"}[found.pop()] if found else ""


def _order(line: ModelLine) -> tuple[bool, bool, str, str, str]:
    return line.control, not line.family, line.family.lower(), line.year, line.name


def _unavailable(model: UnavailableModel) -> ModelLine:
    blank = dict.fromkeys(("family", "year", "image_size", "vectors", "sides", "licence", "weights", "checked"), "")
    return ModelLine(
        name=model.name, **blank, answers=0, trained_on="", title=model.title, control=False, available=False
    )
