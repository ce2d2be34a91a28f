"""Model cards: what a model is, where its weights are published, and how the protocols use it. No torch here."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PrivateAttr, model_validator

from cxrbench.errors import NotApplicableError, SpecError
from cxrbench.specs.known_answers import Head, KnownAnswer
from cxrbench.specs.recipe import Given, Recipe
from cxrbench.store.schema import LocalPath, Spec, read_toml

RecipeName = Literal["reality-check", "authors"]
ClassSource = Literal["prompts", "prototypes"]
NOT_TOLD = "not told"  # of a fact that nobody stated
IN_MEMORY = "in memory: no card and no file"  # of a model that a program gave, and no TOML file tells of


class Weights(Spec):
    """The published file. Without a known `sha256` the record carries the digest of the file that was read.

    `made`: how the adapter makes its tensors where there is no file at all (an untrained control, say); there are no
    `files` then. `files`: the names the file goes by; `container`: keys from its top down to its tensors; `sections`:
    keys there that hold a state dict each, whose names then begin with the key; `ignored`: tensors that a file may hold
    and the model does not need, `absent`: counters of batch norms (which training alone reads) that a file may lack,
    each with the reason. `foreign`: what to do with a file whose pickle names classes of other packages, as training
    frameworks leave them: `refused`; or `inert`, every such name stays a mere name and the tensors are read. Nothing
    that a file names is imported or called either way.

    `files` may name the index of a checkpoint in shards; one that lies in place of the whole file is found without.
    `preprocessor`: why the recipe `authors` is not what the `preprocessor_config.json` beside the weights says.

    `rename`: what names of tensors begin with in the file, and what the network has instead (`""`: nothing); the
    longest that fits a name counts, once. All else here and in the adapter goes by the new names.

    `fetch`, how it is got: from the `hub`, `files[0]` of the repository `hub` at `hub_revision` (commit or tag; None:
    the main branch); `direct`, from `url`, `member` naming the one file of a zip archive; `by-hand`, as `where` says.
    `hub_copy`: a repository of the hub with another copy, in which the file's name is not known: a person names it.
    """

    files: tuple[LocalPath, ...] = ()
    where: str = ""
    made: str | None = None
    url: str | None = None
    fetch: Literal["hub", "direct", "by-hand"] = "by-hand"
    hub: str | None = Field(None, pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    hub_revision: str | None = Field(None, pattern=r"^\w[\w.-]*$")
    hub_copy: str | None = Field(None, pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    member: LocalPath | None = None
    sha256: str | None = Field(None, pattern="^[0-9a-f]{64}$")
    preprocessor: str | None = None
    container: tuple[str, ...] = ()
    sections: tuple[str, ...] = ()
    rename: Mapping[str, str] = {}
    foreign: Literal["refused", "inert"] = "refused"
    ignored: Mapping[str, str] = {}
    absent: Mapping[Annotated[str, Field(pattern=r"\.num_batches_tracked$")], str] = {}

    @model_validator(mode="after")
    def _published_or_made(self) -> "Weights":
        if bool(self.files) == (self.made is not None) or bool(self.files) != bool(self.where):
            raise ValueError("name the published `files` and `where` they are, or say how the tensors are `made`")
        if (self.fetch == "hub") != (self.hub is not None) or (self.hub_revision and not self.hub):
            raise ValueError('fetch = "hub" goes with the repository `hub`, and `hub_revision` with both')
        if (self.fetch == "direct" and (self.url or "")[:8] != "https://") or (self.member and self.fetch != "direct"):
            raise ValueError('fetch = "direct" goes with an https address as `url`, and `member` with both')
        return self


class TextEncoder(Spec):
    """Where tokenizer and text configuration come from; `files` must be there. `revision`: a commit or tag of the hub.

    `weights`: names of the text encoder's own weights beside them, for models whose checkpoint holds none. `folder`:
    where the files lie beside the card (`.`: in its own folder); the hub is not asked then, and needs no name.
    """

    hub: LocalPath | None = None
    folder: LocalPath | None = None
    files: tuple[LocalPath, ...] = ("config.json", "vocab.txt")
    weights: tuple[LocalPath, ...] = ()
    revision: str | None = Field(None, pattern=r"^\w[\w.-]*$")
    revision_reason: str | None = None
    max_tokens: int = Field(ge=2)
    _home: Path = PrivateAttr(default_factory=Path)

    @model_validator(mode="after")
    def _pinned(self) -> "TextEncoder":
        pinned = self.revision is not None and re.fullmatch("[0-9a-f]{40}", self.revision)
        if self.hub is None and (self.folder is None or self.revision is not None):
            raise ValueError("name the `folder` beside the card, or the `hub`, to which a `revision` belongs")
        if self.hub is not None and not pinned and self.revision_reason is None:
            raise ValueError("pin a revision by its commit, or give the reason in revision_reason")
        return self

    @property
    def place(self) -> str:
        """What records and messages call it."""
        return self.hub or f"the folder {self.folder}"

    @property
    def beside(self) -> Path | None:
        """The folder beside the card, where the card names one."""
        return None if self.folder is None else self._home / self.folder


class View(Spec):
    """One way of scoring images zero-shot.

    `scoring`: `cosine` compares the vectors of `tap` with class vectors; `interaction` is the model's own `score` of
    image tokens and all prompts of the task at once.
    """

    tap: str
    scoring: Literal["cosine", "interaction"] = "cosine"
    classes: ClassSource


class ZeroShotSpec(Spec):
    """The views of a model; `new` is the view for the group `new` where it differs from `default`.

    `pooling`, how the prompts of a class become one: `embedding`, its vector is the mean of its prompts' unit vectors;
    `unit-embedding`, that mean at unit length; `projected-embedding`, the mean of its prompts' vectors before they were
    brought to unit length, then at unit length; `mean` or `max` of its prompts' scores. `standardised`: each class's
    scores minus their mean over the test images, over their population standard deviation. `prompts`: the prompt sets
    that the model's own authors use, each for the classes it knows. `released_parts`: tasks of which the released
    commands score another part than `test`.
    """

    views: Mapping[str, View] = Field(min_length=1)
    default: str
    new: str | None = None
    pooling: Literal["embedding", "unit-embedding", "projected-embedding", "mean", "max"]
    standardised: bool = False
    prompts: tuple[str, ...] = ()
    released_parts: Mapping[str, Literal["train"]] = {}

    @model_validator(mode="after")
    def _known(self) -> "ZeroShotSpec":
        joint = any(view.scoring == "interaction" for view in self.views.values())
        if joint and self.pooling not in ("mean", "max"):
            raise ValueError(f"scores by interaction are pooled by mean or max, not by {self.pooling}")
        for name in {self.default, self.new} - {None, *self.views}:
            raise ValueError(f"there is no view {name!r}; known are {sorted(self.views)}")
        return self


class ProbeSpec(Spec):
    """What the released commands probe: the tap `pooled`, but the projected tap at these numbers of shots.

    `labels`: a negative control is fitted to labels that were `shuffled` among the drawn training images.
    """

    projected_shots: tuple[int, ...] = ()
    labels: Literal["true", "shuffled"] = "true"


def _model_name(name: str) -> str:
    if not re.fullmatch("[a-z0-9][a-z0-9_.-]*", name):
        raise ValueError(
            f"{name!r} is no model's name: it has small letters, digits, _ . and -, and begins with a letter or digit, "
            "such as my_model-2"
        )
    return name


ModelName = Annotated[str, AfterValidator(_model_name)]
_LETTERS = {
    "c": "C",
    "chexpert": "C",
    "m": "M",
    "mimic": "M",
    "mimic-cxr": "M",
    "mimic-cxr-jpg": "M",
    "p": "P",
    "padchest": "P",
    "nih": "NIH",
    "c14": "C14",
    "chestx-ray14": "C14",
    "chestxray14": "C14",
}


class ModelCard(Spec):
    """`model_zoo/NAME.toml`, or a card of the user's own anywhere.

    `adapter`: `module:Class`, imported only on load; `options`: checked there; `taps`: width of each kind of image
    vector (`pooled` before the projection, the others unit vectors); `pretraining`: data set letters, C CheXpert,
    M MIMIC, P PadChest, empty where there were none; `published`: the row that holds this model's figures in a table
    of the paper;
    `synthetic`: weights that nobody trained, whose records enter no table of results. `control`: a negative control,
    which must do badly; tables set it apart. `family` and `year` (of the method's first publication) are for the list
    of models; `answers`: what others printed from the published weights, for `doctor`; `head`: a classifier of the
    file that answers may be of.
    """

    name: ModelName
    title: str
    family: str | None = None
    year: int | None = Field(None, ge=1990, le=2100)
    adapter: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    pretraining: tuple[str, ...] = (NOT_TOLD,)
    licence: str
    source: str
    notes: tuple[str, ...] = ()
    synthetic: bool = False
    control: bool = False
    options: Mapping[str, Any] = {}
    weights: Weights
    text_encoder: TextEncoder | None = None
    recipes: Mapping[RecipeName, Recipe]
    taps: Mapping[Annotated[str, Field(pattern=r"^[A-Za-z]\w*$")], int]
    zero_shot: ZeroShotSpec | None = None
    probe: ProbeSpec = ProbeSpec()
    published: Mapping[Literal["table2", "table3", "table4"], str] = {}
    answers: tuple[KnownAnswer, ...] = ()
    head: Head | None = None
    _home: Path = PrivateAttr(default_factory=Path)
    _file: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _consistent(self) -> "ModelCard":
        if "pooled" not in self.taps or min(self.taps.values()) < 1:
            raise ValueError("taps need `pooled`, and positive widths")
        if "reality-check" not in self.recipes:
            raise ValueError("recipes need `reality-check`")
        self._check_given()
        for answer in self.answers:
            computed = answer.kind == "head" and answer.unchecked is None
            if computed and (self.head is None or any(self.head.place(name) is None for name in answer.values)):
                raise ValueError(f"answer {answer.name!r}: its values are of outputs that the card's `head` has not")
        for word in self.pretraining:
            if (letter := _LETTERS.get(word.lower(), word)) != word:
                raise ValueError(f"pretraining: write {letter!r} for {word!r}; the dagger of tables goes by letters")
        for name, view in self.views.items():
            if view.tap not in self.taps:
                raise ValueError(f"view {name!r} uses tap {view.tap!r}; known are {sorted(self.taps)}")
        return self

    def _check_given(self) -> None:
        """Raise ValueError for what a card says of a network, where its vectors are given."""
        kinds = {isinstance(recipe, Given) for recipe in self.recipes.values()}
        if kinds == {True, False}:
            raise ValueError("recipes: either all are given or none is")
        if not self.given:
            return
        facts = self.weights
        of_tensors = (
            facts.made,
            facts.container,
            facts.sections,
            facts.ignored,
            facts.absent,
            facts.fetch != "by-hand",
        )
        if any(of_tensors) or self.text_encoder is not None or self.published:
            raise ValueError(
                "vectors that are given come from one file got by hand: no made, container, sections, ignored, absent, "
                "fetch, text_encoder or published"
            )

    @property
    def given(self) -> bool:
        """Whether images get their vectors from a file that was computed elsewhere; `weights` then is that file."""
        return isinstance(self.recipes["reality-check"], Given)

    @property
    def home(self) -> Path:
        """The folder of the card's file; weights and vocabularies are looked for there."""
        return self._home

    @property
    def word(self) -> str:
        """What a command line calls it: its name, or the path that it was asked for by, quoted for a shell."""
        return self.name if self._file is None else shlex.quote(self._file)

    @property
    def views(self) -> Mapping[str, View]:
        """The ways of scoring zero-shot by name; none of a model without a text or label side."""
        return {} if self.zero_shot is None else self.zero_shot.views

    def recipe(self, name: RecipeName) -> Recipe:
        """The named input recipe; raises SpecError if the card has none of that name."""
        if name not in self.recipes:
            raise SpecError(f"{self.name} has no recipe {name!r}; its card names {', '.join(self.recipes)}")
        return self.recipes[name]

    def size(self, name: RecipeName) -> int:
        """Side of the square pixels that a recipe makes; raises SpecError where vectors are given."""
        recipe = self.recipe(name)
        if isinstance(recipe, Given):
            raise SpecError(f"{self.name}: its vectors are given, and no pixels are made; {self.adapter} wants pixels")
        return recipe.size

    def view_name(self, group: str, head: Literal["released", "text"] = "released") -> str:
        """The view that scores `group` (all, base, new); `head` is the setting `dlilp.head`.

        `text` takes the view by prompts everywhere; a model without one keeps its own. Raises NotApplicableError for a
        model that has no zero-shot side.
        """
        if self.zero_shot is None:
            raise NotApplicableError(f"{self.name} has neither a text nor a label side; only linear probes see it")
        if head == "text":
            by_prompts = [name for name, view in self.views.items() if view.classes == "prompts"]
            if by_prompts:
                return by_prompts[0]
        new = self.zero_shot.new
        return new if group == "new" and new is not None else self.zero_shot.default

    def view(self, group: str, head: Literal["released", "text"] = "released") -> View:
        """What `view_name` names."""
        return self.views[self.view_name(group, head)]

    def probe_tap(self, features: Literal["released", "raw", "projected"], shots: int | str, group: str) -> str:
        """The tap that a linear probe sees; `features` is the setting `lp.features`."""
        projected = features == "projected" or (features == "released" and shots in self.probe.projected_shots)
        return self.view(group).tap if projected else "pooled"


class UnavailableModel(Spec):
    """`model_zoo/NAME_unavailable.toml`: a model that is known and cannot be run.

    `unavailable`: what is published, what is not, and why no adapter could be shown to be right.
    """

    name: ModelName
    title: str
    unavailable: str
    source: str


def read_card(path: Path, file: str | None = None) -> ModelCard:
    """The card in a TOML file, which `file` says was asked for by this path and not by its name.

    Raises SpecError that names the file, the key and what was expected there.
    """
    card = read_toml(path, ModelCard)
    card._file = file
    card._home = path.resolve().parent
    if card.text_encoder is not None:
        card.text_encoder._home = card._home
    return card


def card_files(folder: Path) -> tuple[Path, ...]:
    """The cards of a folder, by name; `*_vocabulary.toml` and `*_unavailable.toml` beside them are left out."""
    others = ("_vocabulary.toml", "_unavailable.toml")
    return tuple(path for path in sorted(folder.glob("*.toml")) if not path.name.endswith(others))
