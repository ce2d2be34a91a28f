"""From a request to cells, with everything that is missing named before anything is computed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxrbench import catalog
from cxrbench.bench.folds import IdFold, group_labels, id_folds
from cxrbench.bench.models import BenchModel, bench_model, chosen_device
from cxrbench.bench.request import Request
from cxrbench.bench.variants import recipe_for, recipe_name
from cxrbench.card import ModelCard
from cxrbench.data.sources.base import load_partition
from cxrbench.errors import CxrBenchError, DataError
from cxrbench.index import Partition
from cxrbench.prompts import PromptSet
from cxrbench.recipe import Recipe
from cxrbench.record import Protocol
from cxrbench.settings import Variant
from cxrbench.task import TaskSpec


@dataclass(frozen=True, slots=True)
class TaskData:
    """One task with its images found on this disk."""

    task: TaskSpec
    partition: Partition
    root: Path


@dataclass(frozen=True, slots=True)
class Cell:
    """One number to be measured."""

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


@dataclass(slots=True)
class Plan:
    """All cells of a request, and what stands in the way of others."""

    request: Request
    variant: Variant
    cells: list[Cell] = field(default_factory=list)
    problems: list[CxrBenchError] = field(default_factory=list)
    _folds: dict[tuple[str, str, str, str], list[IdFold]] = field(default_factory=dict)

    def folds(self, cell: Cell) -> list[IdFold]:
        """The folds of the cell's task and group, drawn once for all models and shots.

        Zero-shot prompts go on from the draw of K = 16, whatever shots are asked for.
        """
        part = self.test_part(cell)
        key = (cell.data.task.name, cell.group, cell.protocol, part)
        if key not in self._folds:
            shots = (16,) if cell.protocol == "zero-shot" else self.request.shots
            self._folds[key] = id_folds(
                cell.data.task, cell.data.partition, cell.group, shots, self.variant.settings, part
            )
        return self._folds[key]

    def test_part(self, cell: Cell) -> str:
        """The part that is scored: `test`, or `train` where the released commands score a model on it zero-shot."""
        released = cell.model.card.zero_shot.released_parts.get(cell.data.task.name)
        if cell.protocol == "zero-shot" and released and self.variant.settings.covid_part == "train":
            return released
        return "test"

    def wanted(self, cell: Cell) -> set[str]:
        """Ids of the images that the cell needs."""
        ids: set[str] = set()
        for fold in self.folds(cell):
            ids.update(fold.test[0])
            if cell.shots is not None:
                ids.update(fold.train[cell.shots][0])
        return ids


def plan(request: Request) -> Plan:
    """Resolve every name, find every file, lay out the cells.

    A task or model that cannot be had becomes a problem of the plan; names that do not exist raise SpecError.
    """
    prompt_sets = [catalog.load_prompts(n) for n in _chosen(request.prompts, catalog.prompt_files(), "prompt set")]
    tasks = [catalog.load_task(name) for name in _chosen(request.tasks, catalog.task_files(), "task")]
    known_tasks = {*catalog.task_files(), *(task.name for task in tasks)}
    variant = catalog.load_variant(request.variant).with_choices(request.choices, known_tasks)
    made = Plan(request, variant)
    _check_groups(request, tasks)
    catalog.refuse_unavailable(part.strip() for word in request.models for part in word.split(","))
    cards = [catalog.load_card(name) for name in _chosen(request.models, catalog.card_files(), "model")]
    _check_places(request, known_tasks, {*catalog.card_files(), *(card.name for card in cards)})
    models = list(_models(request, cards, made))
    for data in _data(request, tasks, made):
        for model in models:
            made.cells.extend(_cells(request, variant, data, model, prompt_sets))
    _require_files(made)
    _require_text(made)
    return made


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
        try:
            yield bench_model(
                card, request.places, request.engine, device, alone=alone, recipe=recipe_name(card, settings)
            )
        except CxrBenchError as error:
            made.problems.append(error)


def _data(request: Request, tasks: list[TaskSpec], made: Plan) -> Iterator[TaskData]:
    for task in tasks:
        try:
            root = request.places.data_root(task.name)
            partition = load_partition(root, task, made.variant.split_of(task.name), request.places.cache)
        except CxrBenchError as error:
            made.problems.append(error)
            continue
        yield TaskData(task, partition, root)


def _cells(
    request: Request, variant: Variant, data: TaskData, model: BenchModel, prompt_sets: list[PromptSet]
) -> Iterator[Cell]:
    name, recipe = recipe_for(model.card, variant.settings, data.task.released_polarity)
    groups = [g for g in data.task.groups if not g.endswith("-20")] if "*" in request.groups else request.groups
    for group in groups:
        if group not in data.task.groups:
            continue
        group_labels(data.task, group, variant.settings)
        if "zero-shot" in request.protocols:
            view = model.card.view(group, variant.settings.dlilp_head)
            for prompts in prompt_sets if view.classes == "prompts" else [None]:
                yield Cell(model, data, group, "zero-shot", None, prompts, name, recipe)
        if "linear-probe" in request.protocols:
            for shots in request.shots:
                yield Cell(model, data, group, "linear-probe", shots, None, name, recipe)


def _require_files(made: Plan) -> None:
    """Without --allow-missing, cells whose images are not all on disk become one problem a task."""
    if made.request.allow_missing:
        return
    short: dict[str, tuple[int, str, Path]] = {}
    kept = []
    for cell in made.cells:
        lost = sorted(made.wanted(cell) - set(cell.data.partition.paths))
        if lost:
            known = short.get(cell.data.task.name, (0, "", cell.data.root))
            short[cell.data.task.name] = max(known, (len(lost), lost[0], cell.data.root))
        else:
            kept.append(cell)
    made.cells = kept
    made.problems += [
        DataError(
            f"{task}: {count} images of the split have no file under {root}, {first} for one. Complete the download, "
            "see `cxrbench data status`, or score what is there with --allow-missing (the record says so)."
        )
        for task, (count, first, root) in short.items()
    ]


def _require_text(made: Plan) -> None:
    """Cells whose prompts need a text encoder that is not at hand become one problem a model."""
    lost: dict[str, CxrBenchError] = {}
    for cell in made.cells:
        if cell.prompts is not None and cell.model.card.name not in lost:
            try:
                _ = cell.model.text_digest
            except CxrBenchError as error:
                lost[cell.model.card.name] = error
    made.cells = [c for c in made.cells if c.prompts is None or c.model.card.name not in lost]
    made.problems += lost.values()
