"""A classifier by cosine that starts at one vector per class and is trained on all rows at once, in float64.

logit_c(x) = s u(x) . u(w_c) with u(v) = v / |v|, so gradients run through the division and are orthogonal to w_c. Where
rows and classes together are fewer than dimensions, a weight is kept as its coefficients over them, which is exact: no
gradient leaves their span. Source: few-shot facts, sections 1 and 3 (SS-Text and CLAP).
"""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrbench.errors import DataError
from cxrbench.evaluate.vectors import Float64Array, FloatArray, cosines, softmax, unit
from cxrbench.types import IntArray

MOMENTUM = 0.9
RATE = 0.1
STEPS = 300
FIRST_RATE = 1e-5  # of CLAP's first step


def ss_text_rates() -> Float64Array:
    """The learning rate of each step in SS-Text: half a cosine from 0.1 down."""
    return 0.5 * RATE * (1 + np.cos(np.pi * np.arange(STEPS) / STEPS))


def clap_rates() -> Float64Array:
    """The same in CLAP: one step at 1e-5, then the cosine, whose last value is left out."""
    return np.concatenate([[FIRST_RATE], ss_text_rates()[:-1]])


@dataclass(frozen=True, slots=True)
class Task:
    """What a head is trained on: features (n, d), labels (n,), start (C, d), the scale s, learning rates (steps,).

    `weights` (n,) are those of the rows in the loss and sum to 1; by default all are equal. `pull` (C,) draws each
    class's weight back to its start: the loss has the mean over classes of pull_c |w_c - t_c|^2 besides.
    """

    features: FloatArray
    labels: IntArray
    start: FloatArray
    scale: float
    rates: Float64Array
    weights: Float64Array | None = None
    pull: Float64Array | None = None

    @property
    def kind(self) -> Hashable:
        """What tasks share whose steps can be taken together."""
        return (*self.features.shape, *self.start.shape, self.scale, self.rates.tobytes(), self.pull is None)


def trained(task: Task, orders: IntArray) -> Float64Array:
    """Final weights (B, C, d), one fit for each order (B, n) of the rows, which exact arithmetic would make equal.

    SGD with momentum 0.9, as torch has it, on the whole batch. Raises DataError where a weight stops being finite.
    """
    return trained_together([task], [orders])[0]


def trained_together(tasks: Sequence[Task], orders: Sequence[IntArray]) -> list[Float64Array]:
    """What `trained` gives of each task with its orders; tasks of one shape take their steps together."""
    found = dict[int, Float64Array]()
    entries = [_entries(task, len(own)) for task, own in zip(tasks, orders, strict=True)]
    for places in together([task.kind for task in tasks], entries):
        values = _steps([tasks[place] for place in places], [orders[place] for place in places])
        ends = np.cumsum([len(orders[place]) for place in places])
        found |= zip(places, np.split(values, ends[:-1]), strict=True)
    return [found[place] for place in range(len(tasks))]


MOST_ENTRIES = 1 << 18  # of all Gram matrices of fits that go together: 2 MiB, about what a core's cache holds


def together(kinds: Sequence[Hashable], entries: Sequence[int]) -> list[list[int]]:
    """Which of some fits go together: those of one kind, as many as have so many entries in all, in their order."""
    found, open_of = list[list[int]](), dict[Hashable, tuple[list[int], int]]()
    for place, (kind, own) in enumerate(zip(kinds, entries, strict=True)):
        group, taken = open_of.get(kind, ([], MOST_ENTRIES))
        if taken + own > MOST_ENTRIES:
            group, taken = [], 0
            found.append(group)
        group.append(place)
        open_of[kind] = (group, taken + own)
    return found


def _entries(task: Task, fits: int) -> int:
    basis = len(task.labels) + len(task.start)
    return fits * basis * min(basis, task.features.shape[1])


def _steps(tasks: Sequence[Task], orders: Sequence[IntArray]) -> Float64Array:
    """Final weights (B, C, d) of all fits to tasks of one kind."""
    first, fits, classes = tasks[0], [len(own) for own in orders], np.arange(len(tasks[0].start))
    rows = np.concatenate([unit(task.features)[own] for task, own in zip(tasks, orders, strict=True)])
    start = np.repeat(np.stack([task.start.astype(np.float64) for task in tasks]), fits, axis=0)
    labels = np.concatenate([task.labels[own] for task, own in zip(tasks, orders, strict=True)])
    each = [np.full(len(task.labels), 1 / len(task.labels)) if task.weights is None else task.weights for task in tasks]
    weights = np.concatenate([one[own] for one, own in zip(each, orders, strict=True)])[:, None, :]
    truth = weights * (labels[:, None, :] == classes[:, None])
    space = _Span(rows, start) if rows.shape[1] + len(classes) < rows.shape[2] else _Whole(rows, start)
    pull, held = np.zeros(1), None
    if first.pull is not None:
        pull = (2 / len(classes)) * np.repeat(np.stack([task.pull for task in tasks]), fits, axis=0)[:, :, None]  # type: ignore
        held = pull * space.start
    values, velocity = space.start.copy(), np.zeros_like(space.start)
    slopes, change = np.empty_like(truth), np.empty_like(values)
    for rate in first.rates:
        space.move_to(values)
        factor = first.scale / np.sqrt(space.squares)[:, :, None]
        np.multiply(space.dots, factor, out=slopes)
        exponentials(slopes, abs(first.scale))
        slopes *= weights / slopes.sum(axis=1, keepdims=True)
        slopes -= truth
        slopes *= factor
        along = np.einsum("bcn,bcn->bc", slopes, space.dots) / space.squares
        velocity *= MOMENTUM
        space.add(velocity, slopes)
        velocity -= np.multiply(along[:, :, None] - pull, values, out=change)
        if held is not None:
            velocity -= held
        values -= np.multiply(rate, velocity, out=change)
    found = space.vectors(values)
    if not np.isfinite(found).all():
        raise DataError("training left the finite numbers: look at the features, the class vectors and the logit scale")
    return found


