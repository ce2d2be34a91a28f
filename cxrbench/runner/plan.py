"""All cells of a request, worked out once, and what they need of the store and of the tables of file hashes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from cxrbench.errors import CxrBenchError, FewRowsError, NotApplicableError
from cxrbench.models.base import adapter_class
from cxrbench.runner.checks import where
from cxrbench.runner.decoding import Encoder
from cxrbench.runner.folds import PROMPT_SHOTS, IdFold, group_labels, id_folds
from cxrbench.runner.forward import TextSet
from cxrbench.runner.given import Lookup, NamedImage, below, looked_up
from cxrbench.runner.protocol import Cell, Protocol
from cxrbench.runner.request import Request
from cxrbench.runner.transfer import transfer_folds
from cxrbench.runner.wording import ClassPrompts, own_queries, require_task, wording
from cxrbench.specs.recipe import Recipe
from cxrbench.specs.settings import Variant
from cxrbench.store.embeddings import Embeddings, Key, Store
from cxrbench.store.file_hashes import FileHashes
from cxrbench.store.shard_files import IntArray
from cxrbench.system.contained import PASSING, contained, containing
from cxrbench.types import Shots

Reading = tuple[Key, TextSet | None, frozenset[str]]  # what is stored, the texts that decide it, of which images


@dataclass(slots=True)
class Plan:
    """All cells of a request, and what stands in the way of others; `skipped` can be scored by nobody, and why."""

    request: Request
    variant: Variant
    protocols: tuple[Protocol, ...] = ()
    cells: list[Cell] = field(default_factory=list)
    problems: list[CxrBenchError] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    _folds: dict[tuple[str, str, tuple[Shots, ...], str], list[IdFold]] = field(default_factory=dict)
    _words: dict[tuple[object, ...], list[ClassPrompts]] = field(default_factory=dict)
    _images: dict[tuple[object, ...], frozenset[str]] = field(default_factory=dict)
    _readings: dict[Cell, list[Reading]] = field(default_factory=dict)
    _split: dict[tuple[object, ...], dict[str, frozenset[str]]] = field(default_factory=dict)

    def add(self, problem: CxrBenchError) -> None:
        """Take a problem up, each once: many cells may meet the same."""
        if (type(problem), str(problem)) not in {(type(known), str(known)) for known in self.problems}:
            self.problems.append(problem)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What goes wrong inside, of whatever kind, is a problem of this part alone."""
        try:
            yield
        except BaseException as error:
            self.add(contained(error, name))

    def folds(self, cell: Cell) -> list[IdFold]:
        """The folds of the cell's task and group, drawn once for all models, and for all K together.

        Raises DataError for a class that has too few rows, with its name.
        """
        return self._folds_of(cell, self._drawn_shots(cell))

    def _drawn_shots(self, cell: Cell) -> tuple[Shots, ...]:
        """The shots for which training images are drawn together: every K, or a share alone."""
        if cell.shots is None:
            return self._prompt_shots(cell)
        return self.request.numbers if isinstance(cell.shots, int) else (cell.shots,)

    def _prompt_shots(self, cell: Cell) -> tuple[int, ...]:
        """The released draw, which prompts go on from; other draws, and those of multi-label tasks, leave nothing."""
        single = cell.data.task.kind == "single-label"
        return (PROMPT_SHOTS,) if single and self.variant.settings.draw == "released" else ()

    def _folds_of(self, cell: Cell, shots: tuple[Shots, ...]) -> list[IdFold]:
        key = self._folds_key(cell, shots)
        if key not in self._folds:
            self._folds[key] = self._drawn(cell, shots, self.test_part(cell))
        return self._folds[key]

    def _folds_key(self, cell: Cell, shots: Sequence[Shots]) -> tuple[str, str, tuple[Shots, ...], str]:
        return (cell.data.task.name, cell.group, tuple(shots), self.test_part(cell))

    def _drawn(self, cell: Cell, shots: Sequence[Shots], part: str) -> list[IdFold]:
        task, settings = cell.data.task, self.variant.settings
        with containing(where(cell)):
            try:
                if cell.data.trained_on is not None:
                    return transfer_folds(cell.data.trained_on, shots, settings, part)
                return id_folds(task, cell.data.partition, cell.group, shots, settings, part)
            except FewRowsError as error:
                raise error.named(where(cell), group_labels(task, cell.group, settings)) from error

    def test_part(self, cell: Cell) -> str:
        """The part that is scored."""
        return cell.protocol.part(cell, self.variant.settings)

    def words(self, cell: Cell) -> Sequence[ClassPrompts | None]:
        """What stands for the classes in each fold of the cell; None for probes and prototypes.

        Raises NotApplicableError for a task or a class that the prompt set is not for, a class without a prototype, or
        prompts of a form that the model does not read, DataError where the model's own texts are not at hand.
        """
        folds, prompts, model = self.folds(cell), cell.prompts, cell.model
        labels = group_labels(cell.data.task, cell.group, self.variant.settings)
        if cell.data.task.kind == "retrieval":
            return [None] * len(folds)
        if prompts is None:
            adapter_class(model.card).require_prototypes(model.card, labels if cell.protocol.worded else ())
            return [None] * len(folds)
        require_task(prompts, cell.data.task.name, cell.data.task.kind)
        if cell.protocol.fitted and prompts.paired:
            raise NotApplicableError(
                f"prompt set {prompts.name!r} asks each class against its absence, which gives {cell.protocol.name} "
                "no one vector of a class to start at; take another set"
            )
        numbers = tuple(fold.fold for fold in folds)
        key = (model.card.name, cell.data.task.name, cell.group, self.test_part(cell), prompts.digest, numbers)
        if key not in self._words:
            if prompts.queries:
                self._words[key] = [own_queries(model.card, labels, model.text_encoder)] * len(folds)
            else:
                left = {fold.fold: fold.random_state for fold in self._folds_of(cell, self._prompt_shots(cell))}
                settings = self.variant.settings
                worded = [wording(prompts, labels, settings, left.get(number)) for number in numbers]
                for words in worded:
                    adapter_class(model.card).require_texts(model.card, words.texts)
                self._words[key] = worded
        return self._words[key]

    def readings(self, cell: Cell) -> list[Reading]:
        """Everything in the store that the cell is measured from, worked out once."""
        if cell not in self._readings:
            self._readings[cell] = self._read_from(cell)
        return self._readings[cell]

    def _read_from(self, cell: Cell) -> list[Reading]:
        settings, model = self.variant.settings, cell.model
        joint = cell.prompts is not None and model.card.view(cell.group, settings.dlilp_head).scoring == "interaction"
        vectors = [(model.key(recipe), None, images) for recipe, images in self._by_recipe(cell)]
        if not joint:
            return list(vectors)
        if len(cell.recipes) > 1:
            raise NotApplicableError(
                f"{model.card.name} scores images and texts together, and by this variant the images of "
                f"{' and '.join(side.task.name for side in cell.data.sides)} are read in two ways (released_polarity)"
            )
        asked: dict[Key, tuple[TextSet, list[int]]] = {}
        for number, words in enumerate(self.words(cell)):
            assert words is not None
            for key, one in model.score_sets(cell.recipe, words, settings):
                asked.setdefault(key, (one, []))[1].append(number)
        scores: list[Reading] = [(key, one, self._images_of(cell, tuple(n), None)) for key, (one, n) in asked.items()]
        return scores if cell.shots is None else [*vectors, *scores]

    def _by_recipe(self, cell: Cell) -> list[tuple[Recipe, frozenset[str]]]:
        """The images that the cell needs by the recipe that reads them."""
        wanted = self.wanted(cell)
        if len(cell.recipes) == 1:
            return [(cell.recipe, wanted)]
        key = (id(wanted), cell.training_recipe and cell.training_recipe.digest)
        if key not in self._split:
            apart: dict[str, set[str]] = {recipe.digest: set() for recipe in cell.recipes}
            for image in wanted:
                apart[cell.recipe_of(image).digest].add(image)
            self._split[key] = {name: frozenset(images) for name, images in apart.items()}
        return [(recipe, self._split[key][recipe.digest]) for recipe in cell.recipes]

    def wanted(self, cell: Cell) -> frozenset[str]:
        """Ids of the images that the cell needs; one object for all cells with the same folds and shots."""
        return self._images_of(cell, None, cell.shots)

    def _images_of(self, cell: Cell, numbers: tuple[int, ...] | None, shots: Shots | None) -> frozenset[str]:
        """The images that are scored in folds by their numbers (None: in all), and those that a probe trains on."""
        folds = self.folds(cell)
        numbers = tuple(range(len(folds))) if numbers is None else numbers
        key = (*self._folds_key(cell, self._drawn_shots(cell)), numbers, shots)
        if key not in self._images:
            rows = [folds[number].scored for number in numbers]
            if shots is not None:
                rows += [folds[number].train[shots][0] for number in numbers]
            self._images[key] = frozenset().union(*rows)
        return self._images[key]


