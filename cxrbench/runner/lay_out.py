"""From a request to cells, with everything that is missing named before anything is computed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cxrbench.data.sources.base import load_partition
from cxrbench.errors import CxrBenchError, DataError, SpecError
from cxrbench.models.weights.verify import missing_text
from cxrbench.runner.checks import require_enough
from cxrbench.runner.folds import group_labels
from cxrbench.runner.model import BenchModel, bench_model, chosen_device
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell, Protocol, TaskData, load_protocol
from cxrbench.runner.request import Request
from cxrbench.runner.requirements import (
    keep,
    require_cells,
    require_files,
    require_group,
    require_protocol,
    require_text,
)
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard
from cxrbench.specs.card_facts import recipe_for, recipe_name
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec
from cxrbench.system.contained import contained

AUTHORS = "authors"  # in place of a prompt set's name: those that each model's own authors use


@dataclass(frozen=True, slots=True)
class Wordings:
    """The prompt sets of a request: those for every model, and whether each model's own authors' sets are wanted too.

    `all` stands for both. Sets for another kind of task are left out.
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

    def of(self, model: BenchModel, task: TaskSpec) -> tuple[PromptSet, ...]:
        """The sets for one model on a task, each once."""
        how = model.card.zero_shot
        own = how.prompts if how is not None and self.authors else ()
        extra = [catalog.load_prompts(name) for name in own if name not in {prompts.name for prompts in self.shared}]
        return (*(one for one in self.shared if one.kind in (None, task.kind)), *extra)

    def why_none(self, task: TaskSpec) -> str:
        """Why no set that was asked for serves a task; empty where one does, or none was asked for by name."""
        if task.kind == "retrieval" or not self.shared or any(one.kind in (None, task.kind) for one in self.shared):
            return ""
        told = ", ".join(f"{one.name} is for {one.kind} tasks" for one in self.shared)
        return f"{task.name} is a {task.kind} task, and {told}"


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
        for shots, prompts in protocol.combinations(
            model, group, request.shots, wordings.of(model, data.task), settings
        ):
            yield Cell(model, data, group, protocol, shots, prompts, name, recipe)


T = TypeVar("T", ModelCard, TaskSpec)


def lay_out(request: Request) -> Plan:
    """Resolve every name, find every file, lay out the cells.

    A task or model that cannot be had, for whatever reason, becomes a problem of the plan; names that do not exist and
    fact files that are malformed raise SpecError.
    """
    wordings, problems = Wordings.asked(request.prompts), list[CxrBenchError]()
    tasks = _loaded("task", _chosen(request.tasks, catalog.task_files(), "task"), catalog.load_task, problems)
    known_tasks = {*catalog.task_files(), *(task.name for task in tasks)}
    variant = catalog.chosen_variant(request.variant, request.choices, known_tasks)
    protocols = _protocols(request.protocols, problems)
    if not request.shots and (fitted := [one.name for one in protocols if one.fitted]):
        raise SpecError(f"{fitted[0]} needs --shots")
    made = Plan(request, variant, protocols, problems=problems)
    _check_groups(request, tasks)
    catalog.refuse_unavailable(part.strip() for word in request.models for part in word.split(","))
    cards = _loaded("model", _chosen(request.models, catalog.card_files(), "model"), catalog.load_card, problems)
    _check_places(request, known_tasks, {*catalog.card_files(), *(card.name for card in cards)})
    models = list(_models(request, cards, made))
    for data in _data(request, tasks, made):
        fitting = require_protocol(made, data.task)
        for model in models:
            found = len(made.cells)
            for protocol in fitting:
                with made.part(f"{model.card.name} / {data.task.name} / {protocol.name}"):
                    made.cells += list(cells(request, protocol, variant, data, model, wordings))
                    require_cells(made, protocol, data, model, wordings.why_none(data.task) if protocol.worded else "")
            made.cells[found:] = sorted(made.cells[found:], key=lambda cell: list(data.task.groups).index(cell.group))
        require_group(made, data.task)
    keep(made, made.wanted)
    keep(made, lambda cell: require_enough(cell, made.folds(cell), variant.settings))
    require_files(made)
    require_text(made)
    keep(made, made.words)
    keep(made, made.readings)
    return made


def _protocols(words: Sequence[str], problems: list[CxrBenchError]) -> tuple[Protocol, ...]:
    """Each once, in the catalog's order; one that cannot be loaded is a problem."""
    found = []
    for name in catalog.protocol_points():
        if name in words or "all" in words:
            try:
                found.append(load_protocol(name))
            except BaseException as error:
                problems.append(contained(error, name))
    return tuple(found)


def _loaded(what: str, words: Sequence[str], load: Callable[[str], T], problems: list[CxrBenchError]) -> list[T]:
    """The facts of every word; SpecError is raised, also for two of one name, and all else ends that word alone."""
    found: dict[str, T] = {}
    for word in dict.fromkeys(words):
        try:
            found[word] = load(word)
        except SpecError:
            raise
        except BaseException as error:
            problems.append(contained(error, word))
    catalog.refuse_namesakes(what, ((word, facts.name) for word, facts in found.items()))
    return list(found.values())


def _chosen(words: Sequence[str], known: Iterable[str], what: str) -> list[str]:
    """Names picked by words and globs, then the paths of fact files of the user's own."""
    files = [word for word in words if word.endswith(".toml")]
    return [*catalog.select([word for word in words if word not in files], known, what), *files]


def _check_groups(request: Request, tasks: list[TaskSpec]) -> None:
    known = sorted({group for task in tasks for group in task.groups if not group.endswith("-20")})
    for group in request.groups:
        if group != "*" and group not in known:
            raise catalog.unknown("group", group, known)


def _check_places(request: Request, tasks: set[str], models: set[str]) -> None:
    """Folders and files are named for tasks and models that exist."""
    for what, named, known in (("task", request.places.data, tasks), ("model", request.places.weights, models)):
        for name in named:
            if name and name not in known:
                raise catalog.unknown(what, name, known)


def _models(request: Request, cards: list[ModelCard], made: Plan) -> Iterator[BenchModel]:
    device, settings, alone = chosen_device(request.engine.device), made.variant.settings, len(cards) == 1
    for card in cards:
        model = None
        with made.part(card.name):
            recipe = recipe_name(card, settings)
            model = bench_model(card, request.places, request.engine, device, alone=alone, recipe=recipe)
        if model is not None:
            yield model
            continue
        with made.part(card.name):
            text = missing_text(card, request.places.text_encoder)
            if text is not None and card.zero_shot is not None and any(one.worded for one in made.protocols):
                made.add(DataError(text))  # told now, not after the weights were found


def _data(request: Request, tasks: list[TaskSpec], made: Plan) -> Iterator[TaskData]:
    for task in tasks:
        data = None
        with made.part(task.name):
            root = request.places.data_root(task)
            partition = load_partition(root, task, made.variant.split_of(task), request.places.cache)
            data = TaskData(task, partition, root)
        if data is not None:
            yield data
