"""What a protocol is: how the stored vectors of a cell become scores of its images. One file each, found by name."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar
from typing import Protocol as Interface

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import SpecError
from cxrbench.records.record import FoldResult, PromptIdentity, ProtocolIdentity
from cxrbench.records.scores import FoldScores
from cxrbench.runner.folds import IdFold
from cxrbench.runner.model import BenchModel
from cxrbench.runner.wording import ClassPrompts
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.recipe import Recipe
from cxrbench.specs.settings import Settings
from cxrbench.specs.task import TaskSpec
from cxrbench.specs.transfer import SharedLabel
from cxrbench.system.contained import containing
from cxrbench.types import Partition, Shots, Table, TaskKind, shots_in_words

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TaskData:
    """One task with its images found on this disk.

    `trained_on`: another task, whose training images are fitted to; then the partition also says where those lie.
    """

    task: TaskSpec
    partition: Partition
    root: Path
    trained_on: "TrainingPart | None" = None

    @property
    def sides(self) -> "tuple[TaskData, ...]":
        """The data sets whose images a cell rests on: this one, and the one that is trained on where it is another."""
        return (self,) if self.trained_on is None else (self, self.trained_on.data)

    def owner(self, image: str) -> "TaskData":
        """Which of them an image is of."""
        other = self.trained_on
        return self if other is None or not image.startswith(other.prefix) else other.data


@dataclass(frozen=True, slots=True)
class TrainingPart:
    """What a cell is fitted to whose images are of another task.

    `data`: that task; `shared`: the labels that are fitted; `parts`: rows `train`, and `valid` where there is one, by
    that task's own ids, with the shared labels as the scored task spells them, and `test`, those of the scored task.
    `facts`: what the record says of it, but for the recipe.
    """

    data: TaskData
    shared: tuple[SharedLabel, ...]
    group: str
    parts: Mapping[str, Table]
    facts: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """What the ids of its images begin with in the cell, so that no id of the scored task is like one of them."""
        return f"{self.data.task.name}:"


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One number to be measured; a cell equals itself alone."""

    model: BenchModel
    data: TaskData
    group: str
    protocol: "Protocol"
    shots: Shots | None  # training images; None for a protocol that is fitted to none
    prompts: PromptSet | None  # None for probes and for views that score by prototypes
    recipe_name: str
    recipe: Recipe
    training_recipe: Recipe | None = None  # of the images of another task that is trained on

    @property
    def recipes(self) -> tuple[Recipe, ...]:
        """Those by which its images are read, each once."""
        other = self.training_recipe
        return (self.recipe,) if other is None or other.digest == self.recipe.digest else (self.recipe, other)

    def recipe_of(self, image: str) -> Recipe:
        """The one by which an image is read."""
        other = self.training_recipe
        return self.recipe if other is None or self.data.owner(image) is self.data else other

    @property
    def name(self) -> str:
        """The cell in words, for progress and errors."""
        told = f"{self.model.card.name} / {self.data.task.name} / {self.group} / {self.protocol.name}"
        words = self.prompts.name if self.prompts else ("prototypes" if self.protocol.worded else "")
        shots = "" if self.shots is None else shots_in_words(self.shots)
        how = ("", "") if self.data.task.kind == "retrieval" else (shots, words)
        return " / ".join(filter(None, [told, *how]))

    @property
    def reads_texts(self) -> bool:
        """Whether the model encodes texts for it: prompts, or those of a retrieval task."""
        return self.prompts is not None or self.data.task.kind == "retrieval"


@dataclass(frozen=True, slots=True)
class Basis:
    """What a cell is measured on: its folds, the words of each (None: probes, prototypes), the part that is scored.

    Rows of images that are `left_out` could not be read, and are in no fold.
    """

    folds: Sequence[IdFold]
    words: Sequence[ClassPrompts | None]
    part: str
    left_out: Set[str]
    settings: Settings