SAFE = 300.0  # exp of it, and of its negative, are far from the ends of float64


def exponentials(logits: Float64Array, largest: float) -> None:
    """Turn logits (B, C, n) into exp of them up to a factor for each row; they are at most `largest` in size.

    Small ones need no shift.
    """
    if largest > SAFE:
        logits -= logits.max(axis=1, keepdims=True)
    np.exp(logits, out=logits)


class _Space(ABC):
    """Where weights (B, C, q) are kept; `dots` (B, C, n) with rows, `squares` (B, C) of lengths: of the last move."""

    start: Float64Array  # (B, C, q)
    dots: Float64Array
    squares: Float64Array

    @abstractmethod
    def move_to(self, values: Float64Array) -> None:
        """Work out products and lengths of weights."""

    @abstractmethod
    def add(self, values: Float64Array, slopes: Float64Array) -> None:
        """Add to weights the sum of the rows by slopes (B, C, n)."""

    @abstractmethod
    def vectors(self, values: Float64Array) -> Float64Array:
        """The weights as vectors (B, C, d)."""


class _Span(_Space):
    """Weights as coefficients over the rows and the start's vectors, by their Gram matrix."""

    def __init__(self, rows: Float64Array, start: Float64Array) -> None:
        fits, self._n, _ = rows.shape
        self._basis = np.concatenate([rows, start], axis=1)
        self._gram = self._basis @ self._basis.transpose(0, 2, 1)
        self.start = np.repeat(np.eye(start.shape[1], self._basis.shape[1], k=self._n)[None], fits, axis=0)
        self._images = np.empty_like(self.start)
        self.dots = self._images[:, :, : self._n]

    def move_to(self, values: Float64Array) -> None:
        np.matmul(values, self._gram, out=self._images)
        self.squares = np.einsum("bcq,bcq->bc", values, self._images)

    def add(self, values: Float64Array, slopes: Float64Array) -> None:
        values[:, :, : self._n] += slopes

    def vectors(self, values: Float64Array) -> Float64Array:
        return values @ self._basis


class _Whole(_Space):
    """Weights as they are."""

    def __init__(self, rows: Float64Array, start: Float64Array) -> None:
        self._rows, self._across, self.start = rows, rows.transpose(0, 2, 1), start

    def move_to(self, values: Float64Array) -> None:
        self.dots = values @ self._across
        self.squares = np.einsum("bcq,bcq->bc", values, values)

    def add(self, values: Float64Array, slopes: Float64Array) -> None:
        values += slopes @ self._rows

    def vectors(self, values: Float64Array) -> Float64Array:
        return values


def two_orders(n: int, seed: int) -> IntArray:
    """Rows as they come and in another order, (2, n), which `seed` alone decides."""
    return np.stack([np.arange(n), np.random.default_rng(seed).permutation(n)])


def cosine_logits(images: FloatArray, weights: FloatArray, scale: float) -> Float64Array:
    """Logits (m, C) of images (m, d) for the weights (C, d) of a head."""
    return scale * cosines(images, weights)


def logits_of_fits(images: FloatArray, weights: Float64Array, scale: float) -> tuple[Float64Array, Float64Array]:
    """Logits (m, C) of the images by each of two fits' weights (2, C, d)."""
    both = cosine_logits(images, weights.reshape(-1, weights.shape[2]), scale)
    return both[:, : weights.shape[1]], both[:, weights.shape[1] :]


def own_class_probabilities(features: FloatArray, labels: IntArray, texts: FloatArray, scale: float) -> Float64Array:
    """The zero-shot probability (n,) of each row's own class."""
    found = softmax(cosine_logits(features, texts, scale))
    own: NDArray[Any] = found[np.arange(len(labels)), labels]
    return own


def balanced_weights(labels: IntArray, n_classes: int) -> Float64Array:
    """Row weights (n,) by which every class weighs alike, with sum 1; every class has a row."""
    counts = np.bincount(labels, minlength=n_classes)
    return 1 / (n_classes * counts[labels])
