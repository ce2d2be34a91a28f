"""Batches as a process sees them: its own pixels and texts, and labels of the whole batch; made ahead by a thread.

A process draws and cuts into tokens its own texts only. How long the padding of the whole batch is, which enters the
released text vectors, the processes tell each other at the step (see `Engine`).
"""

import math
import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from cxrbench.errors import DataError
from cxrbench.models.text import TextFiles
from cxrbench.models.text_loading import load_tokenizer
from cxrbench.models.transformers_nets import require_room, text_config
from cxrbench.pretrain.config import Augmentation, Config, Data, Objective, Text
from cxrbench.pretrain.corpus.types import Corpus, Sentence
from cxrbench.pretrain.network import WITH_TEXT, Tokens

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


def draw_chances(n: int, width: int, seed: int, epoch: int) -> FloatArray:
    """Uniform numbers (n, width) in [0, 1) of one epoch: those of an image are in its row of the corpus."""
    return np.random.default_rng((seed, _CHANGES, epoch)).random((n, width), np.float32)


def text_rng(seed: int, epoch: int, row: int) -> Random:
    """The generator that draws the text of one image in one epoch."""
    return Random(f"text {seed} {epoch} {row}")


def described(sentences: Sequence[Sentence], categories: Sequence[int], how: "Wording", rng: Random) -> Described:
    """One of the study's labelled sentences, or the template with one of its categories, uniformly.

    In lower case, as released, unless `how` keeps capitals. Where `Text.reads` says report, all of its sentences.
    Without sentence and category, the template with the word for none, which counts for no category.
    """
    if sentences:
        chosen = [rng.choice(sentences)] if how.text.reads == "sentence" else sentences
        text = " ".join(sentence.text for sentence in chosen)
        named = tuple(dict.fromkeys(category for sentence in chosen for category in sentence.categories))
        return Described(text if how.capitals else text.lower(), named, True)
    if not categories:
        return Described(how.text.template.format(how.text.unlabelled), (), False)
    category = rng.choice(categories)
    return Described(how.text.template.format(how.classes[category].lower()), (category,), False)


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


WIDTH = 8
_FLIP, _AFFINE, _ANGLE, _SCALE, _JITTER, _BRIGHTNESS, _CONTRAST, _FIRST = range(WIDTH)


def unit(pixels: Tensor) -> Tensor:
    """Grey levels uint8 (n, 1, s, s) as float32 in [0, 1]."""
    return pixels.float() / 255


def augment(images: Tensor, chances: Tensor, how: Augmentation) -> Tensor:
    """The images (n, 1, s, s) float32 in [0, 1], changed by `chances` (n, WIDTH) in [0, 1); same shape and range.

    Flip left to right; then rotation by up to `degrees` either way about the centre and zoom by a factor of `scale`
    (below 1 the picture shrinks), bilinear, zeros outside; then brightness x f and contrast (x - mean) f + mean, each
    f within 1 ± its number, in either order, cut to [0, 1].
    """
    images = torch.where(_at(chances[:, _FLIP] < how.flip), images.flip(3), images)
    moved = torch.nonzero(chances[:, _AFFINE] < how.affine).squeeze(1)
    if len(moved):
        images = images.index_copy(0, moved, _moved(images[moved], chances[moved], how))
    toned = torch.nonzero(chances[:, _JITTER] < how.jitter).squeeze(1)
    if len(toned):
        images = images.index_copy(0, toned, _toned(images[toned], chances[toned], how))
    return images


def _moved(images: Tensor, chances: Tensor, how: Augmentation) -> Tensor:
    angle = (2 * chances[:, _ANGLE] - 1) * math.radians(how.degrees)
    low, high = how.scale
    factor = low + (high - low) * chances[:, _SCALE]
    cos, sin = torch.cos(angle) / factor, torch.sin(angle) / factor
    zero = torch.zeros_like(cos)
    # Where each pixel of the result comes from: the inverse of the rotation and the zoom.
    matrix = torch.stack([torch.stack([cos, sin, zero], 1), torch.stack([-sin, cos, zero], 1)], 1)
    grid = affine_grid(matrix, list(images.shape), align_corners=False)
    return grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _toned(images: Tensor, chances: Tensor, how: Augmentation) -> Tensor:
    bright = 1 + (2 * _at(chances[:, _BRIGHTNESS]) - 1) * how.brightness
    contrast = 1 + (2 * _at(chances[:, _CONTRAST]) - 1) * how.contrast
    first = _contrasted((images * bright).clamp(0, 1), contrast)
    second = (_contrasted(images, contrast) * bright).clamp(0, 1)
    return torch.where(_at(chances[:, _FIRST] < 0.5), first, second)