class Readings(Interface):
    """What the store holds of a cell's images."""

    def vectors(self, tap: str, images: Sequence[str]) -> FloatArray:
        """Vectors (n, dim) of a tap, in the order of the image ids."""
        ...

    def scores(self, words: ClassPrompts, images: Sequence[str]) -> FloatArray:
        """The model's own scores (n, P) of all texts of a wording, asked together."""
        ...


@dataclass(frozen=True, slots=True)
class Measured:
    """The result of one cell, before it is wrapped into a record."""

    protocol: ProtocolIdentity
    folds: tuple[FoldResult, ...]
    predictions: tuple[FoldScores, ...]
    prompts: PromptIdentity | None
    summary: Mapping[str, Any]
    generalised: Mapping[str, Any] | None
    single_prompts: tuple[float | None, ...] = ()


class Protocol(ABC):
    """One way of scoring images; its class is named by an entry point of the group `cxrbench.protocols`.

    `name` is the word for it in `--protocol`, in records and in tables. A `fitted` protocol learns from training
    images and has one cell for each number of shots; one that is `worded` scores images against texts, or learns from
    them, too. `kinds` are the kinds of tasks that it can score, `source` is who published it.
    `runner.few_shot.FewShot` is the base of those that need nothing but vectors and labels.
    """

    name: ClassVar[str]
    fitted: ClassVar[bool] = False
    worded: ClassVar[bool] = False
    kinds: ClassVar[tuple[TaskKind, ...]] = ("single-label", "multi-label")
    source: ClassVar[str] = ""

    @abstractmethod
    def combinations(
        self, model: BenchModel, group: str, shots: Sequence[Shots], sets: Sequence[PromptSet], settings: Settings
    ) -> Iterable[tuple[Shots | None, PromptSet | None]]:
        """Shots and prompt set of each cell of a model on a group; none where the model cannot be scored so."""

    def why_none(self, card: ModelCard) -> str:
        """Why a model has no cell of this protocol."""
        return f"it cannot be scored by {self.name}"

    def part(self, cell: Cell, settings: Settings) -> str:
        """The part of the split that is scored."""
        return "test"

    def options(self, settings: Settings) -> Mapping[str, str | int | float]:
        """Constants that records name; they enter their identity."""
        return {}

    def identity(self, settings: Settings) -> Mapping[str, Any]:
        """What decides scores besides vectors, labels, settings, options and this protocol's code: a library's version.

        Plain JSON values; a changed one makes another record.
        """
        return {}

    @classmethod
    def modules(cls) -> list[str]:
        """The modules that define it and what it derives from: their code enters identities."""
        return sorted({kind.__module__ for kind in cls.__mro__ if issubclass(kind, Protocol)})

    @property
    def origin(self) -> str:
        """Its source, or that a package brings it."""
        return self.source or "of an installed package"

    @property
    def needs(self) -> str:
        """What it needs beside image vectors: texts (or class vectors of a model's own), shots, neither or both."""
        return ", ".join([*(["texts"] if self.worded else []), *(["shots"] if self.fitted else [])])

    @abstractmethod
    def measure(self, cell: Cell, basis: Basis, readings: Readings) -> Measured:
        """The scores of every fold, and what they are worth (`runner.measure.measured`).

        Raises NotApplicableError for classes that the model cannot be scored on, DataError for folds that hold too
        little, RunError for scores that are not finite.
        """


def load_protocol(name: str) -> Protocol:
    """A protocol by name; raises SpecError with the nearest names for one that does not exist or is none.

    What goes wrong in importing it, of whatever kind, is an error that names it.
    """
    point = catalog.one_point("protocol", name, catalog.protocol_points())
    with containing(f"protocol {name}: loading {point.value}"):
        kind = point.load()
        if not isinstance(kind, type) or not issubclass(kind, Protocol) or kind.name != name:
            raise SpecError(f"protocol {name}: {point.value} is no cxrbench.runner.protocol.Protocol of that name")
        return kind()