class Demand:
    """The needs of a plan, worked out once.

    `names`: every key in words; `files`: all that are wanted, and `known` the content that is remembered of each;
    `refused`: cells whose needs could not be worked out; `broken`: keys that cannot be had, and why.
    """

    def __init__(self, made: Plan) -> None:
        self.plan, cache = made, made.request.places.cache
        self.store, self._cache = Store(cache), cache
        self._hashes_of: dict[Path, FileHashes] = {}
        self._roots: dict[Path, Path] = {}
        self.names: dict[Key, str] = {}
        self.files: dict[Path, int] = {}
        self.refused: dict[Cell, CxrBenchError] = {}
        self.broken: dict[Key, CxrBenchError] = {}
        self._asked: dict[Key, dict[Key, TextSet]] = {}  # sets of texts by the key of the vectors
        self._sources: dict[Key, tuple[Cell, Recipe]] = {}
        self._places: dict[tuple[str, int], IntArray] = {}  # of sets of images, which the plan keeps
        self._lookups: dict[Key, Lookup] = {}  # of models whose vectors are given
        for cell in made.cells:
            try:
                for side in cell.data.sides:
                    with containing(f"{side.task.name}: remembered hashes of {side.root}"):
                        self._open(side.root)
                self._need(cell)
            except BaseException as error:
                self.refused[cell] = contained(error, cell.name)
        self.known = self._known()

    def _need(self, cell: Cell) -> None:
        for recipe in cell.recipes:
            self._sources.setdefault(cell.model.key(recipe), (cell, recipe))
        vectors = cell.model.key(cell.recipe)
        for key, asked, images in self.plan.readings(cell):
            name = _name(cell)
            self.names.setdefault(key, name if asked is None else f"{name}, scores of {len(asked.texts)} texts")
            if asked is not None:
                self._asked.setdefault(vectors, {})[key] = asked
            self._places_of(cell, images)

    def _places_of(self, cell: Cell, images: frozenset[str]) -> IntArray:
        """The places of the images' files among `files`, ascending; worked out once for each set of images."""
        key = (cell.data.task.name, id(images))
        if key not in self._places:
            known = cell.data.partition.paths
            paths = {image: path for image in sorted(images) if (path := known.get(image)) is not None}
            for image, path in paths.items():
                self._roots.setdefault(path, cell.data.owner(image).root)
            places = [self.files.setdefault(path, len(self.files)) for path in paths.values()]
            self._places[key] = np.unique(np.array(places, np.int64))
        return self._places[key]

    def table(self, cells: Iterable[Cell]) -> dict[Key, IntArray]:
        """The files that each key must have for these cells, as ascending places among `files`."""
        found: dict[Key, dict[tuple[str, int], IntArray]] = {}
        for cell in cells:
            if cell in self.refused:
                continue
            for key, _, images in self.plan.readings(cell):
                if key not in self.broken:
                    found.setdefault(key, {})[cell.data.task.name, id(images)] = self._places_of(cell, images)
        return {key: np.unique(np.concatenate(list(own.values()))) for key, own in found.items()}

    def _known(self) -> list[str | None]:
        """The content that is remembered of each file; what stands in the way of asking shows when they are read."""
        by_root: dict[Path, list[Path]] = {}
        for path in self.files:
            by_root.setdefault(self._roots[path], []).append(path)
        found: dict[Path, str | None] = dict.fromkeys(self.files)
        for root, paths in by_root.items():
            try:
                found |= zip(paths, self._open(root).known_all(paths), strict=True)
            except PASSING:
                raise
            except BaseException:
                continue
        return list(found.values())

    @property
    def encoders(self) -> list[Encoder]:
        """One for each model and recipe, with all that is wanted of it; one that cannot be made breaks its keys."""
        found = []
        for vectors, (cell, recipe) in self._sources.items():
            try:
                encoder = cell.model.encoder(recipe, self._asked.get(vectors), _name(cell))
                found.append(self._looked_up(encoder, vectors, cell) if cell.model.card.given else encoder)
            except BaseException as error:
                failed = contained(error, _name(cell))
                self.broken |= dict.fromkeys([vectors, *self._asked.get(vectors, {})], failed)
        return found

    def _looked_up(self, encoder: Encoder, key: Key, cell: Cell) -> Encoder:
        """The encoder with rows of a file in place of pixels; raises DataError for a file that cannot serve the run."""
        files, wanted = list(self.files), self.table(self.plan.cells)[key].tolist()
        ids = self._ids()
        named = {path: NamedImage(path, self.name(path), tuple(ids[path])) for path in (files[n] for n in wanted)}
        self._lookups[key] = Lookup(cell.model, named)
        known = [self.known[place] for place in wanted]
        there = self.store.read(key).has([content for content in known if content is not None])
        stored = None not in known and bool(there.all())
        return looked_up(encoder, self._lookups[key], dict(zip(named, known, strict=True)), read=not stored)

    def _ids(self) -> dict[Path, list[str]]:
        """The ids that tasks give the image of each file."""
        found: dict[Path, list[str]] = {}
        sides = {side.task.name: side for cell in self.plan.cells for side in cell.data.sides}
        for side in sides.values():
            for image, path in side.partition.paths.items():
                found.setdefault(path, []).append(image)
        return found

    def mixed_up(self, contents: Mapping[Path, str]) -> dict[Key, CxrBenchError]:
        """Why given vectors cannot be those of the images, by key: files of the same bytes have different ones."""
        found: dict[Key, CxrBenchError] = {}
        for key, lookup in self._lookups.items():
            try:
                lookup.require_alike(contents)
            except BaseException as error:
                found[key] = contained(error, self.names[key])
        return found

    def embeddings(self) -> dict[Key, Embeddings]:
        """What the store holds under every key that is wanted; one that cannot be read is broken and empty."""
        found = {}
        for key, name in self.names.items():
            try:
                found[key] = self.store.read(key)
            except BaseException as error:
                found[key] = Embeddings([])
                self.broken.setdefault(key, contained(error, f"{name}: reading the store, {self.store.root}"))
        return found

    def name(self, path: Path) -> str:
        """The file's path below the root of its data set: the same on every machine."""
        return below(path, self._roots[path])

    def hashes(self, path: Path) -> FileHashes:
        """The table of file hashes of the data set that the file belongs to."""
        return self._open(self._roots[path])

    def _open(self, root: Path) -> FileHashes:
        if root not in self._hashes_of:
            self._hashes_of[root] = FileHashes(self._cache, root, rehash=self.plan.request.rehash)
        return self._hashes_of[root]


def _name(cell: Cell) -> str:
    return f"{cell.model.card.name} ({cell.recipe_name})"
