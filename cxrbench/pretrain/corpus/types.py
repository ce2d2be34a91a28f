"""What pre-training learns from: images in assembly order, their labels, and what reports say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrbench.data.sources.base import Layout


@dataclass(frozen=True, slots=True)
class Sentence:
    """One report sentence."""

    text: str
    categories: tuple[int, ...]  # indices into Corpus.classes; may be empty


@dataclass(frozen=True, slots=True)
class Corpus:
    """One row an image, in assembly order: source after source, each in its own table's order."""

    classes: tuple[str, ...]  # C category names
    ids: tuple[str, ...]  # unique
    paths: tuple[Path, ...]
    source: tuple[str, ...]  # "CHEXPERT" | "MIMIC" | "PADCHEST", one a row
    patients: tuple[str, ...]  # one patient has one spelling within a source
    labels: NDArray[np.int8]  # (n, C) 1 positive, 0 not; meaningful only inside the source's label space
    spaces: Mapping[str, tuple[int, ...]]  # source -> indices of its label space (the mask)
    sentences: tuple[tuple[Sentence, ...], ...]  # per row; () where there is no report
    digest: str  # of everything but the paths

    def __len__(self) -> int:
        """Number of images."""
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Space:
    """All classes of a corpus, and the indices (ascending) of those that one source's labels know."""

    classes: tuple[str, ...]
    inside: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the label space, in the order of the classes."""
        return tuple(self.classes[number] for number in self.inside)


@dataclass(frozen=True, slots=True)
class CorpusRows:
    """The usable rows of one source, in its table's order.

    `labels` (n, C) int8 over the classes of the corpus; `folder` holds the tables, `layout` says how ids and files
    meet below it. `labelled_by`: whose the labels are. `counts`: what each filter left, in the order of filtering.
    `notes`: what a reader should know.
    """

    ids: tuple[str, ...]
    patients: tuple[str, ...]
    labels: NDArray[np.int8]
    sentences: tuple[tuple[Sentence, ...], ...]
    folder: Path
    layout: Layout
    labelled_by: str
    counts: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def one_hot(found: list[frozenset[str]], classes: tuple[str, ...]) -> NDArray[np.int8]:
    """(n, C) int8 from each row's set of class names; names that are no class are left out."""
    index = {name: number for number, name in enumerate(classes)}
    labels = np.zeros((len(found), len(classes)), dtype=np.int8)
    for row, names in enumerate(found):
        for name in names:
            if name in index:
                labels[row, index[name]] = 1
    return labels
