"""What was asked for, and the facts and table forms that all layouts share."""

import csv
import gzip
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Literal

import numpy as np

from cxrbench.errors import SpecError
from cxrbench.phantom.plate import Plate, generator
from cxrbench.store.schema import Spec, read_toml

Size = Literal["small", "true"] | tuple[int, int]
Cell = str | int | float | None


class LayoutFacts(Spec):
    """How one data set is made up; see layouts.toml."""

    folder: str
    small: tuple[int, int]
    true: tuple[int, int]
    quotas: Mapping[str, int]
    classes: tuple[str, ...]
    columns: tuple[str, ...]
    others: tuple[tuple[str, ...], ...]
    lists: Mapping[str, tuple[str, ...]] = {}  # further columns and names that one layout needs
    labels: Mapping[str, tuple[str, ...]] = {}  # what the files call a drawn finding, where they have several words


class _AllFacts(Spec):
    drawn_as: Mapping[str, str]
    chexpert5x200: LayoutFacts
    mimic5x200: LayoutFacts
    rsna: LayoutFacts
    siim: LayoutFacts
    padchest_physician: LayoutFacts
    chestx_det10: LayoutFacts
    openi: LayoutFacts
    covid: LayoutFacts
    nih_lt: LayoutFacts
    vindr: LayoutFacts
    nih14_official: LayoutFacts
    nih14_lineage: LayoutFacts
    chexpert_test500: LayoutFacts
    chexpert_valid202: LayoutFacts
    mimic_test: LayoutFacts
    vindr_cxr: LayoutFacts
    retrieval_8x200: LayoutFacts


@cache
def _all_facts() -> _AllFacts:
    return read_toml(Path(__file__).with_name("layouts.toml"), _AllFacts)


@cache
def layout_facts() -> Mapping[str, LayoutFacts]:
    """The facts of every layout by task, in the order of the file."""
    return {task: getattr(_all_facts(), task) for task in _AllFacts.model_fields if task != "drawn_as"}


def drawn_tasks() -> tuple[str, ...]:
    """The tasks that have a phantom, those on the data set of another one last."""
    return (*layout_facts(), *_all_facts().drawn_as)


@dataclass(frozen=True, slots=True)
class Order:
    """One data set to be made."""

    task: str
    facts: LayoutFacts
    quotas: Mapping[str, int]
    size: tuple[int, int]  # height, width
    seed: int
    first: int = 0  # running number of the first patient: sets of different numbers share no patient

    def others(self, count: int) -> list[tuple[str, ...]]:
        """Findings of `count` rows that the task leaves out, taken in turn."""
        return [self.facts.others[i % len(self.facts.others)] for i in range(count)]

    def shuffled(self, plates: Sequence[Plate], *salt: object) -> list[Plate]:
        """The plates in a made-up order that depends on the seed alone."""
        rows = generator(self.seed, self.task, "order", *salt).permutation(len(plates))
        return [plates[int(row)] for row in rows]

    def random(self, *salt: object) -> np.random.Generator:
        """A generator for the tables, apart from those of the images."""
        return generator(self.seed, self.task, *salt)


def order(task: str, images_per_class: int | Mapping[str, int] | None, size: Size, seed: int) -> Order:
    """The order for a task, or for the one whose data set it is on.

    Raises SpecError for a task, a quota or a size that does not exist.
    """
    task = _all_facts().drawn_as.get(task, task)
    facts = layout_facts().get(task)
    if facts is None:
        raise SpecError(f"no phantom for task '{task}'; there is one for {', '.join(drawn_tasks())}")
    return Order(task, facts, quotas(task, facts.quotas, images_per_class), shape(task, facts, size), seed)


def shape(task: str, facts: LayoutFacts, size: Size) -> tuple[int, int]:
    """Height and width of an image; raises SpecError for one that is too small to show a finding."""
    height, width = {"small": facts.small, "true": facts.true}[size] if isinstance(size, str) else size
    if min(height, width) < 32:
        raise SpecError(f"{task}: an image of {height} x {width} pixels shows no finding; 32 is the least")
    return height, width


def quotas(task: str, default: Mapping[str, int], asked: int | Mapping[str, int] | None) -> Mapping[str, int]:
    """Images by kind: the defaults, with a number for the main kind or a mapping in their place; raises SpecError."""
    if asked is None:
        return dict(default)
    if isinstance(asked, int):
        main = next(iter(default.values()))
        asked = {key: ceil(quota * asked / main) for key, quota in default.items()}
    if unknown := set(asked) - set(default):
        raise SpecError(f"{task}: no quota {sorted(unknown)}; there are {', '.join(default)}")
    if min(asked.values()) < 0:
        raise SpecError(f"{task}: a quota below 0: {dict(asked)}")
    return {**default, **asked}


def table(columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> bytes:
    """A CSV file with LF line ends; None is a blank field."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return stream.getvalue().encode()


def gzip_bytes(data: bytes) -> bytes:
    """The bytes as gzip without a time stamp."""
    return gzip.compress(data, mtime=0)
