"""What a data source hands over: tables of labelled images, and the parts into which a split puts them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.store import digest

IntArray = NDArray[np.int64]
# An image has one class; or each label holds or not by itself; or images and texts are found by each other.
TaskKind = Literal["single-label", "multi-label", "retrieval"]
KINDS: tuple[TaskKind, ...] = get_args(TaskKind)
Shots = int | str  # K training images of each class, a share of the training part such as "1%", or "all" of it
UNKNOWN = -1  # of a label that is neither known to hold nor known not to
# The groups of a retrieval task: what is asked for (a, b, c: docs/retrieval.md), with what, among what.
RetrievalForm = Literal[
    "a-image-to-image", "a-text-to-image", "b-image-to-report", "c-image-to-report", "c-report-to-image"
]
RETRIEVAL_FORMS: tuple[RetrievalForm, ...] = get_args(RetrievalForm)


def own_report(form: str) -> bool:
    """Whether the group of a retrieval task asks for a query's own counterpart, and not for any of its class."""
    return form.startswith("c-")


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one part of a split, in the order that the split's rule makes; an id may stand in several rows.

    `ids` (n,) name images as the data set's own tables do; `labels` (n, C) int8, 1 where the class holds, 0 where it
    does not, and, in multi-label tasks alone, UNKNOWN (-1) where nobody can tell;
    `classes` (C,) spelt as in the task file; `patients` (n,) or None where patients are not known; `texts` (n,) are
    those of the rows in retrieval tasks, with white space made single blanks.
    """

    ids: tuple[str, ...]
    labels: NDArray[np.int8]
    classes: tuple[str, ...]
    patients: tuple[str, ...] | None = None
    texts: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.labels.shape != (len(self.ids), len(self.classes)):
            raise DataError(f"labels have shape {self.labels.shape}, not {(len(self.ids), len(self.classes))}")
        if self.patients is not None and len(self.patients) != len(self.ids):
            raise DataError(f"{len(self.patients)} patients for {len(self.ids)} rows")
        if self.texts is not None and len(self.texts) != len(self.ids):
            raise DataError(f"{len(self.texts)} texts for {len(self.ids)} rows")

    def __len__(self) -> int:
        return len(self.ids)

    def at(self, rows: IntArray | NDArray[np.bool_]) -> "Table":
        """Some of the rows, by their numbers or by a mask."""
        chosen = np.arange(len(self))[rows]
        patients, texts = (
            None if column is None else tuple(column[row] for row in chosen) for column in (self.patients, self.texts)
        )
        return Table(tuple(self.ids[row] for row in chosen), self.labels[chosen], self.classes, patients, texts)

    @property
    def digest(self) -> str:
        """SHA-256 over the ids in row order."""
        return digest.of_lines(self.ids)

    @property
    def set_digest(self) -> str:
        """SHA-256 over the distinct ids, sorted by code point."""
        return digest.of_lines(sorted(set(self.ids)))

    @property
    def counts(self) -> dict[str, int]:
        """Rows per class."""
        return dict(zip(self.classes, (self.labels == 1).sum(axis=0, dtype=np.int64).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Findings:
    """What indexing a folder against its label table showed; lists of ids or of paths relative to the root, sorted.

    `left_out`: rows of the tables that are in no part, by the reason.
    """

    missing: tuple[str, ...] = ()  # in the table, no file
    extra: tuple[str, ...] = ()  # a file, in no table
    duplicate: tuple[str, ...] = ()  # one id, several files: the one where the id says, else the first, is used
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Partition:
    """One split of one data set: its parts (`all`, or `train` and `test`) and where each image lies on this disk.

    Of a retrieval task `asked` are texts that ask for images and belong to none; `about_texts` says what the texts are
    and how many reports have none of them.
    """

    task: str
    split: str
    parts: Mapping[str, Table]
    paths: Mapping[str, Path]  # id to file; ids without a file are absent and listed in findings.missing
    findings: Findings = field(default_factory=Findings)
    synthetic: bool = False  # drawn by `data phantom`: its numbers enter no table of results
    attributes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # sex, age, view by image, where known
    asked: Table | None = None
    about_texts: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """Every text of a retrieval task in the order of its tables."""
        tables = [*self.parts.values(), *([] if self.asked is None else [self.asked])]
        return [text for table in tables for text in table.texts or ()]

    @property
    def patients(self) -> dict[str, str]:
        """The patient of every image whose patient is known."""
        known = (part for part in self.parts.values() if part.patients is not None)
        return {image: patient for part in known for image, patient in zip(part.ids, part.patients or (), strict=True)}

    @property
    def digest(self) -> str:
        """SHA-256 over part names, ordered ids, labels and texts: what a record means by "this split"."""
        tables = {**self.parts, **({} if self.asked is None else {"asked": self.asked})}
        return digest.of_json(
            {
                n: [
                    t.digest,
                    digest.of_bytes(np.ascontiguousarray(t.labels).tobytes()),
                    t.classes,
                    *([] if t.texts is None else [digest.of_json(t.texts)]),
                ]
                for n, t in tables.items()
            }
        )


@dataclass(frozen=True, slots=True)
class Fold:
    """One fold as row numbers. `train[K]` indexes the train table, `test` the test table (one table for 5x200 sets)."""

    fold: int
    train: Mapping[Shots, IntArray]  # to (n,) rows; of K those of one class together, in label order; may repeat a row
    test: IntArray  # (m,)
    random_state: object | None = None  # random.Random state left by the draw; released prompts go on from it


def shots_in_words(shots: Shots) -> str:
    """How many training images were used, as tables say it: `K = 16`, `1 % of the training part`."""
    if isinstance(shots, int):
        return f"K = {shots}"
    return "whole training part" if shots == "all" else f"{shots.removesuffix('%')} % of the training part"


def shots_order(shots: Shots | None) -> tuple[int, float]:
    """What sorts them: nothing, K by number, shares by size, all."""
    if shots is None:
        return 0, 0.0
    if isinstance(shots, int):
        return 1, float(shots)
    return (3, 0.0) if shots == "all" else (2, float(shots.removesuffix("%")))
