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


class _AllFacts(Spec):
    chexpert5x200: LayoutFacts
    mimic5x200: LayoutFacts
    rsna: LayoutFacts
    siim: LayoutFacts
    covid: LayoutFacts
    nih_lt: LayoutFacts
    vindr: LayoutFacts


@cache
def layout_facts() -> Mapping[str, LayoutFacts]:
    """The facts of every layout by task, in the order of the file."""
    facts = read_toml(Path(__file__).with_name("layouts.toml"), _AllFacts)
    return {task: getattr(facts, task) for task in _AllFacts.model_fields}


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
    """The order for a task; raises SpecError for a task, a quota or a size that does not exist."""
    facts = layout_facts().get(task)
    if facts is None:
        raise SpecError(f"no phantom for task '{task}'; there is one for {', '.join(layout_facts())}")
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
