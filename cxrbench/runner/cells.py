"""What a run measures: one cell for every number, laid out from models, tasks, groups and prompt sets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrbench.records.record import Protocol
from cxrbench.runner.folds import group_labels
from cxrbench.runner.model import BenchModel
from cxrbench.runner.request import Request
from cxrbench.specs import catalog
from cxrbench.specs.card_facts import recipe_for
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.recipe import Recipe
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec
from cxrbench.types import Partition

AUTHORS = "authors"  # in place of a prompt set's name: those that each model's own authors use


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
    protocol: Protocol
    shots: int | None
    prompts: PromptSet | None  # None for linear probes and for views that score by prototypes
    recipe_name: str
    recipe: Recipe

    @property
    def name(self) -> str:
        """The cell in words, for progress and errors."""
        how = f"K={self.shots}" if self.shots else (self.prompts.name if self.prompts else "prototypes")
        return f"{self.model.card.name} / {self.data.task.name} / {self.group} / {self.protocol} / {how}"


@dataclass(frozen=True, slots=True)
class Wordings:
    """The prompt sets of a request: those for every model, and whether each model's own authors' sets are wanted too.

    `all` stands for both.
    """

    shared: tuple[PromptSet, ...]
    authors: bool

    @classmethod
    def asked(cls, words: Sequence[str]) -> "Wordings":
        """The sets by name, by file, `authors` or `all`; raises SpecError for a name that does not exist.

        A set of some model's authors that is asked for by its own name serves every model.
        """
        names = [word.strip() for text in words for word in text.split(",")]
        plain, single = [name for name in names if name != AUTHORS], catalog.author_prompt_files()
        alone = [name for name in plain if name.endswith(".toml") or name in single]
        chosen = catalog.select([name for name in plain if name not in alone], catalog.prompt_files(), "prompt set")
        words = list(dict.fromkeys([*chosen, *alone]))
        sets = tuple(map(catalog.load_prompts, words))
        catalog.refuse_namesakes("prompt set", zip(words, (prompts.name for prompts in sets), strict=True))
        return cls(sets, AUTHORS in names or "all" in names)

    def of(self, model: BenchModel) -> tuple[PromptSet, ...]:
        """The sets for one model, each once."""
        how = model.card.zero_shot
        own = how.prompts if how is not None and self.authors else ()
        extra = [catalog.load_prompts(name) for name in own if name not in {prompts.name for prompts in self.shared}]
        return (*self.shared, *extra)


def cells(request: Request, variant: Variant, data: TaskData, model: BenchModel, wordings: Wordings) -> Iterator[Cell]:
    """The cells of one model on one task; a model without a zero-shot side has none for that protocol."""
    name, recipe = recipe_for(model.card, variant.settings, data.task.released_polarity)
    groups = [g for g in data.task.groups if not g.endswith("-20")] if "*" in request.groups else request.groups
    for group in groups:
        if group not in data.task.groups:
            continue
        group_labels(data.task, group, variant.settings)
        if "zero-shot" in request.protocols and model.card.zero_shot is not None:
            view = model.card.view(group, variant.settings.dlilp_head)
            for prompts in wordings.of(model) if view.classes == "prompts" else [None]:
                yield Cell(model, data, group, "zero-shot", None, prompts, name, recipe)
        if "linear-probe" in request.protocols:
            for shots in request.shots:
                yield Cell(model, data, group, "linear-probe", shots, None, name, recipe)