def _contrasted(images: Tensor, factor: Tensor) -> Tensor:
    mean = images.mean(dim=(1, 2, 3), keepdim=True)
    return ((images - mean) * factor + mean).clamp(0, 1)


def _at(values: Tensor) -> Tensor:
    return values[:, None, None, None]


AHEAD = 3  # batches that wait for the network


class BatchPixels(Protocol):
    """The images of a corpus as the canvas of the recipe, row by row."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def __getitem__(self, rows: IntArray) -> NDArray[np.uint8]:
        """Grey levels (n, s, s) of n rows."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """One step: n images over all processes, m of them here.

    `pixels` (m, 1, s, s) uint8; `chances` (m, WIDTH) of augmentation, or None; `labels`, `mask` (n, C) uint8;
    `text_labels` (m, C) of the own texts; `tokens` of those that are read, `longest` the positions of all own ones,
    read or not; `counts` images and `text_counts` texts of each process; `texts` (k,) the rows of the gathered texts
    that count, and `pairs` (k,) the images that they belong to.
    """

    pixels: Tensor
    chances: Tensor | None
    labels: Tensor
    text_labels: Tensor
    mask: Tensor
    texts: Tensor
    pairs: Tensor
    tokens: Tokens | None
    longest: int
    counts: tuple[int, ...]
    text_counts: tuple[int, ...]

    def widened(self, longest: int) -> "Batch":
        """The batch with its texts padded to the longest of all processes."""
        return self if self.tokens is None else replace(self, tokens=self.tokens.widened(longest))

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device; copies from pinned memory do not wait."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The batch in page-locked memory."""
        return self._each(lambda tensor: tensor.pin_memory())

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        return replace(
            self,
            pixels=change(self.pixels),
            chances=None if self.chances is None else change(self.chances),
            labels=change(self.labels),
            text_labels=change(self.text_labels),
            mask=change(self.mask),
            texts=change(self.texts),
            pairs=change(self.pairs),
            tokens=self.tokens and replace(self.tokens, ids=change(self.tokens.ids), mask=change(self.tokens.mask)),
        )


@dataclass(frozen=True, slots=True)
class BatchPlace:
    """Which process this is, and of how many."""

    rank: int = 0
    ranks: int = 1


