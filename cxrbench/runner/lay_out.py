"""From a request to cells, with everything that is missing named before anything is computed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from cxrbench.data.sources.base import load_partition
from cxrbench.errors import CxrBenchError, DataError, NotApplicableError, SpecError
from cxrbench.models.weights.verify import missing_text
from cxrbench.runner.checks import require_enough
from cxrbench.runner.folds import group_labels
from cxrbench.runner.held import held_model, refuse_names
from cxrbench.runner.model import BenchModel, bench_model, chosen_device
from cxrbench.runner.needed import require_texts
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
from cxrbench.runner.transfer import pair, refuse_ambiguous
from cxrbench.specs import catalog
from cxrbench.specs.card import ModelCard
from cxrbench.specs.card_facts import recipe_for, recipe_name
from cxrbench.specs.prompts import PromptSet
from cxrbench.specs.settings import Variant
from cxrbench.specs.task import TaskSpec
from cxrbench.specs.transfer import LabelMapping, label_mapping
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


def lay_out(request: Request, stand_in: Callable[[ModelCard], ModelCard] | None = None) -> Plan:
    """Resolve every name, find every file, lay out the cells; `stand_in` puts another card in the place of each.

    A task or model that cannot be had, for whatever reason, becomes a problem of the plan; names that do not exist and
    fact files that are malformed raise SpecError.
    """
    wordings, problems = Wordings.asked(request.prompts), list[CxrBenchError]()
    tasks = _loaded("task", _chosen(request.tasks, catalog.task_files(), "task"), catalog.load_task, problems)
    words = _chosen(request.trained_on, catalog.task_files(), "task")
    sources = _loaded("task", words, catalog.load_task, problems)
    every = _once(tasks, sources)
    known_tasks = {*catalog.task_files(), *(task.name for task in every)}
    variant = catalog.chosen_variant(request.variant, request.choices, known_tasks)
    protocols = _protocols(request.protocols, problems)
    if not request.shots and (fitted := [one.name for one in protocols if one.fitted]):
        raise SpecError(f"{fitted[0]} needs --shots")
    made = Plan(request, variant, protocols, problems=problems)
    if request.mapping is not None and not request.trained_on:
        raise SpecError("--mapping says which labels two tasks share, and belongs to --trained-on")
    mapping = label_mapping(request.mapping, every) if request.trained_on else None
    if mapping is None:
        _check_groups(request, tasks)
    catalog.refuse_unavailable(part.strip() for word in request.models for part in word.split(","))
    cards = _loaded("model", _chosen(request.models, catalog.card_files(), "model"), catalog.load_card, problems)
    _check_places(request, known_tasks, {*catalog.card_files(), *(card.name for card in cards)})
    refuse_names(request.held, (card.name for card in cards))
    cards = cards if stand_in is None else list(map(stand_in, cards))
    models = [*_models(request, cards, made), *_held_models(request, made)]
    if mapping is not None:
        _lay_out_pairs(made, models, wordings, mapping, tasks, sources)
    for data in _data(request, tasks, made) if mapping is None else ():
        fitting = require_protocol(made, data.task, protocols)
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
    keep(made, lambda cell: require_texts(cell, made))
    keep(made, made.readings)
    return made


def _once(tasks: Iterable[TaskSpec], sources: Iterable[TaskSpec]) -> list[TaskSpec]:
    """All tasks of a request; raises SpecError where a task to train on is another than the scored one of its name."""
    found = {task.name: task for task in tasks}
    for source in sources:
        refuse_ambiguous(source)
        if (known := found.setdefault(source.name, source)) is not source and known != source:
            catalog.refuse_namesakes("task", [(known.word, known.name), (source.word, source.name)])
    return list(found.values())


def _lay_out_pairs(
    made: Plan,
    models: Sequence[BenchModel],
    wordings: Wordings,
    mapping: LabelMapping,
    tasks: Sequence[TaskSpec],
    sources: Sequence[TaskSpec],
) -> None:
    """The cells of every pair of two tasks that meet; why others do not is told."""
    fitted = [one for one in made.protocols if one.fitted]
    for protocol in made.protocols:
        if not protocol.fitted:
            told = f"{protocol.name}, trained on {', '.join(source.name for source in sources)}"
            made.skipped[told] = (
                f"{protocol.name} is fitted to nothing, so there is nothing that another task could train"
            )
    names = {task.name for task in tasks}
    loaded = {data.task.name: data for data in _data(made.request, _once(tasks, sources), made)} if fitted else {}
    for source in sources:
        for target in tasks:
            if source.name == target.name or not {source.name, target.name} <= loaded.keys():
                continue
            with made.part(f"{target.name}, trained on {source.name}"):
                try:
                    data = pair(loaded[source.name], loaded[target.name], mapping, made.variant.settings)
                except NotApplicableError as error:
                    made.skipped[f"{target.name}, trained on {source.name}"] = str(error)
                    continue
                fitting = require_protocol(made, target, fitted)
                for model in models:
                    made.cells += [cell for one in fitting for cell in pair_cells(made, one, data, model, wordings)]
    if not made.cells and len(names | {source.name for source in sources}) == 1:
        made.add(SpecError("--trained-on names the scored task alone; a task is fitted to its own images without it"))


def pair_cells(made: Plan, protocol: Protocol, data: TaskData, model: BenchModel, wordings: Wordings) -> Iterator[Cell]:
    """The cells of one model on one task by one protocol that is fitted to another task."""
    other, settings = data.trained_on, made.variant.settings
    assert other is not None
    name, recipe = recipe_for(model.card, settings, data.task.released_polarity)
    trained = recipe_for(model.card, settings, other.data.task.released_polarity)[1]
    found = False
    sets = wordings.of(model, data.task)
    for shots, prompts in protocol.combinations(model, other.group, made.request.shots, sets, settings):
        found = True
        yield Cell(model, data, other.group, protocol, shots, prompts, name, recipe, trained)
    if not found:
        reason = wordings.why_none(data.task) if protocol.worded else ""
        told = f"{model.card.name} / {data.task.name} / {other.group} / {protocol.name}"
        made.skipped[told] = f"{model.card.name}: {reason or protocol.why_none(model.card)}"


def _protocols(words: Sequence[str], problems: list[CxrBenchError]) -> tuple[Protocol, ...]:
    """Each once, in the catalog's order; one that cannot be loaded is a problem."""
    found, asked = [], catalog.select_protocols(words)
    for name in catalog.protocol_points():
        if name in asked:
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


def _held_models(request: Request, made: Plan) -> Iterator[BenchModel]:
    for held in request.held:
        model = None
        with made.part(held.card.name):
            model = held_model(held, request.places, request.engine)
        if model is not None:
            yield model


def _data(request: Request, tasks: list[TaskSpec], made: Plan) -> Iterator[TaskData]:
    for task in tasks:
        data = None
        with made.part(task.name):
            root = request.places.data_root(task)
            partition = load_partition(root, task, made.variant.split_of(task), request.places.cache)
            data = TaskData(task, partition, root)
        if data is not None:
            yield data
