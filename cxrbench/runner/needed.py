"""What files of vectors must hold for the cells of a plan: names of images, and texts."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrbench.errors import SpecError
from cxrbench.models.base import adapter_class
from cxrbench.models.vectors import NeededVectors, read_options
from cxrbench.runner.given import below
from cxrbench.runner.plan import Plan
from cxrbench.runner.protocol import Cell
from cxrbench.specs.card import ModelCard
from cxrbench.store import digest
from cxrbench.store.atomic import write_atomically


def texts_of(cell: Cell, made: Plan) -> tuple[str, ...]:
    """All texts that a cell asks its model for, each once."""
    if cell.data.task.kind == "retrieval":
        return tuple(dict.fromkeys(cell.data.partition.texts))
    worded = [words for words in made.words(cell) if words is not None]
    return tuple(dict.fromkeys(text for words in worded for text in words.texts))


def require_texts(cell: Cell, made: Plan) -> None:
    """Nothing, or DataError: a file of vectors lacks texts of the cell."""
    if cell.model.card.given and cell.reads_texts:
        adapter_class(cell.model.card).require_texts(cell.model.card, texts_of(cell, made))


def stand_in(card: ModelCard) -> ModelCard:
    """The card of a model that needs no file, to lay out what the files of this one must hold.

    Raises SpecError for a card whose vectors are not given.
    """
    if not card.given:
        raise SpecError(f'{card.name}: its vectors are no file\'s; --needed is for a card with the recipe kind "given"')
    read_options(card)
    weights = card.weights.model_copy(update={"made": "nothing yet", "files": ()})
    adapter = f"{NeededVectors.__module__}:{NeededVectors.__name__}"
    return card.model_copy(update={"adapter": adapter, "weights": weights})


@dataclass(frozen=True, slots=True)
class Needed:
    """What files of vectors must hold for a plan; `images` by task and id with the path below the data folder."""

    images: Mapping[tuple[str, str], tuple[str, Path]]
    texts: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Tables `images.csv` (task, id, name, stem, path, sha256) and `texts.csv` (texts) in the folder.

        Raises UnreadableError for an image that cannot be read.
        """
        rows = [
            (task, image, path.name, path.stem, below, digest.of_file(path))
            for (task, image), (below, path) in self.images.items()
        ]
        write_atomically(folder / "images.csv", _table(("task", "id", "name", "stem", "path", "sha256"), rows))
        write_atomically(folder / "texts.csv", _table(("texts",), [(text,) for text in self.texts]))


def needed(made: Plan) -> Needed:
    """The images and texts of all cells."""
    images: dict[tuple[str, str], tuple[str, Path]] = {}
    texts: dict[str, None] = {}
    for cell in made.cells:
        for image in sorted(made.wanted(cell)):
            side = cell.data.owner(image)
            path = cell.data.partition.paths.get(image)
            if path is not None:
                own = image if side is cell.data else image.removeprefix(f"{side.task.name}:")
                images[side.task.name, own] = (below(path, side.root), path)
        if cell.reads_texts:
            texts |= dict.fromkeys(texts_of(cell, made))
    return Needed(images, tuple(texts))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerows([head, *rows])
    return out.getvalue().encode("utf-8", "surrogateescape")
