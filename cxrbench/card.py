"""Model cards: what a model is, where its weights are published, and how the protocols use it. No torch here."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, model_validator

from cxrbench import digest
from cxrbench.errors import SpecError
from cxrbench.recipe import Recipe
from cxrbench.schema import Facts, read_toml

RecipeName = Literal["reality-check", "authors"]
ClassSource = Literal["prompts", "prototypes"]


class Weights(Facts):
    """The published file. Without a known `sha256` the record carries the digest of the file that was read.

    `files`: the names it goes by; `container`: keys from the top of the file down to its tensors; `sections`: keys
    there that hold a state dict each, whose names then begin with the key; `ignored`: tensors that a file may hold and
    the model does not need, each with the reason. `foreign`: what to do with a file whose pickle names classes of other
    packages, as training frameworks leave them: `refused`; or `inert`, every such name stays a mere name and the
    tensors are read. Nothing that a file names is imported or called either way.
    """

    files: tuple[str, ...] = Field(min_length=1)
    where: str
    url: str | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    container: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    foreign: Literal["refused", "inert"] = "refused"
    ignored: Mapping[str, str] = {}


class TextEncoder(Facts):
    """Where tokenizer and text configuration come from; `revision` is a commit of the hub, `files` must be there.

    `weights`: names of the text encoder's own weights beside them, for models whose checkpoint holds none.
    """

    hub: str
    files: tuple[str, ...] = ("config.json", "vocab.txt")
    weights: tuple[str, ...] = ()
    revision: str | None = Field(None, pattern="^[0-9a-f]{40}$")
    revision_reason: str | None = None
    max_tokens: int = Field(ge=2)

    @model_validator(mode="after")
    def _pinned(self) -> "TextEncoder":
        if self.revision is None and self.revision_reason is None:
            raise ValueError("pin a revision, or give the reason in revision_reason")
        return self


class View(Facts):
    """One way of scoring images zero-shot.

    `scoring`: `cosine` compares the vectors of `tap` with class vectors; `interaction` is the model's own `score` of
    image tokens and all prompts of the task at once.
    """

    tap: str
    scoring: Literal["cosine", "interaction"] = "cosine"
    classes: ClassSource


class ZeroShot(Facts):
    """The views of a model; `new` is the view for the group `new` where it differs from `default`.

    `pooling`, how the prompts of a class become one: `embedding`, its vector is the mean of its prompts' unit vectors;
    `unit-embedding`, that mean at unit length; `projected-embedding`, the mean of its prompts' vectors before they were
    brought to unit length, then at unit length; `mean` or `max` of its prompts' scores. `standardised`: each class's
    scores minus their mean over the test images, over their population standard deviation. `released_parts`: tasks of
    which the released commands score another part than `test`.
    """

    views: Mapping[str, View] = Field(min_length=1)
    default: str
    new: str | None = None
    pooling: Literal["embedding", "unit-embedding", "projected-embedding", "mean", "max"]
    standardised: bool = False
    released_parts: Mapping[str, Literal["train"]] = {}

    @model_validator(mode="after")
    def _known(self) -> "ZeroShot":
        for name in {self.default, self.new} - {None, *self.views}:
            raise ValueError(f"there is no view {name!r}; known are {sorted(self.views)}")
        return self


class Probe(Facts):
    """What the released commands probe: the tap `pooled`, but the projected tap at these numbers of shots."""

    projected_shots: tuple[int, ...] = ()


class ModelCard(Facts):
    """`model_zoo/NAME.toml`, or a card of the user's own anywhere.

    `adapter`: `module:Class`, imported only on load; `options`: checked there; `taps`: width of each kind of image
    vector (`pooled` before the projection, the others unit vectors); `pretraining`: data set letters, C CheXpert,
    M MIMIC, P PadChest; `published`: the row that holds this model's figures in a table of the paper;
    `synthetic`: made-up weights, whose records enter no table of results.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9_.-]*$")
    title: str
    adapter: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    pretraining: tuple[str, ...] = ()
    licence: str
    source: str
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    options: Mapping[str, Any] = {}
    weights: Weights
    text_encoder: TextEncoder | None = None
    recipes: Mapping[RecipeName, Recipe]
    taps: Mapping[str, int]
    zero_shot: ZeroShot
    probe: Probe = Probe()
    published: Mapping[Literal["table2", "table3", "table4"], str] = {}
    _home: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="after")
    def _consistent(self) -> "ModelCard":
        if "pooled" not in self.taps or min(self.taps.values()) < 1:
            raise ValueError("taps need `pooled`, and positive widths")
        if "reality-check" not in self.recipes:
            raise ValueError("recipes need `reality-check`")
        for name, view in self.zero_shot.views.items():
            if view.tap not in self.taps:
                raise ValueError(f"view {name!r} uses tap {view.tap!r}; known are {sorted(self.taps)}")
        return self

    @property
    def home(self) -> Path:
        """The folder of the card's file; weights and vocabularies are looked for there."""
        return self._home

    @property
    def digest(self) -> str:
        """Hex SHA-256 of all fields."""
        return digest.of_json(self.model_dump(mode="json"))

    def recipe(self, name: RecipeName) -> Recipe:
        """The named input recipe; raises SpecError if the card has none of that name."""
        if name not in self.recipes:
            raise SpecError(f"{self.name} has no recipe {name!r}; its card names {', '.join(self.recipes)}")
        return self.recipes[name]

    def view_name(self, group: str, head: Literal["released", "text"] = "released") -> str:
        """The view that scores `group` (all, base, new); `head` is the setting `dlilp.head`.

        `text` takes the view by prompts everywhere; a model without one keeps its own.
        """
        if head == "text":
            by_prompts = [name for name, view in self.zero_shot.views.items() if view.classes == "prompts"]
            if by_prompts:
                return by_prompts[0]
        new = self.zero_shot.new
        return new if group == "new" and new is not None else self.zero_shot.default

    def view(self, group: str, head: Literal["released", "text"] = "released") -> View:
        """What `view_name` names."""
        return self.zero_shot.views[self.view_name(group, head)]

    def probe_tap(self, features: Literal["released", "raw", "projected"], shots: int, group: str) -> str:
        """The tap that a linear probe sees; `features` is the setting `lp.features`."""
        projected = features == "projected" or (features == "released" and shots in self.probe.projected_shots)
        return self.view(group).tap if projected else "pooled"


class UnavailableModel(Facts):
    """`model_zoo/NAME_unavailable.toml`: a model that is known and cannot be run.

    `unavailable`: what is published, what is not, and why no adapter could be shown to be right.
    """

    name: str = Field(pattern="^[a-z0-9][a-z0-9_.-]*$")
    title: str
    unavailable: str
    source: str


def read_card(path: Path) -> ModelCard:
    """The card in a TOML file; raises SpecError that names the file, the key and what was expected there."""
    card = read_toml(path, ModelCard)
    card._home = path.resolve().parent
    return card


def card_files(folder: Path) -> tuple[Path, ...]:
    """The cards of a folder, by name; `*_vocabulary.toml` and `*_unavailable.toml` beside them are left out."""
    others = ("_vocabulary.toml", "_unavailable.toml")
    return tuple(path for path in sorted(folder.glob("*.toml")) if not path.name.endswith(others))