class Feed:
    """Makes the batches of one part of the corpus."""

    def __init__(
        self, corpus: Corpus, pixels: BatchPixels, config: Config, place: BatchPlace, files: TextFiles | None
    ) -> None:
        self._corpus, self._pixels, self._config, self._place = corpus, pixels, config, place
        self._masks = masks(corpus)
        self._labels = corpus.labels.astype(np.uint8) * self._masks
        self._from_report = np.array([bool(told) for told in corpus.sentences])
        self._tokenizer = None if files is None else _tokenizer(files)
        self._words = Wording(corpus.classes, config.text, _keeps_capitals(self._tokenizer))

    def training(self, rows: IntArray, epoch: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `done` on, in the epoch's order."""
        return self._batches(shuffled(rows, self._config.seed, epoch), epoch, done, changed=True)

    def validation(self, rows: IntArray, epoch: int) -> Iterator[Batch]:
        """The batches of the held-out part; as released, text and augmentation are drawn anew each time."""
        released = self._config.data.validation_draws == "released"
        return self._batches(rows, epoch if released else 0, 0, changed=released)

    def _batches(self, rows: IntArray, epoch: int, done: int, *, changed: bool) -> Iterator[Batch]:
        seed, size = self._config.seed, self._config.data.batch_size
        chances = draw_chances(len(self._corpus.ids), WIDTH, seed, epoch) if changed else None
        for part in batches(len(rows), size, self._place.ranks)[done:]:
            yield self._batch(rows[part], epoch, chances)

    def _batch(self, rows: IntArray, epoch: int, chances: FloatArray | None) -> Batch:
        counts = shares(len(rows), self._place.ranks)
        start = sum(counts[: self._place.rank])
        own = rows[start : start + counts[self._place.rank]]
        told = self._told(own, epoch)
        text_labels = np.zeros((len(own), len(self._corpus.classes)), np.uint8)
        for row, one in zip(text_labels, told, strict=True):
            row[list(one.categories)] = 1
        readers = reading(self._config.objective, self._from_report[rows].tolist(), counts)
        tokens = self._tokens(told, [i - start for i in readers.of[self._place.rank]])
        return Batch(
            pixels=torch.from_numpy(self._pixels[own])[:, None],
            chances=None if chances is None else torch.from_numpy(chances[own]),
            labels=torch.from_numpy(self._labels[rows]),
            text_labels=torch.from_numpy(text_labels),
            mask=torch.from_numpy(self._masks[rows]),
            texts=torch.tensor(readers.texts, dtype=torch.int64),
            pairs=torch.tensor(readers.pairs, dtype=torch.int64),
            tokens=tokens,
            longest=0 if tokens is None else tokens.ids.shape[1],
            counts=counts,
            text_counts=tuple(map(len, readers.of)),
        )

    def _told(self, rows: IntArray, epoch: int) -> list[Described]:
        seed, sentences = self._config.seed, self._corpus.sentences
        return [
            described(
                sentences[row],
                np.flatnonzero(self._labels[row]).tolist(),
                self._words,
                text_rng(seed, epoch, row),
            )
            for row in rows.tolist()
        ]

    def _tokens(self, told: Sequence[Described], read: Sequence[int]) -> Tokens | None:
        """Those of the texts that are read, padded to the longest of all."""
        if self._tokenizer is None or not read:
            return None
        batch = self._tokenizer(
            [one.text for one in told],
            padding="longest",
            truncation=True,
            max_length=self._config.text.max_tokens,
            return_tensors="pt",
        )
        filler, left = self._tokenizer.pad_token_id, self._tokenizer.padding_side == "left"
        return Tokens(batch["input_ids"][list(read)], batch["attention_mask"][list(read)], filler, left)


@dataclass(frozen=True, slots=True)
class Readers:
    """Which texts each process reads (positions in the batch); which of them count, and their images."""

    of: tuple[tuple[int, ...], ...]
    texts: tuple[int, ...]
    pairs: tuple[int, ...]


def reading(objective: Objective, from_report: Sequence[bool], counts: Sequence[int]) -> Readers:
    """All texts; for DLILP those of reports, and none below two of them; for the unimodal loss none.

    A process without a report reads one text that does not count, so that all of them take part in the exchange.
    """
    wanted = [objective in ("clip", "unicl", "sat") or told for told in from_report]
    if objective not in WITH_TEXT or (objective == "dlilp" and sum(wanted) < 2):
        return Readers(tuple(() for _ in counts), (), ())
    starts = [sum(counts[:rank]) for rank in range(len(counts))]
    shares = [range(start, start + count) for start, count in zip(starts, counts, strict=True)]
    of = tuple(tuple(i for i in share if wanted[i]) or (share[0],) for share in shares)
    flat = [i for share in of for i in share]
    return Readers(of, tuple(at for at, i in enumerate(flat) if wanted[i]), tuple(i for i in flat if wanted[i]))


def _tokenizer(files: TextFiles) -> Any:
    found = load_tokenizer("AutoTokenizer", files.folder)
    require_room(found, text_config(files), files)
    return found


def _keeps_capitals(tokenizer: Any) -> bool:
    return tokenizer is not None and tokenizer("Lung").input_ids != tokenizer("lung").input_ids


def ahead(batches: Iterator[Batch], device: torch.device) -> Generator[Batch]:
    """The same batches, made by a thread while the network works; its errors are raised here."""
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(AHEAD)
    over = threading.Event()

    def put(item: Batch | BaseException | None) -> bool:
        while not over.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    def make() -> None:
        try:
            if device.type == "cuda":
                torch.cuda.set_device(device)  # a new thread stands at the first one, whoever made it
            for batch in batches:
                if not put(batch.pinned() if device.type == "cuda" else batch):
                    return
            put(None)
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        over.set()
        thread.join()
