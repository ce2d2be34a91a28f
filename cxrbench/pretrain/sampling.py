"""Which images, in what order, with which text. Every draw is a function of seed, epoch and row: nothing is carried.

So a run goes on from any step as if it had never stopped, and its draws do not depend on the number of processes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.pretrain.config import Data, Text
from cxrbench.pretrain.corpus.types import Corpus, Sentence

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

_ORDER, _CHANGES = 0, 1  # what a generator is for, as part of its key


@dataclass(frozen=True, slots=True)
class Parts:
    """Row numbers of the corpus, in the order of the split; no row is in both."""

    train: IntArray
    validation: IntArray


@dataclass(frozen=True, slots=True)
class Described:
    """What is said of an image: the text, the categories that it names, and whether a report says it."""

    text: str
    categories: tuple[int, ...]
    from_report: bool


def split(corpus: Corpus, data: Data, readable: BoolArray | None = None) -> Parts:
    """Rows shuffled with Python's `Random(split_seed)`, the first tenth held out; limits are applied afterwards.

    By patient, the patients of each source are shuffled instead, and the first tenth of them is held out. Rows that are
    not `readable` (n,) drop out after the split. Raises DataError if a part is empty.
    """
    rng, n = Random(data.split_seed), len(corpus.ids)
    keys: list[tuple[str, str]] | list[int]
    keys = list(range(n)) if data.split_by == "image" else list(zip(corpus.source, corpus.patients, strict=True))
    distinct = list(dict.fromkeys(keys))
    rng.shuffle(distinct)
    place = {key: i for i, key in enumerate(distinct)}
    held = int(len(distinct) * data.validation)
    order = np.argsort(np.array([place[key] for key in keys], np.int64), kind="stable")
    below = np.array([place[keys[row]] < held for row in order], bool)
    seen = np.ones(n, bool) if readable is None else readable
    validation, train = (part[seen[part]] for part in (order[below], order[~below]))
    parts = Parts(train[: data.train_limit], validation[: data.validation_limit])
    if not len(parts.train) or not len(parts.validation):
        raise DataError(
            f"{n} images leave {len(parts.train)} for training and {len(parts.validation)} for validation; "
            "add a source, or change data.validation"
        )
    return parts


def shuffled(rows: IntArray, seed: int, epoch: int) -> IntArray:
    """The rows in the order of one epoch."""
    return rows[np.random.default_rng((seed, _ORDER, epoch)).permutation(len(rows))]


def chances(n: int, width: int, seed: int, epoch: int) -> FloatArray:
    """Uniform numbers (n, width) in [0, 1) of one epoch: those of an image are in its row of the corpus."""
    return np.random.default_rng((seed, _CHANGES, epoch)).random((n, width), np.float32)


def text_rng(seed: int, epoch: int, row: int) -> Random:
    """The generator that draws the text of one image in one epoch."""
    return Random(f"text {seed} {epoch} {row}")


def described(sentences: Sequence[Sentence], categories: Sequence[int], how: "Wording", rng: Random) -> Described:
    """One of the study's labelled sentences, or the template with one of its categories, uniformly.

    In lower case, as released, unless `how` keeps capitals.

    Without sentence and category, the template with the word for none, which counts for no category.
    """
    if sentences:
        sentence = rng.choice(sentences)
        return Described(sentence.text if how.capitals else sentence.text.lower(), sentence.categories, True)
    if not categories:
        return Described(how.text.template.format(how.text.unlabelled), (), False)
    chosen = rng.choice(categories)
    return Described(how.text.template.format(how.classes[chosen].lower()), (chosen,), False)


@dataclass(frozen=True, slots=True)
class Wording:
    """Category names and the template that they go into; `capitals`: sentences keep theirs, as the tokenizer does."""

    classes: tuple[str, ...]
    text: Text
    capitals: bool = False


def batches(n: int, size: int, ranks: int) -> tuple[slice, ...]:
    """Positions of each global batch of `size` x `ranks`; the last is kept, but joined to the one before if too small.

    Too small is a rest below one image a process. Raises DataError for fewer images than processes.
    """
    if n < ranks:
        raise DataError(f"{n} images are too few for {ranks} processes")
    whole = size * ranks
    count = math.ceil(n / whole)
    if count > 1 and n - (count - 1) * whole < ranks:
        count -= 1
    return tuple(slice(i * whole, n if i == count - 1 else (i + 1) * whole) for i in range(count))


def shares(n: int, ranks: int) -> tuple[int, ...]:
    """How many of a global batch's n images each process takes; they follow each other, the first take the rest."""
    return tuple(n // ranks + (rank < n % ranks) for rank in range(ranks))


def masks(corpus: Corpus) -> NDArray[np.uint8]:
    """The label space of each row's data set, (n, C) of 0 and 1."""
    space = np.zeros((len(corpus.spaces), len(corpus.classes)), np.uint8)
    for i, columns in enumerate(corpus.spaces.values()):
        space[i, list(columns)] = 1
    number = {name: i for i, name in enumerate(corpus.spaces)}
    return space[[number[name] for name in corpus.source]]
