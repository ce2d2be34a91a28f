"""The store, the tables of file hashes, and what the cells of a plan need of both."""

from pathlib import Path

from cxrbench.errors import CxrBenchError
from cxrbench.runner.encode import Encoder
from cxrbench.runner.forward import TextSet
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell
from cxrbench.store.embeddings import Embeddings, Key, Store
from cxrbench.store.file_hashes import FileHashes
from cxrbench.system.contained import contained, containing


class Demand:
    """The needs of a plan, worked out once.

    `names`: every key in words; `demands`: the keys that want each file; `refused`: cells whose needs could not be
    worked out; `broken`: keys that cannot be had, and why.
    """

    def __init__(self, made: Plan) -> None:
        self.plan, cache = made, made.request.places.cache
        self.store, self._cache = Store(cache), cache
        self._hashes_of: dict[Path, FileHashes] = {}
        self._roots: dict[Path, Path] = {}
        self.names: dict[Key, str] = {}
        self.demands: dict[Path, dict[Key, None]] = {}
        self.refused: dict[Cell, CxrBenchError] = {}
        self.broken: dict[Key, CxrBenchError] = {}
        self._asked: dict[Key, dict[Key, TextSet]] = {}  # sets of texts by the key of the vectors
        self._sources: dict[Key, Cell] = {}
        for cell in made.cells:
            try:
                with containing(f"{cell.data.task.name}: remembered hashes of {cell.data.root}"):
                    self._open(cell.data.root)
                self._need(cell)
            except BaseException as error:
                self.refused[cell] = contained(error, cell.name)

    def _need(self, cell: Cell) -> None:
        vectors = cell.model.key(cell.recipe)
        self._sources.setdefault(vectors, cell)
        for key, asked, images in self.plan.readings(cell):
            name = _name(cell)
            self.names.setdefault(key, name if asked is None else f"{name}, scores of {len(asked.texts)} texts")
            if asked is not None:
                self._asked.setdefault(vectors, {})[key] = asked
            for image in images:
                path = cell.data.partition.paths.get(image)
                if path is not None:
                    self._roots.setdefault(path, cell.data.root)
                    self.demands.setdefault(path, {})[key] = None

    @property
    def encoders(self) -> list[Encoder]:
        """One for each model and recipe, with all that is wanted of it; one that cannot be made breaks its keys."""
        found = []
        for vectors, cell in self._sources.items():
            try:
                found.append(cell.model.encoder(cell.recipe, self._asked.get(vectors), _name(cell)))
            except BaseException as error:
                failed = contained(error, _name(cell))
                self.broken |= dict.fromkeys([vectors, *self._asked.get(vectors, {})], failed)
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

    def hashes(self, path: Path) -> FileHashes:
        """The table of file hashes of the data set that the file belongs to."""
        return self._open(self._roots[path])

    def _open(self, root: Path) -> FileHashes:
        if root not in self._hashes_of:
            self._hashes_of[root] = FileHashes(self._cache, root, rehash=self.plan.request.rehash)
        return self._hashes_of[root]


def _name(cell: Cell) -> str:
    return f"{cell.model.card.name} ({cell.recipe_name})"
