"""What pre-training learns from: images in assembly order, their labels, and what reports say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


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
