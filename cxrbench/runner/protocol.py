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
from cxrbench.system.contained import containing
from cxrbench.types import Partition, TaskKind

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TaskData:
    """One task with its images found on this disk."""

    task: TaskSpec
    partition: Partition
    root: Path


@dataclass(frozen=True, slots=True, eq=False)
class Cell:
    """One number to be measured; a cell equals itself alone."""

    model: BenchModel
    data: TaskData
    group: str
    protocol: "Protocol"
    shots: int | None  # training images per class; None for a protocol that is fitted to none
    prompts: PromptSet | None  # None for probes and for views that score by prototypes
    recipe_name: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """The cell in words, for progress and errors."""
        how = f"K={self.shots}" if self.shots else (self.prompts.name if self.prompts else "prototypes")
        told = f"{self.model.card.name} / {self.data.task.name} / {self.group} / {self.protocol.name}"
        return told if self.data.task.kind == "retrieval" else f"{told} / {how}"

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

    `name` is the word for it in `--protocol`, in records and in tables. A `fitted` protocol learns from K training
    images per class and has one cell for each K; one that is `worded` scores images against texts. `kinds` are those of
    the tasks that it is for.
    `runner.few_shot.FewShot` is the base of those that need nothing but vectors and labels.
    """

    name: ClassVar[str]
    fitted: ClassVar[bool] = False
    worded: ClassVar[bool] = False
    kinds: ClassVar[tuple[TaskKind, ...]] = ("single-label", "multi-label")

    @abstractmethod
    def combinations(
        self, model: BenchModel, group: str, shots: Sequence[int], sets: Sequence[PromptSet], settings: Settings
    ) -> Iterable[tuple[int | None, PromptSet | None]]:
        """Shots and prompt set of each cell of a model on a group; none where the model cannot be scored so."""

    def why_none(self, card: ModelCard) -> str:
        """Why a model has no cell of this protocol."""
        return f"it cannot be scored by {self.name}"

    def drawn_shots(self, shots: Sequence[int]) -> Sequence[int]:
        """The numbers of training images per class for which folds are drawn; those asked for."""
        return shots

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
    known = catalog.protocol_points()
    if name not in known:
        raise catalog.unknown("protocol", name, known)
    if len(known[name]) > 1:
        values = " and ".join(point.value for point in known[name])
        raise SpecError(f"two protocols are called {name}: {values}; remove one of the packages")
    (point,) = known[name]
    with containing(f"protocol {name}: loading {point.value}"):
        kind = point.load()
        if not isinstance(kind, type) or not issubclass(kind, Protocol) or kind.name != name:
            raise SpecError(f"protocol {name}: {point.value} is no cxrbench.runner.protocol.Protocol of that name")
        return kind()
