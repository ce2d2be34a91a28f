"""What a run measures: one cell for every number, laid out from models, tasks, groups and prompt sets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from cxrbench.runner.folds import group_labels
from cxrbench.runner.model import BenchModel
from cxrbench.runner.protocol import Cell, Protocol, TaskData
from cxrbench.runner.request import Request
from cxrbench.specs import catalog
from cxrbench.specs.card_facts import recipe_for
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Variant

AUTHORS = "authors"  # in place of a prompt set's name: those that each model's own authors use


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


def cells(
    request: Request,
    protocol: Protocol,
    variant: Variant,
    data: TaskData,
    model: BenchModel,
    wordings: Wordings,
) -> Iterator[Cell]:
    """The cells of one model on one task by one protocol."""
    settings = variant.settings
    name, recipe = recipe_for(model.card, settings, data.task.released_polarity)
    groups = [g for g in data.task.groups if not g.endswith("-20")] if "*" in request.groups else request.groups
    for group in groups:
        if group not in data.task.groups:
            continue
        group_labels(data.task, group, settings)
        for shots, prompts in protocol.combinations(model, group, request.shots, wordings.of(model), settings):
            yield Cell(model, data, group, protocol, shots, prompts, name, recipe)
