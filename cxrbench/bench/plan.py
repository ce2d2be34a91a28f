"""From a request to cells, with everything that is missing named before anything is computed."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cxrbench import catalog
from cxrbench.bench.cells import Cell, TaskData, Wordings, cells
from cxrbench.bench.folds import IdFold, group_labels, id_folds
from cxrbench.bench.forward import Asked
from cxrbench.bench.models import BenchModel, bench_model, chosen_device
from cxrbench.bench.queries import own_queries, require_prototypes
from cxrbench.bench.request import Request
from cxrbench.bench.wording import Wording, require_task, wording
from cxrbench.card import ModelCard
from cxrbench.card_facts import recipe_name
from cxrbench.data.sources.base import load_partition
from cxrbench.errors import CxrBenchError, DataError, NotApplicableError
from cxrbench.settings import Variant
from cxrbench.store import Key
from cxrbench.task import TaskSpec
from cxrbench.weights.verify import missing_text

Reading = tuple[Key, Asked | None, tuple[str, ...]]  # what is stored, the texts that decide it, of which images


@dataclass(slots=True)
class Plan:
    """All cells of a request, and what stands in the way of others; `skipped` can be scored by nobody, and why."""

    request: Request
    variant: Variant
    cells: list[Cell] = field(default_factory=list)
    problems: list[CxrBenchError] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    _folds: dict[tuple[str, str, str, str], list[IdFold]] = field(default_factory=dict)
    _words: dict[tuple[str, ...], list[Wording]] = field(default_factory=dict)
    _wanted: dict[Cell, frozenset[str]] = field(default_factory=dict)
    _readings: dict[Cell, list[Reading]] = field(default_factory=dict)

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
        how = cell.model.card.zero_shot
        released = None if how is None else how.released_parts.get(cell.data.task.name)
        if cell.protocol == "zero-shot" and released and self.variant.settings.covid_part == "train":
            return released
        return "test"

    def words(self, cell: Cell) -> Sequence[Wording | None]:
        """What stands for the classes in each fold of the cell; None for probes and prototypes.

        Raises NotApplicableError for a task or a class that the prompt set is not for, or a class without a prototype,
        DataError where the model's own texts are not at hand.
        """
        folds, prompts, model = self.folds(cell), cell.prompts, cell.model
        labels = group_labels(cell.data.task, cell.group, self.variant.settings)
        if prompts is None:
            require_prototypes(model.card, labels if cell.protocol == "zero-shot" else ())
            return [None] * len(folds)
        require_task(prompts, cell.data.task.name)
        key = (model.card.name, cell.data.task.name, cell.group, self.test_part(cell), prompts.digest)
        if key not in self._words:
            if prompts.queries:
                self._words[key] = [own_queries(model.card, labels, model.text_encoder)] * len(folds)
            else:
                self._words[key] = [wording(prompts, labels, self.variant.settings, f.random_state) for f in folds]
        return self._words[key]

    def readings(self, cell: Cell) -> list[Reading]:
        """Everything in the store that the cell is measured from, worked out once."""
        if cell not in self._readings:
            self._readings[cell] = self._read_from(cell)
        return self._readings[cell]

    def _read_from(self, cell: Cell) -> list[Reading]:
        settings, model = self.variant.settings, cell.model
        joint = cell.prompts is not None and model.card.view(cell.group, settings.dlilp_head).scoring == "interaction"
        if not joint:
            return [(model.key(cell.recipe), None, tuple(sorted(self.wanted(cell))))]
        asked: dict[Key, tuple[Asked, set[str]]] = {}
        for fold, words in zip(self.folds(cell), self.words(cell), strict=True):
            assert words is not None
            for key, one in model.score_sets(cell.recipe, words, settings):
                asked.setdefault(key, (one, set()))[1].update(fold.test[0])
        return [(key, texts, tuple(sorted(images))) for key, (texts, images) in asked.items()]

    def wanted(self, cell: Cell) -> frozenset[str]:
        """Ids of the images that the cell needs, worked out once."""
        if cell not in self._wanted:
            rows = [fold.test[0] for fold in self.folds(cell)]
            if cell.shots is not None:
                rows += [fold.train[cell.shots][0] for fold in self.folds(cell)]
            self._wanted[cell] = frozenset().union(*rows)
        return self._wanted[cell]


def plan(request: Request) -> Plan:
    """Resolve every name, find every file, lay out the cells.

    A task or model that cannot be had becomes a problem of the plan; names that do not exist raise SpecError.
    """
    wordings = Wordings.asked(request.prompts)
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
            made.cells.extend(cells(request, variant, data, model, wordings))
            _require_zero_shot(made, data, model)
        _require_group(made, data.task)
    _require_files(made)
    _require_text(made)
    _require_words(made)
    return made


def _require_zero_shot(made: Plan, data: TaskData, model: BenchModel) -> None:
    """A model that no zero-shot cell was laid out for is told of, with the reason."""
    there = any(c.model is model and c.data is data and c.protocol == "zero-shot" for c in made.cells)
    if "zero-shot" in made.request.protocols and not there and _has_group(made, data.task):
        none = model.card.zero_shot is None
        reason = "neither a text nor a label side" if none else "its card names no prompt set of its authors"
        made.skipped[f"{model.card.name} / {data.task.name} / zero-shot"] = f"{model.card.name}: {reason}"


def _has_group(made: Plan, task: TaskSpec) -> bool:
    return "*" in made.request.groups or any(group in task.groups for group in made.request.groups)


def _require_group(made: Plan, task: TaskSpec) -> None:
    """A task that has none of the groups asked for, where another task has, is told of."""
    if not _has_group(made, task):
        made.skipped[task.name] = f"it has none of the groups {', '.join(made.request.groups)}"


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
            recipe = recipe_name(card, settings)
            yield bench_model(card, request.places, request.engine, device, alone=alone, recipe=recipe)
        except CxrBenchError as error:
            made.problems.append(error)
            text = missing_text(card, request.places.text_encoder)
            if text is not None and "zero-shot" in request.protocols and card.zero_shot is not None:
                made.problems.append(DataError(text))  # told now, not after the weights were found


def _data(request: Request, tasks: list[TaskSpec], made: Plan) -> Iterator[TaskData]:
    for task in tasks:
        try:
            root = request.places.data_root(task.name)
            partition = load_partition(root, task, made.variant.split_of(task.name), request.places.cache)
        except CxrBenchError as error:
            made.problems.append(error)
            continue
        yield TaskData(task, partition, root)


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


def _require_words(made: Plan) -> None:
    """Cells whose classes cannot be put into words are skipped with the reason; texts that are not there, a problem."""
    kept = []
    for cell in made.cells:
        try:
            made.words(cell)
        except NotApplicableError as error:
            made.skipped[cell.name] = str(error)
        except CxrBenchError as error:
            if str(error) not in map(str, made.problems):
                made.problems.append(error)
        else:
            kept.append(cell)
    made.cells = kept
