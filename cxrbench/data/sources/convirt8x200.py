"""CheXpert 8x200 by ConVIRT's public lists: images that are searched for images, or for texts, of the same class."""

import re
from pathlib import Path

import numpy as np

from cxrbench.data import tables as csv_tables
from cxrbench.data.search import folders, located
from cxrbench.data.sources import base
from cxrbench.data.sources.base import Disk, LabelledParts, partition, rule_of
from cxrbench.data.sources.chexpert5x200 import ATTRIBUTES, LAYOUT, image_id, patient_of
from cxrbench.errors import DataError
from cxrbench.specs.task import TaskSpec
from cxrbench.store import digest
from cxrbench.store.schema import Spec
from cxrbench.types import Partition, Table

_IMAGES, _TEXTS = "image-retrieval", "text-retrieval"
_QUERY, _CANDIDATE = "query", "candidate"
_VALUES = (0.0, 1.0)
_WHERE = "They are public: `image-retrieval` and `text-retrieval` of yuhaozhang/convirt at commit cf6add8."
_PATIENT = re.compile(r"patient\d+")


class Lists(Spec):
    """The lists as they are published: SHA-256 of the sorted paths of each, one a line; None where any will do."""

    candidates_sha256: str | None = None
    queries_sha256: str | None = None


def locate(root: Path) -> Path:
    """The folder that holds both folders of lists."""
    wanted = f"folders {_IMAGES}/ and {_TEXTS}/"
    return located(root, "CheXpert 8x200", lambda found: {_IMAGES, _TEXTS} <= found.names, wanted=wanted)


def tables(folder: Path, task: TaskSpec, split: str) -> LabelledParts:
    """The parts `test` (images that ask) and `candidates`, and the texts that ask; see `Source.tables`."""
    rule = rule_of(task, split, ("lists",)).parameters(Lists)
    pool = csv_tables.required(folder / _IMAGES, _CANDIDATE, why=_WHERE)
    again = csv_tables.named(folder / _TEXTS, _CANDIDATE)
    if again is not None and _paths(pool, None) != _paths(again, None):
        raise DataError(f"{again}: is another list than {pool}, and both are published as one. {_WHERE}")
    candidates = _candidates(pool, task, rule)
    queries = _queries(csv_tables.required(folder / _IMAGES, _QUERY, why=_WHERE), task, rule)
    if both := sorted(set(queries.ids) & set(candidates.ids)):
        raise DataError(f"{pool}: {both[0]} is searched for, and asks, too: it would find itself. {_WHERE}")
    shared = len(set(queries.patients or ()) & set(candidates.patients or ()))
    return LabelledParts(
        {"test": queries, "candidates": candidates},
        [*queries.ids, *candidates.ids],
        {"candidates": len(candidates), "image_queries": len(queries)},
        (f"{shared} patients have images that ask and others that are searched for",) if shared else (),
        base.read(pool, "Path", ATTRIBUTES, image_id),
        asked=_texts(csv_tables.required(folder / _TEXTS, _QUERY, why=_WHERE), task),
        about_texts={"sections": "sentences that were written for the list"},
    )


def load(root: Path, task: TaskSpec, split: str, cache: Path | None = None, survey: bool = False) -> Partition:
    """See `Source.load`; images lie beside the lists, or else anywhere at or below the root."""
    folder = locate(root)
    beside = any(any(map(_PATIENT.fullmatch, found.names)) for found in folders(folder))
    disk = Disk(root, folder if beside else root, LAYOUT, cache, survey)
    return partition(task, split, tables(folder, task, split), disk)


def _paths(path: Path, published: str | None) -> list[str]:
    """The paths of a list; raises DataError where they are not those that were published."""
    found: list[str] = csv_tables.read_table(path, ("Path",))["Path"].tolist()
    own = digest.of_lines(sorted(found))
    if published is not None and own != published:
        raise DataError(
            f"{path}: is not the published list: its {len(found)} sorted paths have SHA-256 {own[:12]}, and those that "
            f"were published {published[:12]}. {_WHERE} A list of your own is scored by --set "
            "retrieval_8x200.split=lists-as-they-lie."
        )
    return found


def _candidates(path: Path, task: TaskSpec, rule: Lists) -> Table:
    _paths(path, rule.candidates_sha256)
    rows = csv_tables.read_table(path, ("Path", *task.columns))
    csv_tables.distinct(path, rows, "Path")
    labels = np.stack([csv_tables.numbers(path, rows, c, _VALUES) == 1 for c in task.columns], axis=1)
    if (wrong := np.flatnonzero(labels.sum(axis=1) != 1)).size:
        raise DataError(f"{path}: data row {wrong[0] + 1}: {labels[wrong[0]].sum()} classes are 1, not one. {_WHERE}")
    ids = tuple(map(image_id, rows["Path"]))
    return Table(ids, labels.astype(np.int8), task.classes, tuple(map(patient_of, ids)))


def _queries(path: Path, task: TaskSpec, rule: Lists) -> Table:
    _paths(path, rule.queries_sha256)
    rows = csv_tables.read_table(path, ("Variable", "Path"))
    csv_tables.distinct(path, rows, "Path")
    ids = tuple(map(image_id, rows["Path"]))
    return Table(ids, _one_of(path, rows["Variable"].tolist(), task), task.classes, tuple(map(patient_of, ids)))


def _texts(path: Path, task: TaskSpec) -> Table:
    """The texts that ask, named after their row."""
    rows = csv_tables.read_table(path, ("Variable", "Text"))
    texts = tuple(" ".join(text.split()) for text in rows["Text"])
    if blank := [row for row, text in enumerate(texts, 1) if not text]:
        raise DataError(f"{path}: data row {blank[0]}: there is no text. {_WHERE}")
    ids = tuple(f"text {row:0{len(str(len(texts)))}}" for row in range(1, len(texts) + 1))
    return Table(ids, _one_of(path, rows["Variable"].tolist(), task), task.classes, texts=texts)


def _one_of(path: Path, names: list[str], task: TaskSpec) -> "np.typing.NDArray[np.int8]":
    """The class of each row (n, C)."""
    labels = np.zeros((len(names), len(task.columns)), np.int8)
    for row, name in enumerate(names):
        if name not in task.columns:
            raise DataError(f"{path}: data row {row + 1}: {name!r} is none of {', '.join(task.columns)}. {_WHERE}")
        labels[row, task.columns.index(name)] = 1
    return labels
